"""Every cell of metrics.parquet against masks over the rows."""

import json

import numpy as np
import pandas as pd
import pytest
from score_worlds import settings, table, thresholds

from upheld.evaluation import evaluate
from upheld.evaluation.cube.bins import edges, snap_up

REVIEW, REMOVAL = float(edges()[snap_up(0.42)]), float(edges()[snap_up(0.88)])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(rows, metrics) of a weighted world at two thresholds, automatic removal being off in de."""
    folder = tmp_path_factory.mktemp("metrics")
    rows = table()
    rows.to_parquet(folder / "scores.parquet")
    (folder / "thresholds.json").write_text(json.dumps(thresholds(spam=(REVIEW, REMOVAL, ("de",)), hate_speech=(REVIEW, None, ()))))
    inputs = evaluate.Inputs(folder / "scores.parquet", folder / "thresholds.json")
    evaluate.run(settings(), inputs, folder / "out", groups=["region", "language*region"])
    return rows, pd.read_parquet(folder / "out" / "metrics.parquet")


def value(metrics, metric, category="spam", language="all", column="all", group="all"):
    cell = (metrics.category == category) & (metrics.language == language)
    found = metrics[cell & (metrics.group_column == column) & (metrics.group_value == group) & (metrics.metric == metric)]
    assert len(found) == 1, f"{len(found)} rows of {metric}"
    return found.iloc[0]


def weighted_share(rows, hit):
    return np.average(hit, weights=1 / rows.inclusion_prob)


@pytest.mark.parametrize("language", ["all", "en", "de", "sw"])
@pytest.mark.parametrize("category", ["spam", "hate_speech"])
def test_rates_are_those_of_masks(world, category, language) -> None:
    rows, metrics = world
    mine = rows[(rows.category == category) & rows.label.notna() & ((rows.language == language) | (language == "all"))]
    flagged, bad = mine.score >= REVIEW, mine.label == 1
    expected = {
        "base_rate": weighted_share(mine, bad),
        "accuracy": weighted_share(mine, flagged == bad),
        "precision": weighted_share(mine[flagged], bad[flagged]),
        "recall": weighted_share(mine[bad], flagged[bad]),
        "fpr": weighted_share(mine[~bad], flagged[~bad]),
        "fnr": weighted_share(mine[bad], ~flagged[bad]),
    }
    for metric, want in expected.items():
        row = value(metrics, metric, category, language)
        assert row.value == pytest.approx(want, abs=1e-12), metric
        assert row.ci_low <= row.value <= row.ci_high


@pytest.mark.parametrize("language", ["all", "en", "sw"])
def test_automatic_removal_counts_only_languages_where_it_is_on(world, language) -> None:
    rows, metrics = world
    mine = rows[(rows.category == "spam") & (rows.language != "de") & ((rows.language == language) | (language == "all"))]
    seen = mine[mine.label.notna()]
    removed, bad = seen.score >= REMOVAL, seen.label == 1
    assert value(metrics, "precision_auto_remove", language=language).value == pytest.approx(
        weighted_share(seen[removed], bad[removed]), abs=1e-12
    )
    assert value(metrics, "recall_auto_remove", language=language).value == pytest.approx(
        weighted_share(seen[bad], removed[bad]), abs=1e-12
    )


def test_a_language_where_removal_is_off_has_no_removals(world) -> None:
    _, metrics = world
    row = value(metrics, "precision_auto_remove", language="de")
    assert pd.isna(row.value)
    assert row.reason == "automatic removal is off in this language"
    assert value(metrics, "auto_remove_share", language="de").value == 0


def test_volumes_count_unlabelled_rows_too(world) -> None:
    rows, metrics = world
    mine = rows[rows.category == "spam"]
    removed = (mine.score >= REMOVAL) & (mine.language != "de")
    queue = (mine.score >= REVIEW) & ~removed
    assert value(metrics, "auto_remove_share").value == pytest.approx(removed.mean())
    assert value(metrics, "queue_share").value == pytest.approx(queue.mean())
    assert value(metrics, "rows").value == len(mine)
    assert value(metrics, "labelled").value == mine.label.notna().sum()


@pytest.mark.parametrize("region", ["US", "DE", "KE"])
def test_groups_and_crosses(world, region) -> None:
    rows, metrics = world
    mine = rows[(rows.category == "spam") & (rows.label == 0) & (rows.region == region)]
    row = value(metrics, "fpr", column="region", group=region)
    assert row.value == pytest.approx(weighted_share(mine, mine.score >= REVIEW), abs=1e-12)
    crossed = mine[mine.language == "de"]
    row = value(metrics, "fpr", column="language*region", group=f"de * {region}")
    assert row.value == pytest.approx(weighted_share(crossed, crossed.score >= REVIEW), abs=1e-12)


def test_background_areas(world) -> None:
    """BPSN: the slice's harmless rows against violations elsewhere; BNSP: the other way round (Borkan et al., 2019)."""
    rows, metrics = world
    mine = rows[(rows.category == "spam") & rows.label.notna()]
    bins = np.searchsorted(edges(), mine.score, side="right")
    inside = mine.language == "de"
    for metric, pos, neg in (("bpsn_auc", ~inside, inside), ("bnsp_auc", inside, ~inside)):
        up, down = (mine.label == 1) & pos, (mine.label == 0) & neg
        pairs = (1 / mine.inclusion_prob[up]).to_numpy()[:, None] * (1 / mine.inclusion_prob[down]).to_numpy()[None, :]
        order = np.sign(bins[up][:, None] - bins[down][None, :]) / 2 + 0.5
        assert value(metrics, metric, language="de").value == pytest.approx((pairs * order).sum() / pairs.sum(), abs=1e-9)


def test_the_gap_is_against_all_others_together(world) -> None:
    rows, metrics = world
    row, own = value(metrics, "fpr_gap", language="en"), value(metrics, "fpr", language="en")
    mine = rows[(rows.category == "spam") & (rows.label == 0) & (rows.language != "en")]
    assert row.value == pytest.approx(own.value - weighted_share(mine, mine.score >= REVIEW), abs=1e-9)
    assert row.verdict in ("PASS", "WARN", "FAIL", "INSUFFICIENT")


def test_without_thresholds_rates_say_that_they_are_at_the_default_score(tmp_path) -> None:
    rows = table(500, weighted=False)
    rows.to_parquet(tmp_path / "scores.parquet")
    metrics = evaluate.run(settings(), evaluate.Inputs(tmp_path / "scores.parquet"), tmp_path / "out").metrics
    row = value(metrics, "precision")
    mine = rows[(rows.category == "spam") & (rows.score >= 0.5)]
    assert row.value == pytest.approx(mine.label.mean())
    assert "default score 0.5" in row.reason
    assert "default score 0.5" in value(metrics, "fpr_gap", language="en").reason


def test_undefined_is_null_with_a_reason_never_zero(tmp_path) -> None:
    rows = table(400, weighted=False)
    rows.loc[(rows.language == "sw") & (rows.label == 1), "label"] = None
    rows.to_parquet(tmp_path / "scores.parquet")
    metrics = evaluate.run(settings(), evaluate.Inputs(tmp_path / "scores.parquet"), tmp_path / "out").metrics
    for metric in ("recall", "fnr", "roc_auc", "pr_auc", "fnr_gap"):
        row = value(metrics, metric, language="sw")
        assert row[["value", "ci_low", "ci_high"]].isna().all(), metric
        assert row.reason, metric
    assert value(metrics, "fnr_gap", language="sw").verdict == "INSUFFICIENT"
    undefined = metrics[metrics.value.isna()]
    assert undefined.reason.notna().all()
    assert undefined.ci_low.isna().all()


def test_one_row_per_cell_and_metric(world) -> None:
    _, metrics = world
    assert not metrics.duplicated(["category", "language", "group_column", "group_value", "metric"]).any()
    assert not np.isinf(metrics.select_dtypes("float")).any().any()


def test_an_expected_language_without_a_row_is_shown_and_fails(tmp_path) -> None:
    table(300, weighted=False).to_parquet(tmp_path / "scores.parquet")
    result = evaluate.run(settings("fairness.expected_languages=[yo]"), evaluate.Inputs(tmp_path / "scores.parquet"), tmp_path / "out")
    assert value(result.metrics, "rows", language="yo").verdict == "INSUFFICIENT"
    assert any(check["status"] == "fail" and check["scope"] == "spam/yo" for check in result.gate["checks"])
    assert any("yo" in item["text"] for item in result.report["attention"] if item["level"] == "stop")
