"""Put back what was in production before the champion; doing it again goes one further back.

usage: upheld rollback --approver NAME --note TEXT
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from feature_store.command import PARAMS_FILE, STORE_FOLDER, AsJson, Overrides, ParamsFile, StoreFolder, execute
from registry import champion, mlflow_store


def run(store: Path, approver: str, note: str) -> dict[str, Any]:
    """Let alias `champion` name what the last promotion replaced; no gate is asked, since it was in production.

    Args:
        store: folder with the registry.
        approver: who decides.
        note: why.

    Returns:
        {"status": "rolled back", "model", "thresholds", "before", "approver", "at"}.

    Raises:
        BadUse: nothing was in production before, or no approver is named.
        FailedWork: alias champion was moved by other means, or the files are no longer those that were approved.
    """
    registry = mlflow_store.connect(store, create=False)
    champion.settle(store, registry)
    target = champion.before(store, registry)
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(target.model))
    thresholds = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, str(target.thresholds))
    approval = champion.move(store, registry, "rollback", model, thresholds, champion.Said(approver, note))
    result = {"status": "rolled back", "model": model.label, "thresholds": thresholds.label}
    return result | {"before": asdict(approval.before), "approver": approval.approver, "at": approval.at.isoformat()}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `run`. Returns the exit code."""

    def rollback(
        approver: Annotated[str, typer.Option(help="Who decides.")],
        note: Annotated[str, typer.Option(help="Why.")] = "",
        params_file: ParamsFile = PARAMS_FILE,
        overrides: Overrides = [],  # noqa: B006  (Typer reads it, nobody changes it)
        store: StoreFolder = STORE_FOLDER,
        as_json: AsJson = False,
    ) -> None:
        """Put back what was in production before."""
        answer = run(store, approver, note)
        told = f"rolled back to {answer['model']} with {answer['thresholds']} at alias champion"
        print(json.dumps(answer) if as_json else told)

    return execute(rollback, "rollback", argv)


if __name__ == "__main__":
    sys.exit(main())
