"""Acceptance 12: coverage of the box, and when the correction is refused."""

from pathlib import Path

import numpy as np
import pytest

from upheld.common.params import params
from upheld.evaluation.metrics.fairness import Cells
from upheld.evaluation.statistics import intervals
from upheld.evaluation.weekly import reviewers
from upheld.evaluation.weekly.reviewers import Gold

SECTION = params.load(Path(__file__).parents[3] / "params.yaml").reviewers
Array = np.ndarray


def audits(confirmed: Array, num: int) -> Cells:
    counts = np.asarray(confirmed, float)
    total = np.full_like(counts, num)
    return Cells(total, counts, counts, total, total, np.ones_like(counts), np.ones_like(counts))


def gold(sensitivity: float, specificity: float, num: int, num_worlds: int, rng: np.random.Generator) -> Gold:
    every = np.full(num_worlds, num)
    return Gold(every, rng.binomial(num, sensitivity, num_worlds), every, rng.binomial(num, specificity, num_worlds))


def lower_before_refusal(confirmed: Array, num: int, known: Gold) -> Array:
    apparent = intervals.clopper_pearson_lower(confirmed, num, SECTION.delta_apparent)
    specificity = intervals.clopper_pearson_lower(known.num_cleared, known.num_others, SECTION.delta_specificity)
    return reviewers.box_lower(
        apparent, specificity, intervals.clopper_pearson_upper(known.num_seen, known.num_violations, SECTION.delta_sensitivity)
    )


@pytest.mark.parametrize("sensitivity", [0.93, 0.97, 0.99])
@pytest.mark.parametrize("specificity", [0.8, 0.93, 0.95])
@pytest.mark.parametrize(("precision", "num"), [(0.90, 300), (0.95, 1000), (0.98, 3000)])
def test_box_covers_the_true_precision(sensitivity: float, specificity: float, precision: float, num: int) -> None:
    rng = np.random.default_rng(120)
    confirmed = rng.binomial(num, precision * sensitivity + (1 - precision) * (1 - specificity), 4000)
    lower = lower_before_refusal(confirmed, num, gold(sensitivity, specificity, 300, 4000, rng))
    assert (lower <= precision).mean() >= 0.90


def test_uncorrected_precision_is_biased_where_reviewers_miss() -> None:
    """The mutant: the apparent bound, taken for the true one, with reviewers who confirm too much."""
    rng = np.random.default_rng(121)
    confirmed = rng.binomial(3000, 0.90 * 0.99 + 0.10 * 0.2, 2000)
    assert (intervals.clopper_pearson_lower(confirmed, 3000, 0.10) <= 0.90).mean() < 0.90


def test_refused_nearly_always_at_specificity_eighty_percent() -> None:
    rng = np.random.default_rng(122)
    found = reviewers.correct(audits(rng.binomial(1000, 0.9, 500), 1000), gold(0.97, 0.8, 300, 500, rng), SECTION)
    assert np.mean([reason is not None for reason in found.refused]) >= 0.95
    assert "specificity" in found.refused[0]
    assert np.isnan(found.lower[[reason is not None for reason in found.refused]]).all()


def test_given_with_good_reviewers() -> None:
    rng = np.random.default_rng(123)
    confirmed = rng.binomial(2000, 0.95 * 0.97 + 0.05 * 0.05, 300)
    found = reviewers.correct(audits(confirmed, 2000), gold(0.97, 0.95, 400, 300, rng), SECTION)
    given = np.array([reason is None for reason in found.refused])
    assert given.mean() > 0.6
    assert np.mean(found.point[given]) == pytest.approx(0.95, abs=0.01)
    assert (found.lower[given] <= 0.95).mean() >= 0.9
    assert ((found.point >= 0) & (found.point <= 1))[given].all()


@pytest.mark.parametrize(
    ("confirmed", "known", "said"),
    [
        (95, Gold(0, 0, 0, 0), "fewer than 100 gold items of a class"),
        (95, Gold(300, 290, 99, 99), "fewer than 100 gold items of a class"),
        (95, Gold(300, 230, 300, 298), "sensitivity + specificity - 1"),
        (100, Gold(300, 280, 300, 298), "outside 0 to 1"),
    ],
)
def test_refused_with_the_reason(confirmed: int, known: Gold, said: str) -> None:
    found = reviewers.correct(audits(np.array([confirmed]), 100), Gold(*(np.array([part]) for part in known)), SECTION)
    assert said in found.refused[0]
    assert np.isnan([found.lower[0], found.point[0]]).all()


def test_no_audit_is_refused() -> None:
    found = reviewers.correct(audits(np.array([0]), 0), Gold(*(np.array([n]) for n in (300, 295, 300, 295))), SECTION)
    assert found.refused[0] == "no audited removal"
