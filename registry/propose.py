"""Register what a weekly report proposes for the champion's thresholds, so that a person can be asked about it.

usage: python -m registry.propose --report store/weekly/2026-W43
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from evaluation.operating_point import load_thresholds
from feature_store import atomic
from feature_store.command import STORE_FOLDER, Output, StoreFolder, command
from feature_store.errors import BadUse
from registry import champion, mlflow_store, thresholds, verified
from registry.approval_log import Pair
from registry.mlflow_store import Registry


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
    week, models = _told(report)
    if not mlflow_store.exists(store):
        return _nothing("nothing is registered yet, so there are no thresholds to change")
    registry = mlflow_store.connect(store)
    champion.settle(store, registry)
    now = champion.in_production(store, registry)
    if now.model is None:
        return _nothing("nothing is in production, so there are no thresholds to change")
    label = f"{mlflow_store.MODEL}/{now.model}"
    folder = next((report / item["folder"] for item in models if item["model_version"] == label), None)
    if folder is None:
        return _nothing(f"{label} is in production and did not serve in {week}")
    if not json.loads((folder / "report.json").read_text(encoding="utf-8"))["weekly"]["num_changes"]:
        return _nothing(f"the labels of {week} support no change of {label}'s thresholds")
    registered = _register(registry, store, now, folder, week)
    number = registered["thresholds"].rpartition("/")[2]
    if number == str(now.thresholds):
        return _nothing(f"what {week} proposes for {label} is in force already")
    why = f"{registered['thresholds']} for {label}, proposed by the labels of {week}; the gate says {registered['gate']}"
    return {"status": "proposed", "model": str(now.model), "thresholds": number, "why": why}


def _nothing(why: str) -> dict[str, Any]:
    return {"status": "nothing", "model": None, "thresholds": None, "why": why}


def _told(report: Path) -> tuple[str, list[dict[str, Any]]]:
    """Week and models of weekly.json, which is written last: where it is, everything is."""
    try:
        told = json.loads((report / "weekly.json").read_text(encoding="utf-8"))
        return str(told["week"]), list(told["models"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadUse(f"{report}/weekly.json: cannot be read ({error!r}); expected a folder that `upheld weekly` wrote") from error


def _register(registry: Registry, store: Path, now: Pair, folder: Path, week: str) -> dict[str, Any]:
    model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(now.model))
    before = load_thresholds(verified.thresholds(store, registry, champion.thresholds_of(store, registry, model)))
    content = completed(load_thresholds(folder / "thresholds.json"), before)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "thresholds.json"
        atomic.write_json(path, content)
        return thresholds.run(path, str(now.model), folder, f"weekly {week}", store)


def completed(proposed: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A week's thresholds with what the week could not speak of: categories without a decision, and the calibration of the scores.

    Args:
        proposed: content of the report's thresholds.json.
        before: content of the thresholds.json in force for the same model.

    Returns:
        content to register.
    """
    calibration = {key: before[key] for key in ("calibration_digest",) if key in before}
    return {**proposed, **calibration, "categories": {**before["categories"], **proposed["categories"]}}


@command("propose")
def main(
    report: Annotated[Path, typer.Option(help="Folder that `upheld weekly` wrote.")],
    result: Annotated[Path | None, typer.Option(help="JSON to write with what was proposed.")] = None,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Register a week's proposed thresholds."""
    told = run(store, report)
    if result:
        atomic.write_json(result, told)
    return Output(told, f"{told['status']}: {told['why']}")


if __name__ == "__main__":
    sys.exit(main())
