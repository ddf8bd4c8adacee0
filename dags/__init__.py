"""Airflow DAGs, generated from dvc.yaml."""
