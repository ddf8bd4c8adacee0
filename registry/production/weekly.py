"""Register what a weekly report proposes for the champion's thresholds, so that a person can be asked about it.

usage: python -m upheld.registry.production.weekly --report store/weekly/2026-W43
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common import files
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.evaluation.weekly.report import WeeklySummary
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.registry.approvals import verified
from upheld.registry.approvals.log import Pair
from upheld.registry.production import champion, thresholds
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry


def run(store: Path, report: Path) -> dict[str, Any]:
    """Register the proposed thresholds; the same proposal is registered once. Nothing goes into production by it.

    Args:
        store: folder with the registry.
        report: folder that `upheld weekly` wrote.

    Returns:
        {"status": "proposed" or "nothing", "model", "thresholds", "why"}: the version numbers as text, null for nothing, and a
        sentence.

    Raises:
        BadUse: the folder holds no finished report, or `thresholds.run` refuses what it proposes.
        FailedWork: alias champion names what nobody approved.
    """
    summary = WeeklySummary.read(report)
    if not mlflow_store.exists(store):
        return _nothing("nothing is registered yet, so there are no thresholds to change")
    registry = mlflow_store.connect(store)
    champion.settle(store, registry)
    now = champion.in_production(store, registry)
    if now.model is None:
        return _nothing("nothing is in production, so there are no thresholds to change")
    label = f"{mlflow_store.MODEL}/{now.model}"
    week, served = summary.week, next((one for one in summary.models if one.model_version == label), None)
    if served is None:
        return _nothing(f"{label} is in production and did not serve in {week}")
    if not served.num_changes:
        return _nothing(f"the labels of {week} support no change of {label}'s thresholds")
    registered = _register(registry, store, now, report / served.folder, week)
    number = registered["thresholds"].rpartition("/")[2]
    if number == str(now.thresholds):
        return _nothing(f"what {week} proposes for {label} is in force already")
    why = f"{registered['thresholds']} for {label}, proposed by the labels of {week}; the gate says {registered['gate']}"
    return {"status": "proposed", "model": str(now.model), "thresholds": number, "why": why}


def _nothing(why: str) -> dict[str, Any]:
    return {"status": "nothing", "model": None, "thresholds": None, "why": why}


def _register(registry: Registry, store: Path, now: Pair, folder: Path, week: str) -> dict[str, Any]:
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(now.model))
    before = Thresholds.read(verified.thresholds(store, registry, champion.thresholds_of(store, registry, model)))
    content = completed(Thresholds.read(folder / "thresholds.json"), before)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "thresholds.json"
        content.write(path)
        return thresholds.run(path, str(now.model), folder, f"weekly {week}", store)


def completed(proposed: Thresholds, before: Thresholds) -> Thresholds:
    """A week's thresholds with what the week could not speak of: categories without a decision, and the calibration of the scores.

    Args:
        proposed: those of the report.
        before: those in force for the same model.

    Returns:
        thresholds to register.
    """
    calibration = {"calibration_digest": before.calibration_digest} if "calibration_digest" in before.model_fields_set else {}
    return proposed.model_copy(update={**calibration, "categories": {**before.categories, **proposed.categories}})


@command("propose")
def main(
    report: Annotated[Path, typer.Option(help="Folder that `upheld weekly` wrote.")],
    result: Annotated[Path | None, typer.Option(help="JSON to write with what was proposed.")] = None,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Register a week's proposed thresholds."""
    told = run(store, report)
    if result:
        files.write_json(result, told)
    return Output(told, f"{told['status']}: {told['why']}")


if __name__ == "__main__":
    sys.exit(main())
