"""Acceptance 9 and 10: what the per-language layer gains, and that the debiased calibration error has no bias."""

import numpy as np
import pytest

from upheld.evaluation.statistics import calibration_error
from upheld.evaluation.thresholds import calibration
from upheld.feature_store.decisions import calibration as calibration_map

SIZES = np.array([6000, 3000, 1500, 1000, 700, 500, 300, 200, 120, 80, 50, 30])
SMALL = slice(8, 12)
Array = np.ndarray


def sigmoid(logit: Array) -> Array:
    return 1 / (1 + np.exp(-logit))


def true_prob(pairs: Array, code: Array, logit: Array, nonlinear: bool) -> Array:
    truth = pairs[code, 0] + pairs[code, 1] * logit
    return sigmoid(truth - 0.6 * np.maximum(logit - 1, 0) + 0.5 * np.sin(1.5 * logit) if nonlinear else truth)


def draw_scores(num: int, rng: np.random.Generator) -> Array:
    return np.clip(rng.beta(0.7, 1.2, num), 0.005, 0.995)


def platt(logit: Array, label: Array) -> Array:
    """Intercept and slope by Newton, with a trace of ridge so that it always ends."""
    design, pair = np.stack([np.ones_like(logit), logit], axis=1), np.array([0.0, 1.0])
    for _ in range(30):
        prob = sigmoid(np.clip(design @ pair, -30, 30))
        hessian = (design * (prob * (1 - prob))[:, None]).T @ design + 1e-6 * np.eye(2)
        pair = pair + np.clip(np.linalg.solve(hessian, design.T @ (label - prob)), -2, 2)
    return pair


def excess_brier(heterogeneous: bool, nonlinear: bool, num_worlds: int, seed: int) -> dict[str, Array]:
    """Mean squared distance to the true probability per language, on fresh scores."""
    rng, code = np.random.default_rng(seed), np.repeat(np.arange(12), SIZES)
    fresh_code = np.repeat(np.arange(12), 1000)
    total = {"ours": np.zeros(12), "global": np.zeros(12), "per_language": np.zeros(12)}
    for _ in range(num_worlds):
        noise = rng.normal(size=(12, 2)) * heterogeneous
        pairs = np.stack([-0.4 + 0.6 * noise[:, 0], np.clip(0.9 + 0.2 * noise[:, 1], 0.4, 1.8)], axis=1)
        score, fresh = draw_scores(len(code), rng), draw_scores(len(fresh_code), rng)
        logit, fresh_logit = np.log(score / (1 - score)), np.log(fresh / (1 - fresh))
        label = (rng.random(len(code)) < true_prob(pairs, code, logit, nonlinear)).astype(float)
        entry = calibration.fit_category(score, label, np.ones_like(label), code.astype(str))
        one = platt(logit, label)
        own = np.array([platt(logit[code == k], label[code == k]) for k in range(12)])
        guesses = {
            "ours": calibration_map.apply(entry, fresh, fresh_code.astype(str)),
            "global": sigmoid(one[0] + one[1] * fresh_logit),
            "per_language": sigmoid(own[fresh_code, 0] + own[fresh_code, 1] * fresh_logit),
        }
        truth = true_prob(pairs, fresh_code, fresh_logit, nonlinear)
        for name, guess in guesses.items():
            total[name] += np.bincount(fresh_code, (guess - truth) ** 2) / 1000 / num_worlds
    return total


@pytest.mark.parametrize("num_worlds", [20, pytest.param(300, marks=pytest.mark.slow)])
def test_small_languages_gain_in_a_heterogeneous_nonlinear_world(num_worlds: int) -> None:
    excess = excess_brier(heterogeneous=True, nonlinear=True, num_worlds=num_worlds, seed=90)
    assert excess["ours"][SMALL].mean() <= 0.5 * excess["global"][SMALL].mean()
    assert excess["ours"][SMALL].mean() <= 0.6 * excess["per_language"][SMALL].mean()


@pytest.mark.parametrize("nonlinear", [False, True])
def test_nothing_is_lost_where_languages_do_not_differ(nonlinear: bool) -> None:
    excess = excess_brier(heterogeneous=False, nonlinear=nonlinear, num_worlds=20, seed=91)
    assert excess["ours"].max() <= 6e-4
    assert excess["per_language"].max() > 6e-4  # the mutant: a language left to itself


def binned(prob: Array, label: Array) -> tuple[Array, Array]:
    """One row a bin: cells (worlds, rows, 4) as the functions under test take them."""
    one, zero = np.ones_like(prob), np.zeros_like(prob)
    full = np.stack([one, one, one, prob], axis=-1)
    return np.where(label[..., None] == 1, full, zero[..., None]), np.where(label[..., None] == 0, full, zero[..., None])


@pytest.mark.parametrize("num_rows", [300, 1000])
def test_debiased_error_of_a_calibrated_model_is_zero_on_average_and_the_plug_in_is_not(num_rows: int) -> None:
    rng = np.random.default_rng(100)
    values, plug_ins = [], []
    for _ in range(8):
        prob = np.sort(rng.beta(0.7, 2.0, (500, num_rows)), axis=1)
        label = (rng.random(prob.shape) < prob).astype(float)
        curve = calibration_error.reliability(*binned(prob, label), alpha=0.1)
        values.append(calibration_error.ce2_debiased(curve, alpha=0.1, seed=0)[0])
        plug_ins.append(np.nansum(curve.share * np.abs(curve.rate - curve.prob), axis=1))
    assert abs(np.mean(values)) <= 2e-4
    if num_rows == 300:
        assert np.mean(plug_ins) > 0.05  # the mutant: plug-in ECE of a perfect model
