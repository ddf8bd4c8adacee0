"""Make worlds in which the truth is known, and draw weeks of audits from them (docs/statistics.md, Simulation).

A world is a pair of binned densities: a week of 500,000 posts is a few random draws, so that a thousand weeks take a second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import beta

from upheld.common.arrays import Bools, Floats, Ints
from upheld.evaluation.thresholds import fallback_procedure
from upheld.evaluation.thresholds.fallback_procedure import Evidence
from upheld.evaluation.thresholds.tails import candidate_bins

NUM_BINS = 4096  # uniform on [0, 1]
POSTS_A_WEEK = 500_000


class World(NamedTuple):
    """Expected share of posts per score bin, float64 (4096,) each, ascending scores; both together sum to 1."""

    violating: Floats
    benign: Floats
    posts_a_week: float = POSTS_A_WEEK

    @property
    def volume_above(self) -> Floats:
        """Count the posts a week at or above each bin's lower edge, float64 (4096,)."""
        return self.posts_a_week * (self.violating + self.benign)[::-1].cumsum()[::-1]

    @property
    def precision_above(self) -> Floats:
        """Compute the share of violations among posts at or above each bin's lower edge, float64 (4096,)."""
        right = self.posts_a_week * self.violating[::-1].cumsum()[::-1]
        return np.asarray(right / np.maximum(self.volume_above, 1e-300))

    @property
    def recall_above(self) -> Floats:
        """Compute the share of all violations that score at or above each bin's lower edge, float64 (4096,)."""
        return np.asarray(self.violating[::-1].cumsum()[::-1] / self.violating.sum())

    def oracle_bin(self, target: float) -> int:
        """Find the lowest bin from which on precision meets the target; NUM_BINS where none does."""
        meets = np.flatnonzero(self.precision_above >= target)
        return int(meets[0]) if len(meets) else NUM_BINS


# (weight, a, b) of the Beta distributions of scores, given a violation and given none, and the share of violations.
Mixture = Sequence[tuple[float, float, float]]
_MIXTURES: dict[str, tuple[float, Mixture, Mixture]] = {
    "A": (0.01, [(0.55, 9, 1), (0.45, 1.6, 2.2)], [(0.975, 0.5, 30), (0.025, 1.5, 5)]),
    "B": (0.003, [(0.6, 9, 1), (0.4, 1.6, 2.2)], [(0.99, 0.4, 40), (0.01, 1.5, 6)]),
    "C": (0.05, [(0.5, 6, 1), (0.5, 1.5, 2)], [(0.95, 0.6, 20), (0.05, 1.5, 4)]),
}
RARE = 0.01  # share of violations in worlds D and E
_TOP_SHARE = 1.2e-4  # of benign posts in world D that score at the very top: quotations and news
LEAST_RATE = 0.01  # of violations at a score in world E; score squared alone would need more benign posts than there are


def world(name: str, prevalence: float | None = None, posts_a_week: float = POSTS_A_WEEK) -> World:
    """Make one of the worlds A to E.

    Args:
        name: its letter.
        prevalence: share of violations, in (0, 1), where the world's own is not wanted; scores given the label stay as they are.
        posts_a_week: posts, > 0.

    Raises:
        ValueError: there is no such world, or it cannot hold that many violations.
    """
    if name in _MIXTURES:
        own, given_violation, given_benign = _MIXTURES[name]
        share = own if prevalence is None else prevalence
        return World(share * _mixture(given_violation), (1 - share) * _mixture(given_benign), posts_a_week)
    share = RARE if prevalence is None else prevalence
    if name == "D":
        base = world("A", share, posts_a_week)
        top = (1 - share) * _mixture([(1.0, 400, 1.2)])
        return World(base.violating, (1 - _TOP_SHARE) * base.benign + _TOP_SHARE * top, posts_a_week)
    if name != "E":
        raise ValueError(f"there is no world {name!r}; known: A, B, C, D, E")
    # Its true precision is flat around the target: there, rules that look at the point estimate go wrong most.
    score = (np.arange(NUM_BINS) + 0.5) / NUM_BINS
    rate = np.select([score > 0.9, score > 0.6], [0.955, 0.942], np.maximum(score**2, LEAST_RATE))
    violating = share * _mixture([(0.6, 6, 1), (0.4, 1.6, 2.2)])
    benign = violating * (1 - rate) / rate
    rest = 1 - share - benign.sum()
    if rest < 0:
        raise ValueError(f"world E has no room for a prevalence of {share}: its precision needs more harmless posts than there are")
    return World(violating, benign + rest * _mixture([(1.0, 0.5, 60)]), posts_a_week)


def _mixture(parts: Mixture) -> Floats:
    edges = np.linspace(0, 1, NUM_BINS + 1)
    return np.asarray(sum(weight * np.diff(beta.cdf(edges, a, b)) for weight, a, b in parts), np.float64)


class Course(NamedTuple):
    """The path that a week's audit tests: candidate bins from the highest threshold down, int64 (J,), posts above each, float64 (J,)."""

    bins: Ints
    volumes: Floats
    start_volume: float


def course(truth: World, start_volume: float, start_shares: tuple[float, ...], num_candidates: int = 40, max_volume: float = 2.5) -> Course:
    """Choose candidates evenly by rank, up to `max_volume` times the incumbent's volume, and the starts of the chains."""
    shares = np.concatenate([max_volume * np.arange(1, num_candidates + 1) / num_candidates, start_shares])
    bins = candidate_bins(truth.volume_above, start_volume * shares)
    bins = np.unique(bins[bins < NUM_BINS])[::-1]
    return Course(bins, truth.volume_above[bins], start_volume)


def draw_audits(truth: World, path: Course, expected_labels: Floats, num_weeks: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw the labels and errors that audits of many weeks find.

    Args:
        expected_labels: float64 (J,), labels to expect among what each candidate adds to the one before.
        num_weeks: W.

    Returns:
        (num_labels, num_errors), float64 (W, J) each, of what each candidate adds (not cumulative).
    """
    precision = truth.precision_above[path.bins]
    errors_above = path.volumes * (1 - precision)
    error_rate = np.diff(errors_above, prepend=0.0) / np.maximum(np.diff(path.volumes, prepend=0.0), 1e-12)
    num_labels = rng.poisson(expected_labels, (num_weeks, len(path.bins)))
    return num_labels.astype(np.float64), rng.binomial(num_labels, np.clip(error_rate, 0, 1)).astype(np.float64)


def evidence(num_labels: Floats, num_errors: Floats, weight: Floats) -> Evidence:
    """Sum increments, each labelled with weight `weight` (J,), into the evidence above each candidate."""
    frame_max = np.broadcast_to(np.maximum.accumulate(weight), num_labels.shape)
    return Evidence(
        num_labels.cumsum(-1),
        (weight * num_errors).cumsum(-1),
        (weight**2 * num_errors).cumsum(-1),
        (weight * num_labels).cumsum(-1),
        frame_max,
    )


def naive_rule(found: Evidence, target: float) -> Ints:
    """Apply the obvious rule: take the last candidate whose empirical precision meets the target, int64 (W,); -1 where none does."""
    seen: Bools = (found.num_labels > 0) & (found.sum_w_errors <= (1 - target) * found.sum_w)
    return fallback_procedure.last_passed(seen)
