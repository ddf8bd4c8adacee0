"""A change of what is in production, as the person who approves it must see it before."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common.errors import BadUse
from upheld.evaluation import behaviour
from upheld.evaluation.report import render
from upheld.feature_store.decisions import freezes, holds
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.registry.approvals import log as approval_log
from upheld.registry.approvals import verified
from upheld.registry.approvals.log import Pair
from upheld.registry.production import champion, proposal_text, volumes
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

FIRST_SCREEN = f"evaluation/{render.FIRST_SCREEN}"


def choose(store: Path, registry: Registry, model: str | None, thresholds: str | None) -> tuple[Version, Version]:
    """The model and thresholds that are asked for.

    Args:
        store: folder with the record of approvals.
        model: version or alias; None takes the champion where thresholds are named, else the challenger.
        thresholds: version; None takes those of the model.

    Returns:
        (model, thresholds pinned to it).

    Raises:
        BadUse: no such version, or the thresholds belong to another model.
        FailedWork: the champion is meant, and nobody approved what its alias names.
    """
    if model is None and thresholds:
        champion.in_production(store, registry)
    chosen = mlflow_store.resolve(registry, mlflow_store.MODEL, model or (champion.ALIAS if thresholds else champion.CHALLENGER))
    if thresholds is None:
        return chosen, champion.thresholds_of(store, registry, chosen)
    bounds = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, thresholds)
    pinned_to = bounds.tags.get("upheld.model_version")
    if pinned_to != chosen.label:
        raise BadUse(f"{bounds.label} belongs to {pinned_to}, not to {chosen.label}; a threshold never passes to another model's scale")
    return chosen, bounds


def run(store: Path, model: str | None, thresholds: str | None) -> dict[str, Any]:
    """Describe a change.

    Args:
        store: folder with the registry.
        model, thresholds: as `choose` takes them.

    Returns:
        {"status": "ask" or "nothing", "model", "thresholds", "instead_of", "held", "subject", "body"}: the two numbers as text, what
        is in production, whether the gate holds it, and Markdown; "nothing" where this is in production already.

    Raises:
        BadUse: as `choose`.
        FailedWork: as `choose`, or files are not those that were registered.
    """
    registry = mlflow_store.connect(store, create=False)
    champion.settle(store, registry)
    chosen, bounds = choose(store, registry, model, thresholds)
    now = champion.current(registry)
    answer = {"model": str(chosen.number), "thresholds": str(bounds.number), "instead_of": str(now), "held": False}
    if now == champion.approved(store) == Pair(chosen.number, bounds.number):
        return answer | {
            "status": "nothing",
            "subject": "Nothing to approve",
            "body": f"{chosen.label} with {bounds.label} is in production.",
        }
    verified.bundle(store, registry, chosen)
    why_held = champion.held(store, chosen, bounds)
    evidence = bounds if chosen.number == now.model else chosen  # whose report to read
    suites = behaviour.load(behaviour.folder_of(store, chosen.label))
    body = [
        *proposal_text.unexplained(now, champion.approved(store)),
        *_body(store, registry, chosen, evidence, bounds, now, bool(why_held)),
        *proposal_text.frozen(freezes.frozen(store)),
        *proposal_text.held(holds.held(store)),
        *proposal_text.behaviour(chosen.number, suites),
        *proposal_text.answers(approval_log.read(store)),
    ]
    if "evaluation/report.html" in mlflow_store.run_files(registry, evidence.run_id, "evaluation"):
        page = mlflow_store.run_page(registry, evidence.run_id)
        file = mlflow_store.artifact_file(registry, evidence.run_id, "evaluation/report.html")
        body.append(proposal_text.where(page and f"{page}/artifacts/evaluation/report.html", file, evidence.run_id))
    what = f"{chosen.label} with {bounds.label}" if chosen.number != now.model else f"{bounds.label} for the champion {chosen.label}"
    warning = "HELD by the gate" if why_held else "The gate agrees"
    synthetic = " Synthetic data." if bounds.tags.get("upheld.synthetic") == "true" else ""
    subject = f"Put {what} into production in place of {now}? {warning}.{synthetic}"
    return answer | {"status": "ask", "held": bool(why_held), "subject": subject, "body": "\n".join(body)}


def _body(store: Path, registry: Registry, model: Version, evidence: Version, bounds: Version, now: Pair, held: bool) -> Iterator[str]:
    there = mlflow_store.run_files(registry, evidence.run_id, "evaluation")
    in_force = None
    if now.thresholds is not None:
        version = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, str(now.thresholds))
        in_force = Thresholds.read(verified.thresholds(store, registry, version))
    proposed = Thresholds.read(verified.thresholds(store, registry, bounds))
    metrics = None
    if "evaluation/metrics.parquet" in there:
        metrics = pd.read_parquet(mlflow_store.run_artifact(registry, evidence.run_id, "evaluation/metrics.parquet"))
    if held:
        yield "**The gate holds this.** Approving it needs a reason of at least 10 characters; it stays on record.\n"
    yield from proposal_text.volumes(volumes.of_change(store, registry, model, evidence, bounds, now, in_force))
    recorded = json.loads(model.tags.get("upheld.champion", "null"))  # that it was compared with when it was evaluated
    number = None if recorded is None else int(recorded["version"])
    # gate.json of older versions does not say with what they were compared; it was a champion, or nothing
    compared = {"kind": "nothing", "names": []} if number is None else {"kind": "champion", "names": [f"champion {number}"]}
    if "evaluation/gate.json" in there:
        gate = json.loads(mlflow_store.run_artifact(registry, evidence.run_id, "evaluation/gate.json").read_text(encoding="utf-8"))
        compared = gate.get("compared_with", compared)
        yield from proposal_text.gate(gate, metrics)
    if evidence is model and metrics is not None:
        yield from proposal_text.comparison(metrics, compared, number, now.model)
    yield from proposal_text.thresholds(in_force, proposed)
    yield "## The report\n"
    if FIRST_SCREEN in there:
        yield mlflow_store.run_artifact(registry, evidence.run_id, FIRST_SCREEN).read_text(encoding="utf-8").strip() + "\n"
    else:
        yield f"{evidence.label} was registered before its report had a {render.FIRST_SCREEN} of its own: open the whole report.\n"
