"""The models together: prediction for the snapshot, and the bundle that is registered."""
