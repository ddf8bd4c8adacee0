"""Fusion of stage-1 probabilities into one probability per policy: features, fit and application, without torch.

A logistic regression per policy, its coefficients shrunk not towards 0 but towards adding up what each modality says beyond what is said of
posts on average: little evidence leaves stage 1 as it is, and a modality never seen among the reviewed posts keeps its own voice. With
hardly any evidence the mean of the stage-1 logits passes through. A post of which nothing was seen gets the policy's base rate.
A brand mark speaks where enough reviewed posts show it; its coefficients are shrunk towards 0, for no mark is a violation by itself.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict
from scipy.special import expit, logit

from upheld.common.arrays import Floats
from upheld.feature_store.contracts.tables import LOGIT_LIMIT
from upheld.training.loop.logistic import fit_logistic

# Stage-1 members by the modality that they judge, each with its share where there is no evidence. Members of one modality say the same
# thing twice; of texts the encoder says it better (shares of .6 to .8 were best in two sample worlds and a week of a real stream).
MEMBERS = {"text": {"text": 0.6, "ngrams": 0.4}, "image": {"image": 1.0}, "audio": {"audio": 1.0}}
CONTEXT = ("log1p_prior_removals", "log1p_num_hashtags", "has_link")
LOGO = ("logo_count", "logo_confidence", "logo_area")  # columns {name}_{brand}; the first enters as its log1p
_ALL = tuple(name for members in MEMBERS.values() for name in members)
FEATURES = (*(f"{name}_logit" for name in _ALL), *(f"{name}_missing" for name in MEMBERS), *CONTEXT)
MEMBERS_L2 = 100.0  # of a member's advantage over its share, in reviewed posts; 3 was worse in two sample worlds and a real stream
DIGITS = 9  # significant digits kept of a coefficient: beyond them lies the rounding of whichever BLAS was at work


class PolicyFusion(BaseModel):
    """What fusion learnt of one policy. Coefficients are in logits per unit of the feature, one for each of FEATURES and of the columns
    LOGO of each brand that enough reviewed posts showed.

    Where nothing was fitted, `coefficients` is empty, the mean of the stage-1 logits passes through and `reason` says why.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    intercept: float
    coefficients: dict[str, float]
    base_rate_logit: float
    num_positive: int
    num_negative: int
    reason: str | None


class Fusion(BaseModel):
    """The fusion layer: one entry per policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l2: float
    policies: dict[str, PolicyFusion]


def evidence(rows: pd.DataFrame, policy: str, brands: Sequence[str] = ()) -> tuple[Floats, Floats]:
    """Build the features of one policy.

    Args:
        rows: prob_{member}_{policy} for each of MEMBERS (float in [0, 1], null where its modality or the member is missing),
            prior_removals (int >= 0), num_hashtags (int >= 0), has_link (bool), and for each of `brands` the columns LOGO:
            detections (int >= 0), the surest one's confidence and the share of a picture (float in [0, 1]).
        policy: name of the policy.
        brands: whose marks are features.

    Returns:
        features, float64 (N, 10 + 3 B), columns as in FEATURES, then LOGO of each brand; a modality that no member judged has its flag
        set; a member that is missing says what the others of its modality say, 0 where there are none.
        mean over modalities of the mean of its members' logits by their shares, float64 (N,); NaN where all are missing.
    """
    filled, of_modality = [], []
    for members in MEMBERS.values():
        probs = [rows[f"prob_{member}_{policy}"].to_numpy(dtype=np.float64, na_value=np.nan) for member in members]
        logits = np.clip(logit(np.stack(probs, axis=1)), -LOGIT_LIMIT, LOGIT_LIMIT)
        of_modality.append(_mean(logits, np.array(list(members.values()))))
        filled.append(np.where(np.isnan(logits), of_modality[-1][:, None], logits))
    by_modality = np.stack(of_modality, axis=1)
    logits, missing, mean = np.concatenate(filled, axis=1), np.isnan(by_modality), _mean(by_modality, np.ones(len(MEMBERS)))
    context = [np.log1p(rows["prior_removals"]), np.log1p(rows["num_hashtags"]), rows["has_link"]]
    of_brands = [np.log1p(rows[name]) if name.startswith(f"{LOGO[0]}_") else rows[name] for name in _logo_columns(brands)]
    others = np.stack([np.asarray(column, dtype=np.float64) for column in [*context, *of_brands]], axis=1)
    return np.concatenate([np.nan_to_num(logits), missing, others], axis=1), mean


def fit(rows: pd.DataFrame, policy: str, l2: float, min_labels: int) -> PolicyFusion:
    """Fit one policy on reviewed posts that stage 1 has not seen.

    Args:
        rows: as for `evidence`, with the columns LOGO of every brand that the detector knows, and label (float in [0, 1], probability of
            a violation; null = unknown) and weight (float > 0; scaled to a mean of 1, so that `l2` counts in rows).
        policy: name of the policy.
        l2: inverse variance of the coefficients' Gaussian prior; the intercept is free.
        min_labels: violations and non-violations needed, of each; with fewer, stage 1 passes through. So many labelled posts must show a
            brand, too, for it to be a feature.

    Returns:
        the minimiser of sum(weight * cross-entropy(label, sigmoid(intercept + x @ w))) + penalty over labelled posts of which something
        was seen. The penalty draws w to naive Bayes: to the average logit of all posts plus what the members of each modality, by their
        shares, say beyond it. It is `l2`/2 times the squared distance, but MEMBERS_L2/2 for what one member gains at the other's cost.
    """
    known = (rows["label"].notna() & rows["weight"].notna()).to_numpy()
    _, mean = evidence(rows, policy)
    labelled, seen = rows[known], ~np.isnan(mean[known])
    label, weight = (labelled[name].to_numpy(dtype=np.float64) for name in ("label", "weight"))
    num_positive, num_negative = int((label[seen] > 0.5).sum()), int((label[seen] < 0.5).sum())
    base_rate = _base_rate_logit(label, weight)
    counts: dict[str, Any] = {"base_rate_logit": base_rate, "num_positive": num_positive, "num_negative": num_negative}
    if min(num_positive, num_negative) < min_labels:
        found = f"{num_positive} violations and {num_negative} others in the fusion split"
        reason = f"{found}, {min_labels} of each needed: the mean of the stage-1 logits passes through"
        return PolicyFusion(intercept=0.0, coefficients={}, reason=reason, **counts)
    shown = labelled[seen]
    brands = sorted(name for name in _brands_among(shown.columns) if (shown[f"{LOGO[0]}_{name}"] > 0).sum() >= min_labels)
    features, _ = evidence(shown, policy, brands)
    intercept, *slopes = _minimise(features, label[seen], weight[seen] / weight[seen].mean(), l2, float(np.nanmean(mean)))
    coefficients = dict(zip((*FEATURES, *_logo_columns(brands)), slopes, strict=True))
    return PolicyFusion(intercept=intercept, coefficients=coefficients, reason=None, **counts)


def apply(policies: Mapping[str, PolicyFusion], rows: pd.DataFrame) -> pd.DataFrame:
    """Fuse stage 1 into one uncalibrated probability per post and policy.

    Args:
        policies: policy -> what fusion learnt.
        rows: post_id, and for every policy the columns that `evidence` reads.

    Returns:
        post_id and prob_{policy} (float64 in (0, 1)), in the order of `rows`.
    """
    fused = {"post_id": rows["post_id"].to_numpy()}
    for policy, learnt in policies.items():
        brands = brands_of(learnt)
        features, mean = evidence(rows, policy, brands)
        # A layer fitted before sound was heard knows nothing of it; its bundle's probabilities of sound are null.
        names = (*FEATURES, *_logo_columns(brands))
        slopes = np.array([learnt.coefficients.get(name, 0.0) for name in names]) if learnt.coefficients else None
        seen = mean if slopes is None else learnt.intercept + (features * slopes).sum(axis=1)
        fused[f"prob_{policy}"] = expit(np.clip(np.where(np.isnan(mean), learnt.base_rate_logit, seen), -LOGIT_LIMIT, LOGIT_LIMIT))
    return pd.DataFrame(fused)


def brands_of(learnt: PolicyFusion) -> list[str]:
    """Brands whose marks the policy heeds, in the order of their coefficients."""
    return _brands_among(learnt.coefficients)


def _brands_among(columns: Iterable[str]) -> list[str]:
    prefix = f"{LOGO[0]}_"
    return [name.removeprefix(prefix) for name in columns if name.startswith(prefix)]


def _logo_columns(brands: Sequence[str]) -> list[str]:
    return [f"{name}_{brand}" for brand in brands for name in LOGO]


def _mean(values: Floats, weight: Floats) -> Floats:
    """Weighted mean of each row over what is not NaN; NaN where all is."""
    total = ~np.isnan(values) @ weight
    mean: Floats = np.nansum(values * weight, axis=1) / np.where(total > 0, total, np.nan)
    return mean


def _minimise(features: Floats, label: Floats, weight: Floats, l2: float, average: float) -> list[float]:
    """Intercept and coefficients of the weighted logistic regression with a Gaussian prior (convex, by Newton steps).

    The prior is independent in other coordinates than those of FEATURES, whose columns are written in theirs: a modality's voice (its
    members by their shares, less the average logit where it is not missing), and a member's advantage over the modality's first one.
    """
    width = 1 + features.shape[1]
    columns, prior, penalty = [np.eye(width)[0]], [0.0], [0.0]
    for modality, members in MEMBERS.items():
        places = [1 + FEATURES.index(f"{member}_logit") for member in members]
        voice = np.zeros(width)
        voice[places] = list(members.values())
        voice[0], voice[1 + FEATURES.index(f"{modality}_missing")] = -average, average
        advantages = [np.eye(width)[place] - np.eye(width)[places[0]] for place in places[1:]]
        columns += [voice, *advantages]
        prior += [1.0, *[0.0] * len(advantages)]
        penalty += [l2, *[MEMBERS_L2] * len(advantages)]
    others = list(np.eye(width)[1 + len(_ALL) :])
    columns += others
    to_features = np.stack(columns, axis=1)
    design = np.column_stack([np.ones(len(features)), features]) @ to_features
    prior, penalty = [*prior, *[0.0] * len(others)], [*penalty, *[l2] * len(others)]
    settled = to_features @ fit_logistic(design, label, weight, np.array(prior), np.array(penalty))
    return [_rounded(value) for value in settled]


def _base_rate_logit(label: Floats, weight: Floats) -> float:
    """Logit of the weighted share of violations, with one of each added (Laplace): without labels it reads one half."""
    violating = len(label) * float(weight @ label) / float(weight.sum()) if len(label) else 0.0
    return _rounded(float(logit((violating + 1) / (len(label) + 2))))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
