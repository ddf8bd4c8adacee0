"""Which threshold rules each category: from thresholds.json where it decides, else the default score, and saying which."""

from collections.abc import Sequence
from dataclasses import dataclass

from upheld.evaluation.cube.bins import NUM_BINS, edges, snap_up
from upheld.feature_store.decisions.thresholds import Thresholds


@dataclass(frozen=True)
class OperatingPoint:
    """The two bins from which a category is reviewed and removed, the languages that automatic removal leaves out, and how this came about.

    `auto_remove` is NUM_BINS where nothing is removed automatically.
    """

    review: int
    auto_remove: int
    languages_off: frozenset[str]
    note: str
    removal_note: str

    @property
    def cuts(self) -> list[int]:
        """Ascending bins for `cube.cut`: none below the first, review between, removal from the second."""
        return [min(self.review, self.auto_remove), self.auto_remove]


def operating_point(thresholds: Thresholds | None, category: str, languages: Sequence[str], default_score: float) -> OperatingPoint:
    """The bins in force for one category.

    Args:
        thresholds: content of thresholds.json, or None.
        category: policy name.
        languages: the languages in the data; where thresholds.json does not list one, its `unknown_language` decides, as in serving.
        default_score: where rates are taken if no review threshold is known, in (0, 1).

    Returns:
        thresholds snapped up to the edge of a bin.
    """
    bin_default = snap_up(default_score)
    at_default = f"at the default score {edges()[bin_default]:.4g}"
    if thresholds is None:
        return OperatingPoint(bin_default, NUM_BINS, frozenset(), f"{at_default}: no thresholds were given", "no thresholds were given")
    if category not in thresholds.categories:
        reason = "thresholds.json does not have this category"
        return OperatingPoint(bin_default, NUM_BINS, frozenset(), f"{at_default}: {reason}", reason)
    review, removal = thresholds.categories[category].review, thresholds.categories[category].auto_remove
    return OperatingPoint(
        review=bin_default if review.threshold is None else snap_up(review.threshold),
        auto_remove=NUM_BINS if removal.threshold is None else snap_up(removal.threshold),
        languages_off=frozenset(name for name in languages if not thresholds.removes(category, name)),
        note=f"{at_default}: review threshold {review.outcome}" if review.threshold is None else "",
        removal_note=f"none is removed automatically ({removal.outcome})" if removal.threshold is None else "",
    )
