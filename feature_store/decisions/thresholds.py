"""thresholds.json: what `upheld calibrate` and `upheld weekly` certify, serving routes by, and reports describe."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts.tables import ACTIONS

Bounded = Literal["auto_remove", "review"]  # the actions that have a threshold
BOUNDED: tuple[Bounded, ...] = get_args(Bounded)
PROVEN = ("certified", "kept")  # outcomes that allow automatic removal: the labels show it, or showed it and do not contradict it
STRENGTH = {action: strength for strength, action in enumerate(reversed(ACTIONS))}  # none < review < auto_remove
EXPECTED = {  # last part of a key -> what belongs there
    "categories": "the thresholds of each category, as `upheld calibrate` writes them",
    "threshold": "null or a number in [0, 1]",
    "languages": "an action for each language",
    "action": "auto_remove or review",
    "unknown_language": "review or pool",
}


class Entry(BaseModel):
    """A part of thresholds.json. Keys that are not named here are kept, so that files of other versions are passed on whole."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)


class Certificate(Entry):
    """One action's threshold, and what the labels show of it; a number that is not known is None.

    threshold: on the calibrated scale, in [0, 1]; None: the action never happens.
    outcome: certified, kept, abstained or insufficient; "in force" where it was read off decisions.
    target, delta: the share that is wanted, and the chance of certifying what misses it.
    bound: what the labels show of the target; n, n_eff: the labels, and what they are worth drawn at random.
    need_n, need_threshold: labels that would certify a threshold, and which.
    incumbent: the threshold before.
    path: the tests made, in their order.
    weeks, window_reason: the weeks whose labels count, and why there are no more; of weekly reports alone.
    """

    threshold: Annotated[float, Field(ge=0, le=1)] | None
    outcome: str | None = None
    target: float | None = None
    delta: float | None = None
    bound: float | None = None
    n: int | None = None
    n_eff: float | None = None
    need_n: int | None = None
    need_threshold: float | None = None
    incumbent: float | None = None
    reason: str | None = None
    path: list[dict[str, Any]] = []
    weeks: list[str] | None = None
    window_reason: str | None = None

    @property
    def proven(self) -> bool:
        """Whether its outcome allows automatic removal."""
        return self.outcome in PROVEN


class LanguageRule(Entry):
    """What happens to a post of one language that is over the removal threshold."""

    action: Bounded


class Removal(Certificate):
    """The certificate of automatic removal, and the languages with a rule of their own."""

    languages: dict[str, LanguageRule] = {}


class Category(Entry):
    """Both thresholds of a category."""

    review: Certificate
    auto_remove: Removal


class Thresholds(Entry):
    """The content of thresholds.json.

    categories: policy -> its thresholds.
    unknown_language: what happens over the removal threshold in a language without a rule of its own: a person reviews it (also where the
        key is absent), or it is pooled with the others and removed.
    synthetic: whether the labels are of generated posts; num_labels: how many certify.
    calibration_digest: of the calibration whose probabilities the thresholds are about.
    model_version: the model whose probabilities they are about, where the file says so.
    """

    categories: dict[str, Category]
    unknown_language: Literal["review", "pool"] = "review"
    synthetic: bool = False
    num_labels: int | None = None
    calibration_digest: str | None = None
    model_version: str | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read thresholds.json.

        Raises:
            BadUse: the file is missing, no JSON, or `parse` refuses it.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise BadUse(f"{path}: cannot be read ({error.strerror}); expected what `upheld calibrate` writes") from error
        except (ValueError, RecursionError) as error:
            raise BadUse(f"{path}: not valid JSON: {error}") from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: Any, origin: str = "thresholds.json") -> Self:
        """Check the content of thresholds.json.

        Args:
            content: parsed JSON.
            origin: name of the file in errors.

        Raises:
            BadUse: something required is absent or of another type, a threshold is neither null nor a number in [0, 1], or an action is
                unknown; names file and key.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            place = [str(part) for part in first["loc"]] or ["categories"]
            expected = f"expected {EXPECTED[place[-1]]}" if place[-1] in EXPECTED else first["msg"]
            found = "nothing" if first["type"] == "missing" else f"{first['input']!r:.200}"
            raise BadUse(f"{origin}: key {'.'.join(place)}: {expected}, found {found}") from error

    def write(self, path: Path) -> None:
        """Write thresholds.json with the keys that were given, whole or not at all."""
        files.write_json(path, self.model_dump(exclude_unset=True))

    def threshold(self, category: str, action: Bounded) -> float | None:
        """The threshold of an action; None where it never happens, or the category is not known."""
        known = self.categories.get(category)
        return None if known is None else getattr(known, action).threshold

    def unproven(self) -> list[str]:
        """Categories in which posts would be removed automatically without proof."""
        removals = {name: category.auto_remove for name, category in self.categories.items()}
        return [name for name, removal in removals.items() if removal.threshold is not None and not removal.proven]

    def require(self, policies: Collection[str], origin: str) -> None:
        """Refuse thresholds that lack a policy.

        Raises:
            BadUse: naming `origin` and the first policy without thresholds.
        """
        missing = [policy for policy in policies if policy not in self.categories]
        if missing:
            raise BadUse(f"{origin}: no thresholds for {missing[0]}, which the model predicts; calibrate them on this model's scores")

    def removes(self, category: str, language: str) -> bool:
        """Whether posts of a language that are over the category's removal threshold are removed; else a person reviews them."""
        rule = self.categories[category].auto_remove.languages.get(language)
        return self.unknown_language == "pool" if rule is None else rule.action == "auto_remove"

    def route(self, category: str, prob: NDArray[np.float64], language: Collection[str], frozen: bool) -> NDArray[np.str_]:
        """Action of each post for one category.

        Args:
            category: one of `categories`.
            prob: calibrated probabilities, float64 (N,) in [0, 1].
            language: N language tags.
            frozen: whether a person has stopped automatic removal of the category; such posts go to review.

        Returns:
            N of auto_remove, review, none. A post over the removal threshold is never left alone, however the review threshold stands.
        """
        removes = {tag: self.removes(category, tag) for tag in set(language)}
        allowed = np.array([removes[tag] for tag in language], dtype=bool) & (not frozen)
        removal, review = self.threshold(category, "auto_remove"), self.threshold(category, "review")
        over_removal = prob >= (np.inf if removal is None else removal)
        over_review = prob >= (np.inf if review is None else review)
        return np.select([over_removal & allowed, over_removal | over_review], ["auto_remove", "review"], "none")


def strongest(actions: Collection[str]) -> str:
    """The action that a post gets: the strongest over its categories."""
    return max(actions, key=STRENGTH.__getitem__)
