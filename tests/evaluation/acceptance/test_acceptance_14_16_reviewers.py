"""Acceptance tests 14 to 16: reviewers on items that one person saw. Honest panels, planted reviewers, and their innocent colleagues."""

import numpy as np
import pandas as pd
import pytest
from score_worlds import settings

from upheld.evaluation.weekly import deviation

SECTION = settings().reviewers
SHARED = 2 * max(deviation.WINDOWS)  # tests that share the level


def world(seed: int, loads: list[int], *, num_languages: int = 10, weeks: int = 1, error_sd: float = 0.0, habit: str = "") -> pd.DataFrame:
    """One verdict an item, half of the items violations, scores with a ROC-AUC of .85, honest errors of 7 %; r0 has the habit."""
    rng = np.random.default_rng(seed)
    parts = []
    for place, load in enumerate(loads):
        error = float(np.clip(0.07 + error_sd * rng.normal(), 0, 1))
        for number in range(weeks):
            truth = rng.random(load) < 0.5
            score = 1 / (1 + np.exp(-(rng.normal(size=load) + 1.466 * truth)))
            verdict = (truth ^ (rng.random(load) < error)).astype(int)
            if place == 0:
                turned = verdict ^ (rng.random(load) < 0.2)
                verdict = {"restores": np.zeros(load, int), "confirms": np.ones(load, int), "flips": turned, "": verdict}[habit]
            about = {"category": "spam", "language": f"l{place % num_languages}", "zone": "review", "week": f"2026-W{number + 10}"}
            parts.append(pd.DataFrame({"reviewer_id": f"r{place}", **about, "score": score, "verdict": verdict}))
    return pd.concat(parts, ignore_index=True)


def flagged(verdicts: pd.DataFrame, *, margin: bool) -> set[str]:
    odds, flips = (SECTION.margin_odds, SECTION.margin_flips) if margin else (1.0, 0.0)
    return set(deviation.over_windows(verdicts, SECTION, odds=odds, flips=flips).flagged.reviewer_id)


def loads_of(seed: int) -> list[int]:
    """Sixty workloads between 10 and 200."""
    return [int(load) for load in np.exp(np.random.default_rng(seed).uniform(np.log(10), np.log(200), 60))]


@pytest.mark.parametrize("runs", [12, pytest.param(60, marks=pytest.mark.slow)])
def test_14_honest_reviewers_are_hardly_ever_flagged(runs: int) -> None:
    assert np.mean([bool(flagged(world(seed, loads_of(seed)), margin=False)) for seed in range(runs)]) <= 0.06


def test_14_a_normal_approximation_at_each_look_flags_somebody_often() -> None:
    """The mutant: two-sided normal p-values at .05 a reviewer, without Holm over reviewers."""

    def by_normal(verdicts: pd.DataFrame) -> bool:
        rows = verdicts.assign(bin=deviation._bins(verdicts))
        keys = [*deviation.CELL, "bin"]
        margins = rows.groupby(keys).verdict.agg(N="size", M="sum")
        own = rows.groupby(["reviewer_id", *keys]).verdict.agg(n="size", m="sum").reset_index().join(margins, on=keys)
        spread = own.n * (own.N - own.n) * own.M * (own.N - own.M) / (own.N**2 * (own.N - 1).clip(lower=1))
        sums = own.assign(gap=own.m - own.n * own.M / own.N, spread=spread).groupby("reviewer_id")[["gap", "spread"]].sum()
        return bool((sums.gap.abs() > 1.96 * sums.spread**0.5).any())

    assert np.mean([by_normal(world(seed, loads_of(seed))) for seed in range(12)]) >= 0.2


def test_14_routing_by_score_is_reported_and_none_where_there_is_none() -> None:
    reported, false = [], []
    for seed in range(40):
        verdicts = world(seed, [720] * 20, num_languages=4)  # six weeks of 120
        false.append(not deviation.routed(verdicts, SECTION.level).empty)
        logits = np.log(verdicts.score / (1 - verdicts.score))
        moved = logits + 0.2 * logits.std() * (verdicts.reviewer_id == "r0")
        reported.append("r0" in set(deviation.routed(verdicts.assign(score=1 / (1 + np.exp(-moved))), SECTION.level).reviewer_id))
    assert np.mean(reported) >= 0.9
    assert np.mean(false) <= 0.125  # five of forty, at a level of .05: more by chance in .01


@pytest.mark.slow
def test_14_people_who_err_more_or_less_are_not_accused() -> None:
    accused = [len(flagged(world(seed, [load * 6 for load in loads_of(seed)], error_sd=0.02), margin=True)) for seed in range(8)]
    assert sum(accused) <= 1  # of half a year each, of which at most one accusation was allowed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("habit", "load", "weeks", "least"), [("restores", 40, 3, 0.95), ("confirms", 20, 3, 0.95), ("flips", 45, 6, 0.45)]
)
def test_15_planted_reviewers_are_found(habit: str, load: int, weeks: int, least: float) -> None:
    """Extremes with the margin, after two more weeks; flips of 20 % without it, after six."""
    runs = [flagged(world(seed, [load] * 60, weeks=weeks, habit=habit), margin=habit != "flips") for seed in range(12)]
    assert np.mean(["r0" in names for names in runs]) >= least
    assert np.mean([bool(names - {"r0"}) for names in runs]) <= 0.06


@pytest.mark.parametrize("size", [6, 3])
def test_16_colleagues_of_a_malicious_reviewer_are_not_named(size: int) -> None:
    loads = [120, *[40] * (size - 1)]
    runs = [flagged(world(seed, loads, num_languages=1, weeks=2, habit="restores"), margin=False) for seed in range(30)]
    assert np.mean([bool(names - {"r0"}) for names in runs]) <= 0.06
    assert np.mean(["r0" in names for names in runs]) >= 0.95


def test_16_without_peeling_colleagues_are_named() -> None:
    """The mutant: everybody tested once, the malicious reviewer's verdicts among the others'."""

    def unpeeled(verdicts: pd.DataFrame) -> set[str]:
        rows = verdicts.assign(bin=deviation._bins(verdicts))
        names = sorted(rows.reviewer_id.unique())
        tested = [deviation._test(name, rows, 1.0, 0.0) for name in names]
        return {row["reviewer_id"] for row in tested if row["p_adjusted"] * len(names) * SHARED <= SECTION.level}

    runs = [unpeeled(world(seed, [120, *[40] * 5], num_languages=1, weeks=2, habit="restores")) for seed in range(20)]
    assert np.mean([bool(names - {"r0"}) for names in runs]) >= 0.5


def test_16_of_two_nobody_is_named() -> None:
    assert not any(flagged(world(seed, [80, 80], num_languages=1, habit="restores"), margin=False) for seed in range(10))
