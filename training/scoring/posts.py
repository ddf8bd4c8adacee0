"""Posts at hand as models read them: their media looked at within bounds, features extracted from what can be used.

Such posts are no part of the store, so the extractors that filled it run when a post asks for them. Nothing is imported, and no decoding
process started, before a content of an extractor's kind is there.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.data import Ingest
from upheld.common.params.params import Params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Extractor
from upheld.feature_store.features.media import Spectrogram, spectrogram
from upheld.feature_store.ingest.delivery import DeliveredFile, Delivery, MediaFile, Pair, check_all, open_delivery, read_batches
from upheld.feature_store.ingest.readers import BrokenRow, FileRejected, RawBatch
from upheld.feature_store.ingest.row_checks import Rules, check
from upheld.feature_store.posts import post_features
from upheld.feature_store.posts.enrichment import enriched
from upheld.feature_store.posts.history import History
from upheld.feature_store.sandbox.pool import DecodePool
from upheld.training.pipeline.stage1 import Media

HISTORY = ["prior_removals", "context_excess"]
COLUMNS = ["post_id", "language", "text", "num_hashtags", "has_link", "image_digests", "num_frames", "audio_digests", *HISTORY]


class Tools:
    """Extractors, made when first needed and kept, for as many contents as come.

    Args:
        params: the extractors' sections, and the bounds of decoding.
        versions: extractor -> version that the model learned from; no other is used.
    """

    def __init__(self, params: Params, versions: Mapping[str, str]) -> None:
        self.params = params
        self.versions = versions
        self.notes: list[str] = []  # what a model will miss, said once
        self._made: dict[str, Extractor | None] = {}

    def get(self, name: str) -> Extractor | None:
        """The extractor of that name; None where the model did not learn from it, or it cannot run here."""
        if name not in self._made:
            self._made[name] = self._make(name) if name in self.versions else None
        return self._made[name]

    def _make(self, name: str) -> Extractor | None:
        extractor = catalogue.make(name, self.params)
        if (reason := extractor.unavailable()) is not None:
            self.notes.append(f"{name}: missing, though the model learned from it: {reason}")
            return None
        if extractor.version != self.versions[name]:
            self.notes.append(f"{name}: version {extractor.version} here, the model learned from {self.versions[name]}")
        return extractor


class FeaturesAtHand:
    """What `PinnedFeatures` is for contents of the store.

    Args:
        fetch: gives contents by digest; key frames found here need not be among them.
    """

    def __init__(self, tools: Tools, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]) -> None:
        self.refused: dict[tuple[str, str], Refused] = {}  # (extractor, digest) -> why there are no features
        self.frames: dict[str, bytes] = {}  # digest -> JPEG
        self._tools = tools
        self._fetch = fetch
        self._rows: dict[str, dict[str, dict[str, Any]]] = {}

    def rows(self, name: str, digests: Iterable[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Digest -> row of each content, null features where it was refused; empty where the extractor does not run."""
        wanted = sorted(set(digests))
        extractor = self._tools.get(name) if wanted else None
        if extractor is None:
            return {}
        known = self._rows.setdefault(name, {})
        new = [digest for digest in wanted if digest not in known]
        for digest, arrays in zip(new, self._decoded(extractor, new), strict=True):
            known[digest] = self._row(extractor, digest, arrays)
        return {digest: {column: known[digest].get(column) for column in columns} for digest in wanted}

    def _decoded(self, extractor: Extractor, digests: Sequence[str]) -> Iterator[Arrays | Refused]:
        """Foreign bytes are decoded in a process of their own; our own text needs none."""
        contents = (self.frames[digest] if digest in self.frames else self._fetch([digest])[digest] for digest in digests)
        if extractor.kind == "text" or not digests:
            yield from (extractor.decode(content) for content in contents)
            return
        timeout_s = self._tools.params.features.decode_timeout_s[extractor.kind]
        with DecodePool(catalogue.EXTRACTORS[extractor.name], self._tools.params, timeout_s, 1) as pool:
            yield from pool.decode(contents, 1)

    def _row(self, extractor: Extractor, digest: str, arrays: Arrays | Refused) -> dict[str, Any]:
        try:
            found = arrays if isinstance(arrays, Refused) else extractor.extract([arrays])[0]
        except (BadUse, FailedWork):
            raise
        except Exception as error:  # of arrays that no decoder of ours would make, for instance
            found = Refused("extract_failed", f"{type(error).__name__}: {error}"[:500])
        if isinstance(found, Refused):
            self.refused[extractor.name, digest] = found
            return {}
        if extractor.name == "keyframes":
            self.frames |= {frame["digest"]: frame["jpeg"] for frame in found["frames"]}
        return found


@dataclass(frozen=True)
class Batch:
    """Some posts, ready for `Pipeline.predict`.

    `posts` has its columns, `media` gives their pictures and sounds; `notes` say what could not be used.
    """

    posts: pd.DataFrame
    media: Media
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Files:
    """Media files of posts at hand, read again when they are wanted: `uris` says where the content of each digest lies, and its kind;
    `decoders` look at images."""

    folder: Delivery
    uris: Mapping[str, Pair]
    bounds: Ingest
    decoders: DecodePool

    def fetch(self, digests: Sequence[str]) -> dict[str, bytes]:
        """Bytes of files by digest.

        Raises:
            FailedWork: a file has changed since the batch was read.
        """
        found = dict(check_all(self.folder, [self.uris[name] for name in digests], self.bounds, self.decoders))
        content = {file.digest: file.content for file in found.values() if isinstance(file, MediaFile)}
        for name in digests:
            if name not in content:
                raise FailedWork(f"{self.folder.path(self.uris[name][1])}: changed while it was being scored; score the posts again")
        return content


def featured(posts: pa.Table, folder: Delivery, bounds: Ingest, history: History, tools: Tools, decoders: DecodePool) -> Batch:
    """What the snapshot would say of posts; media that cannot be used are not there.

    Args:
        posts: rows in the contract, judged.
        folder: where their media lie.
        bounds: of media files.
        history: what is known of authors and contexts.
        tools: the extractors that the model learned from.
        decoders: of images, as `delivery.image_decoders` makes them; they must last as long as the batch is used.
    """
    rows: list[dict[str, Any]] = posts.to_pylist()
    kinds = ("image", "video", "audio") if tools.versions else ("image",)
    digests: dict[Pair, str] = {}  # of every file that can be used
    refused: dict[Pair, str] = {}  # why every other cannot
    pairs = dict.fromkeys(_pair(item) for row in rows for item in row["media"] if item["kind"] in kinds)
    for pair, checked in check_all(folder, pairs, bounds, decoders):
        if isinstance(checked, MediaFile):
            digests[pair] = checked.digest
        else:
            refused[pair] = f"{checked.detail} ({checked.reason})"
    files = Files(folder, {name: pair for pair, name in digests.items()}, bounds, decoders)
    table, found = as_read([_features(row, digests, history) for row in rows], tools, files.fetch)
    notes = []
    for row in rows:
        for item in row["media"]:
            pair = _pair(item)
            missing = [refused[pair]] if pair in refused else []
            if pair in digests:  # what an extractor should have made of it is missing
                of_file = ((name, why) for (name, content), why in found.refused.items() if content == digests[pair])
                missing = [f"{name}: {why.detail} ({why.reason})" for name, why in of_file]
            notes += [f"post {row['post_id']}: {item['kind']} counted as missing: {why}" for why in missing]

    def pictures(names: Sequence[str]) -> dict[str, bytes]:
        """Bytes of pictures: key frames found here, and files."""
        frames = {name: found.frames[name] for name in names if name in found.frames}
        return frames | files.fetch([name for name in names if name not in frames])

    def sounds(names: Sequence[str]) -> dict[str, Spectrogram]:
        """Spectrograms of sounds."""
        return {name: spectrogram(row["log_mel"]) for name, row in found.rows("spectrogram", names, ["log_mel"]).items()}

    return Batch(table, Media(pictures, sounds), tuple(notes))


def of_text_alone(posts: pa.Table, tools: Tools) -> pd.DataFrame:
    """As the posts of `featured`, of posts in the contract that are nothing but text, by authors of whom nothing is known."""
    return as_read([_features(row, {}, History()) for row in posts.to_pylist()], tools, lambda names: {})[0]


def as_read(
    features: Sequence[Mapping[str, Any]], tools: Tools, fetch: Callable[[Sequence[str]], Mapping[str, bytes]]
) -> tuple[pd.DataFrame, FeaturesAtHand]:
    """The columns COLUMNS of posts given as `_features` makes them, and what was extracted for them; `fetch` gives media by digest."""
    captions = {hashing.of_bytes(content): content for content in (row["caption"].encode() for row in features)}
    found = FeaturesAtHand(tools, lambda names: {name: captions[name] if name in captions else fetch([name])[name] for name in names})
    plain = pd.DataFrame(features, columns=["post_id", "language", "caption", "num_hashtags", "has_link", "media", *HISTORY])
    return enriched(plain, found, tools.params.snapshot)[COLUMNS], found


def _pair(item: Mapping[str, str]) -> Pair:
    return item["kind"], item["uri"]


def _features(row: dict[str, Any], digests: Mapping[Pair, str], history: History) -> dict[str, Any]:
    return {
        "post_id": row["post_id"],
        "language": row["language"],
        "caption": post_features.merged_text(row["text"], row["hashtags"]),
        "num_hashtags": post_features.num_hashtags(row["text"], row["hashtags"]),
        "has_link": post_features.has_link(row["text"]),
        "media": [item | {"digest": digests[_pair(item)]} for item in row["media"] if _pair(item) in digests],
        "prior_removals": history.removals.get(row["author_id"], 0),
        "context_excess": history.contexts.get(row["context_id"], {}),
    }


POSTS_AT_ONCE = 2048  # held in memory with their features; their images are read when the model asks for them
MOVING_AT_ONCE = 16  # posts with video or sound, whose frames and spectrograms are held, too


def read_one(path: Path, rules: Rules, history: History, tools: Tools, decoders: DecodePool) -> Batch:
    """Read a JSON file that holds one post.

    Args:
        path: the file; the post's media paths are relative to its folder.
        rules: policies and bounds.
        history: what is known of authors and contexts.
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
    return featured(_checked(path, raw, rules), folder, rules.bounds, history, tools, decoders)


def read_many(path: Path, rules: Rules, history: History, tools: Tools, decoders: DecodePool) -> Iterator[Batch]:
    """Read a Parquet, JSONL or CSV file of posts, a bounded number at a time.

    Args:
        path: the file; media paths are relative to its folder, or to the delivery where the file lies in its folder `posts`.
        rules, history, tools, decoders: as in `read_one`.

    Raises:
        BadUse: there is no such file, a column is missing, a row breaks the contract, or a post_id comes twice.
    """
    folder = _folder_of(path)
    limits = rules.bounds.model_copy(update={"batch_rows": POSTS_AT_ONCE})
    seen: set[str] = set()
    try:
        for raw in read_batches(folder, _file_of(path, "posts"), limits):
            posts = _checked(path, raw, rules)
            for post_id, row in zip(posts["post_id"].to_pylist(), raw.row_numbers, strict=True):
                if post_id in seen:
                    raise BadUse(f"{path}: row {row + 1}: column post_id: {post_id!r} comes twice; leave one of the rows out")
                seen.add(post_id)
            # The posts in their order, cut where more than MOVING_AT_ONCE of them have video or sound.
            moving = np.array([any(item["kind"] != "image" for item in media) for media in posts["media"].to_pylist()], np.int64)
            portion = np.maximum(np.cumsum(moving) - 1, 0) // MOVING_AT_ONCE
            for start, end in pairwise([0, *(np.flatnonzero(np.diff(portion)) + 1).tolist(), len(posts)]):
                yield featured(posts.slice(start, end - start), folder, rules.bounds, history, tools, decoders)
    except FileRejected as error:
        raise BadUse(f"{path}: {error} ({error.reason})") from error


def read_decisions(path: Path, rules: Rules, model_version: str) -> pd.DataFrame:
    """Read what another model decided on posts.

    Args:
        path: Parquet, JSONL or CSV file in the decisions contract.
        rules: policies and bounds.
        model_version: of the model whose decisions are wanted; others are left.

    Returns:
        post_id, category, score, model_version: its first decision on each post and category, as the snapshot takes it.

    Raises:
        BadUse: there is no such file, a column is missing, or a row breaks the contract.
    """
    folder = _folder_of(path)
    parts = [contracts.DECISIONS.empty_table()]
    try:
        for raw in read_batches(folder, _file_of(path, "decisions"), rules.bounds):
            decided = _checked(path, raw, rules, "decisions")
            parts.append(decided.filter(pc.equal(decided["model_version"], model_version)).cast(contracts.DECISIONS))
    except FileRejected as error:
        raise BadUse(f"{path}: {error} ({error.reason})") from error
    rows: pd.DataFrame = pa.concat_tables(parts).to_pandas()
    first = rows.sort_values(["decided_at", "decision_id"]).drop_duplicates(["post_id", "category"])
    return first[["post_id", "category", "score", "model_version"]]


def _folder_of(path: Path) -> Delivery:
    if not path.is_file():
        raise BadUse(f"{path}: no such file; expected rows in the contract's columns")
    return open_delivery(str(path.absolute().parent.parent if _delivered(path) else path.absolute().parent))


def _file_of(path: Path, table: str) -> DeliveredFile:
    return DeliveredFile(table, f"posts/{path.name}" if _delivered(path) else path.name, path.stat().st_size)


def _delivered(path: Path) -> bool:
    return path.absolute().parent.name == "posts"


def _checked(path: Path, raw: RawBatch, rules: Rules, table: str = "posts") -> pa.Table:
    """The rows in the contract's types; the first bad one ends the work, for half a file of decisions would mislead."""
    try:
        rows, findings = check(table, raw, rules)
    except FileRejected as error:
        raise BadUse(f"{path}: {error} ({error.reason})") from error
    bad = [BrokenRow(raw.row_numbers[row], findings.reasons[row], findings.details[row], "") for row in (~findings.good).nonzero()[0]]
    first = min([*bad, *raw.broken], key=lambda row: row.row_number, default=None)
    if first is not None:
        raise BadUse(f"{path}: row {first.row_number + 1}: {first.detail} ({first.reason}); mend the row or leave it out")
    return rows
