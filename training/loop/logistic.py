"""Logistic regression with a Gaussian prior: what a model does without evidence, the prior's mean says."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from upheld.common.arrays import Floats


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
