"""Every picture of the snapshot is looked at once; its marks and its size are told as a viewer sees it."""

import io
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from upheld.common.errors import FailedWork
from upheld.feature_store.contracts import hashing
from upheld.feature_store.features import media
from upheld.training.logos import detector as logo_detector
from upheld.training.logos import scan as logo_scan
from upheld.training.logos.faster_rcnn import FasterRcnnBackend
from upheld.training.logos.network import FasterRcnn


class Ledger:
    """Some pictures, and which of them were asked for."""

    pictures: dict[str, bytes]
    asked: list[str]

    def __init__(self, store) -> None:
        self.store = store

    def media_bytes(self, digests):
        Ledger.asked += digests
        return ((name, self.pictures[name]) for name in set(digests) if name in self.pictures)


def on_its_side(tiny) -> bytes:
    """A photo that a viewer turns by its EXIF rotation, with a blue mark."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.open(io.BytesIO(tiny.marked("blue"))).save(stream, "PNG", exif=exif)
    return stream.getvalue()


@pytest.fixture
def pictured(workspace, tiny, monkeypatch):
    """The workspace with pictures in its posts, and a detector that sees colours."""
    tiny.patch_detector(monkeypatch)
    tiny.save_colours(workspace)
    drawn = (tiny.marked("red"), tiny.marked("green", "blue"), tiny.marked(), on_its_side(tiny))
    monkeypatch.setattr(Ledger, "pictures", {hashing.of_bytes(content): content for content in drawn}, raising=False)
    monkeypatch.setattr(Ledger, "asked", [], raising=False)
    monkeypatch.setattr(media, "Ledger", Ledger)
    shutil.rmtree(workspace / "data/snapshot")
    tiny.save_snapshot(workspace / "data/snapshot", digests=tuple(Ledger.pictures))
    return workspace


def run(workspace: Path, out: Path) -> logo_scan.Scan:
    return logo_scan.run(workspace / "store", workspace / "data/snapshot", workspace / "models/logo", out)


def counts(scan: logo_scan.Scan) -> tuple[int, int, int]:
    return len(scan.sizes), len(scan.detections), len(scan.brands)


def test_each_picture_of_each_split_is_looked_at_once(pictured, tiny, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(logo_scan, "AT_ONCE", 3)
    scanned = run(pictured, tmp_path / "scan")
    red, both, plain, turned = Ledger.pictures
    assert sorted(Ledger.asked) == sorted(Ledger.pictures)  # posts share them
    looked = logo_scan.read(tmp_path / "scan")
    assert looked.brands == tuple(tiny.BRANDS)
    sizes = looked.sizes.set_index("image")
    assert sizes.index.is_monotonic_increasing and set(sizes.index) == set(Ledger.pictures)
    assert sizes.loc[[red, both, plain], ["width", "height"]].to_numpy().tolist() == [[40, 30]] * 3
    assert sizes.loc[turned].tolist() == [30, 40]
    found = looked.detections.set_index(["image", "brand"])
    assert set(found.index) == {(red, "red"), (both, "green"), (both, "blue"), (turned, "blue")}
    corners = ["x1", "y1", "x2", "y2"]
    assert found.loc[(red, "red"), corners].tolist() == [0, 5, 10, 15]
    assert found.loc[(both, "blue"), corners].tolist() == [12, 5, 22, 15]
    assert found.loc[(turned, "blue"), corners].tolist() == [15, 0, 25, 10]  # turned by a quarter, clockwise
    assert counts(scanned) == (4, 4, 3)


def test_the_same_posts_in_any_order_give_the_same_bytes(pictured, tmp_path) -> None:
    path = pictured / "data/snapshot/posts.parquet"
    for name in ("a", "b"):
        run(pictured, tmp_path / name)
        pd.read_parquet(path).sample(frac=1, random_state=2).to_parquet(path)
    assert hashing.of_folder(tmp_path / "a") == hashing.of_folder(tmp_path / "b")


def test_without_a_detector_no_picture_is_read_and_the_tables_are_empty(pictured, tmp_path) -> None:
    logo_detector.save_untrained(pictured / "models/logo", "no box")
    assert counts(run(pictured, tmp_path / "scan")) == (0, 0, 0)
    assert Ledger.asked == []
    looked = logo_scan.read(tmp_path / "scan")
    assert looked.brands == ()
    pd.testing.assert_frame_equal(looked.detections, logo_scan.NOTHING.detections)
    pd.testing.assert_frame_equal(looked.sizes, logo_scan.NOTHING.sizes)


def test_posts_without_pictures_are_no_error(pictured, tmp_path) -> None:
    path = pictured / "data/snapshot/posts.parquet"
    posts = pd.read_parquet(path)
    posts.assign(image_digests=[[] for _ in range(len(posts))]).to_parquet(path)
    assert counts(run(pictured, tmp_path / "scan")) == (0, 0, 3)


def test_a_picture_that_left_the_ledger_is_named(pictured, tmp_path) -> None:
    gone = sorted(Ledger.pictures)[0]
    del Ledger.pictures[gone]
    with pytest.raises(FailedWork, match=f"image {gone} of the snapshot is gone"):
        run(pictured, tmp_path / "scan")
    assert not (tmp_path / "scan").exists()


@pytest.mark.parametrize("name", ["detections.parquet", "images.parquet", "scan.json"])
def test_a_damaged_scan_is_refused(pictured, tmp_path, name) -> None:
    run(pictured, tmp_path / "scan")
    (tmp_path / "scan" / name).write_text("{}")
    with pytest.raises(FailedWork, match=r"scan: not readable .* run the stage logo_scan again"):
        logo_scan.read(tmp_path / "scan")


def test_the_stage_runs_as_a_command(pictured, monkeypatch, capsys) -> None:
    monkeypatch.chdir(pictured)
    monkeypatch.setenv("UPHELD_STORE", str(pictured / "store"))
    assert logo_scan.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"num_images": 4, "num_detections": 4, "num_brands": 3}
    assert logo_scan.main([]) == 0
    assert "4 marks of 3 brands on 4 pictures" in capsys.readouterr().err
    (pictured / "models/logo/metadata.json").unlink()
    (pictured / "data/snapshot/manifest.json").unlink()
    assert logo_scan.main([]) == 1


def test_a_saved_network_finds_the_same_to_the_bit_whatever_the_order_of_the_names(tiny, tmp_path) -> None:
    torch.manual_seed(6)
    arguments = {"backbone": tiny.BACKBONE, "num_classes": 2, "size": 96, "min_confidence": 0.3}
    detector = logo_detector.Detector(FasterRcnnBackend(FasterRcnn(**arguments, pretrained=False), arguments), ("a", "b"), 96)
    logo_detector.save(detector, tmp_path, "faster_rcnn", {})
    pictures = {f"{number:02d}": tiny.marked(*list(tiny.BRANDS)[: number % 4]) for number in range(20)}

    def fetch(names):
        return {name: pictures[name] for name in names}

    first = logo_scan.scan_pictures(detector, [*pictures, *pictures], fetch)
    again = logo_scan.scan_pictures(logo_detector.load(tmp_path), list(pictures)[::-1], fetch)
    assert len(first.detections) > 0 and set(first.detections["brand"]) <= {"a", "b"}
    pd.testing.assert_frame_equal(again.detections, first.detections, check_exact=True)
    pd.testing.assert_frame_equal(again.sizes, first.sizes)
