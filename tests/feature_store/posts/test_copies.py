"""Copies that no digest shows: a picture and a melody encoded anew are found among others, and their posts lie in one split."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tests.feature_store.deliveries import parameters
from tests.feature_store.extractors import clips
from tests.feature_store.extractors.pictures import blobs, encoded
from upheld.feature_store.contracts.workspace import PinnedTable
from upheld.feature_store.extractors.audio.fingerprint import AudioFingerprint
from upheld.feature_store.extractors.contract import Extractor
from upheld.feature_store.extractors.image.hashes import ImageHash
from upheld.feature_store.features.table import KEYS, NO_FEATURES, FeatureStore, PinnedFeatures
from upheld.feature_store.posts.copies import copies_of
from upheld.feature_store.splits.groups import group

PARAMS = parameters()
BOTH = ("image_hash", "audio_fingerprint")


def extracted(store: FeatureStore, extractor: Extractor, contents: dict[str, bytes]) -> None:
    """Write the extractor's real rows, and one of a content that it refused."""
    rows: list[dict[str, Any]] = [
        {"digest": name, **row} for name, content in contents.items() for row in extractor.extract([extractor.decode(content)])
    ]
    rows.append({"digest": f"refused {extractor.kind}", "reason": "cut short"})
    keys = {"extractor_version": "1-a", "extracted_at": datetime(2026, 11, 1, tzinfo=UTC)}
    store.write(extractor.name, pa.Table.from_pylist([keys | row for row in rows], pa.schema([*KEYS, *extractor.columns])))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    store = FeatureStore(tmp_path_factory.mktemp("features"))
    picture, melody = blobs(1), clips.melody(1, 8.0)
    again = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3))
    pictures = {
        "p": encoded(picture),
        "p again": encoded(again, "JPEG", quality=40),
        "other": encoded(blobs(2)),
        "flat": encoded(blobs(1).point(lambda _: 90), "PNG"),
    }
    extracted(store, ImageHash(PARAMS), pictures | {"flat too": encoded(blobs(1).point(lambda _: 90), "PNG", compress_level=1)})
    cut = melody[int(0.3 * len(melody)) :][: len(melody) // 2]
    sounds = {
        "s": clips.sound_file(melody),
        "s again": clips.sound_file(cut, "libmp3lame", "mp3"),
        "t": clips.sound_file(clips.melody(2, 8.0)),
    }
    extracted(store, AudioFingerprint(PARAMS), sounds | {"silence": clips.sound_file(np.zeros(32_000, np.int16))})
    return store


def pinned(store: FeatureStore, names: tuple[str, ...] = BOTH) -> PinnedFeatures:
    kinds = dict(zip(BOTH, ("image", "audio"), strict=True))
    tables = {name: PinnedTable(lance_version=store.versions[name], extractor_version="1-a", kind=kinds[name]) for name in names}
    return PinnedFeatures(store.location, tables)


def posts(*rows: tuple[list[str], list[str]]) -> pd.DataFrame:
    start = pd.Timestamp("2026-09-01", tz="UTC")
    empty = {"text": "", "audio_digests": [], "author_id": None, "context_id": None}
    return pd.DataFrame(
        [
            {"post_id": f"p{n}", "created_at": start + pd.Timedelta(n, "D"), "image_digests": images, "sound_digests": sounds, **empty}
            for n, (images, sounds) in enumerate(rows)
        ]
    )


def found(table: pd.DataFrame, features: PinnedFeatures) -> dict[str, str]:
    return copies_of(table, features, PARAMS.splits, PARAMS.audio_fingerprint)


WORLD = posts(
    (["p"], ["s"]),
    (["other", "flat", "refused image"], ["t", "silence"]),
    (["p again"], []),
    (["flat too"], ["s again", "refused audio"]),
    (["never extracted"], ["never heard"]),
)


def test_what_is_encoded_anew_is_a_copy_and_nothing_else_is(store: FeatureStore) -> None:
    assert found(WORLD, pinned(store)) == {"p": "p", "p again": "p", "s": "s", "s again": "s"}  # flat pictures look alike and tell nothing
    assert found(WORLD, pinned(store, ("image_hash",))) == {"p": "p", "p again": "p"}
    assert found(WORLD, NO_FEATURES) == {}
    assert found(posts(([], [])), pinned(store)) == {}


def test_posts_with_copies_are_one_group_whatever_their_order(store: FeatureStore) -> None:
    copies = found(WORLD, pinned(store))
    grouped = group(WORLD, PARAMS.splits, copies).posts.set_index("post_id")
    assert grouped["content_id"].to_dict() == {"p0": "p0", "p1": "p1", "p2": "p0", "p3": "p0", "p4": "p4"}
    alone = group(WORLD, PARAMS.splits).posts
    assert alone["content_id"].nunique() == len(WORLD)  # by digests alone the copies could lie in train and test
    turned = WORLD.iloc[::-1].reset_index(drop=True)
    again = group(turned, PARAMS.splits, found(turned, pinned(store))).posts.set_index("post_id")
    pd.testing.assert_frame_equal(again, grouped)
