"""Appearances of brands, recomputed by painting pixels and counting by hand."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from upheld.evaluation.logos.exposure import NO_CONTEXT, exposure
from upheld.feature_store.logos.dataset.boxes import covered_share, per_image

CORNERS = ["x1", "y1", "x2", "y2"]
EDGE = st.integers(-5, 25)


@given(st.lists(st.tuples(EDGE, EDGE, EDGE, EDGE), max_size=6))
def test_covered_share_is_that_of_painted_pixels(edges):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in edges]
    canvas = np.zeros((15, 20), dtype=bool)
    for x1, y1, x2, y2 in boxes:
        canvas[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = True
    assert covered_share(np.array(boxes, dtype=float).reshape(-1, 4), 20, 15) == pytest.approx(canvas.mean())


def detections(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["image", "brand", "confidence", *CORNERS])


POSTS = pd.DataFrame(
    {
        "post_id": ["p1", "p2", "p3", "p4"],
        "context_id": ["board", "board", None, "board"],
        "created_at": pd.to_datetime(["2026-10-19T00:00:00Z", "2026-10-25T23:59:59Z", "2026-10-26T00:00:00Z", "2026-10-20T00:00:00Z"]),
    }
)
IMAGES = pd.DataFrame(
    [("p1", "i1", 10, 10), ("p1", "i1", 10, 10), ("p1", "i2", 20, 10), ("p2", "i1", 10, 10), ("p3", "i3", 10, 20)],
    columns=["post_id", "image", "width", "height"],
)
FOUND = detections(
    ("i1", "ant", 0.9, 0, 0, 5, 10),
    ("i1", "ant", 0.8, 0, 0, 10, 5),
    ("i1", "ant", 0.2, 0, 0, 10, 10),
    ("i1", "bee", 0.9, 0, 0, 1, 1),
    ("i2", "ant", 0.7, 0, 0, 2, 10),
    ("i3", "ant", 0.6, 0, 0, 10, 20),
    ("i3", "cat", 1.0, 0, 0, 10, 20),
)


def test_appearances_by_brand_context_and_week():
    table = exposure(FOUND, IMAGES, POSTS, {"ant": 0.5, "bee": 0.9})
    assert table[["brand", "context_id", "week"]].to_numpy().tolist() == [
        ["ant", "board", "2026-W43"],
        ["ant", NO_CONTEXT, "2026-W44"],
        ["bee", "board", "2026-W43"],
    ]
    first = table.iloc[0]
    # p1 shows i1 and i2, p2 shows i1 again, p4 shows nothing; of i1 three quarters are covered, of i2 a tenth
    assert (first["num_posts"], first["num_posts_all"], first["num_images"], first["num_detections"]) == (2, 3, 3, 5)
    assert first["post_share"] == pytest.approx(2 / 3)
    assert first["area_share"] == pytest.approx((0.75 + 0.1 + 0.75) / 3) == first["area_share_shown"]
    assert first["max_confidence"] == 0.9
    bee = table.iloc[2]
    assert bee["area_share"] == pytest.approx(2 * 0.01 / 3) and bee["area_share_shown"] == pytest.approx(0.01)


def test_no_detection_that_counts_gives_an_empty_table():
    assert len(exposure(FOUND, IMAGES, POSTS, {})) == 0
    assert len(exposure(FOUND.iloc[:0], IMAGES, POSTS, {"ant": 0.5})) == 0


def test_per_image_sums():
    found = per_image(FOUND, IMAGES.drop_duplicates("image"), {"ant": 0.5, "bee": 0.95, "cat": 0.1})
    assert found.to_numpy().tolist() == [
        ["i1", "ant", 2, 0.9, 0.75],
        ["i2", "ant", 1, 0.7, 0.1],
        ["i3", "ant", 1, 0.6, 1.0],
        ["i3", "cat", 1, 1.0, 1.0],
    ]


@pytest.mark.parametrize(
    ("found", "images", "posts", "said"),
    [
        (detections(("i9", "ant", 0.9, 0, 0, 1, 1)), IMAGES, POSTS, "i9"),
        (FOUND, IMAGES.assign(width=0), POSTS, "positive"),
        (FOUND, IMAGES.assign(post_id="p9"), POSTS, "p9"),
        (FOUND, IMAGES, pd.concat([POSTS, POSTS]), "twice"),
    ],
)
def test_what_cannot_be_joined_is_an_error(found, images, posts, said):
    with pytest.raises(ValueError, match=said):
        exposure(found, images, posts, {"ant": 0.5})


def test_order_does_not_matter():
    shuffled = [frame.sample(frac=1, random_state=1) for frame in (FOUND, IMAGES, POSTS)]
    pd.testing.assert_frame_equal(exposure(*shuffled, {"ant": 0.5}), exposure(FOUND, IMAGES, POSTS, {"ant": 0.5}))
