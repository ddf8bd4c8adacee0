"""Who is drawn, what reviewers answer, and `sample-data respond`: rates are recounted from the files, by explicit masks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from upheld import cli
from upheld.common.params import params
from upheld.feature_store.sample_world import command as sample_data
from upheld.feature_store.sample_world.moderation import answer, draw, staff
from upheld.feature_store.sample_world.posts import Week, monday_of

ROOT = Path(__file__).parents[3]
SETTINGS = params.load(ROOT / "params.yaml").sample_data


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("review") / "world"
    sample_data.run(SETTINGS, 5, out, sample_data.calendar(SETTINGS, 5, "2026-W36", 3), 300)
    return out


@pytest.fixture(scope="module")
def truth(world) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in (world / "truth").glob("week=*.parquet")])


@pytest.fixture(scope="module")
def plan(truth) -> pd.DataFrame:
    rows = truth.sample(3000, random_state=0)[["post_id", "category", "language"]].reset_index(drop=True)
    rows.insert(0, "draw_id", [f"a_{number}" for number in range(len(rows))])
    zone = np.resize(["auto_remove", "review", "none"], len(rows))
    return rows.assign(zone=zone, inclusion_prob=0.25, drawn_at=pd.Timestamp("2026-10-01T08:00Z"))


def respond(plan: pd.DataFrame, world: Path, folder: Path, *more: str) -> int:
    folder.mkdir(exist_ok=True)
    plan.to_parquet(folder / "plan.parquet", index=False)
    arguments = ["--plan", str(folder / "plan.parquet"), "--world", str(world), "--out", str(folder / "out")]
    return cli.main(["sample-data", "respond", *arguments, *more])


def answers(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "out" / "review_outcomes" / "answers.parquet")


def test_draw_frequencies_match_the_stated_probabilities(world) -> None:
    decisions = pd.read_parquet(world / "decisions" / "week=01.parquet")
    rounds = 300
    drawn = pd.concat([draw(Week(seed, 1, monday_of("2026-W36")), SETTINGS, decisions) for seed in range(rounds)])
    prob = drawn.drop_duplicates("draw_id").set_index("draw_id").inclusion_prob
    assert (drawn.groupby("draw_id").inclusion_prob.nunique() == 1).all()
    assert set(prob.index) == set(decisions.decision_id)  # in 300 rounds nothing of this world stays undrawn
    times = drawn.draw_id.value_counts()
    for zone in ("auto_remove", "review", "none"):
        for expected, ids in decisions.loc[decisions.action == zone].decision_id.groupby(
            prob.reindex(decisions.decision_id).to_numpy()[decisions.action == zone]
        ):
            trials = rounds * len(ids)
            z = (times[ids].sum() - trials * expected) / np.sqrt(trials * expected * (1 - expected))
            assert abs(z) < 4, (zone, expected, z)


def test_weighted_sample_finds_the_true_prevalence(world, truth) -> None:
    decisions = pd.concat([pd.read_parquet(file) for file in (world / "decisions").iterdir()])
    rows = decisions.merge(truth, on=["post_id", "category"], validate="one_to_one").set_index("decision_id")
    errors = []
    for seed in range(200):
        drawn = draw(Week(seed, 1, monday_of("2026-W36")), SETTINGS, decisions)
        errors.append((rows.label[drawn.draw_id].to_numpy() / drawn.inclusion_prob.to_numpy()).sum() - rows.label.sum())
    assert abs(np.mean(errors)) < 4 * np.std(errors) / np.sqrt(len(errors))


def test_outcomes_carry_the_probability_of_their_zone(world) -> None:
    decisions = pd.concat([pd.read_parquet(file) for file in (world / "decisions").iterdir()])
    outcomes = pd.concat([pd.read_parquet(file) for file in (world / "review_outcomes").iterdir()])
    rows = outcomes.merge(decisions, on=["post_id", "category"], validate="many_to_one")
    zone = rows.source.map({"queue": "review", "audit_removed": "auto_remove", "audit_passed": "none", "appeal": "auto_remove"})
    assert (zone == rows.action).all()
    assert (rows.inclusion_prob[rows.source == "appeal"] == 1.0).all()
    assert (rows.inclusion_prob[rows.source == "queue"] == SETTINGS.prob_queue).all()
    assert (rows.inclusion_prob[rows.source == "audit_removed"] == SETTINGS.prob_audit_removed).all()
    assert rows[rows.source == "audit_passed"].groupby("inclusion_prob").score.min().is_monotonic_increasing


def test_reviewers_err_as_often_as_the_truth_says() -> None:
    reviewers = staff(3, 20)
    num = 40_000
    truth = pd.DataFrame(
        {"post_id": [f"p{i}" for i in range(num)], "category": "spam", "language": np.resize(["en", "tr", "hi", "id"], num)}
    )
    truth = truth.assign(label=np.resize([1, 0, 0, 1, 0], num), hard=np.resize([True, False, False], num))
    draws = truth[["post_id", "category"]].assign(
        draw_id=truth.post_id, zone="review", inclusion_prob=0.5, drawn_at=pd.Timestamp("2026-10-01T00:00Z")
    )
    said = answer(draws, truth, reviewers, seed=3)
    said = said[(said.revision == 0) & (said.verdict != "escalate")].merge(truth, on="post_id", validate="many_to_one")
    for person in reviewers.to_dict("records"):
        his = said[said.reviewer_id == person["reviewer_id"]]
        assert set(his.language) <= set(person["languages"])
        for label, rate in ((1, person["sensitivity"]), (0, 1 - person["specificity"])):
            confirmed = (his.verdict[his.label == label] == "confirm_removal").to_numpy()
            if len(confirmed):
                assert abs(confirmed.mean() - rate) <= 4 * np.sqrt(rate * (1 - rate) / len(confirmed)) + 1e-9, person
    fixed = reviewers[reviewers.role == "always_confirms"].reviewer_id.item()
    assert set(said.verdict[said.reviewer_id == fixed]) == {"confirm_removal"}
    assert said.reviewer_id.nunique() > 15


def test_every_language_has_several_reviewers() -> None:
    reviewers = staff(3, 20)
    working = reviewers[reviewers.workload > 0]
    assert working.languages.explode().value_counts().min() >= 3


def test_the_world_has_second_opinions_escalations_resolved_corrections_and_appeals(world) -> None:
    outcomes = pd.concat([pd.read_parquet(file) for file in (world / "review_outcomes").iterdir()])
    people = outcomes[outcomes.revision == 0].groupby(["post_id", "category"]).reviewer_id.nunique()
    assert 0.1 < (people > 1).mean() < 0.5
    assert (outcomes.revision == 1).any() and (outcomes.source == "appeal").any()
    corrected = outcomes[outcomes.outcome_id.isin(outcomes.outcome_id[outcomes.revision == 1])].sort_values("revision")
    assert (corrected.groupby("outcome_id").verdict.nunique() == 2).all()
    escalated = outcomes[outcomes.verdict == "escalate"]
    after = escalated.merge(outcomes, on=["post_id", "category"], suffixes=("", "_later"))
    assert (after.reviewed_at_later > after.reviewed_at).any() and after.reviewer_id_later.ne(after.reviewer_id).any()


def test_respond_answers_every_draw_with_its_own_probability(world, plan, tmp_path) -> None:
    assert respond(plan, world, tmp_path) == 0
    said = answers(tmp_path).merge(plan, on="draw_id", validate="many_to_one", suffixes=("", "_planned"))
    assert set(said.draw_id) == set(plan.draw_id)
    assert (said.inclusion_prob == said.inclusion_prob_planned).all() and (said.post_id == said.post_id_planned).all()
    assert (said.source == said.zone.map({"auto_remove": "audit_removed", "review": "queue", "none": "audit_passed"})).all()
    assert (said.reviewed_at >= said.drawn_at).all()
    assert not said.duplicated(["outcome_id", "revision"]).any()
    mark = json.loads((tmp_path / "out" / "SYNTHETIC.json").read_text())
    assert mark["synthetic"] is True and pd.Timestamp(mark["as_of"]) > said.reviewed_at.max()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"SYNTHETIC.json", "review_outcomes"}


def test_respond_answers_second_reviews_without_a_probability(world, plan, tmp_path) -> None:
    asked = plan[:50].assign(zone="targeted", inclusion_prob=None)
    for suffix in ("csv", "jsonl"):
        path = tmp_path / f"plan.{suffix}"
        asked.to_csv(path, index=False) if suffix == "csv" else asked.to_json(path, orient="records", lines=True, date_format="iso")
        arguments = ["--plan", str(path), "--world", str(world), "--out", str(tmp_path / "out")]
        assert cli.main(["sample-data", "respond", *arguments]) == 0
        said = answers(tmp_path)
        assert set(said.draw_id) == set(asked.draw_id) and set(said.source) == {"targeted"} and said.inclusion_prob.isna().all()


def test_respond_twice_shuffled_or_in_part_gives_the_same_answers(world, plan, tmp_path) -> None:
    shuffled = plan.sample(frac=1, random_state=1)
    for name, given in (("a", plan), ("b", shuffled), ("part", shuffled[:500])):
        assert respond(given, world, tmp_path / name) == 0
    first = (tmp_path / "a" / "out" / "review_outcomes" / "answers.parquet").read_bytes()
    assert (tmp_path / "b" / "out" / "review_outcomes" / "answers.parquet").read_bytes() == first
    whole, part = answers(tmp_path / "a"), answers(tmp_path / "part")
    pd.testing.assert_frame_equal(whole[whole.draw_id.isin(part.draw_id)].reset_index(drop=True), part)


def test_respond_reads_csv_and_an_empty_plan(world, plan, tmp_path, capsys) -> None:
    plan[:20].to_csv(tmp_path / "plan.csv", index=False)
    arguments = ["--world", str(world), "--out", str(tmp_path / "o"), "--json"]
    assert cli.main(["sample-data", "respond", "--plan", str(tmp_path / "plan.csv"), *arguments]) == 0
    assert json.loads(capsys.readouterr().out)["draws"] == 20
    assert respond(plan[:0], world, tmp_path / "none") == 0
    assert answers(tmp_path / "none").empty


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"draw_id": "a_1"}, "row 2, column draw_id"),
        ({"zone": "elsewhere"}, "row 1, column zone"),
        ({"inclusion_prob": 0.0}, "row 1, column inclusion_prob"),
        ({"inclusion_prob": None}, "row 1, column inclusion_prob"),
        ({"inclusion_prob": 0.0, "zone": "targeted"}, "row 1, column inclusion_prob"),
        ({"drawn_at": pd.NaT}, "row 1, column drawn_at"),
        ({"post_id": "p_unknown"}, "post p_unknown"),
    ],
)
def test_a_broken_plan_is_bad_use_and_leaves_nothing(world, plan, tmp_path, capsys, change, told) -> None:
    broken = plan[:5].copy()
    for column, value in change.items():
        broken.loc[0, column] = value
    code = respond(broken, world, tmp_path)
    message = capsys.readouterr().err
    assert code == 2 and not (tmp_path / "out").exists()
    assert told in message


def test_a_missing_column_or_world_is_bad_use(world, plan, tmp_path, capsys) -> None:
    assert respond(plan.drop(columns="zone"), world, tmp_path) == 2
    assert "no column 'zone'" in capsys.readouterr().err
    assert respond(plan, tmp_path, tmp_path) == 2
    assert "no sample world" in capsys.readouterr().err
