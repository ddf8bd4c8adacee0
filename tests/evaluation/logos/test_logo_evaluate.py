"""Stage `logo_evaluate` and `upheld logo evaluate`: what they write, where brands were seen, and worlds with nothing to judge."""

import json
from pathlib import Path

import logo_evaluated as world
import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta
from score_worlds import PARAMS, settings

from upheld.common.errors import BadUse
from upheld.evaluation.logos import exposure
from upheld.evaluation.logos import metrics as logo_metrics
from upheld.evaluation.logos import stage as logo_evaluate
from upheld.evaluation.logos.stage import Inputs
from upheld.evaluation.metrics.rows import COLUMNS
from upheld.feature_store.logos.dataset import dataset

FILES = {"metrics.parquet", "confusion.parquet", "scores.parquet", "exposure.parquet", "logo.json", "sheet.jpg"}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which the stages before have run."""
    folder = tmp_path_factory.mktemp("workspace")
    data = world.dataset(folder / "data" / "logo")
    world.detections(data).to_parquet(folder / "data" / "logo_detections.parquet")
    world.scanned(folder / "data")
    return folder


@pytest.fixture(scope="module")
def judged(workspace: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workspace)
        world.few_resamples(patch)
        assert logo_evaluate.main(["--params", str(PARAMS), "--store", "store"]) == 0
    return workspace / "data" / "logo_evaluation"


def test_the_stage_writes_what_the_next_ones_read(judged: Path) -> None:
    assert {path.name for path in judged.iterdir()} == FILES
    assert list(pd.read_parquet(judged / "metrics.parquet")) == COLUMNS
    told = json.loads((judged / "logo.json").read_text())
    assert (told["untrained"], told["synthetic"], told["one_shot"], told["threshold"]) == (None, False, ["cedar"], 0.5)
    assert told["certificate"]["outcome"] == "abstained"  # 40 detections show no precision of 95 %
    assert told["certificate"]["target"] == settings().thresholds.precision_target
    assert {tile["kind"] for tile in told["tiles"]} == {"found", "missed", "false alarm"}


def test_exposure_is_that_counted_by_hand(judged: Path) -> None:
    table = pd.read_parquet(judged / "exposure.parquet").set_index(["brand", "context_id", "week"])
    assert list(table.reset_index()) == exposure.COLUMNS
    shares = {
        index: (row.num_posts, row.num_posts_all, row.num_images, row.area_share, row.area_share_shown) for index, row in table.iterrows()
    }
    assert shares == {
        ("acorn", "board", "2026-W43"): (1, 3, 1, pytest.approx(0.25 / 3), 0.25),  # i1, i2, i2; the detection of .3 does not count
        ("acorn", "board", "2026-W44"): (1, 1, 1, 0.1, 0.1),  # the image that was not looked at is none
        ("acorn", "none", "2026-W43"): (1, 1, 1, 0.1, 0.1),
    }


def test_the_command_needs_neither_scan_nor_snapshot(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.few_resamples(monkeypatch)
    data = workspace / "data"
    arguments = [str(data / "logo_detections.parquet"), "--dataset", str(data / "logo"), "--out", str(tmp_path), "--params", str(PARAMS)]
    assert logo_evaluate.main([*arguments, "--scan", str(data / "logo_scan")]) == 2
    assert "--scan and --snapshot go together" in capsys.readouterr().err
    assert logo_evaluate.main([*arguments, "--store", str(tmp_path / "store"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["certificate"]["outcome"] == "abstained"
    assert {path.name for path in tmp_path.iterdir()} == FILES - {"exposure.parquet"}


def test_a_detection_on_no_image_of_the_scan_is_named(tmp_path: Path) -> None:
    scan, snapshot = world.scanned(tmp_path)
    pd.read_parquet(scan / "images.parquet").query("image != 'i3'").to_parquet(scan / "images.parquet")
    with pytest.raises(BadUse, match=r"detections\.parquet: column image: 'i3' is not in images\.parquet"):
        logo_evaluate.read_exposure(scan, snapshot, ("acorn",), 0.5)


@pytest.mark.parametrize(("kind", "reason"), [("empty", "nothing to learn from"), ("no box", "no box of split train among 30 photos")])
def test_where_there_is_no_detector_the_files_are_empty_and_say_why(tmp_path: Path, kind: str, reason: str) -> None:
    if kind == "empty":
        world.empty_dataset(tmp_path / "logo")
    else:
        data = world.dataset(tmp_path / "logo", num_photos=30)
        held_out = data.boxes[data.boxes["split"] != "train"]
        dataset.write(dataset.Dataset(data.folder, data.brands, data.images, held_out, data.negatives, False))
    nothing = pd.DataFrame(columns=world.DETECTIONS)
    nothing.to_parquet(tmp_path / "detections.parquet")
    scan, snapshot = world.scanned(tmp_path)
    nothing.to_parquet(scan / "detections.parquet")
    pd.DataFrame(columns=["image", "width", "height"]).to_parquet(scan / "images.parquet")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sheet.jpg").write_bytes(b"of an earlier run")
    inputs = Inputs(tmp_path / "logo", tmp_path / "detections.parquet", scan, snapshot)
    result = logo_evaluate.run(settings(), inputs, tmp_path / "out", tmp_path / "store")
    assert result.untrained is not None
    assert result.untrained.startswith(reason)
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"sheet.jpg"}
    tables = {name: pd.read_parquet(tmp_path / "out" / f"{name}.parquet") for name in ("metrics", "confusion", "scores", "exposure")}
    assert all(table.empty for table in tables.values())
    assert (list(tables["metrics"]), list(tables["exposure"])) == (COLUMNS, exposure.COLUMNS)
    told = json.loads((tmp_path / "out" / "logo.json").read_text())
    assert told["untrained"] == told["certificate"]["reason"] == result.untrained


def test_a_detector_that_finds_nothing_is_not_untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.few_resamples(monkeypatch)
    world.dataset(tmp_path / "logo", num_photos=30)
    pd.DataFrame(columns=world.DETECTIONS).to_parquet(tmp_path / "detections.parquet")
    result = logo_evaluate.run(settings(), Inputs(tmp_path / "logo", tmp_path / "detections.parquet"), tmp_path / "out", tmp_path)
    found = result.metrics[result.metrics["group_column"] == "all"].set_index("metric")
    assert result.untrained is None
    assert (found.loc["map_50", "value"], found.loc["recall", "value"]) == (0.0, 0.0)
    assert pd.isna(found.loc["precision", "value"])


def test_brands_may_be_called_what_the_tables_call_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.few_resamples(monkeypatch)
    folder = world.evaluated(tmp_path, brands=("all", "mark", "missed"), num_photos=60)
    table = pd.read_parquet(folder / "metrics.parquet")
    assert not table.duplicated(["group_column", "group_value", "metric"]).any()
    confused = pd.read_parquet(folder / "confusion.parquet")
    assert set(confused["mark"].dropna()) == {"all", "mark", "missed"}


def certified(num_right: int, num_wrong: int, tmp_path: Path) -> dict:
    """The certificate of that many equally sure right and less sure wrong detections on one photo each."""
    num = num_right + num_wrong
    images = [f"i{number:04d}" for number in range(num)]
    box = dict(zip(world.CORNERS, (0.0, 0.0, 50.0, 50.0), strict=True))
    confidence = np.concatenate([np.linspace(0.99, 0.6, num_right), np.linspace(0.55, 0.2, num_wrong)])
    finds = pd.DataFrame({"image": images, "brand": "a", "confidence": confidence, **box})
    photos = pd.DataFrame({"image": images, "split": "val"})
    marks = finds.head(num_right).drop(columns="confidence")
    return logo_evaluate.certify(settings(), photos, marks, finds, False, tmp_path / "scores.parquet")


def test_a_threshold_is_certified_where_the_detections_above_it_are_enough_and_right(tmp_path: Path) -> None:
    found = certified(200, 60, tmp_path)
    assert found["outcome"] == "certified"
    assert 0.55 < found["threshold"] < 0.99  # none of the wrong ones
    # n right ones of n: the exact lower bound of their share at the certificate's own error
    assert found["bound"] <= beta.ppf(found["delta"], found["n"], 1) + 1e-9
    assert found["bound"] >= found["target"]


def test_without_enough_detections_the_certificate_says_how_many_it_takes(tmp_path: Path) -> None:
    found = certified(25, 0, tmp_path)
    assert (found["threshold"], found["outcome"]) == (None, "abstained")
    assert found["need_n"] > 25


BOXES = pd.DataFrame(
    [
        ("pasted", "train", "composite"),
        ("pasted", "test", "import"),
        ("learnt", "train", "composite"),
        ("learnt", "train", "import"),
        ("learnt", "test", "import"),
        ("reviewed", "train", "composite"),
        ("reviewed", "train", "outcome"),
        ("reviewed", "test", "import"),
        ("untested", "train", "composite"),
        ("untested", "test", "composite"),
        ("never", "test", "import"),
    ],
    columns=["brand", "split", "source"],
)


def test_one_shot_brands_have_composites_to_learn_from_and_real_boxes_to_test_with() -> None:
    assert logo_metrics.one_shot_brands(BOXES) == ("pasted",)


def scene(told_apart: bool) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """40 photos with one mark of `a` or `b` each, found exactly; named rightly, or by chance. A composite photo is of no account."""
    random = np.random.default_rng(2)
    images = [f"p{number:02d}" for number in range(41)]
    box = {"x1": 0.0, "y1": 0.0, "x2": 40.0, "y2": 40.0}
    brands = np.array(["a", "b"])[random.integers(0, 2, 41)]
    source = np.where(np.arange(41) < 40, "import", "composite")
    photos = pd.DataFrame({"image": images, "group_id": images, "source": source})
    marks = pd.DataFrame({"image": images, "brand": brands, **box})
    said = brands if told_apart else random.permutation(brands)
    return photos, marks, marks.assign(brand=said, confidence=np.linspace(0.99, 0.3, 41))


def area(hits: np.ndarray, total: int) -> float:
    """101 recalls, the best precision at each or beyond it."""
    found = hits.cumsum()
    recall, precision = found / total, found / np.arange(1, len(hits) + 1)
    best = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(best[np.searchsorted(recall, np.linspace(0, 1, 101))].mean())


@pytest.mark.parametrize(("told_apart", "beaten"), [(True, True), (False, False)])
def test_luck_is_the_area_of_shuffled_brands(told_apart: bool, beaten: bool) -> None:
    photos, marks, finds = scene(told_apart)
    table = logo_metrics.one_shot(photos, marks, finds, ("a",), 0.1, 3).set_index("metric")
    real = np.arange(40)
    is_a, said_a = (marks["brand"] == "a").to_numpy()[real], (finds["brand"] == "a").to_numpy()[real]
    random = np.random.default_rng(99)
    lucky = [area(is_a[random.permutation(said_a)], is_a.sum()) for _ in range(2000)]
    assert table.loc["one_shot_ap_50", "value"] == pytest.approx(area(is_a[said_a], is_a.sum()), abs=0.01)
    assert table.loc["one_shot_chance", "value"] == pytest.approx(np.mean(lucky), abs=0.02)
    assert table.loc["one_shot_chance", ["ci_low", "ci_high"]].tolist() == pytest.approx(np.quantile(lucky, [0.05, 0.95]), abs=0.06)
    assert (table.loc["one_shot_p", "value"] == 1 / 201) == beaten
    assert (table.loc["one_shot_p", "value"] > 0.1) == (not beaten)
    assert table.loc["one_shot_ap_50", "n"] == is_a.sum()


def test_without_such_brands_there_are_no_rows() -> None:
    photos, marks, finds = scene(True)
    assert logo_metrics.one_shot(photos, marks, finds, (), 0.1, 3).empty
