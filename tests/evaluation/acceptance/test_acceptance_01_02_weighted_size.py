"""Acceptance 1 and 2: the weighted test keeps its level, and the methods it replaces do not."""

from typing import NamedTuple

import numpy as np
import pytest
from scipy.special import betainc
from scipy.stats import binom

from upheld.evaluation.statistics import weighted

DELTA = 0.10
Array = np.ndarray


class Design(NamedTuple):
    """Strata of one frame: labels drawn, weight of each, true error rate; the frame's error rate is exactly 1 - target."""

    num: Array
    weight: Array
    error_rate: Array
    target: float


def random_design(rng: np.random.Generator) -> Design:
    """1 to 6 strata with inclusion probability .02 to 1."""
    strata = rng.integers(1, 7)
    prob = np.exp(rng.uniform(np.log(0.02), 0, strata))
    num = rng.integers(5, 400, strata)
    target = rng.choice([0.8, 0.9, 0.95, 0.98])
    frame = num / prob
    shape = rng.gamma(0.15, 1, strata) + 1e-6  # often one stratum holds nearly all errors
    rate = shape * (1 - target) * frame.sum() / (frame * shape).sum()
    if (rate > 1).any():
        rate = np.full(strata, 1 - target)
    return Design(num, 1 / prob, rate, float(target))


def sums(design: Design, replicates: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    errors = rng.binomial(design.num, design.error_rate, (replicates, len(design.num)))
    return errors @ design.weight, errors @ design.weight**2, np.full(replicates, design.num @ design.weight)


def ours(design: Design, errors: Array, squares: Array, total: Array) -> Array:
    return weighted.rate_p_value(errors, squares, total, design.weight.max(), 1 - design.target)


def kish(design: Design, errors: Array, squares: Array, total: Array) -> Array:
    """The mutant: a binomial test on Kish's effective number of labels."""
    num = total**2 / (design.num @ design.weight**2)
    seen = errors / total * num
    return 1 - betainc(seen + 1, np.maximum(num - seen, 1e-9), 1 - design.target)


def ht_normal(design: Design, errors: Array, squares: Array, total: Array) -> Array:
    """The mutant: the normal approximation of the Horvitz-Thompson estimate; no error seen is certainty."""
    from scipy.special import ndtr

    rate = errors / total
    error = np.sqrt(np.maximum(squares - 2 * rate * squares + rate**2 * (design.num @ design.weight**2), 0)) / total
    gap = rate - (1 - design.target)
    return np.where(error > 0, ndtr(gap / np.where(error > 0, error, 1)), np.where(gap < 0, 0.0, 1.0))


def sizes(p_values, replicates: int, num_designs: int, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    designs = [random_design(rng) for _ in range(num_designs)]
    return [float((p_values(design, *sums(design, replicates, rng)) <= DELTA).mean()) for design in designs]


@pytest.mark.parametrize(("num_designs", "seed"), [(320, 2), pytest.param(3000, 5, marks=pytest.mark.slow)])
def test_size_of_random_designs(num_designs: int, seed: int) -> None:
    assert max(sizes(ours, replicates=6000, num_designs=num_designs, seed=seed)) <= 0.112


@pytest.mark.parametrize("mutant", [kish, ht_normal])
def test_methods_it_replaces_exceed_the_level_on_the_same_designs(mutant) -> None:
    assert max(sizes(mutant, replicates=6000, num_designs=320, seed=2)) > 0.15


def test_unequal_strata_nine_to_one() -> None:
    """2000 posts drawn with .05 and 2000 with 1, errors nine to one."""
    design = Design(np.array([100, 2000]), np.array([20.0, 1.0]), np.array([0.09, 0.01]), 0.95)
    rng = np.random.default_rng(2)
    errors = rng.binomial(design.num, design.error_rate, (40_000, 2))
    weighted_sums = errors @ design.weight, errors @ design.weight**2, np.full(40_000, design.num @ design.weight)
    pooled = binom.cdf(errors.sum(axis=1), design.num.sum(), 0.05)
    assert (ours(design, *weighted_sums) <= DELTA).mean() <= 0.105
    assert (kish(design, *weighted_sums) <= DELTA).mean() >= 0.13
    assert (pooled <= DELTA).mean() >= 0.95


@pytest.mark.parametrize(
    ("num_rare", "prob_rare", "num_sure", "size_with_sample_maximum"), [(20, 0.02, 200, 0.66), (40, 0.02, 400, 0.45), (30, 0.05, 400, 0.21)]
)
def test_the_frames_largest_weight_protects_against_strata_never_drawn(num_rare, prob_rare, num_sure, size_with_sample_maximum) -> None:
    """All errors lie in the rarely drawn stratum: 5 % of the frame. Posts are drawn one by one (Poisson sampling)."""
    rng = np.random.default_rng(3)
    num_errors = round(0.05 * (num_rare + num_sure))
    errors = rng.binomial(num_errors, prob_rare, 40_000)
    others = rng.binomial(num_rare - num_errors, prob_rare, 40_000)
    weight = 1 / prob_rare
    total = (errors + others) * weight + num_sure
    sample_maximum = np.where(errors + others > 0, weight, 1.0)
    with_sample = weighted.rate_p_value(errors * weight, errors * weight**2, total, sample_maximum, 0.05) <= DELTA
    with_frame = weighted.rate_p_value(errors * weight, errors * weight**2, total, weight, 0.05) <= DELTA
    assert with_frame.mean() == 0
    assert with_sample.mean() == pytest.approx(size_with_sample_maximum, abs=0.02)
