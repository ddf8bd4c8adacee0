"""What marks say of posts, against a count by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.common.errors import FailedWork
from upheld.training.fusion.model import LOGO
from upheld.training.logos.scan import NOTHING
from upheld.training.pipeline import stage1

BRANDS = ("a", "b c", "é_1")
GRID = 10  # pictures are of 10 x 10 pixels, so that covered pixels can be counted
corner = st.integers(0, GRID - 1)
detection = st.tuples(st.sampled_from("xyz"), st.sampled_from(BRANDS), st.sampled_from([0.1, 0.5, 0.9]), corner, corner, corner, corner)
pictures = st.lists(st.sampled_from("wxyz"), max_size=5)


def table(found: list[tuple]) -> pd.DataFrame:
    rows = [(i, b, c, min(x, u), min(y, v), max(x, u) + 1, max(y, v) + 1) for i, b, c, x, y, u, v in found]
    return pd.DataFrame(rows, columns=list(NOTHING.detections)).astype(NOTHING.detections.dtypes.to_dict())


SIZES = pd.DataFrame({"image": list("wxyz"), "width": GRID, "height": GRID})


def by_hand(shown: list[str], found: list[tuple], brand: str, threshold: float | None) -> tuple[int, float, float]:
    counted = [row for row in found if row[1] == brand and threshold is not None and row[2] >= threshold and row[0] in shown]
    share = 0.0
    for image in set(shown):
        covered = np.zeros((GRID, GRID), bool)
        for _, _, _, x, y, u, v in (row for row in counted if row[0] == image):
            covered[min(y, v) : max(y, v) + 1, min(x, u) : max(x, u) + 1] = True
        share = max(share, covered.mean())
    return len(counted), max((row[2] for row in counted), default=0.0), share


@settings(deadline=None)  # a busy machine is no error
@given(shown=st.lists(pictures, max_size=6), found=st.lists(detection, max_size=12), threshold=st.sampled_from([None, 0.0, 0.5, 1.0]))
def test_every_cell_is_what_counting_gives(shown, found, threshold) -> None:
    posts = pd.DataFrame({"post_id": [f"p{9 - n}" for n in range(len(shown))], "image_digests": shown})
    columns = stage1.logo_signals(posts, table(found), SIZES, BRANDS, threshold)
    assert list(columns) == ["post_id", *(f"{name}_{brand}" for brand in BRANDS for name in LOGO)]
    assert columns["post_id"].tolist() == posts["post_id"].tolist()
    assert [str(kind) for kind in columns.dtypes[1:]] == ["int64", "float64", "float64"] * len(BRANDS)
    for row, names in enumerate(shown):
        for brand in BRANDS:
            got = [columns[f"{name}_{brand}"].iloc[row] for name in LOGO]
            assert got == pytest.approx(by_hand(names, found, brand, threshold))


def test_posts_that_share_a_picture_are_told_the_same_and_none_is_told_of_another() -> None:
    posts = pd.DataFrame({"post_id": ["a", "b", "c", "d"], "image_digests": [["x"], np.array(["x", "x"], object), [], None]})
    columns = stage1.logo_signals(posts, table([("x", "a", 0.9, 0, 0, 4, 9), ("y", "a", 0.9, 0, 0, 1, 1)]), SIZES, ("a",), 0.5)
    assert columns["logo_count_a"].tolist() == [1, 1, 0, 0]
    assert columns["logo_area_a"].tolist() == [0.5, 0.5, 0.0, 0.0]


def test_without_a_detector_there_is_nothing_but_the_posts() -> None:
    posts = pd.DataFrame({"post_id": ["a"], "image_digests": [["x"]]})
    assert list(stage1.logo_signals(posts, NOTHING.detections, NOTHING.sizes, (), None)) == ["post_id"]


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", json.dumps({"threshold": "high"})])
def test_a_threshold_that_cannot_be_read_is_failed_work(tmp_path, content) -> None:
    if content is not None:
        (tmp_path / "logo.json").write_text(content)
    with pytest.raises(FailedWork, match=r"logo.json: not readable .* run the stage logo_evaluate again"):
        stage1.read_logo_threshold(tmp_path / "logo.json")


@pytest.mark.parametrize("threshold", [None, 0.25])
def test_a_threshold_is_read(tmp_path, threshold) -> None:
    (tmp_path / "logo.json").write_text(json.dumps({"threshold": threshold}))
    assert stage1.read_logo_threshold(tmp_path / "logo.json") == threshold
