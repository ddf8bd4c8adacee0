"""Which threshold rules each category: from thresholds.json where it decides, else the default score, and saying which."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.bins import NUM_BINS, edges, snap_up
from feature_store.errors import BadUse


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


def load_thresholds(path: Path) -> dict[str, Any]:
    """Read thresholds.json.

    Raises:
        BadUse: the file is missing, no JSON, a threshold is neither null nor a number in [0, 1], or a language has no action; naming
            file and key.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadUse(f"{path}: cannot be read ({error.strerror}); expected the thresholds.json that `upheld calibrate` writes") from error
    except (ValueError, RecursionError) as error:
        raise BadUse(f"{path}: not valid JSON: {error}") from error
    categories = content.get("categories") if isinstance(content, dict) else None
    if not isinstance(categories, dict):
        raise BadUse(f"{path}: key categories: expected the categories' thresholds; `upheld calibrate` writes such a file")
    for category, actions in categories.items():
        for action in ("review", "auto_remove"):
            rule = actions.get(action) if isinstance(actions, dict) else None
            value = rule.get("threshold", "nothing") if isinstance(rule, dict) else "nothing"
            if value is not None and not (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1):
                raise BadUse(f"{path}: key categories.{category}.{action}.threshold: expected null or a number in [0, 1], found {value!r}")
        languages = actions["auto_remove"].get("languages") or {}
        if not isinstance(languages, dict) or not all(isinstance(told, dict) and "action" in told for told in languages.values()):
            raise BadUse(f"{path}: key categories.{category}.auto_remove.languages: expected an action for each language")
    return dict(content)


def operating_point(
    thresholds: Mapping[str, Any] | None, category: str, languages: Sequence[str], default_score: float, unknown_language: str
) -> OperatingPoint:
    """The bins in force for one category.

    Args:
        thresholds: content of thresholds.json, or None.
        category: policy name.
        languages: the languages in the data.
        default_score: where rates are taken if no review threshold is known, in (0, 1).
        unknown_language: "review" or "pool": what happens in a language that thresholds.json does not speak of.

    Returns:
        thresholds snapped up to the edge of a bin.
    """
    bin_default = snap_up(default_score)
    at_default = f"at the default score {edges()[bin_default]:.4g}"
    if thresholds is None:
        return OperatingPoint(bin_default, NUM_BINS, frozenset(), f"{at_default}: no thresholds were given", "no thresholds were given")
    actions = thresholds["categories"].get(category)
    if actions is None:
        reason = "thresholds.json does not have this category"
        return OperatingPoint(bin_default, NUM_BINS, frozenset(), f"{at_default}: {reason}", reason)
    review, removal = actions["review"]["threshold"], actions["auto_remove"]["threshold"]
    note = f"{at_default}: review threshold {actions['review'].get('outcome')}" if review is None else ""
    told = actions["auto_remove"].get("languages") or {}
    off = {name for name in languages if told.get(name, {"action": _action(unknown_language)})["action"] != "auto_remove"}
    removal_note = f"none is removed automatically ({actions['auto_remove'].get('outcome')})" if removal is None else ""
    return OperatingPoint(
        bin_default if review is None else snap_up(review),
        NUM_BINS if removal is None else snap_up(removal),
        frozenset(off),
        note,
        removal_note,
    )


def _action(unknown_language: str) -> str:
    return "auto_remove" if unknown_language == "pool" else "review"
