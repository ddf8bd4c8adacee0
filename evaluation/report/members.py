"""What fusion makes of its members, whether the model needs the score of another, and what a member forgot, in sentences."""

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
SOURCES = NAMES | {
    "text": "texts",
    "author": "the author's removals",
    "hashtags_and_links": "hashtags and links",
    "context": "the board or thread",
    "marks": "brand marks",
}


def read(path: Path) -> dict[str, Any]:
    """Read metadata.json of the fusion layer.

    Returns:
        incumbent: the model version whose score is an input, or None; sentences: one on each category that leaves members out, on those
        that do not, and on members that no category hears.

    Raises:
        BadUse: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        sentences = [*_left_out(content["members"]), *_all_kept(content["members"]), *_unheard(content["unheard"])]
        sentences += _hidden(content.get("hidden", {}))
        return {"incumbent": content["incumbent"], "sentences": sentences}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadUse(f"{path}: not readable as what fusion made of its members ({error}); run the stage fusion again") from error


def forgotten(path: Path) -> list[str]:
    """Read metadata.json of the text classifier: what it ranks worse than the champion's that it started from, on split val.

    Returns:
        one sentence for each language and category that lost, the largest loss first, then how many did not; none where training did not
        start from a champion's.

    Raises:
        BadUse: the file is missing or holds something else.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8")).get("since_start", [])
        worse = sorted((cell for cell in cells if cell["after"] < cell["before"]), key=lambda cell: cell["after"] - cell["before"])
        sentences = [
            f"The text classifier started from the champion's and ranks {spaced(cell['category'])} in {cell['language']} worse than that: "
            f"ROC-AUC {cell['after']:.3f}, before {cell['before']:.3f}, {count(cell['labels'], 'label')} of the posts that training sees."
            for cell in worse
        ]
        if cells:
            sentences.append(f"Ranked as well as before, or better: {len(cells) - len(worse)} of {count(len(cells), 'cell')} by language.")
        return sentences
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadUse(f"{path}: not readable as the record of a text classifier ({error}); run the stage text again") from error


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


def _left_out(members: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for category, verdicts in members.items():
        contrary = [NAMES[name] for name, verdict in verdicts.items() if verdict.get("is_contrary")]
        if contrary:
            yield capital(f"{listed(contrary)} were left out for {spaced(category)}: reviewed posts speak against what they say.")
        left = {name: verdict for name, verdict in verdicts.items() if verdict["left_out"] and not verdict.get("is_contrary")}
        if left:
            figures = "; ".join(
                f"cross-entropy {-verdict['gain']:.4f} lower (standard error {verdict['standard_error']:.4f}), "
                f"ROC-AUC {verdict['roc_auc_without']:.3f} against {verdict['roc_auc']:.3f}, {count(verdict['num'], 'post')} judged"
                for verdict in left.values()
            )
            who = f"{listed([NAMES[name] for name in left])} were left out for {spaced(category)}"
            yield capital(f"{who}: without them posts that the fit did not see are judged as well ({figures}).")


def _all_kept(members: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    kept = {category: verdicts for category, verdicts in members.items() if not any(verdict["left_out"] for verdict in verdicts.values())}
    told = [name for name, verdicts in kept.items() if any(verdict["gain"] is not None for verdict in verdicts.values())]
    for names, why in ((told, "none was shown to bring nothing"), (sorted(kept.keys() - told), "too few labels to tell what each brings")):
        if names:
            yield f"No member was left out for {listed([spaced(name) for name in names])}: {why}."


def _hidden(layers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What a hidden layer was found to bring, and where it was not worth having."""
    for category, verdict in layers.items():
        if not verdict["left_out"]:
            yield (
                f"For {spaced(category)} a small neural network weighs members together: posts that it was not fitted on are judged better "
                f"(cross-entropy {verdict['gain']:.4f} lower, standard error {verdict['standard_error']:.4f}; "
                f"ROC-AUC {verdict['roc_auc']:.3f} against {verdict['roc_auc_without']:.3f})."
            )
    if without := [spaced(category) for category, verdict in layers.items() if verdict["left_out"]]:
        yield f"A small neural network beside the regression was tried for {listed(without)}, and brought nothing beyond chance."


def _unheard(names: list[str]) -> Iterator[str]:
    if names:
        yield capital(f"{listed([NAMES[name] for name in names])}: left out in every category, so not run when posts are scored.")
