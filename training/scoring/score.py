"""Score posts with a bundle and route them by its thresholds: one post, or a file of them into a table of decisions."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from upheld.common import progress
from upheld.common.errors import BadUse
from upheld.common.files import replacing
from upheld.common.params.params import Params
from upheld.feature_store.contracts import hashing, tables
from upheld.feature_store.decisions.thresholds import Thresholds, strongest
from upheld.feature_store.ingest.delivery import image_decoders
from upheld.feature_store.ingest.row_checks import Rules
from upheld.training.pipeline import bundle as pipeline
from upheld.training.scoring.posts import Batch, Tools, read_many, read_one


@dataclass(frozen=True)
class Judge:
    """What decides: a loaded model, its thresholds, the names under which both are registered, and the frozen categories."""

    model: pipeline.Pipeline
    thresholds: Thresholds
    model_version: str
    thresholds_version: str
    frozen: frozenset[str]


@dataclass(frozen=True)
class Result:
    """How many posts were decided, how many got each action, and which media could not be used."""

    num_posts: int
    actions: dict[str, int]
    notes: tuple[str, ...]


def load_model(bundle: Path, thresholds: Thresholds, model_version: str, thresholds_version: str, frozen: Collection[str] = ()) -> Judge:
    """Load a model and check that the thresholds are about what it predicts.

    Args:
        bundle: folder made by `pipeline.assemble`.
        thresholds: those that route its posts.
        model_version: what decisions name as their model.
        thresholds_version: what answers name as their thresholds.
        frozen: categories in which a person has stopped automatic removal.

    Raises:
        FailedWork: the bundle is damaged.
        BadUse: the thresholds lack a category of the model, or a frozen category is unknown.
    """
    model = pipeline.load(bundle)
    unknown = sorted(set(frozen) - set(model.policies))
    if unknown:
        raise BadUse(f"frozen category {unknown[0]!r}: {model_version} predicts {', '.join(model.policies)}")
    thresholds.require(model.policies, thresholds_version)
    return Judge(model, thresholds, model_version, thresholds_version, frozenset(frozen))


def one(judge: Judge, post: Path, params: Params, prior_removals: Mapping[str, int]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Decide on one post.

    Args:
        judge: model and rules.
        post: JSON file with one post in the contract; its media lie below the file's folder.
        params: read are `ingest`, `snapshot`, `features` and the sections of the extractors that the model learned from.
        prior_removals: author_id -> confirmed removals so far; authors left out have none.

    Returns:
        {post_id, model_version, thresholds_version, action, categories: {c: {prob, action}}}, and notes on media that
        could not be used and count as missing.

    Raises:
        BadUse: the file is missing, no JSON, or breaks the contract.
    """
    tools = Tools(params, judge.model.features)
    with image_decoders(params) as decoders:
        batch = read_one(post, Rules(judge.model.policies, params.ingest), prior_removals, tools, decoders)
        rows = decide(judge, batch)
    categories = {row.category: {"prob": row.score, "action": row.action} for row in rows.itertuples()}
    answer = {
        "post_id": batch.posts["post_id"].iloc[0],
        "model_version": judge.model_version,
        "thresholds_version": judge.thresholds_version,
        "action": strongest(rows["action"].tolist()),
        "categories": categories,
    }
    return answer, (*tools.notes, *batch.notes)


def run(judge: Judge, posts: Path, out: Path, params: Params, prior_removals: Mapping[str, int], decided_at: datetime) -> Result:
    """Decide on every post of a file, a bounded number at a time.

    Args:
        judge: model and rules.
        posts: Parquet, JSONL or CSV file in the posts contract; media lie below its folder.
        out: Parquet to write in the decisions contract, one row per post and category; whole or not at all.
        params: read are `ingest`, `snapshot`, `features` and the sections of the extractors that the model learned from.
        prior_removals: author_id -> confirmed removals so far; authors left out have none.
        decided_at: time that the decisions carry, with a time zone.

    Returns:
        counts of posts by their strongest action, and notes.

    Raises:
        BadUse: the file is missing, or a row of it breaks the contract; nothing is written then.
    """
    actions: Counter[str] = Counter(dict.fromkeys(tables.ACTIONS, 0))
    notes: list[str] = []
    tools = Tools(params, judge.model.features)
    with (
        image_decoders(params) as decoders,
        replacing(out) as partial,
        pq.ParquetWriter(partial, tables.DECISIONS, compression="zstd") as writer,
        progress.bars() as bars,
    ):
        report = progress.reporter(bars, "score", _num_rows(posts))
        for batch in read_many(posts, Rules(judge.model.policies, params.ingest), prior_removals, tools, decoders):
            rows = decide(judge, batch, report)
            columns = {
                "decision_id": [
                    decision_id(post, category, judge.model_version, judge.thresholds_version, category in judge.frozen)
                    for post, category in zip(rows["post_id"], rows["category"], strict=True)
                ],
                **{name: rows[name].tolist() for name in ("post_id", "category", "score", "action")},
                "decided_at": [decided_at] * len(rows),
                "model_version": [judge.model_version] * len(rows),
            }
            writer.write_table(pa.Table.from_pydict(columns, schema=tables.DECISIONS))
            actions.update(rows.groupby("post_id")["action"].agg(strongest).tolist())
            notes += batch.notes
    return Result(actions.total(), dict(actions), (*tools.notes, *notes))


def decide(judge: Judge, batch: Batch, report: progress.Report = progress.silent) -> pd.DataFrame:
    """Score a batch and route it.

    Returns:
        post_id, category, score (calibrated probability), action; a post's categories together, posts in their order.
    """
    probs = judge.model.predict(batch.posts, batch.media, report)
    languages = batch.posts["language"].tolist()
    parts = []
    for policy in judge.model.policies:
        prob = probs[f"prob_{policy}"].to_numpy()
        action = judge.thresholds.route(policy, prob, languages, policy in judge.frozen)
        parts.append(pd.DataFrame({"post_id": probs["post_id"], "category": policy, "score": prob, "action": action}))
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def decision_id(post_id: str, category: str, model_version: str, thresholds_version: str, frozen: bool = False) -> str:
    """Name of a decision: the same model and thresholds on the same post decide the same, and under others, or while the category is
    frozen, it is another decision."""
    return hashing.of_json([post_id, category, model_version, thresholds_version, *(["frozen"] if frozen else [])])[:32]


def _num_rows(posts: Path) -> int | None:
    """Rows of a Parquet file, for the bar; text formats do not say, and a broken file is the reader's to refuse."""
    try:
        return int(pq.read_metadata(posts).num_rows)
    except (OSError, pa.ArrowException):
        return None
