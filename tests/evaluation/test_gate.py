"""The gate: each guard is proven by taking away the evidence that it asks for."""

import numpy as np
import pandas as pd
import pytest
from score_worlds import thresholds

from upheld.common.params.evaluation import Gate
from upheld.evaluation import gate
from upheld.evaluation.metrics.paired import NOTHING, Comparator
from upheld.evaluation.metrics.rows import COLUMNS
from upheld.feature_store.decisions.thresholds import Thresholds

PARAMS = Gate(
    required_cells=("spam/all",),
    minimums={"roc_auc": 0.7},
    maximums={"ce2_debiased": 0.02},
    max_loss={"roc_auc": 0.02},
    fairness=("fpr_gap",),
    logo_min_map_50=0.3,
    max_recall_lost={},
)
PASSING = {"roc_auc": (0.8, 0.75, 0.85), "ce2_debiased": (0.005, 0.0, 0.01), "roc_auc_change": (0.01, -0.01, 0.03)}


def metrics(**changes) -> pd.DataFrame:
    """A table that passes; `spam__en__roc_auc=(...)` replaces or adds a cell, None takes it away."""
    cells = {f"{cell}__{name}": row for cell in ("spam__all", "spam__en") for name, row in PASSING.items()}
    cells |= {"spam__en__fpr_gap": (0.01, 0.0, 0.02, "PASS")}
    cells |= changes
    rows = []
    for name, row in cells.items():
        if row is not None:
            category, language, metric = name.split("__")
            value, low, high, *verdict = row
            rows.append((category, language, "all", "all", metric, value, low, high, 200, 180.0, (verdict or [None])[0], None, "because"))
    return pd.DataFrame(rows, columns=COLUMNS)


CHAMPION = Comparator("champion", ("champion 3",))


def decide(table=None, *, compared=CHAMPION, thr=None, params=PARAMS):
    return gate.decide(
        metrics() if table is None else table, params, compared=compared, thresholds=None if thr is None else Thresholds.parse(thr)
    )


def failed(decision):
    return {(check["name"], check["scope"]) for check in decision["checks"] if check["status"] == "fail"}


def test_all_evidence_promotes() -> None:
    decision = decide()
    assert decision["decision"] == "promote"
    assert {check["status"] for check in decision["checks"]} == {"pass"}


@pytest.mark.parametrize("metric", PASSING)
@pytest.mark.parametrize(
    "row",
    [
        None,
        (None, None, None),
        (np.nan, np.nan, np.nan),
        (np.inf, 0.0, np.inf),
        (0.8, None, None),
        (0.8, np.nan, 0.9),
    ],
)
def test_a_required_cell_without_evidence_holds(metric, row) -> None:
    decision = decide(metrics(**{f"spam__all__{metric}": row}))
    assert decision["decision"] == "hold"
    assert failed(decision) == {(metric, "spam/all")}


@pytest.mark.parametrize(
    ("metric", "straddling", "missing"),
    [
        ("roc_auc", (0.75, 0.65, 0.85), (0.6, 0.55, 0.65)),
        ("ce2_debiased", (0.01, 0.0, 0.03), (0.05, 0.03, 0.07)),
        ("roc_auc_change", (0.01, -0.03, 0.05), (-0.1, -0.15, -0.05)),
    ],
)
def test_bounds_are_met_by_the_whole_interval(metric, straddling, missing) -> None:
    for row in (straddling, missing):
        assert failed(decide(metrics(**{f"spam__all__{metric}": row}))) == {(metric, "spam/all")}
    # Elsewhere doubt is listed and only contradiction holds.
    doubtful = decide(metrics(**{f"spam__en__{metric}": straddling}))
    assert doubtful["decision"] == "promote"
    assert [check["scope"] for check in doubtful["checks"] if check["status"] == "insufficient"] == ["spam/en"]
    assert failed(decide(metrics(**{f"spam__en__{metric}": missing}))) == {(metric, "spam/en")}


def test_other_cells_without_evidence_are_listed_and_do_not_hold() -> None:
    decision = decide(metrics(spam__sw__roc_auc=(None, None, None), spam__sw__fpr_gap=(None, None, None, "INSUFFICIENT")))
    assert decision["decision"] == "promote"
    listed = {(check["name"], check["scope"]) for check in decision["checks"] if check["status"] == "insufficient"}
    assert {("roc_auc", "spam/sw"), ("fpr_gap", "spam/sw"), ("ce2_debiased", "spam/sw")} <= listed


def test_a_required_cell_that_is_not_in_the_data_holds() -> None:
    params = PARAMS.model_copy(update={"required_cells": ("spam/all", "hate_speech/all")})
    assert {scope for _, scope in failed(decide(params=params))} == {"hate_speech/all"}


def test_without_required_cells_nothing_is_shown() -> None:
    assert decide(params=PARAMS.model_copy(update={"required_cells": ()}))["decision"] == "hold"


def test_a_category_that_got_worse_holds_within_the_tolerated_loss_and_a_language_does_not() -> None:
    slightly = (-0.01, -0.015, -0.005)  # less than may be lost
    assert failed(decide(metrics(spam__all__roc_auc_change=slightly))) == {("roc_auc_change", "spam/all")}
    assert decide(metrics(spam__en__roc_auc_change=slightly))["decision"] == "promote"
    other = decide(metrics(hate_speech__all__roc_auc_change=slightly))  # no required cell
    assert failed(other) == {("roc_auc_change", "hate_speech/all")}
    assert decide(metrics(spam__all__roc_auc_change=(-0.005, -0.01, 0.0)))["decision"] == "promote"


def test_doubt_against_a_champion_holds_and_against_what_served_is_listed() -> None:
    table = metrics(spam__all__roc_auc_change=(0.01, -0.03, 0.05))
    assert failed(decide(table)) == {("roc_auc_change", "spam/all")}
    decision = decide(table, compared=Comparator("served", ("old-1",)))
    assert decision["decision"] == "promote"
    assert [check["name"] for check in decision["checks"] if check["status"] == "insufficient"] == ["roc_auc_change"]
    worse = metrics(spam__all__roc_auc_change=(-0.03, -0.05, -0.001))
    assert failed(decide(worse, compared=Comparator("served", ("old-1",)))) == {("roc_auc_change", "spam/all")}


def test_nothing_to_compare_with_makes_comparisons_not_applicable() -> None:
    nothing = metrics(spam__all__roc_auc_change=None, spam__en__roc_auc_change=None)
    decision = decide(nothing, compared=NOTHING)
    assert decision["decision"] == "promote"
    assert [check["status"] for check in decision["checks"] if check["name"] == "roc_auc_change"] == ["not_applicable"]


@pytest.mark.parametrize(("verdict", "held"), [("FAIL", True), ("WARN", False), ("PASS", False), ("INSUFFICIENT", False), ("?", True)])
def test_fairness_verdicts(verdict, held) -> None:
    decision = decide(metrics(spam__en__fpr_gap=(0.2, 0.1, 0.3, verdict)))
    assert (decision["decision"] == "hold") is held


def test_a_removal_threshold_needs_its_certificate() -> None:
    given = thresholds(spam=(0.5, 0.9, ()), hate_speech=(0.5, None, ()))
    assert decide(thr=given)["decision"] == "promote"
    assert {check["status"] for check in decide(thr=given)["checks"] if check["name"] == "certificate"} == {"pass", "not_applicable"}
    given["categories"]["spam"]["auto_remove"]["outcome"] = "abstained"
    assert failed(decide(thr=given)) == {("certificate", "spam")}


def test_a_week_asks_only_what_its_labels_contradict() -> None:
    """What promotion must see shown is no reason to hold a proposal; a contradicted bound is."""
    unshown = PARAMS.model_copy(update={"required_cells": ("graphic_violence/all",)})
    assert gate.decide(metrics(), unshown, compared=NOTHING, thresholds=None)["decision"] == "hold"
    assert gate.decide(metrics(), unshown, compared=NOTHING, thresholds=None, must_show=False)["decision"] == "promote"
    wrong = metrics(spam__en__fpr_gap=(0.2, 0.1, 0.3, "FAIL"))
    assert gate.decide(wrong, unshown, compared=NOTHING, thresholds=None, must_show=False)["decision"] == "hold"
