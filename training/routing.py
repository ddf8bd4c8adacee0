"""From calibrated probabilities to actions: thresholds.json as a rule per category, and the rule applied."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from feature_store.contracts import ACTIONS
from feature_store.errors import BadUse

STRENGTH = {action: strength for strength, action in enumerate(reversed(ACTIONS))}  # none < review < auto_remove


@dataclass(frozen=True)
class Rule:
    """Thresholds of one category on the calibrated scale; None: that action never happens.

    `removes` says for each language with evidence whether it allows automatic removal, `removes_elsewhere` for all others;
    where it is not allowed, such a post goes to review.
    """

    thr_auto_remove: float | None
    thr_review: float | None
    removes: Mapping[str, bool]
    removes_elsewhere: bool


def read_rules(thresholds: Mapping[str, Any], policies: Collection[str], origin: str = "thresholds.json") -> dict[str, Rule]:
    """Take the rules out of the content of thresholds.json.

    Args:
        thresholds: categories.C.{auto_remove, review}.threshold and categories.C.auto_remove.languages.L.action; a language
            that is not listed goes by `unknown_language`: pool (as the others) or review (also where the key is absent).
        policies: what the model predicts.
        origin: name of the file in errors.

    Returns:
        policy -> rule.

    Raises:
        BadUse: a policy of the model is absent, or a threshold is neither null nor a number in [0, 1].
    """
    categories = thresholds.get("categories")
    if not isinstance(categories, Mapping):
        raise BadUse(f"{origin}: expected a mapping under the key `categories`; name a file that `upheld calibrate` wrote")
    missing = [policy for policy in policies if not isinstance(categories.get(policy), Mapping)]
    if missing:
        raise BadUse(f"{origin}: no thresholds for {missing[0]}, which the model predicts; calibrate them on this model's scores")
    pooled = thresholds.get("unknown_language") == "pool"
    return {policy: _rule(categories[policy], pooled, f"{origin}: categories.{policy}") for policy in policies}


def route(rule: Rule, prob: NDArray[np.float64], language: Collection[str], frozen: bool) -> NDArray[np.str_]:
    """Action of each post for one category.

    Args:
        rule: thresholds of the category.
        prob: calibrated probabilities, float64 (N,) in [0, 1].
        language: N language tags.
        frozen: whether a person has stopped automatic removal of the category; such posts go to review.

    Returns:
        N of auto_remove, review, none. A post over the removal threshold is never left alone, however `thr_review` stands.
    """
    allowed = np.array([rule.removes.get(tag, rule.removes_elsewhere) for tag in language], dtype=bool) & (not frozen)
    over_removal = prob >= (np.inf if rule.thr_auto_remove is None else rule.thr_auto_remove)
    over_review = prob >= (np.inf if rule.thr_review is None else rule.thr_review)
    return np.select([over_removal & allowed, over_removal | over_review], ["auto_remove", "review"], "none")


def strongest(actions: Collection[str]) -> str:
    """The action that a post gets: the strongest over its categories."""
    return max(actions, key=STRENGTH.__getitem__)


def _rule(category: Mapping[str, Any], pooled: bool, where: str) -> Rule:
    removal = category.get("auto_remove") or {}
    languages = removal.get("languages") or {}
    return Rule(
        thr_auto_remove=_threshold(removal, f"{where}.auto_remove"),
        thr_review=_threshold(category.get("review") or {}, f"{where}.review"),
        removes={tag: found["action"] == "auto_remove" for tag, found in languages.items()},
        removes_elsewhere=pooled,
    )


def _threshold(entry: Mapping[str, Any], where: str) -> float | None:
    value = entry.get("threshold")
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise BadUse(f"{where}.threshold: expected null or a number in [0, 1], got {value!r}")
    return float(value)
