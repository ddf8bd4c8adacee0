"""Decide the two thresholds of every category, each with its certificate.

See docs/statistics.md, Removal threshold; docs/statistics.md, Review threshold.
"""

from typing import Any

from upheld.common.params.evaluation import Thresholds as Section
from upheld.evaluation.cube.cube import Cube, one_category
from upheld.evaluation.thresholds import removal_decision, review
from upheld.evaluation.thresholds.tails import Tails, tails
from upheld.feature_store.decisions.thresholds import Bounded, Thresholds


def decide(
    cube: Cube, section: Section, *, incumbent: Thresholds | None = None, champion: Cube | None = None, seed: int = 0
) -> dict[str, Any]:
    """Certify thresholds from the certifying half of the labels.

    Args:
        cube: calibrated scores; labels of the calibrator's half must have been set to null (they are frame, not evidence).
        section: params.thresholds.
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
    for category in cube.categories:
        own = one_category(cube, category)
        other = tails(one_category(champion, category)) if champion is not None and category in champion.categories else None
        decided[category] = _decide_one(own, section, incumbent, champion is None, other, seed)
    return decided


def _decide_one(
    cube: Cube, section: Section, incumbent: Thresholds | None, same_model: bool, champion: Tails | None, seed: int
) -> dict[str, Any]:
    own = tails(cube)
    decisions: dict[str, Any] = {}
    modules: dict[Bounded, Any] = {"auto_remove": removal_decision, "review": review}
    for action, module in modules.items():
        threshold = None if incumbent is None else incumbent.threshold(cube.categories[0], action)
        volume = None if threshold is None else _volume(threshold, own, own if same_model else champion)
        decisions[action] = module.decide(own, section, threshold if same_model else None, volume, seed)
    decisions["auto_remove"]["languages"] = removal_decision.languages(cube, decisions["auto_remove"]["threshold"], section)
    return decisions


def _volume(threshold: float, own: Tails, ruled: Tails | None) -> float | None:
    """Posts of our frame that a threshold rules over on the score scale it belongs to; None where that scale's scores are unknown."""
    if ruled is None or ruled.num_posts[0] == 0:
        return None
    return ruled.volume_at(threshold) * float(own.num_posts[0] / ruled.num_posts[0])
