"""Acceptance 13, and decisions end to end: what the cube gives equals what rows give."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy.stats import beta, chi2

from upheld.common.params import params
from upheld.evaluation.cube import bins
from upheld.evaluation.cube import build as cube_build
from upheld.evaluation.thresholds import both_thresholds, fallback_procedure, removal_certificate, review_certificate, sample_size
from upheld.evaluation.thresholds.tails import tails
from upheld.feature_store.decisions.thresholds import Thresholds

SECTION = params.load(Path(__file__).parents[3] / "params.yaml").thresholds


def build(rows: pd.DataFrame):
    return cube_build.build(pa.Table.from_pandas(rows, preserve_index=False))


def decide(
    rows: pd.DataFrame, auto_remove: float | None = None, review: float | None = None, champion: pd.DataFrame | None = None, **changes
):
    force = Thresholds.parse({"categories": {"spam": {"auto_remove": {"threshold": auto_remove}, "review": {"threshold": review}}}})
    section = SECTION.model_copy(update=changes)
    found = both_thresholds.decide(build(rows), section, incumbent=force, champion=None if champion is None else build(champion), seed=1)
    json.dumps(found, allow_nan=False)
    return found["spam"]


def ff_beta_p_value(rows: pd.DataFrame, threshold: float, target: float) -> float:
    """The formula of docs/statistics.md, Weighted bounds, on rows."""
    above = rows[rows.score >= threshold]
    w = 1 / above.inclusion_prob
    largest = w.max()
    known = above.label.notna()
    err = (above.label == 0).astype(float)
    x, v, s = (w * err)[known].sum(), (w**2 * err)[known].sum(), w[known].sum()
    scale = (v + largest**2) / (x + largest)
    return 1 - beta.cdf(1 - target, (x + largest) / scale, s / scale - (x + largest) / scale + 1)


def recall_lower(rows: pd.DataFrame, threshold: float, delta: float) -> float:
    """The formula of docs/statistics.md, Review threshold, on rows; half of delta on each side."""
    w = 1 / rows.inclusion_prob
    found, missed = (rows.label == 1) & (rows.score >= threshold), (rows.label == 1) & (rows.score < threshold)
    x, v = w[found].sum(), (w[found] ** 2).sum()
    m = w[missed].sum() + w[rows.score < threshold].max()
    vm = (w[missed] ** 2).sum() + w[rows.score < threshold].max() ** 2
    lower = v / (2 * x) * chi2.ppf(delta / 2, 2 * x**2 / v)
    return lower / (lower + vm / (2 * m) * chi2.ppf(1 - delta / 2, 2 * m**2 / vm))


def test_p_values_and_bounds_are_those_of_the_rows(score_table) -> None:
    rows = score_table(20_000, 1, categories=("spam",))
    decided = decide(rows, auto_remove=0.85, review=0.4)
    tested = [step for step in decided["auto_remove"]["path"] if step["n"] > 0]
    assert len(tested) >= 20
    for step in tested:
        assert step["p_value"] == pytest.approx(ff_beta_p_value(rows, step["threshold"], 0.95), abs=1e-9)
        assert step["volume"] == (rows.score >= step["threshold"]).sum()
        assert step["n"] == (rows.label.notna() & (rows.score >= step["threshold"])).sum()
    for step in decided["review"]["path"]:
        assert step["bound"] == pytest.approx(recall_lower(rows, step["threshold"], 0.10), abs=1e-9)


def test_tails_are_masks(score_table) -> None:
    rows = score_table(5000, 2, categories=("spam",))
    found, lower = tails(build(rows)), bins.edges()
    for at in (0, 900, 2000, 2500, 4095):
        above = rows[rows.score >= lower[at]]
        known = above[above.label.notna()]
        assert found.num_posts[at] == len(above)
        assert found.w[at] == pytest.approx((1 / known.inclusion_prob).sum())
        assert found.w2_violations[at] == pytest.approx((known.label / known.inclusion_prob**2).sum())
        assert found.max_weight_above[at] == pytest.approx((1 / above.inclusion_prob).max() if len(above) else 0)
        below = rows[rows.score < lower[at]]
        assert found.max_weight_below[at] == pytest.approx((1 / below.inclusion_prob).max() if len(below) else 0)
    assert (found.num_posts[-1], found.max_weight_above[-1]) == (0, 0)


def test_clean_evidence_certifies_and_moves_down(score_table) -> None:
    rows = score_table(40_000, 3, categories=("spam",))
    told = decide(rows, auto_remove=0.9)["auto_remove"]
    assert told["outcome"] == "certified"
    assert told["threshold"] in bins.edges()
    assert told["bound"] >= 0.95 and told["need_n"] is None and told["incumbent"] == 0.9
    assert any(step["passed"] and step["threshold"] == told["threshold"] for step in told["path"])


def test_too_few_labels_keep_the_same_models_threshold_and_say_how_many_are_needed(score_table) -> None:
    rows = score_table(40_000, 4, categories=("spam",))
    shown = rows.label.where((rows.score < 0.05) | (rows.index % 60 == 0))
    told = decide(rows.assign(label=shown), auto_remove=0.9)["auto_remove"]
    assert (told["outcome"], told["threshold"]) == ("kept", 0.9)
    assert told["need_n"] > 104  # no start can be tested with fewer
    assert "too few labels" in told["reason"] or "no candidate passed" in told["reason"]


def test_another_models_threshold_gives_a_volume_and_is_never_kept(score_table) -> None:
    rows = score_table(20_000, 5, categories=("spam",))
    champion = rows.assign(score=rows.score**3)
    unlabelled = rows.assign(label=np.nan)
    told = decide(unlabelled, auto_remove=0.9, review=0.5, champion=champion)
    assert (told["auto_remove"]["outcome"], told["auto_remove"]["threshold"]) == ("abstained", None)
    assert told["auto_remove"]["incumbent"] is None
    last_start = (champion.score >= 0.9).sum()
    volumes = [step["volume"] for step in told["auto_remove"]["path"]]
    assert min(abs(volume - last_start) for volume in volumes) <= 0.01 * last_start
    assert told["review"]["outcome"] == "insufficient"
    assert (rows.score >= told["review"]["threshold"]).sum() == pytest.approx((champion.score >= 0.5).sum(), rel=0.01)
    certified = decide(rows, auto_remove=0.9, champion=champion)["auto_remove"]
    assert certified["outcome"] == "certified"


def test_a_contradicted_threshold_is_not_kept(score_table) -> None:
    rows = score_table(40_000, 6, categories=("spam",))
    wrong = rows.assign(label=rows.label.where(rows.score < 0.8, rows.label * (rows.index % 5 > 0)))
    told = decide(wrong, auto_remove=0.9)["auto_remove"]
    assert (told["outcome"], told["threshold"]) == ("abstained", None)
    assert "contradicted" in told["reason"]
    assert {entry["action"] for entry in told["languages"].values()} == {"review"}


def test_a_language_that_contradicts_is_taken_out_and_one_without_evidence_waits(score_table) -> None:
    rows = score_table(60_000, 7, categories=("spam",))
    rows.loc[(rows.language == "hi") & rows.label.notna(), "label"] *= rows.index[(rows.language == "hi") & rows.label.notna()] % 3 > 0
    rows.loc[rows.language == "zh", "label"] = np.nan
    told = decide(rows, auto_remove=0.93, precision_target=0.9)["auto_remove"]
    assert told["outcome"] == "certified"
    actions = {name: entry["action"] for name, entry in told["languages"].items()}
    assert actions == {"de": "auto_remove", "en": "auto_remove", "hi": "review", "zh": "review"}
    assert told["languages"]["hi"]["bound"] < 0.9
    assert (told["languages"]["zh"]["n"], told["languages"]["zh"]["bound"]) == (0, None)
    pooled = decide(rows, auto_remove=0.93, precision_target=0.9, unknown_language="pool")["auto_remove"]
    assert pooled["languages"]["zh"]["action"] == "auto_remove"


def test_no_high_score_abstains(score_table) -> None:
    rows = score_table(2000, 8, categories=("spam",))
    told = decide(rows.assign(score=rows.score * 0.4))["auto_remove"]
    assert (told["outcome"], told["path"]) == ("abstained", [])
    assert "no post scores 0.5 or more" in told["reason"]


def test_recall_needs_more_than_three_hundred_labels_and_says_so(score_table) -> None:
    rows = score_table(50_000, 9, categories=("spam",))
    rare = rows.assign(inclusion_prob=np.where(rows.score < 0.4, 0.005, 1.0))
    rng = np.random.default_rng(0)
    rare["label"] = rows.label.where((rows.score >= 0.4) | (rng.random(len(rows)) < 0.1))
    told = decide(rare, review=0.4)["review"]
    assert 100 < told["n"] < 400
    assert (told["outcome"], told["threshold"]) == ("kept", 0.4)
    assert told["need_n"] > told["n"]
    fresh = decide(rare)["review"]
    assert fresh["outcome"] == "insufficient" and fresh["threshold"] == 0.5


def test_misses_that_rule_out_the_threshold_in_force_give_the_need_of_a_lower_one(score_table) -> None:
    rows = score_table(8000, 14, categories=("spam",))
    told = decide(rows, review=0.8, recall_target=0.97)["review"]
    assert told["outcome"] == "kept" and told["threshold"] == 0.8
    assert told["need_n"] > 0 and told["need_threshold"] < 0.8
    assert f"at {told['need_threshold']:.4f}, {told['need_n']:,} labels would be enough" in told["reason"]


def test_a_few_errors_do_not_say_that_no_number_of_labels_would_do(score_table) -> None:
    rows = score_table(40_000, 15, categories=("spam",))
    few = rows.assign(label=rows.label.where((rows.score < 0.2) | (rows.index % 40 == 0)))
    top = few.index[(few.score > 0.9) & few.label.notna()]
    few.loc[top[:2], "label"] = 0.0
    told = decide(few, auto_remove=0.9)["auto_remove"]
    assert told["outcome"] == "kept"
    assert told["need_n"] > told["n"]


def test_enough_labels_certify_recall(score_table) -> None:
    told = decide(score_table(200_000, 10, categories=("spam",)), review=0.3)["review"]
    assert told["outcome"] == "certified" and told["bound"] >= 0.8
    passed = [step["passed"] for step in told["path"]]
    assert passed == sorted(passed, reverse=True)  # a fixed sequence: nothing after the first failure


def test_a_fully_labelled_queue_spends_all_of_delta_on_the_misses(score_table) -> None:
    rows = score_table(5000, 11, categories=("spam",))
    sure = rows.assign(inclusion_prob=np.where(rows.score >= 0.4, 1.0, rows.inclusion_prob), label=rows.label.where(rows.score < 0.4, 1.0))
    told = decide(sure, review=0.4)["review"]
    levels = (
        {step["level"] for step in told["path"] if step["threshold"] >= 0.4},
        {step["level"] for step in told["path"] if step["threshold"] < 0.3},
    )
    assert levels == ({0.10}, {0.05})


def test_labels_without_an_error_are_the_specifications() -> None:
    """ceil(ln delta / ln target): as many certify, one fewer do not."""
    num, nothing = np.array([[103.0], [104.0]]), np.zeros((2, 1))
    evidence = fallback_procedure.Evidence(num, nothing, nothing, num, np.ones((2, 1)))
    assert fallback_procedure.certify(evidence, np.array([0.005]), 0.95).passed.tolist() == [[False], [True]]


def test_labels_for_the_path_give_the_power_they_promise() -> None:
    """Checked with fresh worlds and another seed."""
    volumes, weights = np.arange(1, 41) * 50.0, np.zeros(40)
    weights[[4, 9, 12, 15]] = 0.025
    rates = np.linspace(0.01, 0.08, 40)
    needed = sample_size.labels_for_path(volumes, rates, weights, 0.95, 0.8, seed=1)
    rng = np.random.default_rng(99)
    for factor, low, high in ((1.0, 0.74, 0.88), (0.5, 0.0, 0.7)):
        num = rng.poisson(factor * needed / 40, (4000, 40))
        errors = rng.binomial(num, rates).cumsum(1).astype(float)
        num = num.cumsum(1).astype(float)

        passed = fallback_procedure.certify(fallback_procedure.Evidence(num, errors, errors, num, np.ones_like(num)), weights, 0.95).passed
        assert low <= passed.any(axis=1).mean() <= high


def test_no_number_of_labels_certifies_what_is_false() -> None:
    volumes = np.arange(1, 5) * 100.0
    assert sample_size.labels_for_path(volumes, np.full(4, 0.2), np.full(4, 0.025), 0.95, 0.8, seed=1) is None


def test_labels_below_reduce_to_the_zero_miss_formula() -> None:
    by_scale = sample_size.labels_below(1000, np.zeros(2), 50.0, 100.0, 0.8, 0.1, 0.8)
    assert by_scale == pytest.approx(sample_size.labels_below_without_miss(50_000, 100.0, 0.8, 0.1, 1.0), rel=0.01)
    assert sample_size.labels_below(1000, np.array([60.0, 900.0]), 50.0, 100.0, 0.8, 0.1, 0.8) is None


def test_path_starts_with_the_incumbents_volume_among_its_candidates(score_table) -> None:
    found = tails(build(score_table(20_000, 12, categories=("spam",))))
    start = found.volume_at(0.9)
    candidates = removal_certificate.candidates(found, start, 0.9, SECTION)
    assert bins.snap_up(0.9) in candidates
    assert (np.diff(candidates) < 0).all()
    assert found.num_posts[candidates[-1]] <= SECTION.max_volume * start
    below = review_certificate.candidates(found, 2000, SECTION)
    assert 2000 in below and (np.diff(below) > 0).all()
