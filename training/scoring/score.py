"""Score posts with a bundle and route them by its thresholds: one post, or a file of them into a table of decisions."""

from collections import Counter
from collections.abc import Collection, Iterator
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
from upheld.feature_store.posts.history import History
from upheld.training.fusion import incumbent as incumbents
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline.stage1 import lanes_of
from upheld.training.scoring.posts import Batch, Tools, read_decisions, read_many, read_one


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
    """How many posts were decided, how many got each action, how many lacked the score of the incumbent that the model needs (None where
    it needs none), and notes: what was not used."""

    num_posts: int
    actions: dict[str, int]
    without_incumbent: int | None
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


def one(
    judge: Judge, post: Path, params: Params, history: History, incumbent: Path | None = None
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Decide on one post.

    Args:
        judge: model and rules.
        post: JSON file with one post in the contract; its media lie below the file's folder.
        params: read are `ingest`, `snapshot`, `features` and the sections of the extractors that the model learned from.
        history: what is known of authors and contexts.
        incumbent: decisions of the model whose score is an input of this one, in the decisions contract.

    Returns:
        {post_id, model_version, thresholds_version, action, categories: {c: {prob, action}}}, and notes on media that
        could not be used and count as missing, and on what was not asked or not given.

    Raises:
        BadUse: a file is missing, no JSON, or breaks its contract.
    """
    said = _said(judge, incumbent, params)
    tools = Tools(params, judge.model.features)
    with image_decoders(params) as decoders:
        batch = read_one(post, Rules(judge.model.policies, params.ingest), history, tools, decoders)
        rows = decide(judge, batch, said)
    categories = {row.category: {"prob": row.score, "action": row.action} for row in rows.itertuples()}
    answer = {
        "post_id": batch.posts["post_id"].iloc[0],
        "model_version": judge.model_version,
        "thresholds_version": judge.thresholds_version,
        "action": strongest(rows["action"].tolist()),
        "categories": categories,
    }
    return answer, (*tools.notes, *batch.notes, *_notes(judge, incumbent, int(rows["is_lacking"].any()), 1))


def run(
    judge: Judge,
    posts: Path,
    out: Path,
    params: Params,
    history: History,
    decided_at: datetime,
    incumbent: Path | None = None,
) -> Result:
    """Decide on every post of a file, a bounded number at a time.

    Args:
        judge: model and rules.
        posts: Parquet, JSONL or CSV file in the posts contract; media lie below its folder.
        out: Parquet to write in the decisions contract, one row per post and category; whole or not at all.
        params: read are `ingest`, `snapshot`, `features` and the sections of the extractors that the model learned from.
        history: what is known of authors and contexts.
        decided_at: time that the decisions carry, with a time zone.
        incumbent: as for `one`.

    Returns:
        counts of posts by their strongest action, and notes.

    Raises:
        BadUse: a file is missing, or a row of it breaks its contract; nothing is written then.
    """
    said, num_without = _said(judge, incumbent, params), 0
    actions: Counter[str] = Counter(dict.fromkeys(tables.ACTIONS, 0))
    notes: list[str] = []
    schema = tables.DECISIONS.with_metadata(lanes_of(judge.model.models))
    tools = Tools(params, judge.model.features)
    with (
        image_decoders(params) as decoders,
        replacing(out) as partial,
        pq.ParquetWriter(partial, schema, compression="zstd") as writer,
        progress.bars() as bars,
    ):
        report = progress.reporter(bars, "score", _num_rows(posts))
        for batch in read_many(posts, Rules(judge.model.policies, params.ingest), history, tools, decoders):
            rows = decide(judge, batch, said, report)
            num_without += rows.loc[rows["is_lacking"], "post_id"].nunique()
            columns = {
                "decision_id": [
                    decision_id(post, category, judge.model_version, judge.thresholds_version, category in judge.frozen, is_lacking)
                    for post, category, is_lacking in zip(rows["post_id"], rows["category"], rows["is_lacking"], strict=True)
                ],
                **{name: rows[name].tolist() for name in ("post_id", "category", "score", "action")},
                "decided_at": [decided_at] * len(rows),
                "model_version": [judge.model_version] * len(rows),
            }
            writer.write_table(pa.Table.from_pydict(columns, schema=schema))
            actions.update(rows.groupby("post_id")["action"].agg(strongest).tolist())
            notes += batch.notes
    notes += _notes(judge, incumbent, num_without, actions.total())
    needed = judge.model.fusion.incumbent is not None
    return Result(actions.total(), dict(actions), num_without if needed else None, (*tools.notes, *notes))


def decide(judge: Judge, batch: Batch, said: pd.DataFrame | None = None, report: progress.Report = progress.silent) -> pd.DataFrame:
    """Score a batch and route it.

    Args:
        judge: model and rules.
        batch: posts and their media.
        said: what the incumbent decided, as `posts.read_decisions` gives it.
        report: is told how many posts have been done since its last call.

    Returns:
        post_id, category, score (calibrated probability), action, is_lacking (whether the score of the incumbent should have been heard
        and did not come); a post's categories together, posts in their order.
    """
    fusion, posts = judge.model.fusion, batch.posts
    if fusion.incumbent is not None:
        heard = tables.DECISIONS.empty_table().to_pandas() if said is None else said
        posts = incumbents.beside(posts, heard, fusion.incumbent, judge.model.policies)
    is_lacking = incumbents.lacking(fusion, posts)
    probs = judge.model.predict(posts, batch.media, report)
    languages = batch.posts["language"].tolist()
    parts = []
    for policy in judge.model.policies:
        prob = probs[f"prob_{policy}"].to_numpy()
        action = judge.thresholds.route(policy, prob, languages, policy in judge.frozen)
        columns = {"post_id": probs["post_id"], "category": policy, "score": prob, "action": action}
        parts.append(pd.DataFrame(columns | {"is_lacking": is_lacking[policy].to_numpy()}))
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def _said(judge: Judge, path: Path | None, params: Params) -> pd.DataFrame | None:
    """What the model that this one hears decided on posts; None where it hears none, or no file was given."""
    version = judge.model.fusion.incumbent
    return None if version is None or path is None else read_decisions(path, Rules(params.policies, params.ingest), version)


def _notes(judge: Judge, path: Path | None, num_without: int, num_posts: int) -> Iterator[str]:
    """What was not asked, and what should have been given."""
    fusion, text = judge.model.fusion, judge.model.models.text
    if text is not None and text.lane != text.setup.lane:
        yield f"texts scored in {text.lane}: this machine has no fast {text.setup.lane}, in which the model was calibrated"
    if unheard := sorted(fusion.unheard()):
        yield f"not run, because fusion leaves it out of every category: {', '.join(unheard)}"
    if fusion.incumbent is None and path is not None:
        yield f"{path}: not read; {judge.model_version} takes no score of another model"
    if num_without:
        yield f"{num_without} of {num_posts} posts scored without {fusion.incumbent}, whose score did not come with them (--incumbent FILE)"


def decision_id(
    post_id: str, category: str, model_version: str, thresholds_version: str, frozen: bool = False, is_lacking: bool = False
) -> str:
    """Name of a decision: the same model and thresholds on the same post decide the same, and under others, while the category is frozen,
    or where the score of the incumbent is lacking, it is another decision."""
    special = [*(["frozen"] if frozen else []), *(["without the incumbent"] if is_lacking else [])]
    return hashing.of_json([post_id, category, model_version, thresholds_version, *special])[:32]


def _num_rows(posts: Path) -> int | None:
    """Rows of a Parquet file, for the bar; text formats do not say, and a broken file is the reader's to refuse."""
    try:
        return int(pq.read_metadata(posts).num_rows)
    except (OSError, pa.ArrowException):
        return None
