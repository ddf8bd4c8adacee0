"""Logistic regressions: with a Gaussian prior, whose mean says what a model does without evidence; and on soft labels, of many features."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from upheld.common.arrays import Floats

MAX_ITERATIONS = 500
NEGLIGIBLE = 1e-6  # a soft label that leaves a class no more than this weight says nothing of it


def fit_logistic(design: Floats, label: Floats, weight: Floats, prior: Floats, penalty: Floats) -> Floats:
    """Minimise sum(weight * cross-entropy(label, sigmoid(design @ beta))) + sum(penalty * (beta - prior)^2) / 2, by Newton steps.

    Args:
        design: (N, K).
        label: (N,) in [0, 1].
        weight: (N,) >= 0.
        prior: (K,), where the coefficients start and are drawn to.
        penalty: (K,) >= 0, inverse variances; 0 leaves a coefficient free. The problem is convex.

    Returns:
        coefficients, float64 (K,).
    """

    def loss(beta: Floats) -> float:
        z = design @ beta
        return float(weight @ (np.logaddexp(0, z) - label * z) + penalty @ (beta - prior) ** 2 / 2)

    def slope(beta: Floats) -> Floats:
        gradient: Floats = design.T @ (weight * (expit(design @ beta) - label)) + penalty * (beta - prior)
        return gradient

    def curvature(beta: Floats) -> Floats:
        prob = expit(design @ beta)
        hessian: Floats = (design.T * (weight * prob * (1 - prob))) @ design + np.diag(penalty)
        return hessian

    found = minimize(loss, prior, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-9 * len(label)})
    # The tolerance leaves the ninth digit to the order of the sums; one full Newton step from there settles it (its error is squared).
    settled: Floats = found.x - np.linalg.solve(curvature(found.x), slope(found.x))
    return settled


def left_one_out(design: Floats, label: Floats, weight: Floats, penalty: Floats, coefficients: Floats) -> Floats:
    """Logit (N,) that each row would get from a fit without it, by one Newton step from `coefficients`, which `fit_logistic` gave.

    Rad & Maleki 2020, A scalable estimate of the out-of-sample prediction error via approximate leave-one-out cross-validation, Journal of
    the Royal Statistical Society B 82(4): z + h * w * (p - y) / (1 - h * w * p * (1 - p)), h = diag(X H^-1 X').
    """
    z = design @ coefficients
    prob = expit(z)
    bend = weight * prob * (1 - prob)
    curvature = (design.T * bend) @ design + np.diag(penalty)
    reach = (design * np.linalg.solve(curvature, design.T).T).sum(axis=1)
    held_out: Floats = z + reach * weight * (prob - label) / (1 - reach * bend)
    return held_out


def log_evidence(design: Floats, label: Floats, weight: Floats, prior: Floats, penalty: Floats, coefficients: Floats) -> float:
    """Log marginal likelihood of the labels, up to a constant, by Laplace's approximation at `coefficients`, which `fit_logistic` gave.

    Among priors that differ in the penalties > 0 alone the one with the greatest evidence explains the labels best without fitting their
    chance (MacKay 1992, The evidence framework applied to classification networks, Neural Computation 4(5)).
    """
    z = design @ coefficients
    prob = expit(z)
    curvature = (design.T * (weight * prob * (1 - prob))) @ design + np.diag(penalty)
    log_prior = -(penalty @ (coefficients - prior) ** 2) / 2 + np.log(penalty[penalty > 0]).sum() / 2
    return float(log_prior - weight @ (np.logaddexp(0, z) - label * z) - np.linalg.slogdet(curvature)[1] / 2)


def fit_soft(
    features: csr_matrix | NDArray[np.float32], label: NDArray[np.float32], weight: NDArray[np.float32], inverse_l2: float
) -> tuple[NDArray[np.float32], float]:
    """Fit a logistic regression on soft labels.

    Args:
        features: float32 (N, V), sparse or dense.
        label: (N,) in [0, 1].
        weight: (N,) > 0.
        inverse_l2: scikit-learn's C.

    Returns:
        coefficients float32 (V,) and the intercept. A soft label counts as a violation with its own share and as none with the rest, which
        is the cross-entropy to it.
    """
    masses = np.concatenate([weight * label, weight * (1 - label)])
    heard = masses > NEGLIGIBLE
    rows = np.tile(np.arange(len(label)), 2)[heard]
    classes = np.repeat([1, 0], len(label))[heard]
    regression = LogisticRegression(C=inverse_l2, max_iter=MAX_ITERATIONS).fit(features[rows], classes, sample_weight=masses[heard])
    return regression.coef_[0].astype(np.float32), float(regression.intercept_[0])


def worth_fitting(label: NDArray[np.float32], weight: NDArray[np.float32]) -> bool:
    """Whether each class has at least one label's worth of weight among soft labels (N,) in [0, 1] with weights (N,)."""
    return bool(min(weight @ label, weight @ (1 - label)) >= 1)
