"""What the gate asks of the logo detector: a floor that its mAP@50 must not be shown to miss, and a certified confidence."""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from upheld.evaluation.gate import Check, bounded, check
from upheld.feature_store.decisions.thresholds import PROVEN

FLOOR, CERTIFICATE = "logo_map_50", "logo_certificate"
CELL = ("logo", "all")


def checks(logos: Mapping[str, Any] | None, min_map_50: float) -> Iterator[Check]:
    """The two checks, or none where no detector was evaluated.

    Args:
        logos: of `report.logos.read`, or None.
        min_map_50: the floor; a detector fails it only where the whole interval lies below.

    Yields:
        checks as in gate.json. Without a detector they do not apply; a confidence without a certificate is listed and does not hold, since
        nothing is removed for a logo alone.
    """
    if logos is None:
        return
    certificate = logos["certificate"]
    if logos["untrained"]:
        yield check(FLOOR, "/".join(CELL), None, min_map_50, "not_applicable", f"no detector: {logos['untrained']}")
        yield check(CERTIFICATE, CELL[0], None, certificate["target"], "not_applicable", f"no detector: {logos['untrained']}")
        return
    row = logos["figures"]["map_50"]
    yield bounded(FLOOR, CELL, row and SimpleNamespace(**row), min_map_50, at_least=True, must_show=False)
    yield _certified(certificate)


def _certified(certificate: Mapping[str, Any]) -> Check:
    outcome, threshold, bound, target = (certificate[name] for name in ("outcome", "threshold", "bound", "target"))
    if threshold is None:
        need = certificate["need_n"]
        reason = " · ".join(filter(None, (outcome, certificate["reason"], f"about {need:,.0f} detections would settle it" if need else "")))
        return check(CERTIFICATE, CELL[0], None, target, "insufficient", reason)
    if outcome not in PROVEN:
        return check(CERTIFICATE, CELL[0], threshold, target, "fail", f"a threshold whose outcome is {outcome!r}")
    shown = bound is not None and bound >= target
    return check(CERTIFICATE, CELL[0], bound, target, "pass" if shown else "fail", f"{outcome} at {threshold:.4f}")
