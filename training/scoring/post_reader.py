"""Posts to be scored: read from a file, judged by the same contract as delivered ones, and turned into what models read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.feature_store.ingest.delivery import DeliveredFile, Delivery, open_delivery, read_batches
from upheld.feature_store.ingest.readers import Bounds, BrokenRow, FileRejected, RawBatch
from upheld.feature_store.ingest.row_checks import Rules, check
from upheld.feature_store.sandbox.pool import DecodePool
from upheld.training.scoring.features import Tools
from upheld.training.scoring.posts import Batch, featured

POSTS_AT_ONCE = 2048  # held in memory with their features; their images are read when the model asks for them
MOVING_AT_ONCE = 16  # posts with video or sound, whose frames and spectrograms are held, too


def read_one(path: Path, rules: Rules, prior_removals: Mapping[str, int], tools: Tools, decoders: DecodePool) -> Batch:
    """Read a JSON file that holds one post.

    Args:
        path: the file; the post's media paths are relative to its folder.
        rules: policies and bounds.
        prior_removals: author_id -> confirmed removals so far; authors left out have none.
        tools: the extractors that the model learned from.
        decoders: of images; they must last as long as what is returned is used.

    Raises:
        BadUse: there is no such file, it is no JSON object, or the post breaks the contract.
    """
    folder = _folder_of(path)
    if path.stat().st_size > rules.bounds.max_row_bytes:
        raise BadUse(f"{path}: {path.stat().st_size} bytes, expected one post of at most {rules.bounds.max_row_bytes}")
    try:
        post = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise BadUse(f"{path}: line {error.lineno} column {error.colno}: not valid JSON ({error.msg}); expected one post") from error
    except (ValueError, RecursionError) as error:
        raise BadUse(f"{path}: not readable as UTF-8 JSON ({error}); expected one post") from error
    if not isinstance(post, dict):
        raise BadUse(f"{path}: expected a JSON object, one post, found {type(post).__name__}; many posts go through --posts")
    raw = RawBatch({name: [value] for name, value in post.items()}, [0], lambda row: json.dumps(post), header=False)
    return featured(_checked(path, raw, rules), folder, rules.bounds, prior_removals, tools, decoders)


def read_many(path: Path, rules: Rules, prior_removals: Mapping[str, int], tools: Tools, decoders: DecodePool) -> Iterator[Batch]:
    """Read a Parquet, JSONL or CSV file of posts, a bounded number at a time.

    Args:
        path: the file; media paths are relative to its folder, or to the delivery where the file lies in its folder `posts`.
        rules: policies and bounds.
        prior_removals: author_id -> confirmed removals so far; authors left out have none.
        tools: the extractors that the model learned from.
        decoders: of images; they must last as long as what is returned is used.

    Raises:
        BadUse: there is no such file, a column is missing, a row breaks the contract, or a post_id comes twice.
    """
    folder = _folder_of(path)
    file = DeliveredFile("posts", f"posts/{path.name}" if _delivered(path) else path.name, path.stat().st_size)
    limits = Bounds(POSTS_AT_ONCE, rules.bounds.batch_bytes, rules.bounds.max_row_bytes, rules.bounds.max_file_bytes)
    seen: set[str] = set()
    try:
        for raw in read_batches(folder, file, limits):
            posts = _checked(path, raw, rules)
            _refuse_repeated(path, posts["post_id"].to_pylist(), raw.row_numbers, seen)
            for some in _portions(posts):
                yield featured(some, folder, rules.bounds, prior_removals, tools, decoders)
    except FileRejected as error:
        raise BadUse(f"{path}: {error} ({error.reason})") from error


def _folder_of(path: Path) -> Delivery:
    if not path.is_file():
        raise BadUse(f"{path}: no such file; expected posts in the contract's columns")
    return open_delivery(str(path.absolute().parent.parent if _delivered(path) else path.absolute().parent))


def _delivered(path: Path) -> bool:
    return path.absolute().parent.name == "posts"


def _checked(path: Path, raw: RawBatch, rules: Rules) -> pa.Table:
    """The rows in the contract's types; the first bad one ends the work, for half a file of decisions would mislead."""
    try:
        posts, findings = check("posts", raw, rules)
    except FileRejected as error:
        raise BadUse(f"{path}: {error} ({error.reason})") from error
    bad = [BrokenRow(raw.row_numbers[row], findings.reasons[row], findings.details[row], "") for row in (~findings.good).nonzero()[0]]
    first = min([*bad, *raw.broken], key=lambda row: row.row_number, default=None)
    if first is not None:
        raise BadUse(f"{path}: row {first.row_number + 1}: {first.detail} ({first.reason}); mend the row or leave it out")
    return posts


def _refuse_repeated(path: Path, post_ids: Sequence[str], row_numbers: Sequence[int], seen: set[str]) -> None:
    for post_id, row in zip(post_ids, row_numbers, strict=True):
        if post_id in seen:
            raise BadUse(f"{path}: row {row + 1}: column post_id: {post_id!r} comes twice; leave one of the rows out")
        seen.add(post_id)


def _portions(posts: pa.Table) -> Iterator[pa.Table]:
    """The posts in their order, cut where more than MOVING_AT_ONCE of them have video or sound."""
    moving = np.array([any(item["kind"] != "image" for item in media) for media in posts["media"].to_pylist()], np.int64)
    portion = np.maximum(np.cumsum(moving) - 1, 0) // MOVING_AT_ONCE
    cuts = [0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(posts)]
    return (posts.slice(start, end - start) for start, end in pairwise(cuts))
