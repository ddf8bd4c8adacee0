"""What monitoring reports of features: how many of a snapshot's posts have them, and how far a week's embeddings lie from the last.

Coverage says, per extractor and language, how many posts have features and why others have none. Drift is the distance between two
samples of vectors, per language: maximum mean discrepancy sees any change of a distribution, not of its mean alone, and its
permutation test needs no assumption.
Source: Gretton, Borgwardt, Rasch, Schölkopf & Smola (2012), A Kernel Two-Sample Test, JMLR 13, equation 3 and section 5.
"""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from upheld.common.arrays import Floats
from upheld.common.params.data import Snapshot
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.contracts.tables import week_of
from upheld.feature_store.features.table import PinnedFeatures
from upheld.feature_store.posts import post_features
from upheld.feature_store.posts.enrichment import captions

ALL = "all"
CONTENTS = {"text": "caption_digest", "image": "image_digests", "video": "video_digests", "audio": "sound_digests"}  # by what is read
EMBEDDING = "text_embedding"
NUM_WEEKS = 8  # the latest ones with posts
NUM_PERMUTATIONS = 999
LEVEL = 0.05  # of a week's cells together (Bonferroni)


def coverage(posts: pd.DataFrame, features: PinnedFeatures) -> list[dict[str, Any]]:
    """Count the posts whose contents have an extractor's features.

    Args:
        posts: language, and the digests of their contents by kind: caption_digest (or null), and the lists image_digests,
            video_digests, sound_digests.

    Returns:
        for each extractor and language (and `all`) with at least one post that has such contents: feature, language, posts, present
        (every content has features), quarantined (one was refused), missing (one was not looked at), share (present of posts) and
        reasons (reason -> posts that met it). Sorted; every post is counted in one of present, quarantined, missing.
    """
    found = []
    for name, kind in sorted(features.kinds.items()):
        contents = posts[CONTENTS[kind]].map(lambda names: names if isinstance(names, list) else [names] if isinstance(names, str) else [])
        contents = contents[contents.map(len) > 0]
        if contents.empty:
            continue
        reasons = {
            digest: row["reason"] for digest, row in features.rows(name, {d for names in contents for d in names}, ["reason"]).items()
        }
        refused = contents.map(lambda names, reasons=reasons: {reasons[name] for name in names if reasons.get(name) is not None})
        whole = contents.map(lambda names, reasons=reasons: all(name in reasons for name in names))
        states = whole.map({True: "present", False: "missing"}).mask(refused.map(bool), "quarantined")
        languages = posts.loc[contents.index, "language"]
        for language in [ALL, *sorted(languages.unique())]:
            here = (languages == language) | (language == ALL)
            counts = Counter(states[here])
            met = Counter(reason for some in refused[here] for reason in some)
            cell = {"feature": name, "language": language, "posts": int(here.sum())}
            cell |= {state: counts[state] for state in ("present", "quarantined", "missing")}
            found.append(cell | {"share": counts["present"] / int(here.sum()), "reasons": dict(sorted(met.items()))})
    return found


def drift(
    about: pd.DataFrame,
    contents_of: Callable[["pd.Series[str]"], pd.DataFrame],
    features: PinnedFeatures,
    seed: int,
    settings: Snapshot,
) -> list[dict[str, Any]]:
    """Compare each week's captions with those of the week before, in a sample drawn by hash from all posts, reviewed or not.

    Args:
        about: post_id, created_at, language of every post of the ledger.
        contents_of: gives the ledger's rows of the posts named to it.
        seed: of the draw and the permutations.
        settings: section `snapshot`: drift_posts of a week and language, drift_min_posts of both weeks.

    Returns:
        for each language and week (and `all` languages): feature, language, period, before, n, n_before, mmd2 (unbiased, may be
        slightly below 0; null where insufficient), p (of the permutation test), verdict: steady, moved (p below LEVEL over the
        number of that week's cells) or insufficient. Empty where the embedding is not pinned.
    """
    if EMBEDDING not in features.kinds:
        return []
    # Posts of the latest weeks: the first ones of each week, and of each week and language, in the order of a hash.
    rows = about.assign(period=week_of(about["created_at"]))
    rows = rows[rows["period"].isin(sorted(rows["period"].unique())[-NUM_WEEKS:])]
    rows = rows.assign(draw=uniform(f"drift/{seed}", rows["post_id"])).sort_values("draw")
    rows["draw_of_all"] = rows.groupby("period").cumcount() < settings.drift_posts
    rows["draw_of_language"] = rows.groupby(["period", "language"]).cumcount() < settings.drift_posts
    sample = rows[rows["draw_of_all"] | rows["draw_of_language"]].sort_values("post_id", ignore_index=True)
    vectors = _vectors(sample, contents_of, features)
    found = []
    weeks = sorted(sample["period"].unique())
    for before, period in pairwise(weeks):
        cells: list[dict[str, Any]] = []
        for language in [ALL, *sorted(sample["language"].unique())]:
            drawn = sample[sample["draw_of_all"] if language == ALL else sample["draw_of_language"] & (sample["language"] == language)]
            earlier, now = (
                [vectors[post] for post in drawn.loc[drawn["period"] == week, "post_id"] if post in vectors] for week in (before, period)
            )
            if not earlier and not now:
                continue
            cell = {"feature": EMBEDDING, "language": language, "period": period, "before": before, "n": len(now), "n_before": len(earlier)}
            if min(len(now), len(earlier)) < settings.drift_min_posts:
                cells.append(cell | {"mmd2": None, "p": None, "verdict": "insufficient"})
            else:
                value, p = mmd2(np.stack(now), np.stack(earlier), NUM_PERMUTATIONS, seed)
                cells.append(cell | {"mmd2": value, "p": p, "verdict": "steady"})
        num_tests = sum(cell["p"] is not None for cell in cells)
        found += [cell | {"verdict": "moved"} if cell["p"] is not None and cell["p"] < LEVEL / num_tests else cell for cell in cells]
    return found


def mmd2(x: Floats, y: Floats, num_permutations: int, seed: int) -> tuple[float, float]:
    """Squared maximum mean discrepancy of two samples under a Gaussian kernel, its width the median distance.

    Args:
        x: float64 (N, D), N at least 2.
        y: float64 (M, D), M at least 2.
        num_permutations: of the pooled sample.
        seed: of the permutations.

    Returns:
        the unbiased estimate, and the share of permutations (the sample itself among them) in which it is at least as large.
    """
    both = np.concatenate([x, y])
    norms = (both**2).sum(1)
    distances = np.maximum(norms[:, None] + norms[None] - 2 * both @ both.T, 0)
    width = np.median(distances[np.triu_indices(len(both), 1)])
    kernel = np.exp(-distances / max(width, 1e-12))
    np.fill_diagonal(kernel, 0)
    random = np.random.default_rng(seed)
    first = np.zeros((num_permutations + 1, len(both)))
    first[0, : len(x)] = 1
    for row in range(1, num_permutations + 1):
        first[row, random.permutation(len(both))[: len(x)]] = 1
    within = ((first @ kernel) * first).sum(1)
    across = first @ kernel.sum(1) - within
    rest = kernel.sum() - within - 2 * across
    n, m = len(x), len(y)
    values = within / (n * (n - 1)) + rest / (m * (m - 1)) - 2 * across / (n * m)
    return float(values[0]), float((values >= values[0] - 1e-12).mean())


def _vectors(sample: pd.DataFrame, contents_of: Callable[["pd.Series[str]"], pd.DataFrame], features: PinnedFeatures) -> dict[str, Floats]:
    """Post -> embedding of its caption; posts without one are left out."""
    posts = contents_of(sample["post_id"]).sort_values("post_id", ignore_index=True)
    texts = [post_features.merged_text(*pair) for pair in captions(posts)]
    digests = {post: hashing.of_bytes(text.encode()) for post, text in zip(posts["post_id"], texts, strict=True) if text}
    table = features.read(EMBEDDING, digests.values(), ["embedding"])
    assert table is not None  # the caller has looked
    known = table.filter(table["embedding"].is_valid()).combine_chunks()
    if not len(known):
        return {}
    flat = np.asarray(known["embedding"].combine_chunks().flatten(), np.float64).reshape(len(known), -1)
    by_digest = dict(zip(known["digest"].to_pylist(), flat, strict=True))
    return {post: by_digest[name] for post, name in digests.items() if name in by_digest}
