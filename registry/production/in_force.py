"""What is in production, for a week's report: the model, and its thresholds where it served in that week.

usage: python -m upheld.registry.production.in_force --week 2026-W43 --out in_force.json --champion champion.json
"""

import sys
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import pyarrow.compute as pc
import typer

from upheld.common import files
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.evaluation.weekly import source as week_source
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.ledger import tables as contracts
from upheld.feature_store.ledger.ledger import Ledger
from upheld.registry.approvals import verified
from upheld.registry.production import champion
from upheld.registry.tracking import mlflow_store


def run(store: Path, week: str, out: Path, label: Path) -> str:
    """Write which model is in production now, and its thresholds with its name, or remove those that an earlier run left there.

    Args:
        store: folder with ledger and registry.
        week: ISO week; thresholds of a model that did not serve in it say nothing of its decisions.
        out: JSON to write with the thresholds.
        label: JSON to write with {"model_version"}, null where no model is in production; none where the alias and the record of
            approvals differ.

    Returns:
        what was done, in a sentence; where no thresholds were written, why.

    Raises:
        BadUse: no such week.
        FailedWork: the files of the thresholds are not those that were approved.
    """
    out.unlink(missing_ok=True)
    label.unlink(missing_ok=True)
    if not mlflow_store.exists(store):
        files.write_json(label, {"model_version": None})
        return "nothing is registered yet; the week's own decisions show the thresholds"
    registry = mlflow_store.connect(store)
    champion.settle(store, registry)
    try:
        now = champion.in_production(store, registry)
    except FailedWork as error:  # the report does not wait for whoever mends it
        return f"{error}; the week's own decisions show the thresholds"
    model = None if now.model is None else mlflow_store.resolve(registry, mlflow_store.MODEL, str(now.model))
    files.write_json(label, {"model_version": model and model.label})
    if model is None:
        return "nothing is in production; the week's own decisions show the thresholds"
    if model.label not in _served(store, week):
        return f"{model.label} did not serve in {week}; the week's own decisions show the thresholds"
    bounds = champion.thresholds_of(store, registry, model)
    Thresholds.read(verified.thresholds(store, registry, bounds)).model_copy(update={"model_version": model.label}).write(out)
    return f"{bounds.label} rules {model.label}: {out}"


def _served(store: Path, week: str) -> set[str]:
    """Model versions that decided in the week."""
    first, after = (pa.scalar(moment, contracts.TIMESTAMP) for moment in week_source.bounds(week))
    names: set[str] = set()
    for batch in Ledger(store).scan("decisions", ("decided_at", "model_version")):
        times = batch.column("decided_at").cast(contracts.TIMESTAMP)
        inside = pc.and_(pc.greater_equal(times, first), pc.less(times, after))
        names |= set(batch.filter(inside).column("model_version").to_pylist())
    return names


@command("in-force")
def main(
    week: Annotated[str, typer.Option(help="ISO week such as 2026-W43.")],
    out: Annotated[Path, typer.Option(help="thresholds.json to write, if there are any.")],
    label: Annotated[Path, typer.Option("--champion", help="JSON to write with the model in production.")],
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """The model in production and its thresholds, for a week's report."""
    told = run(store, week, out, label)
    return Output({"told": told}, told)


if __name__ == "__main__":
    sys.exit(main())
