"""Where a store lies, and where its registry says that it lies: a copy must neither read nor write its original."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from upheld.common.errors import FailedWork


def refuse_copied(store: Path) -> None:
    """Notice a store that was copied or moved, by the folder of artifacts in its own registry.

    Raises:
        FailedWork: it was; the message names the command that makes it a store of its own.
    """
    found = origin(store)
    if found is not None:
        move = f"upheld store move --store {shlex.quote(str(store))}"
        raise FailedWork(f"{store}: was copied or moved from {found}, which its registry still names; make it its own with `{move}`")


def origin(store: Path) -> Path | None:
    """The folder that the store's registry takes for the store; None where that is `store`, or where there is no registry in it yet."""
    artifacts = store / "mlflow" / "artifacts"
    database = store / "mlflow" / "mlflow.db"
    if not database.is_file():
        return None
    # folders of artifacts as `mlflow_store.connect` names them; it makes an experiment in no other place
    query = "SELECT artifact_location FROM experiments WHERE artifact_location LIKE 'file://%/mlflow/artifacts'"
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchall():  # somebody is just making it
            return None
        named = [Path(unquote(urlsplit(location).path)) for (location,) in connection.execute(query)]
    for path in named:  # both may be one folder, by whichever way; one that does not exist yet is known by its path
        if path.resolve() != artifacts.resolve() and not (path.exists() and artifacts.exists() and path.samefile(artifacts)):
            return path.parents[1]
    return None
