"""Acceptance 7: how often recall is certified, in world A at known recall, from a design drawn below the review threshold."""

from typing import NamedTuple

import numpy as np
import pytest

from upheld.evaluation.simulation import worlds
from upheld.evaluation.thresholds import review_certificate

TARGET, DELTA = 0.90, 0.10
Array = np.ndarray


class Below(NamedTuple):
    """What lies below the review threshold, per score bin: violations, posts, and the violation rate the scorer believes."""

    violations: Array
    posts: Array
    believed: Array
    num_found: float


def below_threshold(true_recall: float, deep: float) -> Below:
    """World A cut at the score where recall is true_recall; `deep` of all violations score like benign posts."""
    truth = worlds.world("A")
    posts = worlds.POSTS_A_WEEK
    total = truth.violating.sum()
    violating = (1 - deep) * truth.violating + deep * total * truth.benign / truth.benign.sum()
    at = int(np.searchsorted(violating.cumsum() / total, 1 - true_recall))
    part = ((1 - true_recall) * total - violating[:at].sum()) / violating[at]  # of the bin that the threshold cuts
    share = np.append(np.ones(at), part)
    missed, benign = posts * share * violating[: at + 1], posts * share * truth.benign[: at + 1]
    believed = (truth.violating / (truth.violating + truth.benign))[: at + 1]
    return Below(missed, missed + benign, believed, posts * total * true_recall)


def evidence(
    world: Below, num_labels: float, floor: float, num_weeks: int, seed: int, queue_labelled: bool = True
) -> review_certificate.RecallEvidence:
    spread = np.sqrt(world.believed * (1 - world.believed))
    prob = num_labels * (floor / world.posts.sum() + (1 - floor) * spread / (world.posts * spread).sum())
    prob = np.minimum(prob, 1)
    drawn = np.random.default_rng(seed).poisson(world.violations * prob, (num_weeks, len(prob)))
    found = np.full(num_weeks, world.num_found)
    known = np.full(num_weeks, queue_labelled)
    return review_certificate.RecallEvidence(
        found, found, known, drawn @ (1 / prob), drawn @ (1 / prob**2), np.full(num_weeks, 1 / prob.min())
    )


def certified(found: review_certificate.RecallEvidence) -> float:
    return float((review_certificate.recall_bound(found, DELTA).recall_lower >= TARGET).mean())


def certified_by_ht_normal(found: review_certificate.RecallEvidence) -> float:
    """The mutant: estimate plus normal quantile."""
    missed_upper = found.w_missed + 1.2816 * np.sqrt(found.w2_missed)
    return float((found.w_found / (found.w_found + missed_upper) >= TARGET).mean())


@pytest.mark.parametrize("num_labels", [2200, 4000, 8000])
@pytest.mark.parametrize("deep", [0.0, 0.06, 0.09])
def test_recall_just_below_target_is_rarely_certified(deep: float, num_labels: int) -> None:
    for floor in (0.5, 0.7, 0.9):
        found = evidence(below_threshold(0.8999, deep), num_labels, floor, num_weeks=5000, seed=70)
        assert certified(found) <= 0.11
        assert certified_by_ht_normal(found) > 0.11


@pytest.mark.parametrize(("true_recall", "least_power"), [(0.97, 0.85), (0.95, 0.50)])
def test_power_with_eight_thousand_labels(true_recall: float, least_power: float) -> None:
    assert certified(evidence(below_threshold(true_recall, 0.0), 8000, 0.7, num_weeks=5000, seed=71)) >= least_power


def test_half_of_delta_costs_power_but_no_validity() -> None:
    known = evidence(below_threshold(0.95, 0.0), 8000, 0.7, num_weeks=5000, seed=72)
    half = known._replace(all_labelled=np.zeros(5000, bool))
    assert certified(half) < certified(known)


def test_three_hundred_labels_never_certify() -> None:
    assert certified(evidence(below_threshold(0.97, 0.0), 300, 0.7, num_weeks=5000, seed=73)) == 0


def test_sequence_stops_at_the_first_failure() -> None:
    passed = review_certificate.passed_in_sequence(np.array([0.99, 0.95, 0.89, 0.93]), TARGET)
    assert passed.tolist() == [True, True, False, False]
