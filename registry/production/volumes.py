"""How many posts a change removes, queues and passes, against what is in force: read off what was evaluated, never guessed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.feature_store.contracts.snapshot import SERVED_FILE
from upheld.feature_store.contracts.tables import ACTIONS
from upheld.feature_store.contracts.workspace import CHAMPION_SCORES, SCORES
from upheld.feature_store.contracts.workspace import SNAPSHOT as SNAPSHOT_FOLDER
from upheld.feature_store.decisions.thresholds import BOUNDED, Thresholds
from upheld.registry.approvals.log import Pair
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

SNAPSHOT = "upheld.snapshot_sha256"
METRICS, REPORT = "evaluation/metrics.parquet", "evaluation/report.json"

Counts = dict[str, dict[str, int]]  # category -> {auto_remove, review, none}


@dataclass(frozen=True)
class Volumes:
    """Posts by action before and after a change, on the posts that `where` names; `gaps` says in words what is not known."""

    where: str
    before: Counts
    after: Counts
    gaps: tuple[str, ...]


def of_change(
    store: Path, registry: Registry, model: Version, evidence: Version, bounds: Version, now: Pair, in_force: Thresholds | None
) -> Volumes:
    """Volumes of a proposed change.

    Args:
        store: folder with the runs.
        model, bounds: what is asked for.
        evidence: that one of the two whose run holds it.
        now: what is in production.
        in_force: the thresholds in production; None without any.
    """
    there = mlflow_store.run_files(registry, evidence.run_id, "evaluation")
    if REPORT in there:
        report = json.loads(mlflow_store.run_artifact(registry, evidence.run_id, REPORT).read_text(encoding="utf-8"))
        if "weekly" in report:
            return _of_week(report["weekly"], in_force)
    gaps = []
    after: Counts = {}
    if bounds.run_id != model.run_id:
        gaps.append("After: not known; these thresholds were not evaluated on the model's test window.")
    elif METRICS not in there:
        gaps.append("After: not known; no metrics are kept with this version.")
    else:
        after = _of_metrics(pd.read_parquet(mlflow_store.run_artifact(registry, evidence.run_id, METRICS)))
        gaps += [] if after else ["After: not known; the evaluation counted no posts."]
    before: Counts = {}
    if now.model is None or in_force is None:
        before, who = _of_decisions(store, registry, model)
        if not before or (after and _posts(before) != _posts(after)):
            before = {}
            gaps.append("Before: not known; none of our models is in production, and not all of these posts have a decision in this store.")
        else:
            gaps.append(f"Before: what was decided on these posts when they came, by {', '.join(who)}.")
    elif evidence is not model:
        gaps.append("Before: not known; no week was counted under both sets of thresholds.")
    else:
        before = _of_champion(store, registry, model, now, in_force) or _as_evaluated(registry, model, now)
        if not before:
            gaps.append("Before: not known; the scores of the model in production on the same posts are not kept in this store.")
        elif after and _posts(before) != _posts(after):
            before = {}
            gaps.append("Before: not known; the model in production has not scored the same posts.")
    return Volumes("the posts of the test window", before, after, tuple(gaps))


def _of_week(weekly: Mapping[str, Any], in_force: Thresholds | None) -> Volumes:
    """As the week's report counted them; it says against which thresholds."""
    changes = weekly["changes"]
    same = all(
        _close(None if in_force is None else in_force.threshold(row["category"], action), row["now"][action])
        for row in changes
        for action in BOUNDED
    )
    gaps = () if same else ("Before: as the thresholds of that week had it, which are not all those in force now.",)
    before, after = ({row["category"]: row[key] for row in changes} for key in ("volume_now", "volume_proposed"))
    return Volumes(f"the posts of {weekly['week']}", before, after, gaps)


def _close(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) < 1e-6)


def _of_metrics(metrics: pd.DataFrame) -> Counts:
    pooled = metrics[(metrics.group_column == "all") & (metrics.language == "all")]
    counts: Counts = {}
    for category, own in pooled.groupby("category"):
        values = own.set_index("metric")["value"]
        shares = values.reindex(["rows", "auto_remove_share", "queue_share"])
        if shares.notna().all():
            removed, review = (round(shares["rows"] * shares[name]) for name in ("auto_remove_share", "queue_share"))
            counts[str(category)] = {"auto_remove": removed, "review": review, "none": round(shares["rows"]) - removed - review}
    return counts


def _of_decisions(store: Path, registry: Registry, model: Version) -> tuple[Counts, list[str]]:
    """What was decided on what the model's evaluation counted, and by whom; empty where the files of its run are gone."""
    workspace = _workspace(store, registry, model)
    files = [workspace / SCORES, workspace / SNAPSHOT_FOLDER / SERVED_FILE]
    if not all(file.is_file() for file in files):
        return {}, []
    scores, served = (pd.read_parquet(file) for file in files)
    counted = scores.loc[scores["split"] == "test", ["item_id", "category"]].rename(columns={"item_id": "post_id"})
    decided = counted.merge(served, on=["post_id", "category"], validate="1:1")
    actions = {str(category): own["action"] for category, own in decided.groupby("category")}
    counts = {category: {name: int((own == name).sum()) for name in ACTIONS} for category, own in actions.items()}
    return counts, sorted(decided["model_version"].unique())


def _workspace(store: Path, registry: Registry, model: Version) -> Path:
    """Of the model's run, which may be cleared away or elsewhere; others can write the name, a tag, so it may be no path."""
    return store / "runs" / Path(mlflow_store.run_name(registry, model.run_id)).name


def _of_champion(store: Path, registry: Registry, model: Version, now: Pair, in_force: Thresholds) -> Counts:
    """The champion's own scores of the new model's test window, routed as it routes posts today; empty where they are not kept."""
    compared = json.loads(model.tags.get("upheld.champion", "null"))
    path = _workspace(store, registry, model) / CHAMPION_SCORES
    if compared is None or int(compared["version"]) != now.model or not path.is_file():
        return {}
    scores = pd.read_parquet(path, columns=["category", "language", "score", "split"])
    scores = scores[scores["split"] == "test"]
    in_force.require(sorted(set(scores["category"])), "thresholds in force")
    counts = {}
    for category, own in scores.groupby("category"):
        actions = pd.Series(in_force.route(str(category), own["score"].to_numpy(), own["language"].tolist(), frozen=False))
        counts[str(category)] = {name: int((actions == name).sum()) for name in ACTIONS}
    return counts


def _as_evaluated(registry: Registry, model: Version, now: Pair) -> Counts:
    """The champion's own evaluation, where that was of the same posts with the thresholds in force; empty where it was not."""
    champion = mlflow_store.resolve(registry, mlflow_store.MODEL, str(now.model))
    in_force = mlflow_store.resolve(registry, mlflow_store.THRESHOLDS, str(now.thresholds))
    same_posts = champion.tags.get(SNAPSHOT) is not None and champion.tags.get(SNAPSHOT) == model.tags.get(SNAPSHOT)
    if (
        not same_posts
        or in_force.run_id != champion.run_id
        or METRICS not in mlflow_store.run_files(registry, champion.run_id, "evaluation")
    ):
        return {}
    return _of_metrics(pd.read_parquet(mlflow_store.run_artifact(registry, champion.run_id, METRICS)))


def _posts(counts: Counts) -> dict[str, int]:
    return {category: sum(actions.values()) for category, actions in counts.items()}
