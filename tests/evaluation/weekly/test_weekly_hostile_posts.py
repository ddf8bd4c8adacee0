"""Posts whose uploaders chose a language or a group to stop the week's report: it comes out all the same."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.weeks import deliver, tables
from upheld.evaluation.weekly import command as weekly
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.contracts.tables import MAX_LANGUAGES, nameable
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ledger import ledger

WEEK, AS_OF = "2026-W43", "2026-10-30T00:00:00Z"
PARAMS = str(Path(__file__).parents[3] / "params.yaml")


@pytest.fixture
def hostile() -> dict[str, pd.DataFrame]:
    made = tables(400)
    posts = made["posts"].assign(author_group="a")
    posts.loc[3, "language"], posts.loc[4, "author_group"] = "ALL", "all"
    return made | {"posts": posts}


def report(out: Path, *arguments: str) -> pd.DataFrame:
    assert weekly.main(["--week", WEEK, "--out", str(out), "--params", PARAMS, "--group", "author_group", *arguments]) == 0
    (folder,) = (Path(path).parent for path in out.glob("*/report.html"))
    return pd.read_parquet(folder / "scores.parquet").set_index("item_id")


def test_such_posts_are_quarantined_and_the_week_is_reported(hostile, tmp_path) -> None:
    store, summary = tmp_path / "store", tmp_path / "summary.json"
    arguments = [str(deliver(tmp_path / "in", hostile)), "--store", str(store), "--params", PARAMS, "--as-of", AS_OF]
    assert ingest.main([*arguments, "--summary", str(summary)]) == 0
    assert json.loads(summary.read_text())["tables"]["posts"]["by_reason"] == {"reserved_word": 2}
    scores = report(tmp_path / "out", "--store", str(store))
    assert len(scores) == 398


def test_a_ledger_that_holds_such_posts_is_reported(hostile, tmp_path, monkeypatch) -> None:
    """As ledgers do that were filled before ingest refused them."""
    monkeypatch.setattr(contracts, "POOLED", "nothing")
    store = tmp_path / "store"
    assert ingest.main([str(deliver(tmp_path / "in", hostile)), "--store", str(store), "--params", PARAMS, "--as-of", AS_OF]) == 0
    monkeypatch.undo()
    assert "all" in ledger.Ledger(store).read("posts", ["language"])["language"].to_pylist()
    scores = report(tmp_path / "out", "--store", str(store))
    assert len(scores) == 400
    names = hostile["posts"].post_id
    assert (scores.language[names[3]], scores.author_group[names[4]]) == ("und", "(all)")


def test_a_language_for_every_post_does_not_stop_the_report(tmp_path) -> None:
    made = tables(9000)
    tags = [
        f"en-{number:05d}" if number % 2 else f"{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}{chr(97 + number // 676)}"
        for number in range(9000)
    ]
    made["posts"] = made["posts"].assign(language=made["posts"].language.where(made["posts"].index % 10 > 0, tags))
    scores = report(tmp_path / "out", "--delivery", str(deliver(tmp_path / "in", made)), "--group", "region")
    assert len(scores) == 9000
    assert scores.language.nunique() <= MAX_LANGUAGES
    assert {"en", "de", "sw", "und"} <= set(scores.language)


def test_tags_are_pooled_by_frequency_and_not_by_order() -> None:
    tags = pd.Series([f"en-{number:05d}" for number in range(400)] + ["de-DE"] * 5 + ["all"] * 3 + ["all-Latn"] * 2)
    pooled = nameable(tags)
    assert pooled.nunique() == MAX_LANGUAGES // 2 + 1
    assert pooled.value_counts()["de-DE"] == 5 and "all" not in set(pooled)
    assert pooled.value_counts()["en"] == 400 - (MAX_LANGUAGES // 2 - 3)
    order = tags.sample(frac=1, random_state=1)
    assert nameable(order).sort_index().equals(pooled)
    few = pd.Series(["en", "en-abcde", "all"])
    assert nameable(few).tolist() == ["en", "en-abcde", "und"]
