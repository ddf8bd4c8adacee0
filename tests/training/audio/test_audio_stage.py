"""Stage `audio`: a planted tone to learn, recorded losses, batches that do not matter, and the honest absence of a model."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from upheld.common.errors import FailedWork
from upheld.common.params import params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.features.media import Spectrogram
from upheld.training.audio import stage as audio
from upheld.training.audio.model import AudioModel, AudioSetup, load_audio, predict_audio
from upheld.training.loop import classifier, teacher
from upheld.training.loop.classifier import Result

GOLDEN = Path(__file__).parents[1] / "golden" / "audio_losses.json"
SHRILL, DEEP = 50, 8  # bands: of the sounds of spam, and of the others


def make_world(tiny: ModuleType, folder: Path) -> Path:
    """Posts whose sounds are shrill where they are spam; names say band, length and seed."""
    tiny.save_snapshot(folder / "snapshot")
    posts, examples = (pd.read_parquet(folder / f"snapshot/{name}.parquet") for name in ("posts", "examples"))
    split = dict(zip(posts.post_id, np.resize(["train", "train", "train", "val"], len(posts)), strict=True))
    spam = set(examples[(examples.category == "spam") & (examples.hard_label == 1)].post_id)
    random = np.random.default_rng(1)
    names = [
        [f"{SHRILL if post in spam else DEEP}/{random.integers(20, 90)}/{row}-{k}" for k in range(1 + row % 2)]
        for row, post in enumerate(posts.post_id)
    ]
    posts.assign(split=posts.post_id.map(split), audio_digests=names).to_parquet(folder / "snapshot/posts.parquet")
    examples.assign(split=examples.post_id.map(split)).to_parquet(folder / "snapshot/examples.parquet")
    return folder


@pytest.fixture
def world(tiny: ModuleType, tmp_path: Path) -> Path:
    return make_world(tiny, tmp_path)


def run(world: Path, tiny: ModuleType, out: str = "audio", taught: float = 0.0, **changes: Any) -> Result:
    file = Path(__file__).resolve().parents[3] / "params.yaml"
    values = {"channels": [4, 8], "step_frames": 40, "epochs": 2, "checkpoint_steps": 3, **changes}
    overrides = ["policies=[hate_speech, spam]", *(f"audio.{key}={yaml.safe_dump(value)}" for key, value in values.items())]

    def read(names: Sequence[str]) -> Iterator[tuple[str, Spectrogram]]:
        for name in names:
            band, length, seed = name.split("/")
            if band != "gone":
                yield name, tiny.sound(int(band), int(length), int(seed.split("-")[0]))

    (world / "ngrams").mkdir(exist_ok=True)
    teacher.save_weight(world / "ngrams", taught, {}, {})
    return audio.run(params.load(file, overrides), world / "snapshot", world / "ngrams", read, world / out, world / "store")


def test_stage_learns_the_planted_tone(world: Path, tiny: ModuleType) -> None:
    result = run(world, tiny, epochs=4, dropout=0.0)
    assert result.trained and result.val is not None
    assert result.val["roc_auc"]["spam"] > 0.85  # a tenth of the labels is wrong
    model = load_audio(world / "audio")
    assert model is not None
    sounds = {"shrill": tiny.sound(SHRILL, 70, 999), "deep": tiny.sound(DEEP, 30, 998)}
    probs = predict_audio(model, [["shrill"], [], ["deep"], ["shrill", "deep"]], sounds.__getitem__)
    assert np.isnan(probs[1]).all()
    assert probs[0, 1] > 0.5 > probs[2, 1]
    logits = np.log(probs / (1 - probs))
    assert logits[3] == pytest.approx((logits[0] + logits[2]) / 2, abs=1e-4)  # the mean of the logits
    assert not list((world / "store/checkpoints").iterdir())


def test_losses_are_those_recorded(world: Path, tiny: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Record anew only when the maths is meant to change: write `seen` to GOLDEN."""
    seen = []

    def watched(*arguments: Any) -> torch.Tensor:
        seen.append(masked_loss(*arguments))
        return seen[-1]

    masked_loss = classifier.masked_loss
    monkeypatch.setattr(classifier, "masked_loss", watched)
    run(world, tiny)
    assert [loss.item() for loss in seen] == pytest.approx(json.loads(GOLDEN.read_text()), abs=1e-4)


def test_sounds_that_nobody_reviewed_are_heard(world: Path, tiny: ModuleType) -> None:
    path = world / "snapshot/unreviewed.parquet"
    unreviewed = pd.read_parquet(path)
    unreviewed["audio_digests"] = [[f"{SHRILL}/30/{number}"] if number % 2 else [] for number in range(len(unreviewed))]
    unreviewed.to_parquet(path)
    alone, taught = run(world, tiny, out="alone"), run(world, tiny, taught=1.0)
    assert taught.num_train_posts == alone.num_train_posts + len(unreviewed) // 2


def test_same_inputs_same_bytes(world: Path, tiny: ModuleType) -> None:
    run(world, tiny)
    run(world, tiny, out="again")
    assert hashing.of_folder(world / "audio") == hashing.of_folder(world / "again")


@pytest.mark.slow
def test_a_killed_trainer_leaves_what_another_needs(world: Path) -> None:
    """SIGKILL in the middle of a step; the second process ends with the same bytes as one that was left alone."""
    script = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
import conftest, test_audio_stage
from pathlib import Path
import upheld.training.loop.loop as loop
step, count = loop._step, 0
def counted(*arguments):
    global count
    count += 1
    if count == int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)
    step(*arguments)
loop._step = counted
test_audio_stage.run(Path(sys.argv[2]), conftest, out=sys.argv[3])
"""
    codes = []
    for kill_at, out in ((8, "audio"), (99, "audio"), (99, "whole")):  # all with as many threads: sums depend on them
        command = [sys.executable, "-c", script, str(kill_at), str(world), out]
        codes.append(subprocess.run(command, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode)
    assert codes == [-signal.SIGKILL, 0, 0]
    assert hashing.of_folder(world / "audio") == hashing.of_folder(world / "whole")


def test_no_sound_no_model_and_says_so(world: Path, tiny: ModuleType) -> None:
    path = world / "snapshot/posts.parquet"
    posts = pd.read_parquet(path)
    posts.assign(audio_digests=[[] for _ in range(len(posts))]).to_parquet(path)
    result = run(world, tiny)
    assert (result.trained, result.reason) == (False, "no labelled post of split train has sound")
    assert [path.name for path in (world / "audio").iterdir()] == ["metadata.json"]
    assert load_audio(world / "audio") is None


def test_a_sound_that_is_gone_is_failed_work(world: Path, tiny: ModuleType) -> None:
    path = world / "snapshot/posts.parquet"
    posts = pd.read_parquet(path)
    posts.assign(audio_digests=[["gone/1/1"]] * len(posts)).to_parquet(path)
    with pytest.raises(FailedWork, match="sound gone/1/1: not in the store"):
        run(world, tiny)
    assert not (world / "audio").exists()


def test_a_damaged_model_is_failed_work(world: Path, tiny: ModuleType) -> None:
    run(world, tiny)
    (world / "audio/upheld.safetensors").write_bytes(b"x")
    with pytest.raises(FailedWork, match="not a readable audio model"):
        load_audio(world / "audio")


def test_neighbours_in_a_batch_do_not_matter(tiny: ModuleType) -> None:
    """Sounds of all lengths, alone and together: padding is silence, layer by layer."""
    model = AudioModel(AudioSetup(tiny.POLICIES, (4, 8, 16), (-5.0,) * 64, (2.0,) * 64)).eval()
    sounds = {str(length): tiny.sound(20, length) for length in (1, 2, 3, 7, 16, 33, 200)}
    together = predict_audio(model, [[name] for name in sounds], sounds.__getitem__)
    alone = np.concatenate([predict_audio(model, [[name]], sounds.__getitem__) for name in sounds])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
