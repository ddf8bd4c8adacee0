"""The audit's draw: exact probabilities, permanent numbers, nothing twice."""

import hashlib
import hmac
import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from score_worlds import PARAMS, settings

from upheld.common.errors import BadUse
from upheld.evaluation.audit import command as audit_sample
from upheld.evaluation.audit import design
from upheld.evaluation.audit import tables as audit_tables

SECRET = b"0123456789abcdef"
NOW = datetime(2026, 11, 2, tzinfo=UTC)


def frame(num: int = 4000, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = rng.beta(0.4, 2, num)
    return pd.DataFrame(
        {
            "post_id": [f"p{k}" for k in range(num)],
            "category": rng.choice(["spam", "hate_speech"], num, p=[0.9, 0.1]),
            "language": rng.choice(["en", "th"], num),
            "score": score,
            "action": np.select([score > 0.9, score > 0.5], ["auto_remove", "review"], "none"),
            "drawn_before": False,
        }
    )


def probabilities(rows: pd.DataFrame, budget: int) -> np.ndarray:
    """Of each row, in the rows' own order."""
    parts = audit_sample.run(settings(), rows, budget, SECRET, NOW).parts
    return design.inclusion_probs(rows, {(part.category, part.zone): part.labels for part in parts}, settings().audit_sample)


@pytest.mark.parametrize("budget", [5, 100, 1000, 3999, 9000])
def test_probabilities_sum_to_the_budget_and_stay_in_range(budget) -> None:
    rows = frame()
    prob = probabilities(rows, budget)
    assert prob.sum() == pytest.approx(min(budget, len(rows)), rel=1e-9)
    assert prob.min() >= 0.001
    assert prob.max() <= 1


def test_probabilities_are_flat_where_a_certificate_needs_them_and_follow_doubt_below() -> None:
    rows = frame()
    rows["prob"] = probabilities(rows, 400)
    decided = rows[rows.action != "none"].groupby(["action", "category"]).prob
    assert (decided.max() - decided.min()).max() < 1e-9
    passed = rows[(rows.action == "none") & (rows.category == "spam")].sort_values("score")
    assert passed.prob.is_monotonic_increasing
    floor = settings().audit_sample.uniform_share * passed.prob.sum() / len(passed)
    assert passed.prob.min() >= floor * (1 - 1e-9)


def test_the_draw_is_the_permanent_number_below_the_probability() -> None:
    rows = frame(800).sort_values(["post_id", "category"])
    result = audit_sample.run(settings(), rows, 200, SECRET, NOW)
    prob = pd.Series(probabilities(rows, 200), index=rows.post_id)

    def number(post_id, category):
        mac = hmac.new(SECRET, f"{post_id}\0{category}".encode(), hashlib.sha256).digest()
        return int.from_bytes(mac[:8], "big") / 2**64

    expected = {row.post_id for row in rows.itertuples() if number(row.post_id, row.category) < prob[row.post_id]}
    assert set(result.plan.post_id) == expected
    assert (result.plan.set_index("post_id").inclusion_prob == prob[result.plan.post_id]).all()
    assert list(result.plan) == ["draw_id", "post_id", "category", "language", "zone", "inclusion_prob", "drawn_at"]
    assert result.plan.draw_id.is_unique


def test_the_draw_ignores_order_and_company_and_needs_the_secret() -> None:
    rows = frame(800)
    once = audit_sample.run(settings(), rows, 200, SECRET, NOW).plan
    again = audit_sample.run(settings(), rows.sample(frac=1, random_state=3), 200, SECRET, NOW).plan
    pd.testing.assert_frame_equal(once, again)
    other = audit_sample.run(settings(), rows, 200, b"another secret!!", NOW).plan
    assert set(other.post_id) != set(once.post_id)


def test_a_second_draw_adds_what_a_larger_budget_adds() -> None:
    rows = frame(800)
    small = audit_sample.run(settings(), rows, 100, SECRET, NOW).plan
    again = rows.assign(drawn_before=rows.post_id.isin(small.post_id))
    assert audit_sample.run(settings(), again, 100, SECRET, NOW).plan.empty
    more = audit_sample.run(settings(), again, 200, SECRET, NOW)
    whole = audit_sample.run(settings(), rows, 200, SECRET, NOW).plan
    assert set(more.plan.post_id) == set(whole.post_id) - set(small.post_id)
    assert more.num_before == len(small)


def test_the_size_is_as_announced() -> None:
    sizes = [len(audit_sample.run(settings(), frame(), 300, f"secret {k} secret".encode(), NOW).plan) for k in range(20)]
    result = audit_sample.run(settings(), frame(), 300, SECRET, NOW)
    assert result.expected == pytest.approx(300)
    assert np.mean(sizes) == pytest.approx(300, abs=10)
    assert np.mean([result.low <= size <= result.high for size in sizes]) >= 0.85


def test_a_budget_below_the_smallest_probability_is_refused() -> None:
    with pytest.raises(BadUse, match=r"--budget 3: 4000 rows .* need 4"):
        audit_sample.run(settings(), frame(), 3, SECRET, NOW)


def decisions(tmp_path, **changes):
    rows = frame(300).assign(decision_id=[f"d{k}" for k in range(300)], decided_at=pd.Timestamp("2026-10-26", tz="UTC"), model_version="1")
    (tmp_path / "decisions").mkdir(exist_ok=True)
    rows.assign(**changes).to_parquet(tmp_path / "decisions" / "a.parquet")
    return tmp_path / "decisions"


def command(tmp_path, *arguments) -> int:
    return audit_sample.main(["--params", str(PARAMS), "--store", str(tmp_path / "store"), *arguments])


def test_the_command_writes_the_plan(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(audit_sample.SECRET_VARIABLE, SECRET.decode())
    out = tmp_path / "plan.parquet"
    assert command(tmp_path, "--decisions", str(decisions(tmp_path)), "--budget", "50", "--out", str(out), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    plan = pd.read_parquet(out)
    assert told["drawn"] == len(plan) == sum(told["zones"].values())
    assert told["low"] <= told["expected"] <= told["high"]
    assert str(plan.drawn_at.dt.tz) == "UTC"


def test_only_the_latest_decision_counts_and_what_is_labelled_is_left_out(tmp_path) -> None:
    later = frame(300).assign(decided_at=pd.Timestamp("2026-10-27", tz="UTC"), action="review", score=0.7)
    later.to_parquet(decisions(tmp_path) / "b.parquet")
    labelled = pd.DataFrame({"post_id": ["p0", "p1"], "category": later.category[:2]})
    languages = pd.DataFrame({"post_id": [], "language": []})
    found = audit_tables.read_frame(tmp_path / "decisions", languages, labelled, labelled[:0], settings().ingest)
    assert len(found) == 298
    assert set(found.action) == {"review"}
    assert not set(found.post_id) & {"p0", "p1"}


def test_a_delivery_gives_languages_and_what_is_labelled(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(audit_sample.SECRET_VARIABLE, SECRET.decode())
    rows = frame(300)
    path = decisions(tmp_path)
    pd.read_parquet(path / "a.parquet").drop(columns="language").to_parquet(path / "a.parquet")
    for table, columns in (("posts", rows[["post_id", "language"]]), ("review_outcomes", rows[["post_id", "category"]][:150])):
        (tmp_path / table).mkdir()
        columns.to_parquet(tmp_path / table / "a.parquet")
    for given in (tmp_path, path):
        out = tmp_path / "plan.csv"
        assert command(tmp_path, "--decisions", str(given), "--budget", "150", "--out", str(out), "--as-of", "2026-11-02T00:00:00Z") == 0
        plan = pd.read_csv(out)
        assert set(plan.post_id) == set(rows.post_id[150:])  # the budget takes all that is left
        assert (plan.set_index("post_id").language == rows.set_index("post_id").language[plan.post_id]).all()


@pytest.mark.parametrize(
    ("changes", "arguments", "expected"),
    [
        ({"score": 2.0}, [], "row 1, column score"),
        ({"action": "delete"}, [], "row 1, column action: found 'delete'"),
        ({}, ["--out", "plan.txt"], "--out plan.txt"),
        ({}, ["--budget", "0"], "--budget"),
        ({}, ["--set", "audit_sample.unknown=1"], "unknown"),
    ],
)
def test_bad_use(tmp_path, monkeypatch, capsys, changes, arguments, expected) -> None:
    monkeypatch.setenv(audit_sample.SECRET_VARIABLE, SECRET.decode())
    path = decisions(tmp_path, **changes)
    assert command(tmp_path, "--decisions", str(path), "--budget", "50", "--out", str(tmp_path / "plan.csv"), *arguments) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "plan.csv").exists()


def test_without_a_secret_nothing_is_drawn(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.delenv(audit_sample.SECRET_VARIABLE, raising=False)
    assert command(tmp_path, "--decisions", str(decisions(tmp_path)), "--budget", "5", "--out", str(tmp_path / "p.csv")) == 2
    assert audit_sample.SECRET_VARIABLE in capsys.readouterr().err


def test_it_says_what_each_zone_buys_and_which_reviewers_are_needed(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv(audit_sample.SECRET_VARIABLE, SECRET.decode())
    given = ["--decisions", str(decisions(tmp_path)), "--budget", "60", "--out", str(tmp_path / "plan.parquet")]
    assert command(tmp_path, *given, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    plan = pd.read_parquet(tmp_path / "plan.parquet")
    assert told["languages"] == plan.language.value_counts().to_dict()
    assert sum(part["labels"] for part in told["allocation"]) == pytest.approx(60)
    assert {(part["category"], part["zone"]): part["drawn"] for part in told["allocation"] if part["drawn"]} == plan.groupby(
        ["category", "zone"]
    ).size().to_dict()
    assert all(part["reason"] for part in told["allocation"])
    assert command(tmp_path, *given) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "What the labels buy" in shown
    assert "Reviewers needed by language: " in shown
