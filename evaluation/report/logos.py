"""What the report shows of the logo detector, out of the folder that `upheld logo evaluate` wrote.

And what it says in plain words: how much the detector finds, how often it is wrong, what is missing before it can be relied on.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.evaluation.logos.exposure import COLUMNS
from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.report.words import count, listed, part, share

FIGURES = ("map_50", "map_50_95", "recall", "precision", "false_alarms_per_1000")
OF_BRAND = ("ap_50", "recall", "precision")
ONE_SHOT = ("one_shot_ap_50", "one_shot_chance", "one_shot_p")
SIZES = ("small", "medium", "large")
MAX_PAIRS = 10  # of brands taken for others
MAX_PLACES = 15  # of exposure; exposure.parquet has them all
JPEG = b"\xff\xd8\xff"
MAX_P = 0.05  # chance of such a figure by luck, up to which a brand counts as found

Row = dict[str, Any]
Logos = Mapping[str, Any]  # what `read` gives


def read(folder: Path) -> dict[str, Any]:
    """Read what `upheld logo evaluate` wrote.

    Args:
        folder: metrics.parquet, confusion.parquet and logo.json; sheet.jpg and exposure.parquet where there are any.

    Returns:
        untrained: why there is no detector, or None; synthetic; threshold; certificate; photos, bare_photos, marks: of split test;
        figures: metric -> row or None; sizes: [{name, map_50}]; brands: [{name, one_shot, metrics}], least found first, without marks last;
        pairs: [{mark, said, count, marks}], a null mark is a photo's background; more_pairs; sheet: data URI or None; tiles: [{kind,
        caption}]; exposure: None, or {places, num_places, num_brands}, the rows with most posts first.

    Raises:
        BadUse: a file is missing or holds something else.
    """
    try:
        payload = json.loads((folder / "logo.json").read_text(encoding="utf-8"))
        names = ("untrained", "synthetic", "threshold", "certificate", "tiles")
        test = payload["counts"]["splits"]["test"]
        table, figures = pd.read_parquet(folder / "metrics.parquet"), ["value", "ci_low", "ci_high", "n", "reason"]
        rows = table[["group_column", "group_value", "metric", *figures]].astype(object).where(table.notna(), None)
        cells = {tuple(row[:3]): dict(zip(figures, row[3:], strict=True)) for row in rows.itertuples(index=False, name=None)}
        by_ap = [(brand, brand["metrics"]["ap_50"]["value"]) for brand in _brands(cells, payload["one_shot"])]
        brands = [brand for brand, _ in sorted(by_ap, key=lambda pair: (pair[1] is None, pair[1] or 0.0, pair[0]["name"]))]
        sheet = (folder / "sheet.jpg").read_bytes() if (folder / "sheet.jpg").exists() else None
        if sheet is not None and not sheet.startswith(JPEG):
            raise ValueError("sheet.jpg is no JPEG")
        exposure = None
        if (folder / "exposure.parquet").exists():
            seen = pd.read_parquet(folder / "exposure.parquet")[COLUMNS]
            keys = ["num_posts", "area_share_shown", "brand", "context_id", "week"]
            order = seen.sort_values(keys, ascending=[False, False, True, True, False])
            places = order.head(MAX_PLACES).astype(object).to_dict("records")
            exposure = {"places": places, "num_places": len(seen), "num_brands": int(seen["brand"].nunique())}
        return {
            **{name: payload[name] for name in names},
            "photos": test["photos"],
            "bare_photos": test["photos_without_logos"],
            "marks": test["boxes"],
            "figures": {name: cells.get((ALL, ALL, name)) for name in FIGURES},
            "sizes": [{"name": name, "map_50": cells.get(("size", name, "map_50"))} for name in SIZES],
            "brands": brands,
            **_pairs(pd.read_parquet(folder / "confusion.parquet"), {brand["name"]: brand["marks"] for brand in brands}),
            # inside a data URI, for a page that needs no network
            "sheet": sheet and "data:image/jpeg;base64," + base64.b64encode(sheet).decode("ascii"),
            "exposure": exposure,
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException) as error:
        raise BadUse(f"{folder}: cannot be read ({error!r}); expected what `upheld logo evaluate` writes; run it again") from error


def _brands(cells: Mapping[tuple[str, str, str], Row], one_shot: list[str]) -> Iterator[Row]:
    for column, brand, metric in cells:
        if (column, metric) == ("brand", "ap_50"):
            known = brand in one_shot
            metrics = {name: cells["brand", brand, name] if known or name not in ONE_SHOT else None for name in (*OF_BRAND, *ONE_SHOT)}
            yield {"name": brand, "one_shot": known, "marks": cells[column, brand, metric]["n"], "metrics": metrics}


def _pairs(confusion: pd.DataFrame, marks: Mapping[str, int]) -> dict[str, Any]:
    """Detections of a brand that is not there, the most frequent first."""
    rows = confusion.astype(object).where(confusion.notna(), None)
    wrong = [row for row in rows[["mark", "said", "count"]].to_dict("records") if row["said"] is not None and row["mark"] != row["said"]]
    wrong.sort(key=lambda row: (-row["count"], str(row["mark"]), row["said"]))
    shown = [row | {"marks": marks.get(row["mark"])} for row in wrong[:MAX_PAIRS]]
    return {"pairs": shown, "more_pairs": len(wrong) - len(shown)}


def summary(logos: Logos) -> list[str]:
    """The section's first lines, from the detector's figures."""
    if logos["untrained"]:
        return [f"There is no logo detector: {logos['untrained']}."]
    recall, precision, alarms = (logos["figures"][name] for name in ("recall", "precision", "false_alarms_per_1000"))
    lines = []
    if _known(recall):
        found = f"{part(recall['value'])} of the {count(recall['n'], 'mark')}"
        lines.append(f"The detector finds {found} on photos held out ({_between(recall)}).")
    else:
        lines.append(f"We do not know how many marks it finds: {(recall or {}).get('reason') or 'no mark'} on photos held out.")
    if _known(precision):
        reported = count(precision["n"], "mark")
        lines.append(f"Of the {reported} that it reports there, {part(precision['value'])} are right ({_between(precision)}).")
    if _known(alarms):
        seen = f"{alarms['ci_low']:,.0f} to {alarms['ci_high']:,.0f}; seen on {count(alarms['n'], 'such photo')}"
        lines.append(f"On 1,000 photos without a logo it reports {alarms['value']:,.0f} ({seen}).")
    return [*lines, _standing(logos)]


def attention(logos: Logos | None) -> Iterator[tuple[str, str]]:
    """What a person should know before they rely on it: (`look` or `note`, sentence)."""
    if logos is None or logos["untrained"]:
        return
    if logos["synthetic"]:
        yield "look", "Logos: some of the photos are generated, so the detector's figures say little about real ones."
    if logos["certificate"]["threshold"] is None:
        yield "note", f"Logos: {_standing(logos)}"
    if lucky := [brand["name"] for brand in logos["brands"] if brand["one_shot"] and not beats_luck(brand)]:
        verb = "is" if len(lucky) == 1 else "are"
        yield "look", f"Logos: {listed(lucky)}, learned from composites alone, {verb} not shown to be found better than by luck."


def beats_luck(brand: Mapping[str, Any]) -> bool:
    """Whether a brand known from composites alone is found better than luck explains."""
    return bool(brand["metrics"]["one_shot_p"]["value"] <= MAX_P)


def picture(logos: Logos) -> str:
    """What the sheet shows, for who does not see it."""
    kinds = []
    for kind, name in (("found", "mark found"), ("missed", "mark missed"), ("false alarm", "false alarm")):
        captions = [tile["caption"] for tile in logos["tiles"] if tile["kind"] == kind]
        if captions:
            noun = count(len(captions), name) if len(captions) == 1 or kind == "false alarm" else f"{len(captions)} marks {kind}"
            kinds.append(f"{noun}: {', '.join(captions)}")
    return f"{count(len(logos['tiles']), 'photo')} with a frame each. {'. '.join(kinds)}."


def _standing(logos: Logos) -> str:
    """Whether the confidence from which detections count is certified, and if not, what it would take."""
    certificate, at = logos["certificate"], f"{logos['threshold']:.2f}"
    error = share(certificate["delta"])
    right = f"at least {share(certificate['target'])} of what it reports is right"
    if certificate["threshold"] is not None:
        return f"Detections count from a confidence of {at} on, where it is certified that {right} (chance of error {error})."
    need = f" About {count(round(certificate['need_n']), 'detection')} on labelled photos would settle it." if certificate["need_n"] else ""
    why = f" ({certificate['reason']})" if certificate["reason"] else ""
    return f"At no confidence is it certified yet that {right}{why}.{need} Until then detections count from {at} on."


def _known(row: Mapping[str, Any] | None) -> bool:
    return row is not None and row["value"] is not None


def _between(row: Mapping[str, Any]) -> str:
    return f"{share(row['ci_low'])} to {share(row['ci_high'])}"
