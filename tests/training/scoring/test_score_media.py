"""Posts with video and sound, scored from their files: as the snapshot would see them, and never stopped by a bad one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.ingest.delivery import image_decoders
from upheld.feature_store.posts.history import History
from upheld.feature_store.sandbox import pool
from upheld.feature_store.sandbox.pool import DecodePool
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline.stage1 import Media
from upheld.training.scoring import posts as scoring_posts
from upheld.training.scoring import score

ROOT = Path(__file__).parents[3]
PARAMS = parameters.load(ROOT / "params.yaml")
FAKES = {"keyframes": "Keyframes", "transcript": "Transcript", "spectrogram": "Spectrogram", "ocr": "Unavailable"}
CLIP = {"colours": ["blue", "red"], "said": "buy cheap now", "pitch": 40}
POST = {"created_at": "2026-11-01T12:00:00Z", "language": "und", "text": "hello", "hashtags": [], "author_id": "a1"}


@pytest.fixture
def judge(workspace, tmp_path, monkeypatch):
    """A model that learned from frames, speech and sound, and from words in pictures by weights that are not here."""
    monkeypatch.setattr(catalogue, "EXTRACTORS", {name: f"tests.training.fake_extractors:{kind}" for name, kind in FAKES.items()})
    monkeypatch.chdir(ROOT)  # where a decoding process finds the fakes
    manifest = json.loads((workspace / "data/snapshot/manifest.json").read_text())
    versions = dict.fromkeys(FAKES, "1-fake") | {"spectrogram": "1-older"}
    manifest["features"] = {name: {"lance_version": 1, "extractor_version": version, "kind": "x"} for name, version in versions.items()}
    (workspace / "data/snapshot/manifest.json").write_text(json.dumps(manifest))
    bundle = pipeline.assemble(workspace, tmp_path / "bundle")
    thresholds = Thresholds.read(bundle / "thresholds.json")
    return score.load_model(bundle, thresholds, "upheld-moderation/3", "upheld-thresholds/5")


def written(folder: Path, post_id: str, *media: tuple[str, str, object]) -> dict:
    for _, uri, content in media:
        (folder / uri).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return POST | {"post_id": post_id, "media": [{"kind": kind, "uri": uri} for kind, uri, _ in media]}


def score_one(judge, folder: Path, post: dict):
    path = folder / "post.json"
    path.write_text(json.dumps(post))
    return score.one(judge, path, PARAMS, History())


def test_a_video_is_seen_heard_and_read_as_the_model_expects(judge, tiny, tmp_path) -> None:
    post = written(tmp_path, "p1", ("image", "a.png", tiny.picture("green")), ("video", "v.mp4", CLIP))
    answer, notes = score_one(judge, tmp_path, post)
    sound = np.full((50, 64), -6, np.float16)
    sound[:, 40] = 0
    row = {"post_id": "p1", "language": "de", "text": "hello | speech: buy cheap now", "image_digests": ["green", "blue", "red"]}
    row |= {"num_frames": 2, "audio_digests": ["v"], "num_hashtags": 0, "has_link": False, "prior_removals": 0}
    media = Media(lambda names: {name: tiny.picture(name) for name in names}, lambda names: {"v": sound})
    by_hand = judge.model.predict(pd.DataFrame([row]), media)
    for category, entry in answer["categories"].items():
        assert entry["prob"] == pytest.approx(by_hand[f"prob_{category}"].item(), abs=1e-6)
    assert notes == (
        "ocr: missing, though the model learned from it: no weights; run `make setup`",
        "spectrogram: version 1-fake here, the model learned from 1-older",
    )


def test_what_cannot_be_used_is_missing_with_its_reason(judge, tmp_path) -> None:
    plain, _ = score_one(judge, tmp_path, written(tmp_path, "p1"))
    answer, notes = score_one(judge, tmp_path, written(tmp_path, "p1", ("video", "v.mp4", b"no clip"), ("audio", "none.mp3", b"")))
    assert answer == plain
    told = [note for note in notes if note.startswith("post p1")]
    assert told[:3] == [
        f"post p1: video counted as missing: {name}: no JSON (medium_corrupt)" for name in ("keyframes", "transcript", "spectrogram")
    ]
    assert told[3].startswith("post p1: audio counted as missing: ") and told[3].endswith("(media_corrupt)")


def test_many_are_decided_as_each_alone_and_in_portions(judge, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(scoring_posts, "MOVING_AT_ONCE", 2)
    posts = [
        written(tmp_path, f"p{n}", *([("video", f"{n}.mp4", CLIP | {"pitch": n, "said": f"say {n}"})] if n % 2 else [])) for n in range(8)
    ]
    (tmp_path / "posts.jsonl").write_text("\n".join(map(json.dumps, posts)))
    sizes = []
    decide = score.decide
    monkeypatch.setattr(score, "decide", lambda judge, batch, *more: (sizes.append(len(batch.posts)), decide(judge, batch, *more))[1])
    result = score.run(judge, tmp_path / "posts.jsonl", tmp_path / "out.parquet", PARAMS, History(), pd.Timestamp("2026-11-02", tz="UTC"))
    assert (result.num_posts, sum(sizes)) == (8, 8)
    assert sizes == [5, 3]  # a new portion begins with every third post that moves
    table = pd.read_parquet(tmp_path / "out.parquet").set_index(["post_id", "category"])["score"]
    for post in posts[:4]:
        answer, _ = score_one(judge, tmp_path, post)
        for category, entry in answer["categories"].items():
            assert table[post["post_id"], category] == pytest.approx(entry["prob"], abs=1e-5)


def test_a_video_that_changes_meanwhile_stops_the_work(judge, tmp_path) -> None:
    post = written(tmp_path, "p1", ("image", "a.png", b""), ("video", "v.mp4", CLIP))
    (tmp_path / "post.json").write_text(json.dumps(post))
    with (
        image_decoders(PARAMS) as decoders,
        pytest.raises(FailedWork, match=r"v.mp4: changed while it was being scored"),
    ):
        files = scoring_posts.Files(scoring_posts.open_delivery(str(tmp_path)), {"0" * 64: ("video", "v.mp4")}, PARAMS.ingest, decoders)
        files.fetch(["0" * 64])


@pytest.mark.parametrize(("deed", "reason"), [("segfault", "decode_crashed"), ("hog", "decode_memory"), ("endless", "decode_timeout")])
def test_a_picture_that_fells_its_decoder_is_missing_and_the_post_is_decided(judge, tiny, tmp_path, monkeypatch, deed, reason) -> None:
    hostile = "tests.feature_store.hostile_decoders:HostileImages"
    few = parameters.load(ROOT / "params.yaml", ["features.decode_memory_bytes=268435456"])
    monkeypatch.setattr(score, "image_decoders", lambda params: DecodePool(hostile, few, 3, 1))
    good = ("image", "good.png", tiny.picture("green"))
    plain, _ = score_one(judge, tmp_path, written(tmp_path, "p1", good))
    answer, notes = score_one(judge, tmp_path, written(tmp_path, "p1", ("image", "bad.png", deed.encode()), good))
    assert answer == plain
    assert len(told := [note for note in notes if note.startswith("post p1")]) == 1
    assert reason in told[0]


def test_posts_without_pictures_start_no_decoder(judge, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pool, "Channel", None)  # which starts a process
    answer, _ = score_one(judge, tmp_path, written(tmp_path, "p1"))
    assert answer["post_id"] == "p1"


def test_text_alone_imports_no_decoder() -> None:
    """What reads video, speech and sound is imported when there is some."""
    heavy = ("av", "cv2", "faster_whisper", "ctranslate2", "onnxruntime", "rapidocr_onnxruntime")
    script = f"import sys; import upheld.training.scoring.score; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
