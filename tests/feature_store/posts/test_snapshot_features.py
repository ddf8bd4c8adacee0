"""What posts get from a real feature store, post by post: text, language, key frames, sounds; and that nothing else changes."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from upheld.common.params import params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.workspace import PinnedTable
from upheld.feature_store.features.table import KEYS, NO_FEATURES, FeatureStore, PinnedFeatures
from upheld.feature_store.posts.enrichment import enriched
from upheld.feature_store.snapshot.monitoring import coverage

SETTINGS = params.load(Path(__file__).resolve().parents[3] / "params.yaml").snapshot
TABLES = {
    "language": ("text", [("language", pa.string()), ("prob", pa.float32())]),
    "keyframes": ("video", [("frame_digests", pa.list_(pa.string()))]),
    "ocr": ("image", [("text", pa.string())]),
    "transcript": ("audio", [("text", pa.string()), ("language", pa.string()), ("language_prob", pa.float32())]),
    "spectrogram": ("audio", [("log_mel", pa.large_binary()), ("num_frames", pa.int32())]),
}


def write(store: Path, name: str, rows: dict[str, dict[str, Any]], version: str = "1-a") -> None:
    """Rows by digest; one with `reason` has no features."""
    schema = pa.schema([*KEYS, *TABLES[name][1]])
    now = datetime(2026, 11, 1, tzinfo=UTC)
    keys = {"extractor_version": version, "extracted_at": now}
    table = [{column: ({"digest": key} | keys | row).get(column) for column in schema.names} for key, row in rows.items()]
    FeatureStore(store / "features").write(name, pa.Table.from_pylist(table, schema))


def frames(*names: str) -> dict[str, Any]:
    return {"frame_digests": list(names)}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    sure, unsure = ({"language": "fr", "prob": 0.9}, {"language": "ga", "prob": 0.2})
    said = {"text": "good evening", "language": "en", "language_prob": 0.99}
    write(tmp_path, "language", {hashing.of_bytes(b"bonjour"): sure, hashing.of_bytes(b"xyz"): unsure})
    write(tmp_path, "keyframes", {"v1": frames("f1", "f2", "f3"), "v2": {"reason": "video_truncated", "detail": "x"}})
    write(tmp_path, "ocr", {name: {"text": text} for name, text in (("i1", "SALE 50%"), ("f1", "News"), ("f2", "News"), ("f3", ""))})
    write(tmp_path, "transcript", {"v1": said, "a1": {"text": "", "language": "nn"}})
    sounds = {"v1": {"log_mel": b"", "num_frames": 0}, "a1": {"log_mel": b"12", "num_frames": 3}, "v2": {"reason": "no_sound"}}
    write(tmp_path, "spectrogram", sounds)
    return tmp_path


def pinned(store: Path, without: tuple[str, ...] = ()) -> PinnedFeatures:
    versions = FeatureStore(store / "features").versions
    tables = {name: PinnedTable(lance_version=versions[name], extractor_version="1-a", kind=TABLES[name][0]) for name in versions}
    return PinnedFeatures(store / "features", {name: table for name, table in tables.items() if name not in without})


POSTS = pd.DataFrame(
    [
        ("plain", "en", "hello", []),
        ("french", "und", "bonjour", []),
        ("unsure", "und", "xyz", []),
        ("video", "und", "", [("image", "i1"), ("video", "v1")]),
        ("broken", "de", "kaputt", [("video", "v2")]),
        ("podcast", "und", "listen", [("audio", "a1"), ("audio", "new")]),
    ],
    columns=["post_id", "language", "caption", "media"],
).assign(media=lambda posts: posts["media"].map(lambda items: [{"kind": kind, "digest": name} for kind, name in items]))


def rows(found: pd.DataFrame) -> dict[str, Any]:
    return {row["post_id"]: row for row in found.to_dict("records")}


def test_each_post_gets_what_is_known_of_its_media(store: Path) -> None:
    found = rows(enriched(POSTS, pinned(store), SETTINGS))
    assert {post: row["language"] for post, row in found.items()} == {
        "plain": "en", "french": "fr", "unsure": "und", "video": "en", "broken": "de", "podcast": "und"
    }  # fmt: skip
    assert found["video"]["text"] == "speech: good evening | picture: SALE 50% News"
    assert found["video"]["image_digests"] == ["i1", "f1", "f2", "f3"]  # the still, then frames in order of time
    assert found["video"]["num_frames"] == 3
    assert (found["video"]["video_digests"], found["video"]["audio_digests"]) == (["v1"], [])
    assert (found["podcast"]["audio_digests"], found["podcast"]["text"]) == (["a1"], "listen")
    assert (found["broken"]["image_digests"], found["broken"]["num_frames"], found["broken"]["text"]) == ([], 0, "kaputt")


def test_without_media_or_features_nothing_changes(store: Path) -> None:
    for features in (NO_FEATURES, PinnedFeatures(store / "features", {})):
        found = rows(enriched(POSTS, features, SETTINGS))
        assert {post: row["text"] for post, row in found.items()} == dict(zip(POSTS["post_id"], POSTS["caption"], strict=True))
        assert {post: row["language"] for post, row in found.items()} == dict(zip(POSTS["post_id"], POSTS["language"], strict=True))
        assert found["video"]["image_digests"] == ["i1"]
        assert all(row["num_frames"] == 0 and row["audio_digests"] == [] for row in found.values())


def test_what_is_extracted_after_the_pin_or_by_another_version_is_not_seen(store: Path) -> None:
    features = pinned(store)
    before = enriched(POSTS, features, SETTINGS)
    write(store, "transcript", {"new": {"text": "later", "language": "en", "language_prob": 1.0}})
    write(store, "ocr", {"i1": {"text": "OTHER"}}, version="1-b")
    pd.testing.assert_frame_equal(enriched(POSTS, features, SETTINGS), before)
    now = rows(enriched(POSTS, pinned(store), SETTINGS))
    assert now["podcast"]["text"] == "listen | speech: later"
    assert now["video"]["text"] == before["text"][3]


def test_frames_are_spread_and_parts_are_bounded(store: Path) -> None:
    write(store, "keyframes", {"v1": frames(*(f"f{number:02}" for number in range(100)))})
    short = SETTINGS.model_copy(update={"max_frames": 4, "max_part_chars": 4})
    found = rows(enriched(POSTS, pinned(store), short))["video"]
    assert found["image_digests"] == ["i1", "f00", "f33", "f66", "f99"]
    assert found["text"] == "speech: good | picture: SALE"


def test_words_in_pictures_count_where_their_script_can_be_read(store: Path) -> None:
    picture = [{"kind": "image", "digest": "i1"}]
    languages = {
        "en": True,
        "fr": True,
        "zh-Hans": True,
        "sr-Latn": True,
        "und": True,
        "ru": False,
        "el": False,
        "th": False,
        "uz-Cyrl": False,
    }
    posts = pd.DataFrame([(name, name, "hello", picture) for name in languages], columns=list(POSTS))
    found = rows(enriched(posts, pinned(store), SETTINGS))
    assert {name: "SALE" in found[name]["text"] for name in languages} == languages


def test_a_recognised_language_decides_whether_words_in_pictures_count(store: Path) -> None:
    write(store, "language", {hashing.of_bytes(b"privet"): {"language": "ru", "prob": 0.9}})
    posts = pd.DataFrame([("p", "und", "privet", [{"kind": "image", "digest": "i1"}])], columns=list(POSTS))
    assert rows(enriched(posts, pinned(store), SETTINGS))["p"]["text"] == "privet"


def test_coverage_counts_every_post_once_with_reasons(store: Path) -> None:
    found = {(row["feature"], row["language"]): row for row in coverage(enriched(POSTS, pinned(store), SETTINGS), pinned(store))}
    counts = {key: (row["posts"], row["present"], row["quarantined"], row["missing"]) for key, row in found.items()}
    assert counts["keyframes", "all"] == (2, 1, 1, 0)
    assert found["keyframes", "de"]["reasons"] == {"video_truncated": 1}
    assert counts["transcript", "all"] == (3, 1, 0, 2)  # `new` and v2 were not looked at
    assert counts["language", "all"] == (5, 2, 0, 3)  # of the posts with a caption
    assert counts["ocr", "en"] == (1, 1, 0, 0)
    assert ("ocr", "de") not in counts  # no picture, no question
