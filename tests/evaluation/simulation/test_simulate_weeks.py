"""`upheld simulate-weeks`: the audits against rows drawn one by one, the rules against loops, and what a lead gets."""

import json
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom
from score_worlds import PARAMS, settings

from upheld.common.errors import BadUse
from upheld.evaluation.audit import command as audit_sample
from upheld.evaluation.audit import design
from upheld.evaluation.simulation import command as simulate_weeks
from upheld.evaluation.simulation import rules, worlds
from upheld.evaluation.thresholds import fallback_procedure

SECTION = settings().thresholds
NOW = datetime(2026, 11, 2, tzinfo=UTC)


def small_audits(num_labels, num_errors, weight=None) -> rules.Audits:
    num_labels = np.array(num_labels, float)
    volumes = np.arange(1, num_labels.shape[1] + 1) * 1000.0
    path = worlds.Course(np.arange(num_labels.shape[1])[::-1], volumes, float(volumes[-1]))
    return rules.Audits(path, num_labels, np.array(num_errors, float), np.ones(len(volumes)) if weight is None else weight)


def test_labels_are_spread_as_the_audit_command_spreads_them() -> None:
    """A world of whole posts per bin, turned into rows and given to `design.inclusion_probs`."""
    rng = np.random.default_rng(1)
    posts = rng.poisson(60 * np.exp(-np.arange(worlds.NUM_BINS) / 500)).astype(float)
    violating = np.where(np.arange(worlds.NUM_BINS) > 2500, 0.97, 0.01) * posts
    truth = worlds.World(violating / posts.sum(), (posts - violating) / posts.sum(), float(posts.sum()))
    start = rules.incumbent_bin(truth, SECTION)
    queued = np.flatnonzero(truth.recall_above >= SECTION.recall_target)[-1]
    place = np.repeat(np.arange(worlds.NUM_BINS), posts.astype(int))
    action = np.select([place >= start, place >= queued], ["auto_remove", "review"], "none")
    score = (violating / np.maximum(posts, 1))[place]
    frame = pd.DataFrame({"post_id": range(len(place)), "category": "spam", "language": "en", "score": score, "action": action})
    parts = audit_sample.run(settings(), frame.assign(drawn_before=False), 1500, b"0123456789abcdef", NOW).parts
    prob = design.inclusion_probs(frame, {(part.category, part.zone): part.labels for part in parts}, settings().audit_sample)
    audits = rules.audit(truth, rules.design(truth, settings()), settings(), 1500, 2000, seed=3)
    for j, at in enumerate(audits.path.bins):
        wanted = prob[place >= at].sum()
        assert audits.num_labels[:, : j + 1].sum(1).mean() == pytest.approx(wanted, abs=5 * np.sqrt(wanted / 2000) + 1e-6)
    assert (1 / audits.weight)[:5] == pytest.approx(prob[action == "auto_remove"][0])


def test_kish_with_equal_weights_is_the_binomial_test() -> None:
    audits = small_audits([[200, 300, 400]], [[3, 9, 40]])
    chosen = rules.choose("kish", audits, SECTION)
    num, errors = np.cumsum([200, 300, 400]), np.cumsum([3, 9, 40])
    weights = fallback_procedure.start_weights(
        audits.path.volumes, audits.path.start_volume * np.array(SECTION.start_shares), SECTION.delta
    )
    level, last = 0.0, -1
    for j in range(3):
        level += weights[j]
        if level and binom.cdf(errors[j], num[j], 1 - SECTION.precision_target) <= level:
            last = j
        else:
            level = 0.0
    assert last >= 0
    assert chosen.tolist() == [last] == rules.choose("ours", audits, SECTION).tolist()


def test_the_normal_approximation_is_certain_without_an_error_and_silent_without_a_label() -> None:
    audits = small_audits([[5, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]])
    assert rules.choose("ht_normal", audits, SECTION).tolist() == [2, -1]
    assert rules.choose("ours", audits, SECTION).tolist() == [-1, -1]


def test_kish_is_wrong_where_errors_gather_in_what_is_seldom_drawn() -> None:
    """Acceptance 2's design as one candidate: half the posts drawn with .05 hold nine tenths of the errors; precision is the target."""
    rng = np.random.default_rng(2)
    found = rng.binomial([100, 2000], [0.09, 0.01], (20_000, 2)).astype(float)
    num = np.broadcast_to([100.0, 2000.0], found.shape)
    whole = SECTION.model_copy(update={"start_shares": (1.0,)})
    audits = small_audits(num, found, np.array([20.0, 1.0]))
    wrong = {rule: float((rules.choose(rule, audits, whole) == 1).mean()) for rule in ("ours", "kish", "ht_normal")}
    assert wrong["ours"] <= 0.105
    assert min(wrong["kish"], wrong["ht_normal"]) >= 0.12


def test_in_the_flat_world_the_naive_rule_is_mostly_wrong_and_ours_keeps_its_error(tmp_path) -> None:
    told = simulate_weeks.run(settings(), tmp_path, worlds=["E"], num_weeks=2000)
    rates = {outcome["rule"]: outcome["wrong"] for outcome in told["worlds"][0]["outcomes"]}
    assert rates["naive"] >= 0.5
    assert rates["ours"] <= 0.128
    assert told["worlds"][0]["need_budget"]["to_certify"] is None


def test_the_budget_found_certifies_in_weeks_of_another_seed() -> None:
    truth = worlds.world("C", 0.05, 200_000)
    design = rules.design(truth, settings())
    need = simulate_weeks._needed(truth, design, settings(), lambda shares: float((shares > 0).mean()) >= 0.8)
    for factor, low, high in ((1.0, 0.75, 0.9), (0.6, 0.0, 0.78)):
        audits = rules.audit(truth, design, settings(), round(need * factor), 3000, seed=99)
        assert low <= (rules.choose("ours", audits, SECTION) >= 0).mean() <= high


@pytest.mark.parametrize(("prevalence", "posts"), [(1e-4, 2000), (0.5, 100), (0.97, 50_000)])
def test_odd_worlds_give_numbers(tmp_path, prevalence, posts) -> None:
    told = simulate_weeks.run(
        settings(), tmp_path, worlds=["A", "D"], prevalence=prevalence, posts_per_week=posts, budget=posts // 2, num_weeks=200
    )
    for world in told["worlds"]:
        assert world["prevalence"] == pytest.approx(prevalence, rel=1e-6)
        assert all(0 <= outcome[name] <= 1 for outcome in world["outcomes"] for name in ("wrong", "abstains"))


def test_command_writes_both_files_and_the_same_again(tmp_path, capsys) -> None:
    arguments = ["--params", str(PARAMS), "--world", "A", "--weeks", "300", "--target", "0.9", "--delta", "0.2", "--json"]
    for name in ("a", "b"):
        assert simulate_weeks.main([*arguments, "--out", str(tmp_path / name)]) == 0
        told = json.loads(capsys.readouterr().out)
    assert told == json.loads((tmp_path / "a/simulation.json").read_text()) == json.loads((tmp_path / "b/simulation.json").read_text())
    assert (told["target"], told["delta"], told["synthetic"]) == (0.9, 0.2, True)
    page = (tmp_path / "a/simulation.md").read_text()
    assert page.count("| A (1.0 %)") == len(told["rules"])
    assert "Simulated, no real data" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--world", "Z"], "known: A, B, C, D, E"),
        (["--world", "E", "--prevalence", "0.9"], "no room for a prevalence"),
        (["--prevalence", "1.5"], "share between 0 and 1"),
        (["--budget", "10"], "need 500 labels"),
        (["--target", "1.5"], "thresholds.precision_target"),
    ],
)
def test_bad_use_is_one_line(tmp_path, capsys, arguments, message) -> None:
    assert simulate_weeks.main(["--params", str(PARAMS), "--out", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert not (tmp_path / "out").exists()


def test_worlds_without_a_good_threshold_start_from_the_start_score() -> None:
    flat = np.full(worlds.NUM_BINS, 1 / worlds.NUM_BINS)
    truth = worlds.World(0.1 * flat, 0.9 * flat)
    assert truth.oracle_bin(0.95) == worlds.NUM_BINS
    assert rules.incumbent_bin(truth, SECTION) == worlds.NUM_BINS / 2


def test_where_nothing_meets_the_target_it_says_so(tmp_path) -> None:
    told = simulate_weeks.run(settings(), tmp_path, worlds=["D"], prevalence=1e-4, posts_per_week=100, budget=100, num_weeks=500)
    assert told["worlds"][0]["oracle_removals_per_week"] is None
    assert told["worlds"][0]["outcomes"][0]["wrong"] <= 0.12
    assert "no threshold truly meets the target" in (tmp_path / "simulation.md").read_text()


def test_budgets_below_what_the_audit_needs_are_refused(tmp_path) -> None:
    with pytest.raises(BadUse, match="lower the key with --set"):
        simulate_weeks.run(settings(), tmp_path, budget=499)
