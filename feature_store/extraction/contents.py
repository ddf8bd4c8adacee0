"""Which contents the posts of a ledger have, and where the bytes of each lie."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.contracts import hashing
from upheld.feature_store.extractors.contract import Kind
from upheld.feature_store.features.table import FeatureStore
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.posts.post_features import MEDIA_OF, merged_text

KEYFRAMES: Final = "keyframes"  # the extractor whose rows hold pictures of their own
# A content: its digest; the text itself where it is one; the video that it is a keyframe of, if it is.
CONTENTS: Final = pa.schema([("digest", pa.string()), ("text", pa.string()), ("video", pa.string())])
_AT_ONCE = 64  # files read together


class PostContents:
    """The contents of all accepted posts, worked out once for each kind.

    Args:
        ledger: holds the posts.
        features: holds the keyframes of videos, which are images.
    """

    def __init__(self, ledger: Ledger, features: FeatureStore) -> None:
        self._ledger = ledger
        self._features = features
        self._known: dict[Kind, pa.Table] = {}

    def of(self, kind: Kind) -> pa.Table:
        """Every content of one kind; see `contents_of`."""
        if kind not in self._known:
            columns = ["text", "hashtags"] if kind == "text" else ["media"]
            self._known[kind] = contents_of(list(self._ledger.scan("posts", columns)), self._features, kind)
        return self._known[kind]

    def forget(self, kind: Kind) -> None:
        """Forget what was worked out for a kind of contents, because there may be more of them now."""
        self._known.pop(kind, None)


def contents_of(posts: Sequence[pa.RecordBatch], features: FeatureStore, kind: Kind) -> pa.Table:
    """Every content of one kind that posts have.

    Args:
        posts: text and hashtags for kind `text`, media for the others, as the ledger has them.
        features: holds the keyframes of videos, which are images.
        kind: `audio` includes videos, for the sound in them.

    Returns:
        columns `CONTENTS`, each content once.
    """
    if kind == "text":  # the merged caption and hashtags of posts, where there are any
        texts: dict[str, str] = {}
        for batch in posts:
            for caption, hashtags in zip(batch["text"].to_pylist(), batch["hashtags"].to_pylist(), strict=True):
                if text := merged_text(caption, hashtags):
                    texts[hashing.of_bytes(text.encode())] = text
        return _contents(texts.keys(), text=texts.values())
    found = _media(posts, MEDIA_OF[kind])
    # Keyframes are images, each once, under one of the videos that it was found in; the extractor's first version had no such
    # column; its videos are looked at again.
    if kind == "image" and KEYFRAMES in features.versions and "frame_digests" in features.columns(KEYFRAMES):
        owners: dict[str, str] = {}
        videos = _media(posts, MEDIA_OF["video"])["digest"].to_pylist()
        for row in features.read(KEYFRAMES, videos, ["frame_digests"]).sort_by("digest").to_pylist():
            for frame in row["frame_digests"] or []:
                owners.setdefault(frame, row["digest"])
        frames = _contents(owners.keys(), video=owners.values())
        own = pa.array(found["digest"].to_pylist(), pa.string())
        found = pa.concat_tables([found, frames.filter(pc.invert(pc.is_in(frames["digest"], value_set=own)))])
    return found


def _contents(digests: Iterable[str], **known: Iterable[str]) -> pa.Table:
    """Columns `CONTENTS`; those of `text` and `video` that are not given are null."""
    columns = {name: pa.array(list(values), pa.string()) for name, values in {"digest": digests, **known}.items()}
    return pa.table([columns.get(name, pa.nulls(len(columns["digest"]), pa.string())) for name in CONTENTS.names], schema=CONTENTS)


def _media(posts: Iterable[pa.RecordBatch], kinds: Sequence[str]) -> pa.Table:
    """The media of posts that are of some kinds."""
    found = [pa.array([], pa.string())]
    for batch in posts:
        flat = pc.list_flatten(batch["media"])
        chosen = pc.is_in(pc.struct_field(flat, "kind"), value_set=pa.array(kinds))
        found.append(pc.struct_field(flat, "digest").filter(chosen))
    digests = pa.concat_arrays(found).unique()
    return pa.table([digests, *[pa.nulls(len(digests), pa.string())] * 2], schema=CONTENTS)


class ContentReader:
    """Reads the bytes of contents a few at a time.

    Args:
        features: the feature store's location.
    """

    def __init__(self, store: Path, features: Path | str) -> None:
        self._ledger = Ledger(store)
        self._features = FeatureStore(features)

    def read(self, rows: pa.Table) -> Iterator[tuple[str, bytes]]:
        """Digest and bytes of each content (columns `CONTENTS`), in order; those that are there no more are left out."""
        for start in range(0, len(rows), _AT_ONCE):
            some = rows.slice(start, _AT_ONCE).to_pylist()
            files = self._files(some)
            for row in some:
                content = row["text"].encode() if row["text"] is not None else files.get(row["digest"])
                if content is not None:
                    yield row["digest"], content

    def _files(self, some: list[dict[str, Any]]) -> dict[str, bytes]:
        files = dict(self._ledger.media_bytes(row["digest"] for row in some if row["text"] is None and row["video"] is None))
        videos = {row["video"] for row in some if row["video"] is not None}
        if videos:
            for frames in self._features.read(KEYFRAMES, videos, ["frames"])["frames"].to_pylist():
                files |= {frame["digest"]: frame["jpeg"] for frame in frames or []}
        return files
