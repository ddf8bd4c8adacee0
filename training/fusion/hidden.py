"""A hidden layer beside the logistic regression of fusion: where one modality suffices, or two are needed, which no sum of both can say.

It is a multilayer perceptron of one hidden layer whose output is added to the regression's logit. Where all weights on the way from an
input to the output are >= 0 the output rises with that input (Sill 1997, Monotonic networks, NeurIPS 10): so it is for every probability
of stage 1; what else it reads may count either way.
"""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy.optimize import minimize
from scipy.special import expit

from upheld.common.arrays import Bools, Floats

UNITS = 4
L2 = 1.0  # of all weights, in reviewed posts; where one modality suffices .03 to 1 gained alike, and with 70 labels less than 1 overfits
MAX_ITERATIONS = 300
DIGITS = 6  # significant digits kept of a weight


class Hidden(BaseModel):
    """A fitted layer: of each feature its name, centre and scale; of each of H units its K weights, bias and weight in the output."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    names: tuple[str, ...]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    biases: tuple[float, ...]
    out: tuple[float, ...]

    def logit(self, features: pd.DataFrame) -> Floats:
        """What the layer adds to the regression's logit, float64 (N,); `features` has its names among its columns."""
        scaled = (features[list(self.names)].to_numpy(np.float64) - self.centre) / self.scale
        added: Floats = np.tanh(scaled @ np.transpose(self.weights) + self.biases) @ self.out
        return added


def fit(features: pd.DataFrame, monotone: Collection[str], offset: Floats, label: Floats, weight: Floats) -> Hidden:
    """Fit the layer on reviewed posts.

    Args:
        features: (N, K), float64.
        monotone: names of features with which the logit must not fall.
        offset: (N,) logit of the regression.
        label: (N,) in [0, 1].
        weight: (N,) > 0, with a mean of 1, so that L2 counts in rows.

    Returns:
        a local minimiser of sum(weight * cross-entropy(label, sigmoid(offset + layer))) + L2/2 * squares of all weights, found from fixed
        starting values: the problem is not convex.
    """
    values = features.to_numpy(np.float64)
    centre, scale = values.mean(axis=0), values.std(axis=0)
    scaled = (values - centre) / np.where(scale > 0, scale, 1.0)
    rises: Bools = features.columns.isin(list(monotone))
    width = values.shape[1]
    start = np.random.default_rng(0).normal(0, 0.5, UNITS * (width + 2))
    ends = [UNITS * width, UNITS * (width + 1)]

    def loss(beta: Floats) -> tuple[float, Floats]:
        weights, biases, out = beta[: ends[0]].reshape(UNITS, width), beta[ends[0] : ends[1]], beta[ends[1] :]
        active = np.tanh(scaled @ weights.T + biases)
        z = offset + active @ out
        error = weight * (expit(z) - label)
        back = error[:, None] * out * (1 - active**2)
        slopes = np.concatenate([(back.T @ scaled + L2 * weights).ravel(), back.sum(axis=0), active.T @ error + L2 * out])
        return float(weight @ (np.logaddexp(0, z) - label * z) + L2 / 2 * ((weights**2).sum() + (out**2).sum())), slopes

    bounded = np.concatenate([np.tile(rises, UNITS), np.zeros(UNITS, bool), np.ones(UNITS, bool)])
    bounds = [(0.0, None) if one else (None, None) for one in bounded]
    begin = np.where(bounded, np.abs(start), start)
    beta = minimize(loss, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": MAX_ITERATIONS}).x
    return Hidden(
        names=tuple(features.columns),
        centre=_rounded(centre),
        scale=_rounded(np.where(scale > 0, scale, 1.0)),
        weights=tuple(_rounded(unit) for unit in beta[: ends[0]].reshape(UNITS, width)),
        biases=_rounded(beta[ends[0] : ends[1]]),
        out=_rounded(beta[ends[1] :]),
    )


def _rounded(values: Sequence[float] | Floats) -> tuple[float, ...]:
    return tuple(float(f"{value:.{DIGITS}g}") for value in values)
