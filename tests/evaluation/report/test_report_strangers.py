"""Whatever a delivery writes into its names stays a text: in a terminal, in mail, in a page, and in a command that people copy."""

import json
import re
import unicodedata
from pathlib import Path

import pandas as pd
import pytest
from score_worlds import PARAMS
from weeks import appeals, deliver, tables

from upheld.evaluation.report import render
from upheld.evaluation.weekly import command as weekly

BAD = (
    "`id` $(touch PWN);<img src=x onerror=alert(1)>|\n# head\x1b[31m\x1b]0;pwn\x07\u202egnp\u2066\u200b\ufeff "
    "[a](http://evil.example) www.evil.example @all"
)
MODELS = ("upheld-moderation/1;touch PWN `id` <img src=x onerror=window.P=1>", f"upheld-moderation/{BAD}", "upheld-moderation/$(touch PWN)",
          "upheld-moderation/7")  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A weekly report on each of MODELS, whose posts, languages, categories, groups and reviewers are named to break something."""
    folder = tmp_path_factory.mktemp("strangers")
    made = tables(800, models=MODELS)
    made["review_outcomes"] = pd.concat([made["review_outcomes"], appeals(made, 5, "restore")], ignore_index=True)
    for table in made.values():
        table["post_id"] = table.post_id + BAD
    made["posts"]["language"] = made["posts"].language + BAD
    made["posts"]["region"] = "DE" + BAD
    made["posts"]["text"] = "text" + BAD
    for name in ("decisions", "review_outcomes"):
        made[name]["category"] = made[name].category + BAD
    made["review_outcomes"]["reviewer_id"] = made["review_outcomes"].reviewer_id + BAD
    doubled = made["review_outcomes"].assign(outcome_id=lambda rows: rows.outcome_id + "-2", reviewer_id="odd" + BAD)
    doubled["verdict"] = doubled.verdict.map({"confirm_removal": "restore", "restore": "confirm_removal"})
    made["review_outcomes"] = pd.concat([made["review_outcomes"], doubled], ignore_index=True)
    given = ["--week", "2026-W43", "--delivery", str(deliver(folder / "in", made)), "--out", str(folder / "out"), "--params", str(PARAMS)]
    assert weekly.main([*given, "--store", str(folder / "store"), "--group", "region", "--show-text", "--champion", MODELS[1]]) == 0
    return sorted((folder / "out").glob("*/report.html"))


def test_the_world_reaches_every_place(written: list[Path]) -> None:
    assert len(written) == len(MODELS)
    for path in written:
        story = json.loads(path.with_suffix(".json").read_text())
        assert "`id`" in json.dumps(story["categories"][0]["groups"]["region"])


def test_no_control_or_direction_character_reaches_a_page_or_mail(written: list[Path]) -> None:
    for path in (*written, *(page.with_suffix(".md") for page in written)):
        text = path.read_text()
        raw = {char for char in text if unicodedata.category(char) in ("Cc", "Cf") and char != "\n"}
        assert raw == set(), path.suffix
        assert "\\u202e" in text  # written out instead


def test_no_markup_of_a_stranger_acts(written: list[Path]) -> None:
    for path in written:
        page, mail = path.read_text(), path.with_suffix(".md").read_text()
        assert not re.search(r"<(img|script)", page)
        assert "<img" not in mail
        assert not re.search(r"^# head", mail, re.MULTILINE)
        ours = re.sub(r"`upheld (behave (\d{1,9}|challenger) --suite cases\.parquet --out behaviour|unfreeze)`", "", mail)
        assert not re.search(r"(?<!\\)`", ours)  # no code span but our own
        assert not re.search(r"(?<!\\)\$", mail)
        assert not re.search(r"(?<!\\)\]\(", mail)
        assert not re.search(r"https?://|www\.|(?<!\\)@", mail)  # nothing that mail or chat makes a link or a name of


def test_a_command_holds_a_number_of_ours_or_a_safe_word(written: list[Path]) -> None:
    commands = [re.findall(r"upheld behave .*? --out behaviour", path.read_text()) for path in written]
    assert all(len(of_page) == 1 for of_page in commands)
    assert sorted(command for (command,) in commands) == sorted(
        [f"upheld behave {name} --suite cases.parquet --out behaviour" for name in ("7", "challenger", "challenger", "challenger")]
    )


@pytest.mark.parametrize("version", ["1\n", "1 ", "١", "1;x", "", "-1", "1" * 10, "champion"])
def test_only_plain_digits_are_a_version(version: str) -> None:
    story = {"weekly": {"model_version": f"upheld-moderation/{version}"}}
    assert render.behave_command(story) == "upheld behave challenger --suite cases.parquet --out behaviour"


def test_persian_and_emoji_keep_their_joiners() -> None:
    assert render.plain("می\u200cخواهم 👩\u200d💻") == "می\u200cخواهم 👩\u200d💻"
