"""Verdicts on a handful of labels: how often each is wrong, counted over every outcome there can be."""

import numpy as np
import pytest
from scipy.stats import binom

from upheld.evaluation.metrics import fairness
from upheld.evaluation.metrics.fairness import Cells
from upheld.evaluation.statistics import intervals
from upheld.evaluation.statistics.intervals import Bounded

TAU = 0.05
NUM_OTHERS = 400
RATES = (0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 0.94)
Array = np.ndarray


def every_outcome(num: int) -> tuple[Array, Array]:
    """(flagged of the `num` of the small language, flagged of the others), all pairs, float64 (num + 1, NUM_OTHERS + 1) each."""
    return tuple(part.astype(float) for part in np.meshgrid(np.arange(num + 1), np.arange(NUM_OTHERS + 1), indexing="ij"))


def verdicts(num: int, tau: float = TAU, judge=fairness.gap) -> Array:
    """Verdict on the small language for every outcome; families of two languages, so Holm adjusts for two."""
    events = np.stack(every_outcome(num), axis=-1)
    trials = np.broadcast_to(np.array([num, NUM_OTHERS], float), events.shape)
    return judge(Cells(trials, events, events, trials, trials, np.ones_like(trials), np.ones_like(trials)), tau).verdict[..., 0]


def chance(where: Array, num: int, rate_1: float, rate_0: float) -> float:
    """Probability of the outcomes `where` at these true rates."""
    weight = binom.pmf(np.arange(num + 1), num, rate_1)[:, None] * binom.pmf(np.arange(NUM_OTHERS + 1), NUM_OTHERS, rate_0)
    return float((weight * where).sum())


@pytest.mark.parametrize("num", [1, 2, 3, 4, 5, 7, 10, 16, 26, 40])
def test_a_gap_of_tau_is_seldom_failed_or_passed(num: int) -> None:
    verdict = verdicts(num)
    for word in ("FAIL", "PASS"):
        assert max(chance(verdict == word, num, rate + TAU, rate) for rate in RATES) <= 0.05


@pytest.mark.parametrize("num", [1, 2, 3, 5, 10])
def test_equal_languages_are_seldom_failed(num: int) -> None:
    """Holm over two: 2.5 % for each."""
    assert max(chance(np.isin(verdicts(num), ["FAIL", "WARN"]), num, rate, rate) for rate in RATES) <= 0.025


def test_newcombe_wilson_alone_would_fail_and_pass_far_too_often() -> None:
    """The mutant: the rule without exact limits."""
    failed, passed = [], []
    for num in (1, 3, 4):
        sides = zip(every_outcome(num), (num, NUM_OTHERS), strict=True)
        low, high = intervals.difference(*(Bounded(events / of, *intervals.wilson(events, of, 0.10)) for events, of in sides))
        failed.append(max(chance(low > TAU, num, rate + TAU, rate) for rate in RATES))
        passed.append(max(chance(high < TAU, num, rate + TAU, rate) for rate in RATES))
    assert max(failed) >= 0.15
    assert max(passed) >= 0.12


@pytest.mark.parametrize("num", [1, 2, 3, 5, 10, 26])
def test_twice_the_rate_is_seldom_failed_by_the_ratio(num: int) -> None:
    verdict = verdicts(num, 2.0, fairness.ratio)
    assert max(chance(verdict == "FAIL", num, 2 * rate, rate) for rate in RATES if rate <= 0.5) <= 0.05


def test_one_label_never_fails_a_gap_and_says_what_it_takes() -> None:
    flagged, others = every_outcome(1)
    events, trials = np.stack([flagged, others], axis=-1), np.broadcast_to(np.array([1.0, NUM_OTHERS]), (*flagged.shape, 2))
    found = fairness.gap(Cells(trials, events, events, trials, trials, np.ones_like(trials), np.ones_like(trials)), TAU)
    small, need_n = found.verdict[..., 0], found.need_n[..., 0]
    assert not (small == "FAIL").any()
    assert not (small[others <= 0.5 * NUM_OTHERS] == "PASS").any()
    assert (need_n[small == "INSUFFICIENT"] > 1).all()
    assert found.ci_low[1, 40, 0] > TAU  # what the interval alone would have failed
    assert (small[1, 40], found.reason[1, 40, 0]) == ("INSUFFICIENT", "too few labels: an exact test does not rule out chance")


def test_many_labels_still_fail() -> None:
    assert verdicts(40)[12, 8] == "FAIL"  # 30 % against 2 %
