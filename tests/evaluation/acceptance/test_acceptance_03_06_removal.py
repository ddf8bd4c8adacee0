"""Acceptance 3 to 6: how often certified removal thresholds are wrong, and how often they are missing, over simulated weeks."""

from typing import NamedTuple

import numpy as np
import pytest

from upheld.evaluation.simulation import worlds
from upheld.evaluation.simulation.worlds import Course, World
from upheld.evaluation.thresholds import fallback_procedure, tails

TARGET, DELTA = 0.95, 0.10
START_SHARES = (0.3, 0.6, 0.8, 1.0)
Array = np.ndarray


class Weeks(NamedTuple):
    truth: World
    path: Course
    found: fallback_procedure.Evidence


def oracle_course(name: str) -> tuple[World, Course]:
    """The incumbent removes the largest volume whose true precision meets the target."""
    truth = worlds.world(name)
    return truth, worlds.course(truth, float(truth.volume_above[truth.oracle_bin(TARGET)]), START_SHARES)


def uniform_audit(path: Course, num_labels: float) -> np.ndarray:
    """Expected labels per candidate's increment where `num_labels` are spread evenly over all posts of the path."""
    return num_labels * np.diff(path.volumes, prepend=0.0) / path.volumes[-1]


def audited_evenly(name: str, num_labels: int, num_weeks: int, seed: int) -> Weeks:
    truth, path = oracle_course(name)
    drawn = worlds.draw_audits(truth, path, uniform_audit(path, num_labels), num_weeks, np.random.default_rng(seed))
    return Weeks(truth, path, worlds.evidence(*drawn, np.ones(len(path.bins))))


def audited_by_zone(name: str, num_labels: int, prob_queue: float, num_weeks: int, seed: int) -> Weeks:
    """num_labels in the incumbent's zone, and the queue below it drawn with prob_queue."""
    truth, path = oracle_course(name)
    removed = path.volumes <= path.start_volume * (1 + 1e-9)
    prob = np.where(removed, num_labels / path.start_volume, prob_queue)
    drawn = worlds.draw_audits(truth, path, prob * np.diff(path.volumes, prepend=0.0), num_weeks, np.random.default_rng(seed))
    return Weeks(truth, path, worlds.evidence(*drawn, 1 / prob))


def fallback(weeks: Weeks) -> Array:
    weights = fallback_procedure.start_weights(weeks.path.volumes, weeks.path.start_volume * np.array(START_SHARES), DELTA)
    return fallback_procedure.last_passed(fallback_procedure.certify(weeks.found, weights, TARGET).passed)


def top_only(weeks: Weeks) -> Array:
    """The mutant: one chain from the topmost candidate with all of delta."""
    weights = np.append(DELTA, np.zeros(len(weeks.path.bins) - 1))
    return fallback_procedure.last_passed(fallback_procedure.certify(weeks.found, weights, TARGET).passed)


def violations(weeks: Weeks, chosen: Array) -> float:
    precision = weeks.truth.precision_above[weeks.path.bins]
    return float(((chosen >= 0) & (precision[chosen] < TARGET)).mean())


def automated(weeks: Weeks, chosen: Array) -> float:
    """Volume removed automatically, as a share of the oracle's; nothing certified removes nothing."""
    return float((np.where(chosen >= 0, weeks.path.volumes[chosen], 0.0) / weeks.path.start_volume).mean())


def test_worlds_are_as_described() -> None:
    prevalence = {name: worlds.world(name).violating.sum() for name in "ABCDE"}
    assert prevalence == pytest.approx({"A": 0.01, "B": 0.003, "C": 0.05, "D": 0.01, "E": 0.01}, abs=1e-6)
    for name in "ABCDE":
        truth = worlds.world(name)
        assert truth.violating.sum() + truth.benign.sum() == pytest.approx(1)
    flat = worlds.world("E")
    rate = flat.violating / (flat.violating + flat.benign)
    assert rate[int(0.95 * 4096)] == pytest.approx(0.955, abs=1e-6)
    assert rate[int(0.7 * 4096)] == pytest.approx(0.942, abs=1e-6)


def test_unknown_world_is_refused() -> None:
    with pytest.raises(ValueError, match="no world 'Z'"):
        worlds.world("Z")


LONG = pytest.mark.slow


@pytest.mark.parametrize("num_weeks", [4000, pytest.param(60_000, marks=LONG)])
@pytest.mark.parametrize("num_labels", [300, 1000, 3000])
def test_flat_precision_is_rarely_certified_wrongly_and_the_naive_rule_mostly_is(num_labels: int, num_weeks: int) -> None:
    weeks = audited_evenly("E", num_labels, num_weeks, seed=30)
    assert violations(weeks, fallback(weeks)) <= 0.128
    assert violations(weeks, worlds.naive_rule(weeks.found, TARGET)) >= 0.5


def test_a_thousand_audits_automate_nearly_what_the_oracle_does() -> None:
    weeks = audited_evenly("A", 1000, num_weeks=4000, seed=40)
    chosen = fallback(weeks)
    assert automated(weeks, chosen) >= 0.90
    assert (chosen < 0).mean() <= 0.01


def test_three_hundred_audits_seldom_abstain() -> None:
    weeks = audited_evenly("A", 300, num_weeks=4000, seed=41)
    assert (fallback(weeks) < 0).mean() <= 0.05


@pytest.mark.parametrize("num_weeks", [10_000, pytest.param(60_000, marks=LONG)])
def test_errors_at_the_very_top_do_not_stop_everything(num_weeks: int) -> None:
    weeks = audited_by_zone("D", 300, 0.3, num_weeks, seed=50)
    assert (fallback(weeks) < 0).mean() <= 0.65
    assert (top_only(weeks) < 0).mean() >= 0.9
    assert violations(weeks, fallback(weeks)) <= 0.11


def test_an_empty_top_gives_decisions_not_nan() -> None:
    """No label falls on the first candidates, and in some weeks none at all."""
    truth, path = oracle_course("A")
    expected = uniform_audit(path, 400)
    expected[:20] = 0
    drawn = worlds.draw_audits(truth, path, expected, 500, np.random.default_rng(60))
    drawn[0][:5] = drawn[1][:5] = 0
    weights = fallback_procedure.start_weights(path.volumes, path.start_volume * np.array(START_SHARES), DELTA)
    tested = fallback_procedure.certify(worlds.evidence(*drawn, np.ones(len(path.bins))), weights, TARGET)
    assert all(np.isfinite(part).all() for part in tested)
    assert (fallback_procedure.last_passed(tested.passed)[:5] == -1).all()
    assert not tested.tested[:, :20].any()
    assert (tested.p_value[:, 0] == 1).all()


def test_unspent_level_is_handed_on() -> None:
    """Clean labels: the last start has all of delta. The first chain dead: the second start has its own part alone."""
    num = np.full((1, 4), 400.0).cumsum(axis=1)
    clean = fallback_procedure.Evidence(num, np.zeros((1, 4)), np.zeros((1, 4)), num, np.ones((1, 4)))
    weights = np.full(4, DELTA / 4)
    assert fallback_procedure.certify(clean, weights, TARGET).level[0] == pytest.approx(DELTA * np.array([0.25, 0.5, 0.75, 1.0]))
    errors = np.array([[100.0, 100.0, 100.0, 100.0]])
    dead = fallback_procedure.certify(fallback_procedure.Evidence(num, errors, errors, num, np.ones((1, 4))), weights, TARGET)
    assert dead.level[0] == pytest.approx([DELTA / 4] * 4)
    assert not dead.passed[0, 0]


def test_candidates_with_too_few_labels_are_stepped_over_without_spending() -> None:
    num = np.array([[10.0, 20.0, 500.0]])
    found = fallback_procedure.Evidence(num, np.zeros((1, 3)), np.zeros((1, 3)), num, np.ones((1, 3)))
    tested = fallback_procedure.certify(found, np.array([DELTA / 2, DELTA / 2, 0.0]), TARGET)
    assert tested.tested.tolist() == [[False, False, True]]
    assert tested.level[0, 2] == pytest.approx(DELTA)


def test_candidate_bins_never_remove_more_than_wanted() -> None:
    volume_above = np.array([100.0, 40.0, 40.0, 25.0, 7.0, 7.0, 7.0, 0.0])
    bins = tails.candidate_bins(volume_above, np.array([100.0, 60.0, 39.0, 10.0, 5.0]))
    assert bins.tolist() == [0, 2, 3, 6, len(volume_above)]
