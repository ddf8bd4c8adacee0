"""What fusion makes of its members, and whether the model needs the score of another: what the stage `fusion` wrote, in sentences."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from upheld.common.errors import BadUse
from upheld.evaluation.report.words import capital, count, listed, spaced

NAMES = {
    "text": "encoded texts",
    "ngrams": "n-grams",
    "image": "pictures",
    "audio": "sounds",
    "incumbent": "the incumbent's scores",
}


def read(path: Path) -> dict[str, Any]:
    """Read metadata.json of the fusion layer.

    Returns:
        incumbent: the model version whose score is an input, or None; sentences: one a category on the members that it leaves out, and
        one on those that no category hears.

    Raises:
        BadUse: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sentences = [_of_category(category, verdicts) for category, verdicts in content["members"].items()]
        return {"incumbent": content["incumbent"], "sentences": [*sentences, *_unheard(content["unheard"])]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadUse(f"{path}: not readable as what fusion made of its members ({error}); run the stage fusion again") from error


def needs(version: str) -> str:
    """That a model cannot do without another's score."""
    return (
        f"This model needs the score of {version}: who scores posts with it must go on running that model and give its decisions; "
        "a post without one is scored without it."
    )


def contains(compared: Mapping[str, Any], version: str | None) -> Iterator[str]:
    """What a comparison says of a model that takes the other's score; `compared` has the names of a Comparator."""
    if version in compared["names"]:
        yield f"This model contains what it is compared with: the score of {version} is an input of it, so a difference is what it adds."


def _of_category(category: str, verdicts: Mapping[str, Any]) -> str:
    left = {name: verdict for name, verdict in verdicts.items() if verdict["left_out"]}
    if not left:
        told = any(verdict["gain"] is not None for verdict in verdicts.values())
        why = "none was shown to bring nothing" if told else "too few labels to tell what each brings"
        return capital(f"{spaced(category)}: no member was left out; {why}.")
    names = [NAMES[name] for name in left]
    figures = "; ".join(
        f"cross-entropy {-verdict['gain']:.4f} lower (standard error {verdict['standard_error']:.4f}), "
        f"ROC-AUC {verdict['roc_auc_without']:.3f} against {verdict['roc_auc']:.3f}, {count(verdict['num'], 'post')} judged"
        for verdict in left.values()
    )
    return capital(f"{listed(names)} were left out for {spaced(category)}: without them the fit on validation is as good ({figures}).")


def _unheard(names: list[str]) -> Iterator[str]:
    if names:
        yield capital(f"{listed([NAMES[name] for name in names])}: left out in every category, so not run when posts are scored.")
