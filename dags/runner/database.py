"""Airflow's metadata database as our DAGs need it: its tables, and a pool for every `meta.pool` of `dvc.yaml`.

usage: python -m upheld.dags.runner.database
"""

import logging
import sys
from pathlib import Path

from upheld import ROOT
from upheld.dags.runner import graph

SLOTS = 1  # stages of one pool share what it stands for (memory, the accelerator), so they run one after the other


def initialise(root: Path) -> None:
    """Make or migrate the tables and make the pools that are missing; slots that somebody changed stay as they are.

    Args:
        root: repository with `dvc.yaml`.
    """
    from airflow.models.pool import Pool
    from airflow.utils import db

    logging.getLogger("alembic").setLevel(logging.WARNING)
    db.initdb()
    for name in sorted({stage.pool for stage in graph.read(root / "dvc.yaml").values()}):
        if Pool.get_pool(name) is None:
            Pool.create_or_update_pool(name, slots=SLOTS, description="from dvc.yaml", include_deferred=False)


if __name__ == "__main__":
    initialise(ROOT)
    sys.exit(0)
