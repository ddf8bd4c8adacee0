"""Behaviour tests: rates recounted case by case, pairs looked up one by one, intervals of SciPy; suites that are wrong are refused."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, ttest_1samp
from score_worlds import settings

from upheld.common.errors import BadUse
from upheld.evaluation import behaviour
from upheld.evaluation.scores.table import Columns, parse_columns

COLUMNS = [
    "category", "language", "group_column", "group_value", "metric",
    "value", "ci_low", "ci_high", "n", "n_eff", "verdict", "need_n", "reason",
]  # fmt: skip
ALPHA = 0.1


def suite(num: int = 400, seed: int = 1) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    cases = pd.DataFrame({"case_id": [f"c{k}" for k in range(num)], "text": "some text"})
    cases["language"] = rng.choice(["en", "de", "sw"], num, p=[0.55, 0.35, 0.1])
    cases["functionality"] = rng.choice(["slur", "negation", "counter speech"], num)
    cases["label"] = rng.integers(0, 2, num)
    cases["category"] = rng.choice(["hate_speech", "spam"], num)
    cases["identity"] = rng.choice(np.array(["women", "migrants", None], object), num)
    cases["ref_case_id"] = [f"c{rng.integers(num + 50)}" if rng.random() < 0.4 else None for _ in range(num)]
    cases["pair_id"] = [f"p{rng.integers(40)}" if rng.random() < 0.5 else None for _ in range(num)]
    return cases


def answered(cases: pd.DataFrame, seed: int = 2) -> pd.DataFrame:
    prob = np.clip(np.random.default_rng(seed).normal(0.3 + 0.4 * cases["label"], 0.2), 0, 1)
    return cases.assign(prob=prob, flagged=prob >= 0.5)


def pairs_by_hand(cases: pd.DataFrame) -> list[dict]:
    rows = cases.to_dict("records")
    by_id = {row["case_id"]: row for row in rows}
    found = []
    for row in rows:
        reference = by_id.get(row["ref_case_id"])
        if reference is not None and reference is not row:
            others = [reference]
        else:
            key = ("category", "pair_id", "label")
            others = [other for other in rows if row["pair_id"] and other is not row and all(other[name] == row[name] for name in key)]
        if others:
            differ = sum(other["flagged"] != row["flagged"] for other in others)
            shift = row["prob"] - np.mean([other["prob"] for other in others])
            same = others[0]["label"] == row["label"]
            ordered = shift > 0 if row["label"] == 1 else shift < 0
            found.append({**row, "same": same, "shift": shift, "flips": differ > len(others) / 2, "ordered": ordered})
    return found


@pytest.fixture(scope="module")
def measured():
    cases = answered(suite())
    return cases, behaviour.measure(cases, settings("behave.min_pass_rates={slur: 0.5}").behave, ALPHA)


def pick(table, metric, category="hate_speech", language="all", column="all", value="all"):
    key = {"metric": metric, "category": category, "language": language, "group_column": column, "group_value": value}
    found = table[np.logical_and.reduce([table[name] == wanted for name, wanted in key.items()])]
    assert len(found) == 1
    return found.iloc[0]


def test_columns_are_those_of_metrics_parquet_and_each_slice_comes_once(measured) -> None:
    _, table = measured
    assert list(table) == COLUMNS
    assert not table.duplicated(["category", "language", "group_column", "group_value", "metric"]).any()
    assert set(table.group_column) == {"all", "functionality", "identity"}


@pytest.mark.parametrize("language", ["all", "en", "sw"])
@pytest.mark.parametrize(("column", "value"), [("all", "all"), ("functionality", "slur"), ("identity", "women")])
def test_pass_rates_are_counted_and_their_intervals_exact(measured, language, column, value) -> None:
    cases, table = measured
    mine = [
        row for row in cases.to_dict("records")
        if row["category"] == "hate_speech" and language in ("all", row["language"]) and (column == "all" or row[column] == value)
    ]  # fmt: skip
    passed = sum((row["prob"] >= 0.5) == (row["label"] == 1) for row in mine)
    row = pick(table, "pass_rate", language=language, column=column, value=value)
    exact = binomtest(passed, len(mine)).proportion_ci(1 - ALPHA, "exact")
    assert (row.value, row.n) == (pytest.approx(passed / len(mine)), len(mine))
    assert (row.ci_low, row.ci_high) == (pytest.approx(exact.low), pytest.approx(exact.high))
    bound = 0.5 if value == "slur" else settings().behave.min_pass_rate
    assert row.verdict == ("PASS" if exact.low >= bound else "FAIL" if exact.high < bound else "INSUFFICIENT")
    assert f"at least {bound:g}" in row.reason


@pytest.mark.parametrize("language", ["all", "de"])
def test_pairs_are_those_looked_up_one_by_one(measured, language) -> None:
    cases, table = measured
    found = [row for row in pairs_by_hand(cases) if row["category"] == "spam" and language in ("all", row["language"])]
    alike, contrast = [row for row in found if row["same"]], [row for row in found if not row["same"]]
    shifts = [row["shift"] for row in alike]
    shift, flips, ordered = (pick(table, name, "spam", language) for name in ("score_shift", "flip_rate", "ordered_rate"))
    assert (shift.n, flips.n, ordered.n) == (len(alike), len(alike), len(contrast))
    assert shift.value == pytest.approx(np.mean(shifts))
    interval = ttest_1samp(shifts, 0).confidence_interval(1 - ALPHA)
    assert (shift.ci_low, shift.ci_high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert flips.value == pytest.approx(np.mean([row["flips"] for row in alike]))
    assert ordered.value == pytest.approx(np.mean([row["ordered"] for row in contrast]))


def test_a_model_that_lowers_one_language_is_found_and_a_fair_one_passes() -> None:
    num = 300
    base = pd.DataFrame({"case_id": [f"e{k}" for k in range(num)], "language": "en", "pair_id": [f"p{k}" for k in range(num)]})
    twin = base.assign(case_id=[f"d{k}" for k in range(num)], language="de")
    cases = pd.concat([base, twin], ignore_index=True)
    cases = cases.assign(text="x", functionality="f", label=1, category="spam", identity=None, ref_case_id=None)
    noise = np.random.default_rng(3).normal(0, 0.02, len(cases))
    for drop, verdict in ((0.3, "FAIL"), (0.0, "PASS")):
        prob = 0.7 - drop * (cases["language"] == "de") + noise
        table = behaviour.measure(cases.assign(prob=prob, flagged=prob >= 0.5), settings().behave, ALPHA)
        shift = pick(table, "score_shift", "spam", "de")
        assert shift.verdict == pick(table, "flip_rate", "spam", "de").verdict == verdict
        assert shift.value == pytest.approx(-drop, abs=0.01)


def test_one_case_never_fails_and_tells_what_it_would_take() -> None:
    cases = answered(suite(1)).assign(flagged=lambda rows: rows["label"] == 0, pair_id=None, ref_case_id=None)
    table = behaviour.measure(cases, settings().behave, ALPHA)
    assert set(table.verdict) == {"INSUFFICIENT"}
    assert set(table.metric) == {"pass_rate"}
    assert (table.need_n > 1).all()


def test_one_pair_alone_has_no_interval() -> None:
    cases = answered(suite(2)).assign(pair_id="p", ref_case_id=[None, "c0"], label=1, category="spam", language=["en", "de"])
    row = pick(behaviour.measure(cases, settings().behave, ALPHA), "score_shift", "spam", "de")
    assert (row.verdict, row.reason, row.n) == ("INSUFFICIENT", "one pair alone has no interval", 1)
    assert pd.isna(row.ci_low)


def written(folder, cases, name="suite.parquet"):
    path = folder / name
    cases.to_parquet(path) if name.endswith("parquet") else cases.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["suite.parquet", "suite.csv"])
def test_renames_constants_and_words_for_labels(tmp_path, name) -> None:
    cases = suite(20)
    foreign = cases.drop(columns="category").rename(columns={"language": "lang", "label": "gold"})
    foreign["gold"] = foreign["gold"].map({1: "hateful", 0: "fine"})
    foreign.loc[3, "lang"] = None
    read = behaviour.read_suite(
        written(tmp_path, foreign, name), parse_columns("language=lang,label=gold,category='hate_speech'"), violation="hateful"
    )
    assert read["label"].tolist() == cases["label"].tolist()
    assert set(read["category"]) == {"hate_speech"}
    assert read["language"].tolist() == [*cases["language"][:3], "und", *cases["language"][4:]]
    assert read["pair_id"].tolist() == [None if pd.isna(value) else value for value in cases["pair_id"]]


@pytest.mark.parametrize("values", [[0, 1], [False, True], ["0", "1"], [0.0, 1.0]])
def test_labels_in_any_form(tmp_path, values) -> None:
    read = behaviour.read_suite(written(tmp_path, suite(2).assign(label=values)), Columns())
    assert read["label"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "columns", "violation", "message"),
    [
        ({"label": [0, 2, 1]}, "", None, "row 2: column label: is neither 0 nor 1"),
        ({"label": ["a", "b", "c"]}, "", "a", "expected 'a' and one other word"),
        ({"case_id": ["x", "y", "x"]}, "", None, "row 3: column case_id: comes twice"),
        ({"text": ["x", "  ", "z"]}, "", None, "row 2: column text: is empty"),
        ({"text": [["x"], ["y"], ["z"]]}, "", None, "expected one value a row"),
        ({}, "language=lang", None, "no column 'lang' for language"),
        ({}, "colour=blue", None, "no column of a suite"),
    ],
)
def test_wrong_suites_are_refused(tmp_path, change, columns, violation, message) -> None:
    path = written(tmp_path, suite(3).assign(**change))
    with pytest.raises(BadUse, match=message):
        behaviour.read_suite(path, parse_columns(columns), violation)


def test_an_empty_suite_is_refused(tmp_path) -> None:
    with pytest.raises(BadUse, match="no case"):
        behaviour.read_suite(written(tmp_path, suite(3).iloc[:0]), Columns())
