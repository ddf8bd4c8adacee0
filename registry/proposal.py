"""A change of what is in production, as the person who approves it must see it before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from evaluation import behaviour_files
from evaluation.operating_point import load_thresholds
from feature_store import freeze_log
from feature_store.errors import BadUse
from registry import champion, mlflow_store, proposal_text
from registry.mlflow_store import Registry, Version

FIRST_SCREEN_ENDS = "## Summary by category"  # evaluation/report/report.md.j2


def choose(registry: Registry, model: str | None, thresholds: str | None) -> tuple[Version, Version]:
    """The model and thresholds that are asked for.

    Args:
        registry: open registry.
        model: version or alias; None takes the champion where thresholds are named, else the challenger.
        thresholds: version; None takes those of the model.

    Returns:
        (model, thresholds pinned to it).

    Raises:
        BadUse: no such version, or the thresholds belong to another model.
    """
    chosen = mlflow_store.resolve(registry, mlflow_store.MODEL, model or (champion.ALIAS if thresholds else champion.CHALLENGER))
    if thresholds is None:
        return chosen, champion.thresholds_of(registry, chosen)
    bounds = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, thresholds)
    pinned_to = bounds.tags.get("upheld.model_version")
    if pinned_to != chosen.label:
        raise BadUse(f"{bounds.label} belongs to {pinned_to}, not to {chosen.label}; a threshold never passes to another model's scale")
    return chosen, bounds


def held(registry: Registry, model: Version, thresholds: Version) -> list[str]:
    """Labels of what would be new in production and does not have the gate's consent; one without a verdict has none."""
    now = champion.current(registry)
    new = [model] if model.number != now.model else []
    if thresholds.run_id != model.run_id or not new:
        new.append(thresholds)
    return [version.label for version in new if version.tags.get("upheld.gate") != "promote"]


def run(store: Path, model: str | None, thresholds: str | None) -> dict[str, Any]:
    """Describe a change.

    Args:
        store: folder with the registry.
        model, thresholds: as `choose` takes them.

    Returns:
        {"status": "ask" or "nothing", "model", "thresholds", "instead_of", "subject", "body"}: the two numbers as text, what
        is in production, and Markdown; "nothing" where this is in production already.

    Raises:
        BadUse: as `choose`.
    """
    registry = mlflow_store.connect(store, create=False)
    champion.settle(registry)
    chosen, bounds = choose(registry, model, thresholds)
    now = champion.current(registry)
    answer = {"model": str(chosen.number), "thresholds": str(bounds.number), "instead_of": str(now)}
    if now == champion.Pair(chosen.number, bounds.number):
        return answer | {
            "status": "nothing",
            "subject": "Nothing to approve",
            "body": f"{chosen.label} with {bounds.label} is in production.",
        }
    why_held = held(registry, chosen, bounds)
    told = bounds if chosen.number == now.model else chosen  # whose report to read
    behaviour = behaviour_files.load(behaviour_files.folder_of(store, chosen.label))
    standing = [*proposal_text.frozen(freeze_log.frozen(store)), *proposal_text.behaviour(chosen.number, behaviour)]
    body = "\n".join([*_body(registry, chosen, told, bounds, now, why_held), *standing, *_where(registry, told)])
    return answer | {"status": "ask", "subject": _subject(chosen, bounds, now, why_held), "body": body}


def _subject(model: Version, thresholds: Version, now: champion.Pair, why_held: list[str]) -> str:
    what = f"{model.label} with {thresholds.label}" if model.number != now.model else f"{thresholds.label} for the champion {model.label}"
    warning = "HELD by the gate" if why_held else "the gate agrees"
    synthetic = " Synthetic data." if thresholds.tags.get("upheld.synthetic") == "true" else ""
    return f"Put {what} into production in place of {now}? {warning[0].upper()}{warning[1:]}.{synthetic}"


def _body(registry: Registry, model: Version, told: Version, bounds: Version, now: champion.Pair, why_held: list[str]) -> Iterator[str]:
    there = mlflow_store.run_files(registry, told.run_id, "evaluation")
    if "evaluation/gate.json" in there:
        gate = json.loads(mlflow_store.run_artifact(registry, told.run_id, "evaluation/gate.json").read_text(encoding="utf-8"))
        yield from proposal_text.gate(gate)
    if why_held:
        yield "Approving this needs a reason in the field `despite_hold`; without one nothing moves.\n"
    if told is model and "evaluation/metrics.parquet" in there:
        metrics = pd.read_parquet(mlflow_store.run_artifact(registry, told.run_id, "evaluation/metrics.parquet"))
        yield from proposal_text.comparison(metrics, _compared_with(model), now.model)
    yield from proposal_text.thresholds(_in_force(registry, now), load_thresholds(mlflow_store.thresholds_path(registry, bounds)))
    if "evaluation/report.md" in there:
        report = mlflow_store.run_artifact(registry, told.run_id, "evaluation/report.md").read_text(encoding="utf-8")
        yield from proposal_text.first_screen(report.partition(FIRST_SCREEN_ENDS)[0])


def _where(registry: Registry, told: Version) -> Iterator[str]:
    """Where the whole report is."""
    if "evaluation/report.html" in mlflow_store.run_files(registry, told.run_id, "evaluation"):
        page = mlflow_store.artifact_page(registry, told.run_id, "evaluation/report.html")
        yield from proposal_text.where(page, mlflow_store.run_artifact(registry, told.run_id, "evaluation/report.html"))


def _compared_with(model: Version) -> int | None:
    """Number of the champion that the model was compared with when it was evaluated."""
    recorded = json.loads(model.tags.get("upheld.champion", "null"))
    return None if recorded is None else int(recorded["version"])


def _in_force(registry: Registry, now: champion.Pair) -> dict[str, Any] | None:
    if now.thresholds is None:
        return None
    version = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, str(now.thresholds))
    return load_thresholds(mlflow_store.thresholds_path(registry, version))
