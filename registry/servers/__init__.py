"""Airflow and MLflow on loopback."""
