"""What a question says of certificates and checks, in sentences that a person who does not know the gate can read."""

from typing import Any

import pandas as pd
import pytest

from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.registry.production import proposal_text

REMOVAL = {"threshold": None, "outcome": "abstained", "bound": 0.0, "target": 0.95, "delta": 0.1, "n": 12, "n_eff": 0.2, "need_n": 391357}
REVIEW = {"threshold": 0.4, "outcome": "insufficient", "bound": None, "target": 0.8, "n": 1, "need_n": 5582}


def cells(removal: dict[str, Any], review: dict[str, Any]) -> list[str]:
    """The certificate of each action."""
    table = "\n".join(
        proposal_text.thresholds(None, Thresholds.parse({"categories": {"spam": {"auto_remove": removal, "review": review}}}))
    )
    return [line.split("|")[5].strip() for line in table.splitlines() if line.startswith("| spam")]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, "Stays off. 12 labels are too few to show 95 % precision; about 391,000 would be needed."),
        ({"need_n": 5}, "Stays off. 12 labels do not show 95 % precision: too many of them speak against it."),
        ({"need_n": None}, "Stays off. 12 labels do not show 95 % precision."),
        (
            {"threshold": 0.9, "outcome": "certified", "bound": 0.953, "n": 812, "n_eff": 640.2},
            "Certified. 812 labels, worth 640 drawn at random, show at least 95.3 % precision (wanted: 95 %), "
            "wrong with a chance of at most 10 %.",
        ),
    ],
)
def test_a_certificate_is_a_sentence(changed: dict[str, Any], said: str) -> None:
    review = "Insufficient. 1 label are too few to show that review finds 80 % of violations; about 5,580 would be needed."
    assert cells(REMOVAL | changed, REVIEW) == [said, review.replace("1 label are", "1 label is")]


def test_missing_evidence_is_told_from_evidence_against() -> None:
    def check(language: str, value: float | None, reason: str) -> dict[str, Any]:
        return {"name": "roc_auc", "scope": f"spam/{language}", "value": value, "bound": 0.6, "status": "fail", "reason": reason}

    checks = [check("all", 0.55, "too few"), check("en", 0.4, "too low"), check("de", None, "undefined")]
    rows = [("spam", "all", 0.35, 0.75), ("spam", "en", 0.3, 0.5)]
    metrics = pd.DataFrame(rows, columns=["category", "language", "ci_low", "ci_high"]).assign(metric="roc_auc", group_column="all")
    told = "\n".join(proposal_text.gate({"decision": "hold", "checks": checks}, metrics)).splitlines()
    assert "1 fail, 2 not shown." in told
    assert [line for line in told if line.startswith("- ")] == [
        "- **Fail:** Spam, en, ranking (ROC-AUC): too low",
        "- **Not shown:** Spam, ranking (ROC-AUC): too few",
        "- **Not shown:** Spam, de, ranking (ROC-AUC): undefined",
    ]
