"""params.yaml as typed sections."""
