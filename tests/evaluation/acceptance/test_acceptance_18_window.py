"""Acceptance tests 17 and 18 for the weekly report's window: labels of thirteen weeks automate what one week cannot, and seldom wrongly."""

import numpy as np
import pytest
from score_worlds import settings

from upheld.common.arrays import Floats
from upheld.evaluation.audit import design as allocation
from upheld.evaluation.simulation import rules, worlds
from upheld.evaluation.thresholds import fallback_procedure
from upheld.evaluation.thresholds.fallback_procedure import Evidence

ALL = settings()
SECTION = ALL.thresholds


def expected_labels(truth: worlds.World, drawn: rules.Design, budget: int) -> Floats:
    """Labels a week in each bin, by the plan of `upheld audit-sample`."""
    labels = np.zeros(worlds.NUM_BINS)
    for part in allocation.allocate({"any": drawn.posts}, {"any": drawn.wants}, budget, ALL.audit_sample):
        own = drawn.posts[part.zone]
        flat = part.labels / own.num.sum()
        prob = allocation.design_below(own.prob, own.num, part.labels, ALL.audit_sample) if part.zone == "none" else flat
        labels[drawn.bins[part.zone]] = own.num * prob
    return labels


def weeks(name: str, budget: int, window: int, num_runs: int, num_weeks: int, seed: int) -> tuple[Floats, Floats]:
    """Whether each week's threshold misses the target, and what it removes of the oracle's volume, (runs, weeks) each.

    Each week's candidates are laid out from the threshold last certified, as the report does.
    """
    truth = worlds.world(name, posts_a_week=50_000)
    drawn = rules.design(truth, ALL)
    labels, num = expected_labels(truth, drawn, budget), truth.posts_a_week * (truth.violating + truth.benign)
    weight = np.divide(num, labels, out=np.zeros_like(num), where=labels > 0)
    error_rate = truth.benign / np.maximum(truth.violating + truth.benign, 1e-300)
    rng = np.random.default_rng(seed)
    found = rng.poisson(labels, (num_runs, num_weeks, worlds.NUM_BINS))
    errors = rng.binomial(found, np.clip(error_rate, 0, 1))
    oracle = truth.oracle_bin(SECTION.precision_target)
    wrong, share = np.zeros((num_runs, num_weeks)), np.zeros((num_runs, num_weeks))
    for run in range(num_runs):
        in_force = drawn.start
        for week in range(num_weeks):
            seen = slice(max(0, week + 1 - window), week + 1)
            path = worlds.course(
                truth, float(truth.volume_above[in_force]), SECTION.start_shares, SECTION.num_candidates, SECTION.max_volume
            )

            def above(values: Floats, bins: np.ndarray = path.bins) -> Floats:
                return np.asarray(values[::-1].cumsum()[::-1][bins][None])

            n, wrongs = found[run, seen].sum(0), errors[run, seen].sum(0)
            largest = np.maximum.accumulate(weight[::-1])[::-1][path.bins][None]
            evidence = Evidence(above(n), above(weight * wrongs), above(weight**2 * wrongs), above(weight * n), largest)
            starts = fallback_procedure.start_weights(path.volumes, path.start_volume * np.array(SECTION.start_shares), SECTION.delta)
            passed = fallback_procedure.certify(evidence, starts, SECTION.precision_target).passed
            chosen = int(fallback_procedure.last_passed(passed)[0])
            if chosen >= 0:
                in_force = int(path.bins[chosen])
                wrong[run, week] = truth.precision_above[in_force] < SECTION.precision_target
                share[run, week] = path.volumes[chosen] / truth.volume_above[min(oracle, worlds.NUM_BINS - 1)]
    return wrong, share


@pytest.mark.parametrize(("runs", "length"), [(20, 26), pytest.param(200, 52, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["A", "C"])
def test_a_window_automates_nearly_what_the_oracle_does_and_is_seldom_wrong(name: str, runs: int, length: int) -> None:
    wrong, share = weeks(name, 120, SECTION.window_weeks, runs, length, seed=1)
    assert np.median(share[:, 9]) >= 0.8
    assert np.mean(wrong.any(axis=1)) <= SECTION.delta
    _, alone = weeks(name, 120, 1, runs, length, seed=1)
    assert np.quantile(alone[:, 9], 0.4) < np.quantile(share[:, 9], 0.1)


@pytest.mark.parametrize("name", ["A", "C", "E"])
def test_with_many_labels_a_year_is_wrong_more_rarely_than_by_weeks_alone(name: str) -> None:
    wrong, _ = weeks(name, 300, SECTION.window_weeks, 40, 52, seed=2)
    assert wrong.mean() <= 0.03  # of decisions, each of which may be wrong with delta = .1
    if name != "E":
        alone, _ = weeks(name, 300, 1, 40, 52, seed=2)
        assert wrong.any(axis=1).mean() < alone.any(axis=1).mean() / 2
