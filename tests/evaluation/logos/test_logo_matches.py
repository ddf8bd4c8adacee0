"""Matching detections with marks, against boxes laid out by hand and a rasterised overlap."""

import numpy as np
import pandas as pd
import pytest

from upheld.evaluation.logos import matches
from upheld.feature_store.logos.dataset.boxes import overlaps

BOX = ["x1", "y1", "x2", "y2"]


def marks(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", "brand", *BOX])


def finds(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", "brand", "confidence", *BOX])


def test_overlap_is_that_of_counted_pixels() -> None:
    random = np.random.default_rng(3)
    boxes = np.sort(random.integers(0, 40, (12, 2, 2)), axis=1).reshape(12, 4)
    boxes[:, 2:] += 1

    def pixels(box: np.ndarray) -> np.ndarray:
        grid = np.zeros((64, 64), bool)
        grid[box[1] : box[3], box[0] : box[2]] = True
        return grid

    expected = [[(pixels(a) & pixels(b)).sum() / (pixels(a) | pixels(b)).sum() for b in boxes] for a in boxes]
    assert overlaps(boxes, boxes) == pytest.approx(np.array(expected))


def test_a_mark_is_taken_once_by_the_surest_detection() -> None:
    there = marks(("p", "a", 0, 0, 10, 10))
    found = matches.match(there, finds(("p", "a", 0.5, 0, 0, 10, 10), ("p", "a", 0.9, 1, 0, 10, 10)))
    assert found["confidence"].tolist() == [0.9, 0.5]
    assert found["mark"].tolist() == [0, -1]


@pytest.mark.parametrize(
    ("find", "hit", "over"),
    [
        (("p", "a", 0.9, 0, 0, 10, 10), 0, "a"),
        (("p", "b", 0.9, 0, 0, 10, 10), -1, "a"),  # the right place, another brand
        (("q", "a", 0.9, 0, 0, 10, 10), -1, None),  # another photo
        (("p", "a", 0.9, 0, 0, 10, 4.9), -1, None),  # less than half
        (("p", "a", 0.9, 0, 0, 10, 5), 0, "a"),  # half
    ],
)
def test_brand_photo_and_overlap_must_all_fit(find, hit, over) -> None:
    found = matches.match(marks(("p", "a", 0, 0, 10, 10)), finds(find))
    assert (found["mark"][0], found["over"][0]) == (hit, over)


def test_no_marks_and_no_detections() -> None:
    assert matches.match(marks(), finds(("p", "a", 0.9, 0, 0, 1, 1)))["mark"].tolist() == [-1]
    assert matches.match(marks(("p", "a", 0, 0, 1, 1)), finds()).empty


def test_confusion_counts_every_detection_and_every_missed_mark() -> None:
    there = marks(("p", "a", 0, 0, 10, 10), ("p", "b", 20, 0, 30, 10), ("q", "a", 0, 0, 10, 10))
    found = finds(
        ("p", "a", 0.9, 0, 0, 10, 10), ("p", "a", 0.8, 20, 0, 30, 10), ("q", "b", 0.9, 50, 50, 60, 60), ("q", "a", 0.1, 0, 0, 10, 10)
    )
    table = matches.confusion(there, matches.match(there, found), 0.5)
    rows = {tuple(row[:2]): row[2] for row in table.fillna("-").itertuples(index=False)}
    assert rows == {("a", "a"): 1, ("b", "a"): 1, ("-", "b"): 1, ("a", "-"): 1, ("b", "-"): 1}


def test_scores_are_rows_of_the_contract() -> None:
    matched = matches.match(marks(("p", "a", 0, 0, 10, 10)), finds(("p", "a", 0.9, 0, 0, 10, 10), ("q", "a", 0.4, 0, 0, 10, 10)))
    rows = matches.scores(matched, pd.Series({"p": "val", "q": "test"}), synthetic=False)
    assert rows[["item_id", "score", "label", "split"]].values.tolist() == [["p/0", 0.9, 1.0, "calib"], ["q/0", 0.4, 0.0, "test"]]
    assert rows["item_id"].is_unique
