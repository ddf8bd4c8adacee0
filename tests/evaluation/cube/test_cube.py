"""The cube against explicit masks over rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.common.errors import BadUse
from upheld.evaluation.cube import bins, cube
from upheld.evaluation.cube import build as cube_build
from upheld.evaluation.cube.cube import LABELS, ZONES, Cube


def build(rows: pd.DataFrame, **options) -> Cube:
    return cube_build.build(pa.Table.from_pandas(rows, preserve_index=False), **options)


def same(one: Cube, other: Cube) -> bool:
    return (
        (one.categories, one.languages, one.groups, one.group_column)
        == (other.categories, other.languages, other.groups, other.group_column)
        and one.keys.tolist() == other.keys.tolist()
        and np.allclose(one.moments, other.moments, rtol=1e-12, atol=0)
        and one.frame_max_weight.tolist() == other.frame_max_weight.tolist()
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_routing_on_bins_is_routing_on_probabilities(probs: list[float]) -> None:
    lower = bins.edges()
    near = np.concatenate([probs, lower[1::511], np.nextafter(lower[1::511], 0), np.nextafter(lower[1::511], 1)])
    found = bins.bin_of(near)
    assert (lower[found] <= near).all()
    assert (near < np.append(lower[1:], np.inf)[found]).all()


def test_snap_up_gives_the_next_edge() -> None:
    lower = bins.edges()
    assert [bins.snap_up(lower[7]), bins.snap_up(np.nextafter(lower[7], 1)), bins.snap_up(0.0)] == [7, 8, 0]
    assert bins.snap_up(1.0) == bins.NUM_BINS
    assert bins.bin_of([0.0, 1.0]).tolist() == [0, bins.NUM_BINS - 1]
    assert (np.diff(lower) > 0).all() and (bins.centres() > lower).all()


def test_every_cell_is_what_masks_give(score_table) -> None:
    rows = score_table(4000, 1, regions=True)
    full = cube.dense(build(rows, group_column="region"), ("category", "language", "group", "zone", "label"))
    assert full.shape == (2, 4, 3, 4, 3, 4)
    weight = np.where(rows.label.isna(), 1.0, 1 / rows.inclusion_prob)
    for c, category in enumerate(["hate_speech", "spam"]):
        for g, region in enumerate(["DE", "IN", "US"]):
            for z, zone in enumerate(ZONES):
                for k, label in enumerate([rows.label == 0, rows.label == 1, rows.label.isna()]):
                    mask = (rows.category == category) & (rows.region == region) & (rows.zone == zone) & label & (rows.language == "en")
                    w = weight[mask]
                    expected = [mask.sum(), w.sum(), (w**2).sum(), (w * rows.score[mask]).sum()]
                    assert full[c, 1, g, z, k] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_cuts_differ_by_category(score_table) -> None:
    rows = score_table(3000, 2)
    thresholds = {"hate_speech": (0.3, 0.9), "spam": (0.5, None)}
    cuts = [[bins.snap_up(low), bins.NUM_BINS if high is None else bins.snap_up(high)] for low, high in thresholds.values()]
    counted = cube.cut(build(rows), cuts, ("category", "label"))[..., 0]
    for c, (category, (low, high)) in enumerate(thresholds.items()):
        edges = [bins.edges()[bins.snap_up(low)], np.inf if high is None else bins.edges()[bins.snap_up(high)]]
        own = rows[(rows.category == category) & (rows.label == 1)].score
        expected = [(own < edges[0]).sum(), ((own >= edges[0]) & (own < edges[1])).sum(), (own >= edges[1]).sum()]
        assert counted[c, LABELS.index("1")].tolist() == expected


def test_frame_weights_count_rows_that_were_never_drawn(score_table) -> None:
    rows = score_table(2000, 3, categories=("spam",))
    rows.loc[5, ["inclusion_prob", "label", "zone"]] = [0.001, np.nan, "none"]
    built = build(rows)
    assert built.frame_max_weight[0].tolist() == [1 / 0.3, 1 / 0.6, 1000.0, 0.0]
    high = [[bins.snap_up(0.86)]]
    assert cube.cut_max_weight(built, high).tolist() == [[1000.0, 1 / 0.3]]


def test_unlabelled_rows_without_inclusion_prob_take_the_zones_smallest(score_table) -> None:
    rows = score_table(2000, 4, categories=("spam",))
    rows.loc[rows.label.isna(), "inclusion_prob"] = np.nan
    built = build(rows, frame_min_inclusion_prob={"auto_remove": 0.25, "none": 0.01})
    assert built.frame_max_weight[0].tolist() == pytest.approx([4.0, 100.0, 100.0, 0.0])
    with pytest.raises(BadUse, match="frame_min_inclusion_prob"):
        build(rows)


def test_a_table_without_optional_columns_weighs_all_alike(score_table) -> None:
    rows = score_table(500, 5).drop(columns=["inclusion_prob", "zone"])
    built = build(rows)
    assert set(built.frame_max_weight[:, ZONES.index("unknown")]) == {1.0}
    assert cube.dense(built, ("zone",))[:, 0].tolist() == [0, 0, 0, 500]
    assert built.num_rows == 500


def test_calibrated_scores_are_what_is_binned(score_table) -> None:
    rows = score_table(1000, 6)
    entry = {"isotonic": {"x": [0.0, 1.0], "y": [0.1, 0.8]}, "mean": [0.0, 1.0], "languages": {"de": [1.0, 1.0]}, "n": 1}
    built = build(rows, calibration={"categories": {"spam": entry, "hate_speech": None}})
    prob = 0.1 + 0.7 * rows.score
    prob = np.where(rows.language == "de", 1 / (1 + np.exp(-(1 + np.log(prob / (1 - prob))))), prob)
    expected = np.bincount(bins.bin_of(prob)[rows.category == "spam"], minlength=bins.NUM_BINS)
    assert cube.dense(cube.one_category(built, "spam"), ("bin",))[:, 0].tolist() == expected.tolist()
    untouched = np.bincount(bins.bin_of(rows.score)[rows.category == "hate_speech"], minlength=bins.NUM_BINS)
    assert cube.dense(cube.one_category(built, "hate_speech"), ("bin",))[:, 0].tolist() == untouched.tolist()


@given(seeds=st.lists(st.integers(0, 5), min_size=3, max_size=3), order=st.permutations([0, 1, 2]))
@settings(max_examples=15, deadline=None)
def test_merge_is_associative_and_order_does_not_matter(seeds: list[int], order: list[int], score_table) -> None:
    names = [("hate_speech", "spam"), ("spam",), ("misinformation", "spam")]
    tables = [score_table(60 * (k + 1), seed, categories=names[k]) for k, seed in enumerate(seeds)]
    a, b, c = (build(table) for table in tables)
    whole = build(pd.concat(tables))
    assert same(cube.merge([cube.merge([a, b]), c]), whole)
    assert same(cube.merge([a, cube.merge([b, c])]), whole)
    assert same(cube.merge([(a, b, c)[k] for k in order]), whole)


def test_cubes_of_different_group_columns_do_not_merge(score_table) -> None:
    rows = score_table(50, 7, regions=True)
    with pytest.raises(ValueError, match="one group column"):
        cube.merge([build(rows), build(rows, group_column="region")])


def test_batches_equal_one_table(score_table, monkeypatch) -> None:
    rows = score_table(1000, 8, regions=True)
    whole = build(rows, group_column="region")
    monkeypatch.setattr(cube_build, "ROWS_PER_BATCH", 120)
    assert same(build(rows, group_column="region"), whole)


def test_a_dictionary_may_hold_values_that_no_row_has(score_table) -> None:
    rows = score_table(300, 14)
    table = pa.Table.from_pandas(rows, preserve_index=False)
    for name in ("category", "language", "zone"):
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    spam = np.asarray(rows.category == "spam")
    assert same(cube_build.build(table.filter(pa.array(spam))), build(rows[spam]))


def test_saved_and_loaded_cubes_are_equal(tmp_path: Path, score_table) -> None:
    built = build(score_table(400, 9, regions=True), group_column="region")
    cube.save(built, tmp_path / "cube.parquet")
    assert same(cube.load(tmp_path / "cube.parquet"), built)


def test_what_is_no_cube_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    for name in ("other.parquet", "missing.parquet"):
        with pytest.raises(BadUse, match="not a score cube"):
            cube.load(tmp_path / name)


def test_an_empty_table_is_an_empty_cube(score_table) -> None:
    rows = score_table(10, 10)[:0].astype({"category": "object", "language": "object", "zone": "object", "item_id": "object"})
    table = pa.Table.from_pandas(rows, preserve_index=False, schema=pa.Table.from_pandas(score_table(10, 10), preserve_index=False).schema)
    built = cube_build.build(table)
    assert (built.num_rows, built.categories) == (0, ())


def test_one_category_is_the_cube_of_its_rows(score_table) -> None:
    rows = score_table(500, 13)
    alone = build(rows[rows.category == "spam"])
    taken = cube.one_category(build(rows), "spam")
    assert same(replace(taken, languages=alone.languages), alone)


def test_twelve_weekly_cubes_are_one_pass(score_table) -> None:
    weeks = [score_table(200, seed, regions=True) for seed in range(30, 42)]
    merged = cube.merge([build(week, group_column="region") for week in weeks])
    assert same(merged, build(pd.concat(weeks), group_column="region"))
