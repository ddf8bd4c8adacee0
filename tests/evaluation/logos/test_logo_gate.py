"""What the gate asks of logos: each check is tripped by taking away or turning round the evidence that it asks for."""

from typing import Any

import pandas as pd
import pytest
from score_worlds import settings

from upheld.evaluation import gate
from upheld.evaluation.metrics.paired import NOTHING
from upheld.evaluation.metrics.rows import COLUMNS

FLOOR = 0.3


def logos(**changes: Any) -> dict[str, Any]:
    """A detector that meets both; `map_50` is (value, ci_low, ci_high)."""
    value, low, high = changes.pop("map_50", (0.5, 0.4, 0.6))
    certificate = {"threshold": 0.7, "outcome": "certified", "target": 0.95, "bound": 0.96, "need_n": None, "reason": None}
    row = {"value": value, "ci_low": low, "ci_high": high, "n": 120, "reason": "no mark" if value is None else None}
    return {"untrained": changes.pop("untrained", None), "certificate": certificate | changes, "figures": {"map_50": row}}


def statuses(told: dict[str, Any] | None) -> dict[str, str]:
    return {check["name"]: check["status"] for check in gate.logo_checks(told, FLOOR)}


def test_a_detector_that_meets_both() -> None:
    assert statuses(logos()) == {"logo_map_50": "pass", "logo_certificate": "pass"}


@pytest.mark.parametrize(
    ("row", "status"),
    [
        ((0.2, 0.1, 0.29), "fail"),
        ((0.2, 0.1, 0.3), "insufficient"),  # the interval reaches the floor: not contradicted
        ((0.5, 0.29, 0.7), "insufficient"),
        ((0.5, 0.3, 0.7), "pass"),
        ((None, None, None), "insufficient"),
        ((float("nan"), 0.1, 0.2), "insufficient"),
        ((0.2, None, 0.25), "insufficient"),
        ((0.2, 0.1, None), "insufficient"),
    ],
)
def test_the_floor_is_failed_by_the_whole_interval_alone(row: tuple, status: str) -> None:
    assert statuses(logos(map_50=row)) == {"logo_map_50": status, "logo_certificate": "pass"}


def test_a_metric_that_is_not_there_is_no_evidence() -> None:
    told = logos()
    told["figures"]["map_50"] = None
    assert statuses(told)["logo_map_50"] == "insufficient"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"outcome": "kept"}, "pass"),
        ({"outcome": "abstained"}, "fail"),  # a threshold that nobody certified
        ({"outcome": "tuned by hand"}, "fail"),
        ({"bound": None}, "fail"),
        ({"bound": 0.94}, "fail"),
        ({"threshold": None, "outcome": "abstained", "bound": 0.6, "need_n": 340.0, "reason": "too few labels"}, "insufficient"),
    ],
)
def test_a_confidence_needs_its_certificate(changes: dict[str, Any], status: str) -> None:
    assert statuses(logos(**changes)) == {"logo_map_50": "pass", "logo_certificate": status}


def test_what_a_certificate_lacks_is_said() -> None:
    told = logos(threshold=None, outcome="abstained", need_n=1340.0, reason="too few labels")
    (reason,) = [check["reason"] for check in gate.logo_checks(told, FLOOR) if check["name"] == "logo_certificate"]
    assert reason == "abstained · too few labels · about 1,340 detections would settle it"


def test_without_a_detector_nothing_applies() -> None:
    assert statuses(logos(untrained="no photo", map_50=(0.0, 0.0, 0.0))) == dict.fromkeys(
        ("logo_map_50", "logo_certificate"), "not_applicable"
    )
    assert statuses(None) == {}


@pytest.mark.parametrize(("told", "held"), [(logos(), False), (logos(map_50=(0.1, 0.0, 0.2)), True), (logos(outcome="abstained"), True)])
def test_a_failed_check_holds_the_whole_model(told: dict[str, Any], held: bool) -> None:
    params = settings().gate.model_copy(update={"required_cells": (), "fairness": ()})
    checks = gate.logo_checks(told, FLOOR)
    metrics = pd.DataFrame(columns=COLUMNS)
    decision = gate.decide(metrics, params, compared=NOTHING, thresholds=None, must_show=False, further=checks)
    assert (decision["decision"] == "hold") is held
    assert {check["name"] for check in decision["checks"]} >= {"logo_map_50", "logo_certificate"}
