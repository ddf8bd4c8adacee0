"""Decide the two thresholds of every category, each with its certificate.

See docs/statistics.md, Removal threshold; docs/statistics.md, Review threshold.
"""

from typing import Any

from upheld.common.params.evaluation import Thresholds as Section
from upheld.evaluation.cube.cube import Cube, one_category
from upheld.evaluation.thresholds import removal_certificate, review_certificate
from upheld.evaluation.thresholds.tails import Tails, tails
from upheld.feature_store.decisions.thresholds import Bounded, Thresholds


def decide(
    cube: Cube, section: Section, *, incumbent: Thresholds | None = None, champion: Cube | None = None, seed: int = 0
) -> dict[str, Any]:
    """Certify thresholds from the certifying half of the labels.

    Args:
        cube: calibrated scores; labels of the calibrator's half must have been set to null (they are frame, not evidence).
        incumbent: the thresholds in force, or None.
        champion: cube of the champion's calibrated scores on the same posts, where the incumbent's thresholds belong to
            another model; they then give a volume to start from, and are never kept.
        seed: of the simulation behind need_n.

    Returns:
        {category: {"auto_remove": {...}, "review": {...}}} (docs/architecture.md, Contracts); each has threshold (None: no automatic
        removal), outcome (certified/kept/abstained, review also insufficient), target, delta, bound, n, n_eff, need_n, incumbent, method,
        seed, reason and path [{threshold, volume, n, n_eff, bound or p_value, level, tested, passed}]; auto_remove also has languages
        {L: {action: auto_remove/review, bound, n, reason}}. A missing number is None, never NaN.
    """
    decided = {}
    modules: dict[Bounded, Any] = {"auto_remove": removal_certificate, "review": review_certificate}
    for category in cube.categories:
        own = one_category(cube, category)
        sums = tails(own)
        ruled: Tails | None = sums  # the score scale that the incumbent's thresholds belong to; None where that scale's scores are unknown
        if champion is not None:
            ruled = tails(one_category(champion, category)) if category in champion.categories else None
        entry: dict[str, Any] = {}
        for action, module in modules.items():
            threshold = None if incumbent is None else incumbent.threshold(category, action)
            volume = None
            if threshold is not None and ruled is not None and ruled.num_posts[0]:  # posts of our frame that it rules over
                volume = ruled.volume_at(threshold) * float(sums.num_posts[0] / ruled.num_posts[0])
            entry[action] = module.decide(sums, section, threshold if champion is None else None, volume, seed)
        entry["auto_remove"]["languages"] = removal_certificate.languages(own, entry["auto_remove"]["threshold"], section)
        decided[category] = entry
    return decided
