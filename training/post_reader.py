"""Posts to be scored: read from a file, judged by the same contract as delivered ones, and turned into what models read."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from feature_store import post_features
from feature_store.errors import BadUse, FailedWork
from feature_store.ingest_batches import Bounds, BrokenRow, FileRejected, RawBatch
from feature_store.ingest_files import DeliveredFile, Delivery, open_delivery, read_batches
from feature_store.ingest_findings import Rules
from feature_store.ingest_media import MediaFile, check_all
from feature_store.ingest_rows import check
from feature_store.params_data import Ingest

POSTS_AT_ONCE = 2048  # held in memory with their features; their images are read when the model asks for them


@dataclass(frozen=True)
class Batch:
    """Some posts, ready for `Pipeline.predict`.

    `posts` has its columns; `images` says where the bytes of each digest are; `notes` say which images could not be used.
    """

    posts: pd.DataFrame
    folder: Delivery
    images: Mapping[str, str]
    notes: tuple[str, ...]
    bounds: Ingest

    def fetch(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Bytes of images by digest.

        Raises:
            FailedWork: an image has changed since the batch was read.
        """
        found = dict(check_all(self.folder, [("image", self.images[name]) for name in digests], self.bounds))
        content = {file.digest: file.content for file in found.values() if isinstance(file, MediaFile)}
        for name in digests:
            if name not in content:
                raise FailedWork(f"{self.folder.path(self.images[name])}: changed while it was being scored; score the posts again")
        return content


def read_one(path: Path, rules: Rules, prior_removals: Mapping[str, int]) -> Batch:
    """Read a JSON file that holds one post.

    Args:
        path: the file; the post's image paths are relative to its folder.
        rules: policies and bounds.
        prior_removals: author_id -> confirmed removals so far; authors left out have none.

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
    return _featured(_checked(path, raw, rules), folder, rules.bounds, prior_removals)


def read_many(path: Path, rules: Rules, prior_removals: Mapping[str, int]) -> Iterator[Batch]:
    """Read a Parquet, JSONL or CSV file of posts, a bounded number at a time.

    Args:
        path: the file; image paths are relative to its folder, or to the delivery where the file lies in its folder `posts`.
        rules: policies and bounds.
        prior_removals: author_id -> confirmed removals so far; authors left out have none.

    Raises:
        BadUse: there is no such file, a column is missing, a row breaks the contract, or a post_id comes twice.
    """
    folder = _folder_of(path)
    file = DeliveredFile("posts", f"posts/{path.name}" if _delivered(path) else path.name, path.stat().st_size)
    limits = Bounds(POSTS_AT_ONCE, rules.bounds.batch_bytes, rules.bounds.max_row_bytes)
    seen: set[str] = set()
    try:
        for raw in read_batches(folder, file, limits):
            posts = _checked(path, raw, rules)
            _refuse_repeated(path, posts["post_id"].to_pylist(), raw.row_numbers, seen)
            yield _featured(posts, folder, rules.bounds, prior_removals)
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


def _featured(posts: pa.Table, folder: Delivery, bounds: Ingest, prior_removals: Mapping[str, int]) -> Batch:
    rows: list[dict[str, Any]] = posts.to_pylist()
    wanted = dict.fromkeys((item["kind"], item["uri"]) for row in rows for item in row["media"] if item["kind"] == "image")
    digests: dict[str, str] = {}
    refused: dict[str, str] = {}
    for (_, uri), found in check_all(folder, wanted, bounds):
        if isinstance(found, MediaFile):
            digests[uri] = found.digest
        else:
            refused[uri] = f"{found.detail} ({found.reason})"
    features = [_features(row, digests, prior_removals) for row in rows]
    uses = [(row["post_id"], item["uri"]) for row in rows for item in row["media"] if item["uri"] in refused]
    notes = tuple(f"post {post_id}: image counted as missing: {refused[uri]}" for post_id, uri in uses)
    columns = ["post_id", "language", "text", "num_hashtags", "has_link", "image_digests", "prior_removals"]
    return Batch(pd.DataFrame(features, columns=columns), folder, {digest: uri for uri, digest in digests.items()}, notes, bounds)


def _features(row: dict[str, Any], digests: Mapping[str, str], prior_removals: Mapping[str, int]) -> dict[str, Any]:
    """What the snapshot would say of the post; an image that cannot be used is not there."""
    usable = [item | {"digest": digests[item["uri"]]} for item in row["media"] if item["uri"] in digests]
    return {
        "post_id": row["post_id"],
        "language": row["language"],
        "text": post_features.merged_text(row["text"], row["hashtags"]),
        "num_hashtags": post_features.num_hashtags(row["text"], row["hashtags"]),
        "has_link": post_features.has_link(row["text"]),
        "image_digests": post_features.image_digests(usable),
        "prior_removals": prior_removals.get(row["author_id"], 0),
    }
