"""A challenger against what served: planted worlds in which it is worse or better, and what gate and report say of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from score_worlds import settings

from upheld.evaluation import evaluate
from upheld.evaluation.report.render import Result

SERVED = "baseline-ngram-2"
EASY = ("gate.required_cells=[spam/all]", "gate.maximums={}", "gate.fairness=[]")


def world(
    mine: float, theirs: float, num: int = 6000, seed: int = 0, names: tuple[str, ...] = (SERVED,)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of a challenger and of what served, each as far apart for violations and others as `mine` and `theirs` say.

    People looked at all posts of which what served was unsure, and at one in ten of the others, as a review queue and an audit do.
    """
    num, rng = 6000, np.random.default_rng(0)
    label = rng.random(num) < 0.3
    new, old = (rng.normal(np.where(label, gap, -gap), 1.0) for gap in (mine, theirs))
    prob = np.where(np.abs(old) < 0.7, 1.0, 0.1)
    common = pd.DataFrame(
        {
            "item_id": [f"i{number}" for number in range(num)],
            "category": "spam",
            "language": np.resize(["en", "de"], num),
            "label": np.where(rng.random(num) < prob, label.astype(float), np.nan),
            "inclusion_prob": prob,
            "split": "test",
        }
    )
    versions = np.resize(names, num)
    return common.assign(score=1 / (1 + np.exp(-new))), common.assign(score=1 / (1 + np.exp(-old)), model_version=versions)


def evaluated(folder: Path, challenger: pd.DataFrame, comparator: pd.DataFrame, *overrides: str, served: bool = True) -> Result:
    challenger.to_parquet(folder / "scores.parquet")
    comparator.sample(frac=1, random_state=3).to_parquet(folder / "comparator.parquet")
    inputs = evaluate.Inputs(folder / "scores.parquet", comparator_scores=folder / "comparator.parquet", served=served)
    return evaluate.run(settings(*EASY, *overrides), inputs, folder / "out")


def checks(result: Result, name: str = "roc_auc_change") -> dict[str, dict[str, Any]]:
    return {check["scope"]: check for check in result.gate["checks"] if check["name"] == name}


@pytest.mark.parametrize("losses", ["{roc_auc: 0.02}", "{roc_auc: 0.5}", "{}"])
def test_a_challenger_that_is_worse_than_what_served_is_held_whatever_loss_is_tolerated(tmp_path: Path, losses: str) -> None:
    result = evaluated(tmp_path, *world(mine=1.1, theirs=1.5), f"gate.max_loss={losses}")
    assert result.gate["decision"] == "hold"
    assert result.gate["compared_with"] == {"kind": "served", "names": (SERVED,)}
    failed = checks(result)["spam/all"]
    assert failed["status"] == "fail"
    assert failed["reason"].startswith(f"against {SERVED}: between -0.")
    (row,) = (row for row in result.report["comparison"]["rows"] if row["language"] == "all")
    assert row["ci_high"] < 0
    areas = f"ROC-AUC of spam is {row['challenger']:.3f} against {row['comparator']:.3f}"
    said = f"Worse than the model that served ({SERVED}): {areas}, difference between {row['ci_low']:+.3f} and {row['ci_high']:+.3f}; held."
    assert result.report["changed"][0] == said
    page, *mails = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md", "first_screen.md"))
    assert said in page.partition('id="attention"')[0]
    assert all(said in mail.partition("What needs attention")[0] for mail in mails)


def test_a_challenger_that_is_better_than_what_served_may_pass_and_every_language_is_shown(tmp_path: Path) -> None:
    result = evaluated(tmp_path, *world(mine=1.5, theirs=1.1))
    assert result.gate["decision"] == "promote"
    assert {scope: check["status"] for scope, check in checks(result).items()} == dict.fromkeys(("spam/all", "spam/en", "spam/de"), "pass")
    row = result.report["comparison"]["rows"][0]
    said = f"Better than the model that served ({SERVED}) in ROC-AUC of spam (by {row['ci_low']:.3f} to {row['ci_high']:.3f})."
    assert result.report["changed"] == [said]
    page, mail = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    section = page.partition('id="comparison"')[2].partition("<h2")[0]
    table = mail.partition(f"## Against the model that served ({SERVED}), on the same posts")[2].partition("\n## ")[0]
    for row in result.report["comparison"]["rows"]:
        difference = f"{row['ci_low']:+.3f} to {row['ci_high']:+.3f}"
        assert difference in section
        assert f"{row['n']:,}" in section
        areas = f"| spam | {row['language']} | {row['challenger']:.3f} | {row['comparator']:.3f} |"
        assert f"{areas} {row['value']:+.3f} ({difference}, against {SERVED}) | {row['n']:,} |" in table
    assert all("figures that count every label alike would be biased" in text for text in (section, table))


def test_languages_with_too_few_labels_are_one_line_and_not_rows(tmp_path: Path) -> None:
    challenger, comparator = world(mine=1.3, theirs=1.3)
    rare = challenger.index[challenger.label.notna()][:7]
    for table in (challenger, comparator):
        table.loc[rare, "language"] = "sw"
    evaluated(tmp_path, challenger, comparator)
    page, mail = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    section = page.partition('id="comparison"')[2].partition("<h2")[0]
    assert section.count("<tr>") == 1 + 3  # the head; all, en, de
    assert "no difference can be given in <bdi>sw</bdi> (7 labels)." in section
    assert "| spam | sw |" not in mail.partition("on the same posts")[2].partition("\n## ")[0]


def test_no_difference_and_too_few_labels_are_said_as_such(tmp_path: Path) -> None:
    challenger, comparator = world(mine=1.3, theirs=1.3)
    few = challenger[challenger.label == 0].assign(category="hate_speech")
    result = evaluated(tmp_path, pd.concat([challenger, few]), pd.concat([comparator, comparator.assign(category="hate_speech")]))
    alike, unknown = result.report["changed"]
    assert alike.startswith(f"No difference in ROC-AUC from the model that served ({SERVED}) is shown in spam (between -0.")
    assert unknown == f"Not compared with the model that served ({SERVED}) in hate speech: fewer than 10 labelled rows of one class."


def test_labels_that_were_drawn_by_the_served_score_count_by_their_probability(tmp_path: Path) -> None:
    """Among the posts that were drawn most, what served is unsure: counted alike, labels say the opposite of the truth."""
    challenger, comparator = world(mine=1.1, theirs=1.5)
    assert checks(evaluated(tmp_path, challenger, comparator))["spam/all"]["value"] < -0.02
    alike = evaluated(tmp_path, challenger.assign(inclusion_prob=1.0), comparator)
    assert alike.report["changed"][0].startswith("Better than")


def test_scores_of_two_models_that_served_are_never_compared_with_each_other(tmp_path: Path) -> None:
    """The second model came with more violations and a scale of low scores: across both its violations would rank below the rest."""
    challenger, comparator = world(mine=1.5, theirs=1.1, names=("old-1", "old-1", "old-2"))
    kept = (comparator.model_version == "old-1") | (comparator.label != 0) | (comparator.index % 4 == 0)
    challenger, comparator = challenger[kept], comparator[kept]
    whole = evaluated(tmp_path, challenger, comparator).report
    second = comparator.model_version == "old-2"
    low = evaluated(tmp_path, challenger, comparator.assign(score=comparator.score.mask(second, comparator.score / 100)))
    assert low.report["comparison"] == whole["comparison"]
    assert low.gate["compared_with"]["names"] == ("old-1", "old-2")
    assert low.report["comparison"]["rows"][0]["reason"] == "against old-1, old-2"
    assert low.report["changed"][0].startswith("Better than the models that served (old-1 and old-2) in ROC-AUC of spam")


def test_without_scores_of_another_model_nothing_is_compared_and_that_is_said(tmp_path: Path) -> None:
    challenger, comparator = world(mine=1.5, theirs=1.1)
    result = evaluated(tmp_path, challenger, comparator.iloc[:0])
    (check,) = checks(result).values()
    assert (check["scope"], check["status"]) == ("all", "not_applicable")
    assert "no labelled post here has the score of a champion or of a model that served" in check["reason"]
    assert result.gate["compared_with"]["kind"] == "nothing"
    assert result.gate["decision"] == "promote"
    assert 'id="comparison"' not in (tmp_path / "out/report.html").read_text()


def test_a_category_that_nothing_served_decided_on_is_not_held_for_it_and_is_named(tmp_path: Path) -> None:
    challenger, comparator = world(mine=1.5, theirs=1.1)
    both = pd.concat([challenger, challenger.assign(category="hate_speech")])
    result = evaluated(tmp_path, both, comparator, "gate.required_cells=[spam/all, hate_speech/all]")
    assert checks(result)["hate_speech/all"]["status"] == "not_applicable"
    assert result.gate["decision"] == "promote"
    assert (
        f"Not compared with the model that served ({SERVED}) in hate speech: no labelled post has a score of it."
        in result.report["changed"]
    )


def test_rates_are_compared_with_a_champion_alone(tmp_path: Path) -> None:
    """What served has thresholds of its own."""
    losses = "gate.max_loss={roc_auc: 0.02, recall: 0.1}"
    served = evaluated(tmp_path, *world(mine=1.5, theirs=1.1), losses)
    assert [(check["scope"], check["status"]) for check in checks(served, "recall_change").values()] == [("all", "not_applicable")]
    champion = evaluated(tmp_path, *world(mine=1.5, theirs=1.1, names=("champion 3",)), losses, served=False)
    assert checks(champion, "recall_change")["spam/all"]["status"] == "pass"
    assert champion.report["changed"][0].startswith("Better than champion 3 in ")


@pytest.mark.parametrize("champion", [None, {"version": 3, "digest": "d"}])
def test_the_stage_knows_by_its_inputs_whether_a_champion_is_compared_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, champion: dict[str, Any] | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    tables = {"posts": 1, "decisions": 1, "review_outcomes": 1, "audit_draws": 1}
    pinned = {"tables": tables, "as_of": "2026-10-25T00:00:00Z", "ledger_digest": "d", "champion": champion, "synthetic": False}
    Path("data/inputs.json").write_text(json.dumps(pinned))
    inputs = evaluate.of_the_stage(evaluate.Inputs(Path("data/scores.parquet")))
    assert inputs.comparator_scores == Path("data/champion_scores.parquet")
    assert inputs.served is (champion is None)


def test_names_of_models_that_a_delivery_made_up_stay_text(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>|[a](http://evil.example)\n# x"
    result = evaluated(tmp_path, *world(mine=1.1, theirs=1.5, names=(hostile, "all")))
    assert result.gate["decision"] == "hold"
    page, mail = ((tmp_path / "out" / name).read_text() for name in ("report.html", "report.md"))
    assert "<script" not in page
    assert "<script" not in mail and "\n# x" not in mail and "[a](" not in mail
