"""What the DAG files share: a run's workspace, the graph of dvc.yaml as tasks, and the runner of one stage."""
