"""How far the scores of the model that served are wrong, by category and by language, as the reviewed posts show it."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from upheld.common.arrays import Floats
from upheld.feature_store.contracts.tables import LOGIT_LIMIT
from upheld.training.loop.logistic import fit_logistic, log_evidence

MIN_LABELS = 10  # of each class, below which a category's own labels correct nothing
SLOPE_L2 = 10.0  # in reviewed posts; better than 3 in two sample worlds and in week 4 of a real stream
OFFSET_L2 = (1.0, 3.0, 10.0, 30.0, 100.0)  # tried for the languages' offsets; the evidence chooses
LABELS_PER_BIN = 20  # of scores, in which draws are compared
MAX_BINS = 10


def corrected(served: pd.DataFrame) -> tuple[Floats, dict[str, Any]]:
    """Correct the scores of one model version by the labels of posts that it scored.

    Args:
        served: category, language, score in [0, 1], and label (float in [0, 1], null for unknown) with inclusion_prob (null for labels that
            no draw chose, which do not count); one row a post and category.

    Returns:
        the corrected score, float64 (N,), and per category: intercept, slope and the offset of each language, all on the logit, and the
        labels that this rests on.

    One logistic regression of all categories' labels: an intercept and a slope of the score's logit for each category, an offset for each
    language that all categories share, since a model that is unfair to a language is so mostly in all of them, and an offset for each
    category and language. Slopes have a Gaussian prior around 1, offsets around 0. The inverse variances of the two kinds of offsets are
    those of `OFFSET_L2` with the greatest evidence (`log_evidence`): where languages differ by chance alone they stay at nothing.
    Weights are those of `_draw_weights`. A category with too few labels gets the shared offsets alone.
    """
    z = np.clip(logit(served["score"].to_numpy(float)), -LOGIT_LIMIT, LOGIT_LIMIT)
    rows = served.assign(z=z)[["category", "language", "label", "inclusion_prob", "z"]]
    known = rows[rows["label"].notna() & rows["inclusion_prob"].notna()]
    classes = known.assign(violation=known["label"] > 0.5).groupby("category")["violation"].agg(["sum", "count"])
    enough = classes.index[np.minimum(classes["sum"], classes["count"] - classes["sum"]) >= MIN_LABELS]
    known = known[known["category"].isin(enough)]
    fitted, languages = sorted(enough), sorted(known["language"].unique())
    intercepts, slopes, shared, own = _fit(known, fitted, languages)
    account: dict[str, Any] = {}
    for category in sorted(rows["category"].unique()):
        intercept, slope, offsets = 0.0, 1.0, shared
        if category in fitted:
            number = fitted.index(category)
            intercept, slope, offsets = float(intercepts[number]), float(slopes[number]), shared + own[number]
        of_language = dict(zip(languages, map(float, offsets), strict=True))
        at = rows["category"] == category
        z[at] = intercept + slope * z[at] + rows.loc[at, "language"].map(of_language).fillna(0.0)
        num_positive, num = int(classes["sum"].get(category, 0)), int(classes["count"].get(category, 0))
        account[category] = {"num_positive": num_positive, "num_negative": num - num_positive, "num_posts": int(at.sum())}
        account[category] |= {"intercept": intercept, "slope": slope, "languages": of_language}
    return expit(z), account


def _fit(known: pd.DataFrame, categories: Sequence[str], languages: Sequence[str]) -> tuple[Floats, Floats, Floats, Floats]:
    """Intercepts (C,), slopes (C,), shared offsets (L,) and own offsets (C, L); nothing of no category."""
    num = len(categories)
    sizes = [num, num, len(languages), num * len(languages)]
    if num == 0:
        return np.empty(0), np.empty(0), np.empty(0), np.empty((0, 0))
    of_category = (known["category"].to_numpy()[:, None] == np.array(categories)).astype(float)
    of_language = (known["language"].to_numpy()[:, None] == np.array(languages)).astype(float)
    of_both = (of_category[:, :, None] * of_language[:, None, :]).reshape(len(known), -1)
    design = np.hstack([of_category, of_category * known["z"].to_numpy()[:, None], of_language, of_both])
    label, weight = known["label"].to_numpy(float), _draw_weights(known)
    prior = np.repeat([0.0, 1.0, 0.0, 0.0], sizes)
    found = []
    with threadpool_limits(1, "blas"):  # its matrices are so small that threads wait for each other longer than they work
        for of_shared, of_own in itertools.product(OFFSET_L2, repeat=2):
            penalty = np.repeat([0.0, SLOPE_L2, of_shared, of_own], sizes)
            coefficients = fit_logistic(design, label, weight, prior, penalty)
            found.append((log_evidence(design, label, weight, prior, penalty, coefficients), coefficients))
    intercepts, slopes, shared, own = np.split(max(found, key=lambda pair: pair[0])[1], np.cumsum(sizes)[:-1])
    return intercepts, slopes, shared, own.reshape(num, -1)


def _draw_weights(known: pd.DataFrame) -> Floats:
    """(N,) weights that leave a draw's choice by score alone out of account.

    Posts are mostly drawn by the score that the regression conditions on. To weight by 1/inclusion_prob then costs evidence and mends
    nothing; what must be mended is a choice by other things, such as reports, that go with the label. So each weight is divided by the mean
    weight of labels with about this score (Pfeffermann & Sverchkov 1999, Sankhya B 61(1)). A category's weights add up to its effective
    number of labels, (sum w)^2 / sum w^2 (Kish 1965, Survey Sampling, section 11.7), so that a few posts that stand for many do not
    overrule the prior.
    """
    weight = 1 / known["inclusion_prob"].to_numpy(np.float64)
    categories, z = known["category"].to_numpy(), known["z"]
    for category in np.unique(categories):
        of_category = categories == category
        own = weight[of_category]
        num_bins = int(np.clip(len(own) // LABELS_PER_BIN, 1, MAX_BINS))
        bins = pd.qcut(z[of_category], num_bins, labels=False, duplicates="drop").to_numpy()
        own = own / (np.bincount(bins, own) / np.bincount(bins))[bins]
        weight[of_category] = own * (own.sum() / (own @ own))
    return weight
