"""`make taste`: a report from nothing but the core."""

import json

import pytest

from evaluation import taste


def test_the_sample_table_is_reproducible_and_says_that_it_is_made_up() -> None:
    table = taste.sample_scores(2000, seed=1)
    assert table.equals(taste.sample_scores(2000, seed=1))
    assert table.synthetic.all()
    assert not table.duplicated(["item_id", "category"]).any()
    assert table.score.between(0, 1, inclusive="neither").all()
    looked = table[table.zone == "none"].label.notna().mean()
    assert looked == pytest.approx(0.1, abs=0.03)  # as the inclusion probability says


def test_it_leaves_a_report_that_says_synthetic(tmp_path) -> None:
    assert taste.main(["--out", str(tmp_path)]) == 0
    assert "synthetic" in (tmp_path / "report.html").read_text().lower()
    assert set(json.loads((tmp_path / "calibration/thresholds.json").read_text())["categories"]) == set(taste.CATEGORIES)
