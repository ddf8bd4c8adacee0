"""What the report says of attacks: which one hides most, what each does and what it takes. It never shows a post's text."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pandas as pd

from upheld.evaluation.gate import RECALL_LOST
from upheld.evaluation.metrics.paired import MIN_CLASS
from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.report.words import capital, count, listed, measured, points, spaced
from upheld.evaluation.robustness.figures import ACCURACY, RECALL
from upheld.evaluation.robustness.table import ENSEMBLE, IMAGE, MEMBERS, TEXT

THINGS = {TEXT: "texts", IMAGE: "pictures"}
BY_HAND, BY_TRIES, BY_COPY = "nothing: anybody can do it by hand", "many tries, each answered with a score", "a copy of the model"


class Attack(NamedTuple):
    """An attack in plain words: its name, what it does, an example on a harmless word, and what whoever tries it needs."""

    title: str
    does: str
    example: str
    needs: str


ATTACKS = {
    "swap": Attack("swapped letters", "Two neighbouring letters of a word change places.", "picnic → pcinic", BY_HAND),
    "homoglyphs": Attack(
        "look-alike letters",
        "Letters give way to letters of other alphabets that look the same.",
        "picnic → \u0440icnic, whose first letter is Cyrillic",
        BY_HAND,
    ),
    "zero_width": Attack(
        "invisible characters", "Characters that nobody sees stand inside a word.", "picnic → pic·nic, where · is not seen", BY_HAND
    ),
    "spacing": Attack("spaced letters", "Spaces stand between the letters of a word.", "picnic → p i c n i c", BY_HAND),
    "leetspeak": Attack("digits for letters", "Digits and signs stand for letters.", "picnic → p1cn1c", BY_HAND),
    "transliteration": Attack(
        "Latin letters",
        "Words of other scripts are written in Latin letters, and accents are left out.",
        "\u043f\u0438\u043a\u043d\u0438\u043a → piknik",
        BY_HAND,
    ),
    "repeat": Attack("repeated letters", "A letter of a word comes several times.", "picnic → piiicnic", BY_HAND),
    "drop": Attack("dropped letters", "A letter of a word is left out.", "picnic → picic", BY_HAND),
    "search": Attack(
        "searched changes",
        "A program tries changes like those above, word by word, and keeps those that lower the score most, until it is low.",
        "picnic → pcinic or p1cnic or p.i.c.n.i.c, whichever scores lowest",
        BY_TRIES,
    ),
    "fgsm": Attack(
        "one step of all pixels",
        "Every pixel changes a little, in the direction that lowers the score (fast gradient sign method).",
        "a photo of a picnic that looks the same",
        BY_COPY,
    ),
    "pgd": Attack(
        "many steps of all pixels",
        "As one step of all pixels, in many small steps (projected gradient descent).",
        "a photo of a picnic that looks the same",
        BY_COPY,
    ),
    "pixels": Attack(
        "single pixels",
        "A few pixels get another colour, those that lower the score most.",
        "a photo of a picnic with a few dots",
        BY_TRIES,
    ),
    "jpeg": Attack(
        "saved again",
        "The picture is saved again as a small JPEG, as happens to pictures that are passed on.",
        "a photo of a picnic, a little blurred",
        BY_HAND,
    ),
}

Row = dict[str, Any]
Attacks = Mapping[str, Any]  # what `content` gives


def content(table: pd.DataFrame, num_violations: int) -> Row:
    """What the section shows.

    Args:
        table: of `robustness.figures.measure`; it may have no row.
        num_violations: labelled posts that are violations, over all categories.

    Returns:
        nothing: why nothing was attacked, or None; pooled: [{policy, language, modality, attack, metric, members}] of all languages
        together, where enough were attacked, what is lost most first;
        worst: as pooled, of each category, language (all of them first) and modality the attack that costs the ensemble most recall;
        thin: [{policy, modality, languages}], languages being [{language, n}], where no attack has MIN_CLASS violations (`all` alone where
        all languages together have not); accuracy: as pooled, of attacks on pictures.
        members: member -> {n, edits, clean, attacked, lost}; the last three are {value, ci_low, ci_high, n}, or None.
    """
    names = ["policy", "language", "modality", "attack", "metric"]
    cells: list[Row] = [dict(zip(names, of, strict=True)) | {"members": dict(_members(part))} for of, part in table.groupby(names)]
    cells.sort(key=lambda cell: (-_lost(cell), *(cell[name] for name in names)))
    of_recall = [cell for cell in cells if cell["metric"] == RECALL]
    places: dict[tuple[str, ...], list[Row]] = {}
    for cell in sorted(of_recall, key=lambda cell: (cell["policy"], cell["language"] != ALL, cell["language"], cell["modality"] != TEXT)):
        places.setdefault((cell["policy"], cell["language"], cell["modality"]), []).append(cell)
    worst: list[Row] = []
    thin: dict[tuple[str, str], list[Row]] = {}
    for (policy, language, modality), (first, *others) in places.items():
        if first["members"][ENSEMBLE]["lost"]:
            worst.append(first)
            continue
        told = thin.setdefault((policy, modality), [])
        if [one["language"] for one in told] != [ALL]:  # too few in all languages together are too few in each
            told.append({"language": language, "n": max(cell["members"][ENSEMBLE]["n"] for cell in (first, *others))})
    nothing = None
    if not cells:
        nothing = "Nothing could be attacked: no post of the test split has a label that says violation."
        if num_violations:
            nothing = (
                f"Nothing was attacked, although the test split has {count(num_violations, 'labelled violation')}: "
                "no trained classifier reads their texts or pictures, or params.yaml allows no attack."
            )
    together = [cell for cell in cells if cell["language"] == ALL and cell["members"][ENSEMBLE]["lost"]]
    pooled, accuracy = ([cell for cell in together if cell["metric"] == metric] for metric in (RECALL, ACCURACY))
    few = [{"policy": policy, "modality": modality, "languages": told} for (policy, modality), told in thin.items()]
    return {"nothing": nothing, "pooled": pooled, "worst": worst, "thin": few, "accuracy": accuracy}


def _members(part: pd.DataFrame) -> Iterator[tuple[str, Row]]:
    """Each member's figures in one cell, the ensemble last."""
    rows = {row["member"]: row for row in part.astype(object).where(part.notna(), None).to_dict("records")}
    for member in MEMBERS:
        if row := rows.get(member):
            ends = {"clean": ("clean_low", "clean_high"), "attacked": ("attacked_low", "attacked_high"), "lost": ("ci_low", "ci_high")}
            rates = {
                name: None if row[name] is None else {"value": row[name], "ci_low": row[low], "ci_high": row[high], "n": row["n"]}
                for name, (low, high) in ends.items()
            }
            yield member, {name: row[name] for name in ("n", "edits")} | rates


def _lost(cell: Row) -> float:
    """Recall or accuracy that the ensemble loses; where it is not known less than any."""
    lost = cell["members"][ENSEMBLE]["lost"]
    return float(lost["value"]) if lost else -2.0


def summary(attacks: Attacks) -> list[str]:
    """The section's first lines: the worst attack, the worst that needs nothing but hands, and what the ensemble is worth."""
    known = attacks["pooled"]
    if not known:
        return [attacks["nothing"] or f"Too little to say: in no category were {MIN_CLASS} violations attacked."]
    lines = [f"The worst attack: {_sentence(known[0])}"]
    by_hand = [cell for cell in known if ATTACKS[cell["attack"]].needs == BY_HAND]
    if by_hand and by_hand[0] is not known[0]:
        lines.append(f"The worst that anybody can do by hand: {_sentence(by_hand[0])}")
    compared = [[row["lost"]["value"] for row in cell["members"].values() if row["lost"]] for cell in known]
    beside = [lost for lost in compared if len(lost) > 1]  # the ensemble's is the last
    if beside:
        least = sum(lost[-1] <= min(lost) for lost in beside)
        cases = count(len(beside), "case")
        lines.append(f"In {least:,} of {cases} (an attack on a category) the ensemble loses no more than each single classifier.")
    return lines


def _sentence(cell: Row) -> str:
    row = cell["members"][ENSEMBLE]
    found = f"found before: {measured(row['clean'])}, after: {measured(row['attacked'])}"
    lost = f"lost: {points(row['lost']['value'])} points ({points(row['lost']['ci_low'])} to {points(row['lost']['ci_high'])})"
    return f"{ATTACKS[cell['attack']].title}, {spaced(cell['policy'])}. Of {count(row['n'], 'violation')} {found}; {lost}."


def attention(story: Mapping[str, Any]) -> Iterator[str]:
    """One sentence on each category that loses more to attacks than the gate tolerates, beyond doubt."""
    failed = [check for check in story["gate"]["checks"] if check["name"] == RECALL_LOST and check["status"] == "fail"]
    together: dict[str, list[str]] = {}
    for check in failed:
        title = ATTACKS[check["scope"].rpartition("=")[2]].title
        lost = f"{title} hide {points(check['value'])} points of recall where {points(check['bound'])} are tolerated"
        together.setdefault(check["scope"].partition("/")[0], []).append(lost)
    for policy, losses in together.items():
        yield f"{capital(spaced(policy))} is easily hidden: {listed(losses)}."
