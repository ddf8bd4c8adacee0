"""Composites: their boxes against what is seen on the picture, what holds for any seed, and going on where a run stopped."""

import io
import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.feature_store.deliveries import ROOT, deliver, parameters, post, take
from tests.feature_store.logo_folders import coco, jpeg, picture, put
from upheld import cli
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.logos import LogoCompose
from upheld.common.params.params import Params
from upheld.feature_store.logos.composites import command as logo_compose
from upheld.feature_store.logos.composites import paste
from upheld.feature_store.logos.composites.marks import OURS, Mark, load
from upheld.feature_store.logos.dataset import dataset
from upheld.feature_store.logos.dataset.boxes import overlaps
from upheld.feature_store.splits.near_pictures import near_pictures

MARKS = load(OURS)[0]


def plain(**values) -> LogoCompose:
    """As configured, without anything that changes pixels outside the mark."""
    quiet = {"plate_share": 0.0, "min_contrast": 0.0, "recolour_share": 0.0, "distractor_share": 0.0, "max_grain": 0.0, "shaken_share": 0.0}
    quiet |= {"jpeg_quality": (95, 95), "max_blur_px": 0.4}
    return parameters().logo_compose.model_copy(update=quiet | values)


def white(width: int, height: int, shape: str) -> Mark:
    """A white disc or rectangle."""
    y, x = np.mgrid[0:height, 0:width]
    inside = (
        ((2 * x + 1) / width - 1) ** 2 + ((2 * y + 1) / height - 1) ** 2 <= 1 if shape == "disc" else np.ones((height, width), dtype=bool)
    )
    return Mark("white", np.dstack([np.full((height, width, 3), 255), inside * 255]).astype(np.uint8), one_colour=True)


def seen(jpeg_file: bytes) -> tuple[float, float, float, float]:
    """The oracle: the box around the bright pixels of the finished picture."""
    levels = np.asarray(Image.open(io.BytesIO(jpeg_file)).convert("L"), dtype=float)
    rows, columns = np.nonzero(levels > levels.min() + 0.35 * (levels.max() - levels.min()))
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


@pytest.mark.parametrize("shape", ["disc", "rectangle"])
@pytest.mark.parametrize("change", [{}, {"cropped_share": 1.0}, {"occluded_share": 1.0}, {"rotation_deg": 45.0, "perspective": 0.2}])
def test_boxes_are_those_of_what_is_seen(shape, change):
    options = plain(**({"occluded_share": 0.0, "cropped_share": 0.0} | change))
    distances, hidden = [], 0
    for seed in range(25):
        black = Image.new("RGB", (320, 240))
        made = paste.compose(black, [], [white(120, 90, shape)], np.random.default_rng(seed), options)
        if not made.boxes:  # at every place tried too much was hidden
            continue
        distances.append(np.abs(np.subtract(seen(made.jpeg), made.boxes[0])).max())
        hidden += made.visible[0] < 0.99
    # a sheared or blurred tip covers its outermost pixels by little more or less than the share that counts as seen
    assert len(distances) >= 22 and np.mean(np.array(distances) <= 1) >= 0.9 and max(distances) <= 3, distances
    assert (hidden > 5) == ("cropped_share" in change or "occluded_share" in change)


def test_the_visible_share_is_that_of_the_mark(tmp_path):
    """A white rectangle, cut by the border alone: what is left of its area on the picture is the share."""
    options = plain(cropped_share=1.0, occluded_share=0.0, rotation_deg=0.0, perspective=0.0, mark_share=(0.5, 0.5))
    for seed in range(10):
        made = paste.compose(Image.new("RGB", (300, 300)), [], [white(100, 100, "rectangle")], np.random.default_rng(seed), options)
        for box, share in zip(made.boxes, made.visible, strict=True):
            assert (box[2] - box[0]) * (box[3] - box[1]) / 150**2 == pytest.approx(share, abs=0.03)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(12, 900), st.integers(12, 900), st.integers(0, 4))
def test_what_holds_for_any_composite(seed, width, height, num_marks):
    options = parameters().logo_compose.model_copy(update={"max_side_px": 160})
    photo = picture(seed, (width, height))
    some = [MARKS[(seed + place) % len(MARKS)] for place in range(num_marks)]
    made = paste.compose(photo, [], some, np.random.default_rng(seed), options)
    again = paste.compose(photo, [], some, np.random.default_rng(seed), options)
    assert made == again
    assert Image.open(io.BytesIO(made.jpeg)).size == (made.width, made.height) and max(made.width, made.height) <= 160
    assert len(made.boxes) == len(made.brands) == len(made.visible) <= num_marks
    for x1, y1, x2, y2 in made.boxes:
        assert 0 <= x1 < x2 <= made.width and 0 <= y1 < y2 <= made.height
        assert min(x2 - x1, y2 - y1) >= options.min_side_px
    assert all(options.min_visible_share <= share <= 1 + 1e-6 for share in made.visible)
    pairs = [(one, other) for place, one in enumerate(made.boxes) for other in made.boxes[:place]]
    assert all(overlaps([one], [other]) == 0 for one, other in pairs)


def test_marks_on_the_photo_are_kept_scaled_and_never_covered():
    kept = [("old", (100.0, 50.0, 300.0, 250.0))]
    options = parameters().logo_compose.model_copy(update={"max_side_px": 320, "distractor_share": 1.0})
    for seed in range(10):
        made = paste.compose(picture(seed, (640, 480)), kept, MARKS[:3], np.random.default_rng(seed), options)
        assert (made.brands[0], made.boxes[0]) == ("old", (50.0, 25.0, 150.0, 125.0))
        assert (overlaps(made.boxes[:1], made.boxes[1:]) == 0).all()


def world(folder, num: int = 6):
    for number in range(num):
        put(folder / f"{number}.jpg", jpeg(picture(number, (160, 120))))
    return folder


def make(tmp_path, out: str = "out", num: int = 12, seed: int = 3, given: Params | None = None, photos: str | None = None):
    return logo_compose.run(given or parameters(), seed, OURS, photos or str(tmp_path / "photos"), tmp_path / out, num, tmp_path / "store")


def test_the_same_seed_gives_the_same_dataset_and_more_composites_keep_the_first(tmp_path):
    world(tmp_path / "photos")
    one, other, longer = (make(tmp_path, out, num).dataset for out, num in (("a", 12), ("b", 12), ("c", 16)))
    assert one.digest == other.digest
    assert set(one.images["digest"]) < set(longer.images["digest"])
    assert make(tmp_path, "d", seed=4).dataset.digest != one.digest
    assert dataset.read(tmp_path / "a").digest == one.digest
    assert dict(dataset.contents(one, one.images["digest"])).keys() == set(one.images["digest"])
    assert (one.images["composite"]).all() and set(one.images["split"]) <= {"train", "val"}


def test_a_run_that_was_cut_off_goes_on(tmp_path, monkeypatch):
    world(tmp_path / "photos")
    whole = make(tmp_path, "whole").dataset
    done, compose = [], paste.compose

    def tired(*args):
        if len(done) >= 5:
            raise OSError(28, "No space left on device", "disk")
        done.append(0)
        return compose(*args)

    monkeypatch.setattr(paste, "compose", tired)
    with pytest.raises(OSError, match="No space"):
        make(tmp_path)
    assert not (tmp_path / "out" / "dataset.json").exists()
    num_before = len(list((tmp_path / "out" / "parts").glob("*/*.json")))
    monkeypatch.setattr(paste, "compose", lambda *args: done.append(1) or compose(*args))
    assert make(tmp_path).dataset.digest == whole.digest
    assert 0 < num_before < 12 and done.count(1) == 12 - num_before  # threads: some more than five may have been at work


def test_composites_of_other_photos_are_replaced(tmp_path):
    world(tmp_path / "photos")
    make(tmp_path)
    put(tmp_path / "photos" / "new.jpg", jpeg(picture(99, (160, 120))))
    assert make(tmp_path).dataset.digest == make(tmp_path, "fresh").dataset.digest
    assert len(list((tmp_path / "out" / "images").glob("*/*.jpg"))) == 12


def test_two_runs_at_a_time_do_not_disturb_each_other(tmp_path):
    world(tmp_path / "photos")
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: make(tmp_path).dataset, range(2))
    assert one.digest == other.digest == dataset.read(tmp_path / "out").digest
    assert dict(dataset.contents(one, one.images["digest"])).keys() == set(one.images["digest"])


def test_composites_on_one_photo_and_its_near_duplicates_are_one_group(tmp_path):
    world(tmp_path / "photos", 3)
    put(tmp_path / "photos" / "again.jpg", jpeg(picture(0, (160, 120)), 60))
    images = make(tmp_path, num=30).dataset.images
    assert images["group_id"].nunique() == 3
    assert images.groupby("group_id")["split"].nunique().max() == 1


def test_photos_of_a_logo_dataset_keep_their_boxes_and_held_out_ones_are_not_used(tmp_path):
    from upheld.feature_store.logos.sources import import_dataset

    box = [{"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 25]}]
    folder = coco(tmp_path / "d", "train", {"a.jpg": jpeg(picture(1))}, box)
    coco(folder, "test", {"b.jpg": jpeg(picture(2))}, box)
    real = import_dataset.run(parameters().logo_data, 1, folder, "coco", tmp_path / "real").dataset
    made = make(tmp_path, photos=str(tmp_path / "real"), num=8).dataset
    train = real.images.loc[real.images["split"] == "train", "digest"].tolist()
    assert set(made.images["group_id"]) == set(train)
    old = made.boxes[made.boxes["brand"] == "ant"]
    assert len(old) == 8 and (old[["x1", "y1", "x2", "y2"]] == [10, 20, 40, 45]).all(axis=None)
    assert near_pictures(real.images, 60).nunique() == 2


@pytest.mark.usefixtures("without_expectations")
def test_photos_of_the_ledger(tmp_path):
    delivery = deliver(tmp_path / "d", posts=[post(media=[{"kind": "image", "uri": "media/a.jpg"}])])
    put(tmp_path / "d" / "media" / "a.jpg", jpeg(picture(1, (160, 120))))
    take(delivery, tmp_path / "store")
    assert len(make(tmp_path, photos="ledger", num=3).dataset.images) == 3


def test_the_command_names_what_it_refused(tmp_path, capsys):
    world(tmp_path / "photos", 2)
    put(tmp_path / "photos" / "torn.jpg", jpeg(picture(1))[:99])
    (tmp_path / "marks").mkdir()
    put(tmp_path / "marks" / "evil.svg", '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>1</script></svg>')
    put(tmp_path / "marks" / "good.svg", (OURS / "tamsik.svg").read_bytes())
    command = ["logo", "compose", "--photos", str(tmp_path / "photos"), "--num", "2", "--params", str(ROOT / "params.yaml")]
    assert cli.main([*command, "--marks", str(tmp_path / "marks"), "--out", str(tmp_path / "out"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {refusal["reason"] for refusal in report["refused"]} == {"svg_script", "image_corrupt"}
    assert cli.main([*command, "--out", str(tmp_path / "photos")]) == 2


def test_no_photo_and_no_folder_are_told_apart(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(FailedWork, match="no photo can be used"):
        make(tmp_path)
    with pytest.raises(BadUse, match="no such folder"):
        make(tmp_path, photos=str(tmp_path / "nowhere"))
