"""The logo detector in plain words: how much it finds, how often it is wrong, and what is missing before it can be relied on."""

from collections.abc import Iterator, Mapping
from typing import Any

from upheld.evaluation.report.words import count, listed, part, share

Logos = Mapping[str, Any]
MAX_P = 0.05  # chance of such a figure by luck, up to which a brand counts as found


def summary(logos: Logos) -> list[str]:
    """The section's first lines, from the detector's figures; of `logos.read`."""
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
