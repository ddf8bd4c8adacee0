"""Before a weekly report: what is in production. After it: register the thresholds that it proposes, so that a person can be asked.

usage: python -m upheld.registry.production.weekly in-force --week 2026-W43 --out in_force.json --champion champion.json
       python -m upheld.registry.production.weekly --report store/weekly/2026-W43
"""

import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from upheld.common import files
from upheld.common.command import STORE_FOLDER, Output, StoreFolder, command
from upheld.common.errors import FailedWork
from upheld.evaluation.weekly.report import WeeklySummary
from upheld.evaluation.weekly.source import in_week
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.ledger.ledger import Ledger
from upheld.registry.approvals import verified
from upheld.registry.production import champion, thresholds
from upheld.registry.tracking import mlflow_store


def in_force(store: Path, week: str, out: Path, label: Path) -> str:
    """Write which model is in production now, and its thresholds with its name, or remove those that an earlier run left there.

    Args:
        store: folder with ledger and registry.
        week: ISO week; thresholds of a model that did not serve in it say nothing of its decisions.
        out: JSON to write with the thresholds.
        label: JSON to write with {"model_version"}, null where no model is in production, and `incumbent` where that model needs the
            score of another; none where the alias and the record of approvals differ.

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
    needed = None if model is None else model.tags.get(mlflow_store.INCUMBENT)
    files.write_json(label, {"model_version": model and model.label} | ({"incumbent": needed} if needed else {}))
    if model is None:
        return "nothing is in production; the week's own decisions show the thresholds"
    inside = in_week(week)
    served: set[str] = set()  # model versions that decided in the week
    for batch in Ledger(store).scan("decisions", ("decided_at", "model_version")):
        served |= set(batch.filter(inside(batch.column("decided_at"))).column("model_version").to_pylist())
    if model.label not in served:
        return f"{model.label} did not serve in {week}; the week's own decisions show the thresholds"
    bounds = champion.thresholds_of(store, registry, model)
    Thresholds.read(verified.thresholds(store, registry, bounds)).model_copy(update={"model_version": model.label}).write(out)
    return f"{bounds.label} rules {model.label}: {out}"


def propose(store: Path, report: Path) -> dict[str, Any]:
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
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(now.model))
    before = Thresholds.read(verified.thresholds(store, registry, champion.thresholds_of(store, registry, model)))
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "thresholds.json"
        completed(Thresholds.read(report / served.folder / "thresholds.json"), before).write(path)
        registered = thresholds.run(path, str(now.model), report / served.folder, f"weekly {week}", store)
    number = registered["thresholds"].rpartition("/")[2]
    if number == str(now.thresholds):
        return _nothing(f"what {week} proposes for {label} is in force already")
    why = f"{registered['thresholds']} for {label}, proposed by the labels of {week}; the gate says {registered['gate']}"
    return {"status": "proposed", "model": str(now.model), "thresholds": number, "why": why}


def _nothing(why: str) -> dict[str, Any]:
    return {"status": "nothing", "model": None, "thresholds": None, "why": why}


def completed(proposed: Thresholds, before: Thresholds) -> Thresholds:
    """A week's thresholds with what the week could not speak of: categories without a decision, and the calibration of the scores."""
    calibration = {"calibration_digest": before.calibration_digest} if "calibration_digest" in before.model_fields_set else {}
    return proposed.model_copy(update={**calibration, "categories": {**before.categories, **proposed.categories}})


@command("in-force")
def in_force_main(
    week: Annotated[str, typer.Option(help="ISO week such as 2026-W43.")],
    out: Annotated[Path, typer.Option(help="thresholds.json to write, if there are any.")],
    label: Annotated[Path, typer.Option("--champion", help="JSON to write with the model in production.")],
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """The model in production and its thresholds, for a week's report."""
    message = in_force(store, week, out, label)
    return Output({"summary": message}, message)


@command("propose")
def main(
    report: Annotated[Path, typer.Option(help="Folder that `upheld weekly` wrote.")],
    result: Annotated[Path | None, typer.Option(help="JSON to write with what was proposed.")] = None,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Register a week's proposed thresholds."""
    answer = propose(store, report)
    return Output(answer, f"{answer['status']}: {answer['why']}", result=result)


if __name__ == "__main__":
    sys.exit(in_force_main(sys.argv[2:]) if sys.argv[1:2] == ["in-force"] else main())
