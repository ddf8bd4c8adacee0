"""Fusion of stage-1 probabilities into one probability per policy: features, fit and application, without torch.

A logistic regression per policy, its coefficients shrunk not towards 0 but towards adding up what each modality says beyond what is said of
posts on average: little evidence leaves stage 1 as it is, and a modality never seen among the reviewed posts keeps its own voice. With
hardly any evidence the mean of the stage-1 logits passes through. A post of which nothing was seen gets the policy's base rate.
A brand mark speaks where enough reviewed posts show it; its coefficients are shrunk towards 0, for no mark is a violation by itself.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import expit, logit

from upheld.common.arrays import Floats
from upheld.feature_store.contracts.tables import LOGIT_LIMIT
from upheld.training.fusion.hidden import Hidden
from upheld.training.loop.logistic import fit_logistic, left_one_out

# Stage-1 members by the modality that they judge, each with its share where there is no evidence. Members of one modality say the same
# thing twice; of texts the encoder says it better (shares of .6 to .8 were best in two sample worlds and a week of a real stream).
MEMBERS = {"text": {"text": 0.6, "ngrams": 0.4}, "image": {"image": 1.0}, "audio": {"audio": 1.0}}
INCUMBENT = "incumbent"  # the model in production, a modality and a member of its own where its scores are among the columns
CONTEXT = ("log1p_prior_removals", "log1p_num_hashtags", "has_link", "context_excess")
LOGO = ("logo_count", "logo_confidence", "logo_area")  # columns {name}_{brand}; the first enters as its log1p
MEMBERS_L2 = 100.0  # of a member's advantage over its share, in reviewed posts; 3 was worse in two sample worlds and a real stream
DIGITS = 9  # significant digits kept of a coefficient: beyond them lies the rounding of whichever BLAS was at work
Modalities = Mapping[str, Mapping[str, float]]


def names_of(modalities: Modalities) -> tuple[str, ...]:
    """Features of posts, without brand marks: a logit for each member, a flag for each modality, the context."""
    members = (name for of_modality in modalities.values() for name in of_modality)
    return (*(f"{name}_logit" for name in members), *(f"{name}_missing" for name in modalities), *CONTEXT)


FEATURES = names_of(MEMBERS)


class PolicyFusion(BaseModel):
    """What fusion learnt of one policy. Coefficients are in logits per unit of the feature, one for each of `names_of` the members heard
    and of the columns LOGO of each brand that enough reviewed posts showed.

    Where nothing was fitted, `coefficients` is empty, the mean of the stage-1 logits passes through and `reason` says why. The members
    `left_out` are never heard. `hidden` is added to the logit where validation preferred it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    intercept: float
    coefficients: dict[str, float]
    base_rate_logit: float
    num_positive: int
    num_negative: int
    reason: str | None
    left_out: tuple[str, ...] = ()
    hidden: Hidden | None = None


class Fusion(BaseModel):
    """The fusion layer: one entry per policy. `incumbent` is the model version whose scores it needs beside a post; None for none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    l2: float
    policies: dict[str, PolicyFusion] = Field(min_length=1)
    incumbent: str | None = None

    def unheard(self) -> frozenset[str]:
        """Members that are left out in every policy, and need not be asked."""
        return frozenset.intersection(*(frozenset(learnt.left_out) for learnt in self.policies.values()))


def heard(rows: pd.DataFrame, policy: str, left_out: Collection[str]) -> Modalities:
    """Members by modality, with shares that add up to 1: those of MEMBERS, and INCUMBENT where `rows` has its column, if not left out."""
    all_of_them = MEMBERS | ({INCUMBENT: {INCUMBENT: 1.0}} if f"prob_{INCUMBENT}_{policy}" in rows else {})
    kept = {modality: {name: share for name, share in of.items() if name not in left_out} for modality, of in all_of_them.items()}
    return {modality: {name: share / sum(of.values()) for name, share in of.items()} for modality, of in kept.items() if of}


def evidence(rows: pd.DataFrame, policy: str, modalities: Modalities, brands: Sequence[str] = ()) -> tuple[Floats, Floats]:
    """Build the features of one policy.

    Args:
        rows: prob_{member}_{policy} for each member heard (float in [0, 1], null where its modality or the member is missing),
            prior_removals (int >= 0), num_hashtags (int >= 0), has_link (bool), where it is known context_excess (policy -> logit by which
            the post's board or thread violated more than the rest, as a dict or pairs; a policy left out is 0), and for each of
            `brands` the columns LOGO: detections (int >= 0), the surest one's confidence and the share of a picture (float in [0, 1]).
        policy: name of the policy.
        modalities: as `heard` gives them.
        brands: whose marks are features.

    Returns:
        features, float64 (N, K + 3 B), the K columns `names_of` the modalities, then LOGO of each brand; a modality that no member judged
        has its flag set; a member that is missing says what the others of its modality say, 0 where there are none.
        mean over modalities of the mean of its members' logits by their shares, float64 (N,); NaN where all are missing.
    """
    filled, of_modality = [], []
    for members in modalities.values():
        probs = [rows[f"prob_{member}_{policy}"].to_numpy(dtype=np.float64, na_value=np.nan) for member in members]
        logits = np.clip(logit(np.stack(probs, axis=1)), -LOGIT_LIMIT, LOGIT_LIMIT)
        of_modality.append(_mean(logits, np.array(list(members.values()))))
        filled.append(np.where(np.isnan(logits), of_modality[-1][:, None], logits))
    by_modality = np.stack(of_modality, axis=1)
    logits, missing, mean = np.concatenate(filled, axis=1), np.isnan(by_modality), _mean(by_modality, np.ones(len(modalities)))
    excess = [dict(known or ()).get(policy, 0.0) for known in rows["context_excess"]] if "context_excess" in rows else np.zeros(len(rows))
    context = [np.log1p(rows["prior_removals"]), np.log1p(rows["num_hashtags"]), rows["has_link"], excess]
    of_brands = [np.log1p(rows[name]) if name.startswith(f"{LOGO[0]}_") else rows[name] for name in _logo_columns(brands)]
    others = np.stack([np.asarray(column, dtype=np.float64) for column in [*context, *of_brands]], axis=1)
    return np.concatenate([np.nan_to_num(logits), missing, others], axis=1), mean


def fit(rows: pd.DataFrame, policy: str, l2: float, min_labels: int) -> PolicyFusion:
    """`fit_held_out` with every member, without the logits."""
    return fit_held_out(rows, policy, l2, min_labels, ())[0]


def fit_held_out(rows: pd.DataFrame, policy: str, l2: float, min_labels: int, left_out: Sequence[str]) -> tuple[PolicyFusion, Floats]:
    """Fit one policy on reviewed posts that stage 1 has not seen.

    Args:
        rows: as for `evidence`, with the columns LOGO of every brand that the detector knows, and label (float in [0, 1], probability of
            a violation; null = unknown) and weight (float > 0; scaled to a mean of 1, so that `l2` counts in rows).
        policy: name of the policy.
        l2: inverse variance of the coefficients' Gaussian prior; the intercept is free.
        min_labels: violations and non-violations needed, of each; with fewer, stage 1 passes through. So many labelled posts must show a
            brand, too, for it to be a feature.
        left_out: members that are not to be heard.

    Returns:
        the minimiser of sum(weight * cross-entropy(label, sigmoid(intercept + x @ w))) + penalty over labelled posts of which something
        was seen. The penalty draws w to naive Bayes: to the average logit of all posts plus what the members of each modality, by their
        shares, say beyond it. It is `l2`/2 times the squared distance, but MEMBERS_L2/2 for what one member gains at the other's cost.
        logit (N,) that each labelled post would get from a fit without it, the base rate's where nothing was fitted or seen, NaN for the
        others.
    """
    known = (rows["label"].notna() & rows["weight"].notna()).to_numpy()
    modalities = heard(rows, policy, left_out)
    _, mean = evidence(rows, policy, modalities)
    labelled, seen = rows[known], ~np.isnan(mean[known])
    label, weight = (labelled[name].to_numpy(dtype=np.float64) for name in ("label", "weight"))
    num_positive, num_negative = int((label[seen] > 0.5).sum()), int((label[seen] < 0.5).sum())
    base_rate = _base_rate_logit(label, weight)
    about: dict[str, Any] = {"base_rate_logit": base_rate, "num_positive": num_positive, "num_negative": num_negative}
    about["left_out"] = tuple(left_out)
    held_out = np.where(known, base_rate, np.nan)
    if min(num_positive, num_negative) < min_labels:
        found = f"{num_positive} violations and {num_negative} others in the fusion split"
        reason = f"{found}, {min_labels} of each needed: the mean of the stage-1 logits passes through"
        return PolicyFusion(intercept=0.0, coefficients={}, reason=reason, **about), held_out
    shown = labelled[seen]
    brands = sorted(name for name in _brands_among(shown.columns) if (shown[f"{LOGO[0]}_{name}"] > 0).sum() >= min_labels)
    features, _ = evidence(shown, policy, modalities, brands)
    mass = weight[seen] / weight[seen].mean()
    (intercept, *slopes), of_seen = _minimise(features, modalities, label[seen], mass, l2, float(np.nanmean(mean)))
    held_out[known & ~np.isnan(mean)] = of_seen
    coefficients = dict(zip((*names_of(modalities), *_logo_columns(brands)), slopes, strict=True))
    return PolicyFusion(intercept=intercept, coefficients=coefficients, reason=None, **about), held_out


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
        features, mean = named_evidence(rows, policy, learnt)
        seen = said(learnt, features) if learnt.coefficients else mean
        fused[f"prob_{policy}"] = expit(np.clip(np.where(np.isnan(mean), learnt.base_rate_logit, seen), -LOGIT_LIMIT, LOGIT_LIMIT))
    return pd.DataFrame(fused)


def named_evidence(rows: pd.DataFrame, policy: str, learnt: PolicyFusion) -> tuple[pd.DataFrame, Floats]:
    """`evidence` of the members and brands that the policy heeds, with the names of the features, and the mean of the modalities."""
    brands, modalities = brands_of(learnt), heard(rows, policy, learnt.left_out)
    features, mean = evidence(rows, policy, modalities, brands)
    return pd.DataFrame(features, columns=[*names_of(modalities), *_logo_columns(brands)]), mean


def said(learnt: PolicyFusion, features: pd.DataFrame) -> Floats:
    """Logit (N,) of a fitted policy; a feature that it was fitted before (sound, once) counts nothing."""
    slopes = np.array([learnt.coefficients.get(str(name), 0.0) for name in features])
    linear: Floats = learnt.intercept + (features.to_numpy() * slopes).sum(axis=1)
    return linear if learnt.hidden is None else linear + learnt.hidden.logit(features)


def rising(names: Iterable[str]) -> list[str]:
    """The features with which the logit of no policy falls: what stage 1 says."""
    return [name for name in names if name.endswith("_logit")]


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


def _minimise(
    features: Floats, modalities: Modalities, label: Floats, weight: Floats, l2: float, average: float
) -> tuple[list[float], Floats]:
    """Weighted logistic regression with a Gaussian prior (convex, by Newton steps): intercept and coefficients; and left-one-out logits.

    The prior is independent in other coordinates than those of `features`, whose columns are written in theirs: a modality's voice (its
    members by their shares, less the average logit where it is not missing), and a member's advantage over the modality's first one.
    """
    width, features_of_posts = 1 + features.shape[1], names_of(modalities)
    columns, prior, penalty = [np.eye(width)[0]], [0.0], [0.0]
    for modality, members in modalities.items():
        places = [1 + features_of_posts.index(f"{member}_logit") for member in members]
        voice = np.zeros(width)
        voice[places] = list(members.values())
        voice[0], voice[1 + features_of_posts.index(f"{modality}_missing")] = -average, average
        advantages = [np.eye(width)[place] - np.eye(width)[places[0]] for place in places[1:]]
        columns += [voice, *advantages]
        prior += [1.0, *[0.0] * len(advantages)]
        penalty += [l2, *[MEMBERS_L2] * len(advantages)]
    others = list(np.eye(width)[1 + sum(map(len, modalities.values())) :])
    columns += others
    to_features = np.stack(columns, axis=1)
    design = np.column_stack([np.ones(len(features)), features]) @ to_features
    prior, penalty = [*prior, *[0.0] * len(others)], [*penalty, *[l2] * len(others)]
    settled = fit_logistic(design, label, weight, np.array(prior), np.array(penalty))
    held_out = left_one_out(design, label, weight, np.array(penalty), settled)
    return [_rounded(value) for value in to_features @ settled], held_out


def _base_rate_logit(label: Floats, weight: Floats) -> float:
    """Logit of the weighted share of violations, with one of each added (Laplace): without labels it reads one half."""
    violating = len(label) * float(weight @ label) / float(weight.sum()) if len(label) else 0.0
    return _rounded(float(logit((violating + 1) / (len(label) + 2))))


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
