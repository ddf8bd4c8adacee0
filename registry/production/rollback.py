"""Put back what was in production before the champion; doing it again goes one further back.

usage: upheld rollback --approver NAME --note TEXT
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.registry.production import champion
from upheld.registry.tracking import mlflow_store


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


@command("rollback")
def main(
    approver: Annotated[str, typer.Option(help="Who decides.")],
    note: Annotated[str, typer.Option(help="Why.")] = "",
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Put back what was in production before."""
    answer = run(store, approver, note)
    told = f"rolled back to {answer['model']} with {answer['thresholds']} at alias champion"
    return Output(answer, told)


if __name__ == "__main__":
    sys.exit(main())
