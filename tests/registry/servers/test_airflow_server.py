"""Airflow's settings in a store."""

from pathlib import Path

from sqlalchemy import create_engine, text

from upheld.registry.servers import airflow_server


def test_a_write_of_airflow_s_waits_for_another_one(tmp_path: Path) -> None:
    engine = create_engine(airflow_server.environment(tmp_path)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA busy_timeout")).scalar() == 60_000  # ms
    engine.dispose()
    assert (tmp_path / "airflow" / "airflow.db").exists()
