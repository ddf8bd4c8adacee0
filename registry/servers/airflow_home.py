"""Airflow as this store runs it: its home, its secrets, and the environment that its processes are started with."""

import base64
import json
import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

from upheld import ROOT
from upheld.common import files
from upheld.registry.tracking import place as store_place

SECRETS = "secrets.json"


def home(store: Path) -> Path:
    """AIRFLOW_HOME of a store, absolute."""
    return store.absolute() / "airflow"


def environment(store: Path) -> dict[str, str]:
    """Variables for every Airflow process of this store; makes its home and its secrets if there are none.

    Args:
        store: folder with ledger, registry, runs and caches.

    Returns:
        the environment of this process with Airflow's settings: our DAGs alone, SQLite and LocalExecutor in the store,
        loopback, nothing sent home.

    Raises:
        FailedWork: the store is a copy, in which Airflow's own records name the original.
    """
    store_place.refuse_copied(store)
    folder = home(store)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    settings = {
        "CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "API__HOST": "127.0.0.1",
        "API__WORKERS": "1",
        "DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
        **_secrets(folder / SECRETS),
    }
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    ours = {"AIRFLOW_HOME": str(folder), "UPHELD_STORE": str(store.absolute()), "PATH": path, "DO_NOT_TRACK": "true"}
    return dict(os.environ) | ours | {f"AIRFLOW__{key}": value for key, value in settings.items()}


def _secrets(path: Path) -> dict[str, str]:
    """Keys made once for this store; nobody but its owner can read them, and no two stores share them."""
    if not path.exists():
        made = {
            "CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "API__SECRET_KEY": secrets.token_urlsafe(32),
            "API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        }
        with suppress(FileExistsError):  # another process has just made it
            files.create_text(path, json.dumps(made), 0o600)
    kept: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return kept
