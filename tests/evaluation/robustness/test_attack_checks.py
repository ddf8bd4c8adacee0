"""What the gate asks of attacks: a check holds where the whole interval lies above its bound, and nowhere else."""

from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError
from score_worlds import settings

from upheld.common.params.evaluation import Gate
from upheld.evaluation import gate
from upheld.evaluation.metrics.paired import NOTHING
from upheld.evaluation.metrics.rows import COLUMNS

BOUNDS = settings().gate.model_copy(update={"required_cells": ("spam/all", "spam/en"), "max_recall_lost": {"swap": 0.3}})


def costs(lost: float | None, low: float | None, high: float | None, **changes: Any) -> pd.DataFrame:
    """One row of what attacks cost."""
    row = {"policy": "spam", "language": "all", "attack": "swap", "member": "ensemble", "metric": "recall"} | changes
    reason = None if lost is not None else "fewer than 10 violations were attacked"
    return pd.DataFrame([row | {"lost": lost, "ci_low": low, "ci_high": high, "n": 80, "reason": reason}])


def checks(attacks: pd.DataFrame | None, params: Gate = BOUNDS) -> list[dict[str, Any]]:
    return list(gate.attack_checks(attacks, params))


@pytest.mark.parametrize(
    ("row", "status", "reason"),
    [
        ((0.5, 0.31, 0.7), "fail", "between 0.31 and 0.7; the maximum is 0.3"),
        ((0.5, 0.3, 0.7), "insufficient", "not shown: between 0.3 and 0.7"),  # reaches the bound: not contradicted
        ((0.4, 0.2, 0.6), "insufficient", "80 labels are too few"),
        ((0.2, 0.1, 0.31), "insufficient", "not shown"),
        ((0.2, 0.1, 0.3), "pass", "between 0.1 and 0.3"),
        ((-0.1, -0.2, 0.0), "pass", "between -0.2 and 0"),
        ((None, None, None), "insufficient", "undefined: fewer than 10 violations were attacked"),
    ],
)
def test_a_loss_is_judged_by_its_whole_interval(row: tuple, status: str, reason: str) -> None:
    (check,) = checks(costs(*row))
    assert (check["name"], check["scope"], check["bound"], check["status"]) == ("recall_lost", "spam/all/attack=swap", 0.3, status)
    assert reason in check["reason"]


@pytest.mark.parametrize(
    "changes", [{"language": "en"}, {"member": "text"}, {"metric": "accuracy"}, {"policy": "hate_speech"}, {"attack": "drop"}]
)
def test_other_cells_members_metrics_and_attacks_hold_nothing(changes: dict[str, str]) -> None:
    (check,) = checks(costs(0.9, 0.8, 0.95, **changes))
    assert (check["status"], check["value"]) == ("insufficient", None)
    assert check["reason"] == "no post of this category was attacked so"


def test_without_a_table_or_a_bound_nothing_is_checked_and_each_category_once() -> None:
    assert checks(None) == []
    assert checks(costs(0.9, 0.8, 0.95), BOUNDS.model_copy(update={"max_recall_lost": {}})) == []
    both = BOUNDS.model_copy(update={"required_cells": ("spam/en", "hate_speech/all", "spam/all")})
    assert [check["scope"] for check in checks(costs(0.2, 0.1, 0.25), both)] == ["spam/all/attack=swap", "hate_speech/all/attack=swap"]


@pytest.mark.parametrize(("row", "held"), [((0.5, 0.31, 0.7), True), ((0.5, 0.3, 0.7), False), ((None, None, None), False)])
def test_a_failed_check_holds_the_whole_model_and_doubt_does_not(row: tuple, held: bool) -> None:
    nothing_else = {"minimums": {}, "maximums": {}, "max_loss": {}, "fairness": ()}
    params = BOUNDS.model_copy(update=nothing_else)
    further = gate.attack_checks(costs(*row), params)
    decision = gate.decide(pd.DataFrame(columns=COLUMNS), params, compared=NOTHING, thresholds=None, further=further)
    assert (decision["decision"] == "hold") is held


def test_the_bounds_in_force_are_few_and_a_misspelt_attack_is_refused() -> None:
    in_force = settings().gate
    assert in_force.max_recall_lost == {"swap": 0.3, "zero_width": 0.1, "homoglyphs": 0.1}
    with pytest.raises(ValidationError, match="max_recall_lost"):
        Gate.model_validate(in_force.model_dump() | {"max_recall_lost": {"swop": 0.3}})
