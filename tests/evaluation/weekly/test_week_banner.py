"""The first words of a weekly report: whether a person will be asked depends on which model is in production."""

import json
from pathlib import Path

import pytest
from score_worlds import PARAMS, thresholds
from weeks import deliver, tables

from upheld.evaluation.weekly import command as weekly

MODEL = "m-1"
NEEDS = "This model needs the score of old-1"
NOT_ASKED = "Nobody will be asked: "
INFORMATION = " These changes are for information."


@pytest.fixture(scope="module")
def delivery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return deliver(tmp_path_factory.mktemp("banner") / "in", tables())


@pytest.mark.parametrize(
    ("champion", "failed", "word", "said", "asked"),
    [
        ([MODEL], False, "Ready for approval", "Nothing changes until a person approves it in Airflow (DAG promote).", "yes"),
        ([MODEL], True, "Changes proposed, checks failed", "Some checks failed, so their yes needs a reason.", "yes"),
        (["upheld-moderation/3"], False, "For information",
         f"{NOT_ASKED}m-1 is not the model in production (upheld-moderation/3 is).{INFORMATION}", "no"),
        (["upheld-moderation/3"], True, "For information, checks failed",
         f"{NOT_ASKED}m-1 is not the model in production (upheld-moderation/3 is).{INFORMATION}", "no"),
        (["none"], False, "For information", f"{NOT_ASKED}no model is in production in the registry.{INFORMATION}", "no"),
        ([], False, "Changes proposed",
         "This report does not know which model is in production. A person is asked only if it is m-1.", "unknown"),
        ([], True, "Changes proposed, checks failed", "A person is asked only if it is m-1.", "unknown"),
    ],
)  # fmt: skip
def test_the_banner_knows_whether_anybody_will_be_asked(
    delivery: Path, tmp_path: Path, champion: list[str], failed: bool, word: str, said: str, asked: str
) -> None:
    out = tmp_path / "out"
    given = ["--week", "2026-W43", "--delivery", str(delivery), "--out", str(out), "--params", str(PARAMS), "--store", str(tmp_path / "s")]
    ruled = tmp_path / "ruled.json"  # a threshold for removal that the labels contradict
    ruled.write_text(json.dumps(thresholds(spam=(0.1, 0.2, ()))))
    given += ["--thresholds", str(ruled)]
    given += ["--set", "gate.minimums={roc_auc: 0.999999}"] if failed else ["--set", "gate.fairness=[]", "--set", "gate.maximums={}"]
    assert weekly.main([*given, *(part for name in champion for part in ("--champion", name))]) == 0
    page, mail = ((out / MODEL / name).read_text() for name in ("report.html", "report.md"))
    story = json.loads((out / MODEL / "report.json").read_text())
    (listed,) = json.loads((out / "weekly.json").read_text())["models"]
    assert story["weekly"]["num_changes"] > 0
    assert story["decision"] == ("hold" if failed else "promote")
    assert (story["weekly"]["word"], story["weekly"]["asked"]) == (word, asked)
    assert said in story["weekly"]["next"]
    assert story["headline"].startswith(f"{word}: ")
    assert listed["headline"] == story["headline"]
    first_screen = page.partition('aria-label="What changed"')[0]
    assert said in first_screen
    assert f"{word}</strong>" in first_screen
    assert mail.startswith(f"# {word}: 2026-W43, m-1")
    assert said in mail.partition("## What changed")[0]
    for text in (page, mail, json.dumps(story)):
        assert ("Ready for approval" in text) is (word == "Ready for approval")
    assert ('class="card decision info"' in page) is (asked != "yes" and not failed)
    assert ("Each failed check is listed" in page) is failed


def test_without_a_proposal_nobody_is_asked_whatever_is_in_production(delivery: Path, tmp_path: Path) -> None:
    given = ["--week", "2026-W43", "--delivery", str(delivery), "--params", str(PARAMS), "--store", str(tmp_path / "store")]
    assert weekly.main([*given, "--out", str(tmp_path / "out"), "--champion", MODEL]) == 0
    told = json.loads((tmp_path / "out" / MODEL / "report.json").read_text())["weekly"]
    assert (told["num_changes"], told["asked"], told["word"]) == (0, "no", "No change")
    assert told["next"].startswith("The thresholds stay as they are; nobody is asked.")


@pytest.mark.parametrize(("champion", "is_said"), [(MODEL, True), ("upheld-moderation/3", False)])
def test_the_report_on_the_model_in_production_says_whose_score_it_needs(
    delivery: Path, tmp_path: Path, champion: str, is_said: bool
) -> None:
    given = [
        "--week",
        "2026-W43",
        "--delivery",
        str(delivery),
        "--out",
        str(tmp_path),
        "--params",
        str(PARAMS),
        "--store",
        str(tmp_path / "s"),
    ]
    assert weekly.main([*given, "--champion", champion, "--incumbent", "old-1"]) == 0
    assert [NEEDS in (tmp_path / MODEL / name).read_text() for name in ("report.html", "report.md", "first_screen.md")] == [is_said] * 3
