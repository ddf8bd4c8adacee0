"""The logo detector: trained on a small world, saved, loaded, killed, and without anything to learn."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import logo_world
import numpy as np
import pandas as pd
import pytest

from upheld.common.errors import BadUse
from upheld.common.params.params import Params, load
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.dataset import dataset
from upheld.training.logos import detect as logo_detect
from upheld.training.logos import detector as logo_detector
from upheld.training.logos import faster_rcnn
from upheld.training.logos import photos as logo_photos
from upheld.training.logos import stage as logo

SMALL = {"size": 96, "batch_size": 4, "epochs": 1, "patience": 9, "head_learning_rate": 3e-3, "min_confidence": 0.05}


ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def params() -> Params:
    return load(ROOT / "params.yaml")


def small(params: Params, **changes) -> Params:
    return params.model_copy(update={"logo": params.logo.model_copy(update={**SMALL, **changes})})


def run(params: Params, folder: Path, name: str = "a") -> logo.Result:
    return logo.run(params, folder / "data", folder / name / "model", folder / name / "detections.parquet", folder / "store")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("logo")
    logo_world.make(folder / "data")
    return folder


@pytest.fixture(scope="module")
def trained(world, params) -> logo.Result:
    return run(small(params), world)


def test_detections_are_of_the_photos_held_out(world, trained) -> None:
    data = dataset.read(world / "data")
    found = pd.read_parquet(world / "a" / "detections.parquet")
    assert trained.trained and trained.num_train_boxes == (data.boxes["split"] == "train").sum()
    assert set(found["image"]) <= set(data.images.loc[data.images["split"] != "train", "digest"])
    assert list(found.columns) == list(logo_photos.DETECTIONS)
    assert found["confidence"].between(0.05, 1).all()
    assert (found["x1"] >= 0).all() and (found["x2"] <= 128).all() and (found["y2"] <= 96).all()


def test_a_loaded_detector_finds_the_same(world, trained, params) -> None:
    data = dataset.read(world / "data")
    held_out = data.images.loc[data.images["split"] != "train", "digest"]
    detector = logo_detector.load(world / "a" / "model")
    again = logo_detector.detect(detector, dataset.contents(data, held_out), params.logo_data.max_pixels).detections
    before = pd.read_parquet(world / "a" / "detections.parquet")
    assert again["confidence"].to_numpy() == pytest.approx(before["confidence"].to_numpy(), abs=1e-5)
    assert not list((world / "a" / "model").glob("*.pt"))


def test_a_killed_run_goes_on_to_the_same_detector(world, trained, params, monkeypatch) -> None:
    calls = []

    def failing(*arguments):
        calls.append(arguments)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return moved(*arguments)

    moved = faster_rcnn.moved
    monkeypatch.setattr(faster_rcnn, "moved", failing)
    settings = small(params, checkpoint_steps=1)
    with pytest.raises(KeyboardInterrupt):
        run(settings, world, "b")
    resumed = run(settings, world, "b")
    assert len(calls) < 2 * trained.num_train_photos  # it did not begin anew
    assert resumed.best_epoch == trained.best_epoch
    frames = [pd.read_parquet(world / name / "detections.parquet") for name in ("a", "b")]
    assert np.allclose(frames[0]["confidence"], frames[1]["confidence"], atol=1e-4)


@pytest.mark.slow
def test_a_detector_whose_trainer_was_killed_has_as_many_epochs_and_the_same_weights(world, params) -> None:
    """SIGKILL in the middle of a step of the second epoch; the next process ends with the same bytes as one that was left alone."""
    script = f"""
import os, signal, sys
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}, {str(Path(__file__).parents[2])!r}]
import test_logo
from pathlib import Path
import upheld.training.loop.loop as loop
step, count = loop._step, 0
def counted(*arguments):
    global count
    count += 1
    if count == int(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)
    step(*arguments)
loop._step = counted
settings = test_logo.small(test_logo.load(test_logo.ROOT / "params.yaml"), epochs=2, checkpoint_steps=1)
test_logo.run(settings, Path(sys.argv[2]), sys.argv[3])
print(count)
"""
    done = []
    for kill_at, out in ((5, "killed"), (99, "killed"), (99, "alone")):  # all with as many threads: sums depend on them
        command = [sys.executable, "-c", script, str(kill_at), str(world), out]
        done.append(subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}))
    assert [one.returncode for one in done] == [-signal.SIGKILL, 0, 0], done[-1].stderr
    assert 4 + int(done[1].stdout) == int(done[2].stdout)  # no step was done twice
    about = [json.loads((world / name / "model/metadata.json").read_text()) for name in ("killed", "alone")]
    assert [len(one["history"]) for one in about] == [2, 2]
    assert hashing.of_folder(world / "killed" / "model") == hashing.of_folder(world / "alone" / "model")
    assert (world / "killed/detections.parquet").read_bytes() == (world / "alone/detections.parquet").read_bytes()
    assert not list((world / "store/checkpoints").iterdir())


def test_without_a_single_photo_nothing_is_trained_and_the_next_stage_goes_on(tmp_path, params) -> None:
    empty = pd.DataFrame(columns=["digest", "file", "width", "height", "split", "group_id", "source", "pdq"])
    boxes = pd.DataFrame(columns=["digest", "brand", *dataset.CORNERS])
    (tmp_path / "data").mkdir()
    dataset.write(dataset.assemble(tmp_path / "data", [], empty, boxes, boxes, synthetic=False))
    result = run(params, tmp_path)
    assert (result.trained, result.reason) == (False, "no box of split train among 0 photos")
    assert logo_detector.load(tmp_path / "a" / "model") is None
    table = pd.read_parquet(tmp_path / "a" / "detections.parquet")
    assert table.empty and list(table) == list(logo_photos.DETECTIONS)


def test_without_a_box_nothing_is_trained_and_it_says_so(tmp_path, params) -> None:
    logo_world.make(tmp_path / "data", with_marks=False)
    result = run(small(params), tmp_path)
    assert not result.trained and "no box" in result.reason
    assert logo_detector.load(tmp_path / "a" / "model") is None
    assert pd.read_parquet(tmp_path / "a" / "detections.parquet").empty


def test_the_command_calls_that_failed_work(tmp_path, capsys) -> None:
    logo_world.make(tmp_path / "data", with_marks=False)
    assert logo.main([str(tmp_path / "data"), "--out", str(tmp_path / "out"), "--store", str(tmp_path / "store")]) == 1
    assert "no box of split train" in capsys.readouterr().err


def test_detect_names_what_it_cannot_read(world, trained, tmp_path, params) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "in" / "empty.png").write_bytes(b"")
    (tmp_path / "in" / "good.png").write_bytes((world / "data" / "1.png").read_bytes())
    result = logo_detect.run(params, tmp_path / "in", world / "a" / "model", tmp_path / "out")
    assert result.num_photos == 1
    assert [row["image"] for row in result.refused] == ["bad.jpg", "empty.png"]
    with pytest.raises(BadUse, match="no photo"):
        logo_detect.run(params, tmp_path / "out", world / "a" / "model", tmp_path / "out")


@pytest.mark.slow
def test_yolo_is_trained_killed_and_loaded_without_a_pickle(world, params) -> None:
    settings = small(params, detector="yolo", epochs=2, yolo_weights="yolov8n.yaml")
    result = run(settings, world, "yolo")
    assert result.trained
    assert sorted(path.name for path in (world / "yolo" / "model").iterdir()) == ["metadata.json", "upheld.safetensors"]
    detector = logo_detector.load(world / "yolo" / "model")
    assert detector.brands == tuple(sorted(logo_world.BRANDS))
    assert len(detector.backend.detect(np.zeros((2, 96, 96, 3), np.uint8))) == 2
    assert not Path("runs").exists()


@pytest.mark.slow
def test_squares_are_learned(world, params) -> None:
    result = run(small(params, epochs=30, patience=30, batch_size=4), world, "learned")
    assert result.map_50 is not None and result.map_50 > 0.8
