"""Reviewers on items that one person saw: distributions against enumeration and SciPy, planted reviewers, and what the report says."""

import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from score_worlds import settings

from upheld.evaluation.report import week_story
from upheld.evaluation.weekly import changes, deviation, people, scores
from upheld.evaluation.weekly.source import Source, read_gold

SECTION = settings().reviewers
FOREVER = pd.Timestamp.max.tz_localize("UTC")


@given(st.integers(1, 40), st.floats(0.3, 3.0), st.data())
def test_a_strata_numbers_have_fishers_distribution(total: int, odds: float, data: st.DataObject) -> None:
    violations, drawn = data.draw(st.integers(0, total)), data.draw(st.integers(1, total))
    ours = deviation._hypergeometric(total, violations, drawn, odds)
    theirs = stats.nchypergeom_fisher.pmf(np.arange(drawn + 1), total, violations, drawn, odds)
    assert ours == pytest.approx(np.nan_to_num(theirs), abs=1e-9)


def test_tails_are_those_of_every_way_to_deal_the_items_out() -> None:
    strata = [([1, 1, 0, 0, 0], 2, 3), ([1, 0, 1], 1, -2), ([1, 0, 0, 1], 3, 0)]  # items, how many the reviewer got, weight
    seen: Counter[int] = Counter()
    for dealt in itertools.product(*(itertools.combinations(range(len(items)), num) for items, num, _ in strata)):
        seen[sum(weight * sum(items[k] for k in own) for (items, _, weight), own in zip(strata, dealt, strict=True))] += 1
    probs = [deviation._hypergeometric(len(items), sum(items), num, 1.0) for items, num, _ in strata]
    for value in range(-3, 8):
        for upper in (False, True):
            ways = sum(number for total, number in seen.items() if (total >= value if upper else total <= value))
            found = deviation._tail(probs, [weight for *_, weight in strata], value, upper=upper) if -2 <= value <= 6 else None
            if found is not None:
                assert found == pytest.approx(ways / sum(seen.values()))


def test_turned_verdicts_are_two_binomials() -> None:
    start = np.array([0.0, 0.0, 1.0, 0.0])  # two of three confirmed, before any is turned
    expected = np.zeros(4)
    for turned in itertools.product((0, 1), repeat=3):
        expected[sum(said ^ turn for said, turn in zip((1, 1, 0), turned, strict=True))] += 0.2 ** sum(turned) * 0.8 ** (3 - sum(turned))
    assert deviation._flipped(start, 0.2) == pytest.approx(expected)
    assert deviation._flipped(start, 0.0) is start


def team(seed: int, loads: dict[str, int], *, restores: tuple[str, ...] = (), flips: tuple[str, ...] = ()) -> pd.DataFrame:
    """Verdicts on items of one language by reviewers who err in 7 %, one verdict an item; scores have a ROC-AUC of .85."""
    rng = np.random.default_rng(seed)
    parts = []
    for name, num in loads.items():
        truth = rng.random(num) < 0.5
        score = 1 / (1 + np.exp(-(rng.normal(size=num) + 1.466 * truth)))
        verdict = (truth ^ (rng.random(num) < (0.4 if name in flips else 0.07))).astype(int)
        about = {"category": "spam", "language": "en", "zone": "review", "score": score, "verdict": 0 if name in restores else verdict}
        parts.append(pd.DataFrame({"reviewer_id": name, **about, "week": "2026-W36"}))
    return pd.concat(parts, ignore_index=True)


def named(verdicts: pd.DataFrame, *, margin: bool = True) -> list[tuple[str, str]]:
    odds, flips = (SECTION.margin_odds, SECTION.margin_flips) if margin else (1.0, 0.0)
    found = deviation.find(verdicts, SECTION, odds=odds, flips=flips, tests=12).flagged
    return list(zip(found.reviewer_id, found.kind, strict=True))


def test_who_restores_everything_is_named_and_colleagues_are_not() -> None:
    verdicts = team(1, {"bad": 240, **{f"r{k}": 80 for k in range(5)}}, restores=("bad",))
    assert named(verdicts, margin=False) == [("bad", "confirms less")]


def test_who_follows_nobody_is_careless() -> None:
    verdicts = team(2, {"bad": 300, **{f"r{k}": 300 for k in range(5)}}, flips=("bad",))
    assert named(verdicts) == [("bad", "follows colleagues less")]


def test_who_gets_other_scores_is_named_and_who_judges_otherwise_is_not() -> None:
    verdicts = team(5, {f"r{k}": 400 for k in range(6)}, restores=("r1",))
    assert deviation.routed(verdicts, 0.05).empty
    logits = np.log(verdicts.score / (1 - verdicts.score))
    moved = verdicts.assign(score=1 / (1 + np.exp(-(logits + 0.3 * logits.std() * (verdicts.reviewer_id == "r0")))))
    (row,) = deviation.routed(moved, 0.05).to_dict("records")
    assert (row["reviewer_id"], row["num"]) == ("r0", 400) and row["rank"] > 0.52
    told = people.describe_deviation([moved.assign(item_id=[str(k) for k in range(len(moved))], gold=np.nan)], SECTION)
    assert "Items are not dealt out alike: r0 (higher scores)." in " ".join(week_story.compared_alone(told))


def test_rank_sums_are_those_of_scipy_in_one_stratum() -> None:
    verdicts = team(6, {"a": 40, "b": 60, "c": 55})
    verdicts["score"] = verdicts.score.where(verdicts.reviewer_id != "a", verdicts.score**0.5)  # higher, so that chance is small
    found = deviation.routed(verdicts, 2.0).set_index("reviewer_id")
    for name in "abc":
        own = verdicts.reviewer_id == name
        theirs = stats.mannwhitneyu(verdicts.score[own], verdicts.score[~own], use_continuity=False, method="asymptotic").pvalue
        assert found.p_adjusted[name] >= theirs - 1e-12
    least = min(stats.mannwhitneyu(verdicts.score[verdicts.reviewer_id == n], verdicts.score[verdicts.reviewer_id != n],
                                   use_continuity=False, method="asymptotic").pvalue for n in "abc")  # fmt: skip
    assert 3 * least < 0.5
    assert found.p_adjusted.min() == pytest.approx(3 * least)


def test_of_two_nobody_is_named_and_the_language_is() -> None:
    found = deviation.find(team(3, {"bad": 200, "good": 200}, restores=("bad",)), SECTION, odds=1.0, flips=0.0, tests=12)
    assert found.flagged.empty and found.too_few == ["en"] and (found.num_compared, found.num_reviewers) == (0, 2)


def test_without_verdicts_nothing_is_said() -> None:
    nothing = team(4, {"a": 1}).head(0)
    told = people.describe_deviation([nothing.assign(item_id="", gold=np.nan)], SECTION)
    assert told == {"weeks": [], "num_reviewers": 0, "num_compared": 0, "too_few": [], "routed": [], "accused": [], "look": []}
    assert week_story.compared_alone(told) == []


def test_on_the_real_stream_two_deviate_one_of_them_from_one_week_on(shared_data: Path, tmp_path: Path) -> None:
    source = Source(tmp_path, settings().ingest, shared_data / "stream")
    judged = []
    for week in (f"2026-W{number}" for number in range(36, 42)):
        tables = source.read(week)
        counted = people.votes(tables, read_gold(None), FOREVER)
        judged.append(people.on_decisions(counted, scores.build(tables, week, FOREVER), week))
    told = people.describe_deviation(judged, SECTION)
    (careless, malicious) = told["accused"]
    assert (careless["kind"], malicious["kind"]) == ("follows colleagues less", "confirms less")
    assert malicious["num_confirmed"] == 0 and malicious["weeks"] == 2
    confirmed = {row["week"]: row["num_confirmed"] / row["num"] for row in malicious["history"]}
    assert confirmed["2026-W36"] > 0.3 and confirmed["2026-W41"] == 0
    assert all(not row["confirmed"] and row["share"] > 0.5 for row in malicious["items"])
    assert json.dumps(told)


def test_every_verdict_that_would_end_otherwise_is_counted_though_few_are_shown() -> None:
    key = [("spam", f"l{number:02}", "all", "fpr_gap") for number in range(20)] + [("spam", "same", "all", "fpr_gap")]
    before = pd.DataFrame(key, columns=["category", "language", "group_column", "metric"]).assign(ci_low=0.0, ci_high=1.0, n=9)
    after = before.assign(value=[*[0.1] * 20, 0.5], verdict=[*["PASS"] * 15, *["FAIL"] * 6])
    found = changes.moved(before.assign(value=0.5, verdict="FAIL"), after)
    assert (found["num"], found["num_lost"], len(found["rows"])) == (20, 15, changes.MAX_MOVED)
    assert all(row["lost"] for row in found["rows"])
    assert changes.moved(before, None) == {"num": 0, "num_lost": 0, "rows": []}
