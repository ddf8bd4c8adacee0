"""What attacks cost, against figures worked out by hand, thresholds found by trying all, and simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upheld.evaluation.robustness.figures import CELL, FIGURES, measure, member_thresholds

ALPHA, Z = 0.1, 1.6448536269514722  # the normal quantile of .95
CUT = {"spam": 0.5}


def rows(before, after, *, weight=1.0, label=True, member="ensemble", attack="swap", language="en", policy="spam", edits=2):
    """Rows of one attack on posts p0, p1, …"""
    posts = [f"p{number}" for number in range(len(before))]
    modality = "image" if attack in ("fgsm", "pgd", "pixels", "jpeg") else "text"
    return pd.DataFrame(
        {"post_id": posts, "language": language, "policy": policy, "modality": modality, "attack": attack, "member": member,
         "label": label, "weight": weight, "clean_prob": before, "attacked_prob": after, "edits": edits}
    )  # fmt: skip


def cell(table, member="ensemble", language="all", metric="recall", attack="swap", policy="spam"):
    wanted = {"member": member, "language": language, "metric": metric, "attack": attack, "policy": policy}
    (row,) = [row for row in table.to_dict("records") if all(row[name] == value for name, value in wanted.items())]
    return row


def wilson(rate, num):
    middle = (rate + Z**2 / (2 * num)) / (1 + Z**2 / num)
    half = Z / (1 + Z**2 / num) * math.sqrt(rate * (1 - rate) / num + Z**2 / (4 * num**2))
    return middle - half, middle + half


def test_recall_and_what_is_lost_are_those_worked_out_by_hand() -> None:
    """Six posts of weight 1 and six of weight 3, 24 in all. Before, one of weight 3 is missed; after, one of weight 1 and one of weight 3
    more: 21/24 and 17/24. (Σw)²/Σw² = 576/60 = 9.6."""
    before, after = np.full(12, 0.8), np.full(12, 0.7)
    before[11] = after[11] = after[0] = after[10] = 0.49
    weight = np.repeat([1.0, 3.0], 6)
    found = cell(measure(rows(before, after, weight=weight), CUT, ALPHA))
    assert (found["n"], found["threshold"], found["edits"]) == (12, 0.5, 2)
    assert (found["n_eff"], found["clean"], found["attacked"], found["lost"]) == pytest.approx((9.6, 21 / 24, 17 / 24, 4 / 24))
    (low_1, high_1), (low_2, high_2) = wilson(21 / 24, 9.6), wilson(17 / 24, 9.6)
    assert (found["clean_low"], found["clean_high"]) == pytest.approx((low_1, high_1))
    assert (found["attacked_low"], found["attacked_high"]) == pytest.approx((low_2, high_2))
    # influences w(hit − rate): their correlation, then Newcombe's square-and-add
    one = weight * ((before >= 0.5) - 21 / 24)
    two = weight * ((after >= 0.5) - 17 / 24)
    corr = one @ two / math.sqrt((one @ one) * (two @ two))
    x, y = 21 / 24 - low_1, high_2 - 17 / 24
    assert found["ci_low"] == pytest.approx(4 / 24 - math.sqrt(x**2 + y**2 - 2 * corr * x * y))
    x, y = high_1 - 21 / 24, 17 / 24 - low_2
    assert found["ci_high"] == pytest.approx(4 / 24 + math.sqrt(x**2 + y**2 - 2 * corr * x * y))


def test_a_post_is_found_from_the_threshold_on() -> None:
    probs = [0.5] * 6 + [np.nextafter(0.5, 0)] * 6
    assert cell(measure(rows(probs, probs), CUT, ALPHA))["clean"] == 0.5
    assert cell(measure(rows(probs, probs), {"spam": np.inf}, ALPHA))["clean"] == 0


def test_languages_have_cells_of_their_own_and_the_pooled_one_weighs_them() -> None:
    en, de = rows([0.9] * 10, [0.1] * 10, weight=1.0), rows([0.9] * 10, [0.9] * 10, weight=4.0, language="de")
    table = measure(pd.concat([en, de.assign(post_id="d" + de.post_id)]), CUT, ALPHA)
    assert [cell(table, language=name)["lost"] for name in ("en", "de", "all")] == pytest.approx([1, 0, 0.2])
    assert cell(table)["n"] == 20


def test_harmless_posts_count_for_attacks_on_pictures_alone() -> None:
    violations, harmless = rows([0.9] * 10, [0.9] * 6 + [0.1] * 4, attack="pgd"), rows([0.1] * 10, [0.1] * 7 + [0.9] * 3, attack="pgd")
    both = pd.concat([violations, harmless.assign(post_id="h" + harmless.post_id, label=False)])
    table = measure(both, CUT, ALPHA)
    assert cell(table, attack="pgd")["lost"] == pytest.approx(0.4)
    accuracy = cell(table, attack="pgd", metric="accuracy")
    assert (accuracy["n"], accuracy["clean"], accuracy["lost"]) == pytest.approx((20, 1, 0.35))
    assert set(measure(violations, CUT, ALPHA).metric) == {"recall"}
    on_texts = measure(both.assign(attack="swap", modality="text"), CUT, ALPHA)
    assert (set(on_texts.metric), cell(on_texts)["n"]) == ({"recall"}, 10)


def test_few_violations_say_nothing_and_why() -> None:
    found = cell(measure(rows([0.9] * 9, [0.1] * 9), CUT, ALPHA))
    assert (found["n"], found["reason"]) == (9, "fewer than 10 violations were attacked")
    assert all(math.isnan(found[name]) for name in ("clean", "attacked", "lost", "ci_low", "ci_high", "n_eff"))
    assert cell(measure(rows([0.9] * 10, [0.1] * 10), CUT, ALPHA))["lost"] == 1


def test_a_table_without_rows_gives_one_without_rows() -> None:
    table = measure(rows([], []).astype({"label": bool, "weight": float}), {}, ALPHA)
    assert (len(table), list(table)) == (0, [*CELL, *FIGURES])


def test_harmless_posts_alone_give_single_members_no_threshold() -> None:
    both = pd.concat([rows([0.1] * 12, [0.9] * 12, label=False, attack="pgd", member=member) for member in ("image", "ensemble")])
    table = measure(both, CUT, ALPHA)
    assert cell(table, attack="pgd", metric="accuracy")["lost"] == 1
    single = table[table.member == "image"]
    assert single.metric.tolist() == ["recall"] * 2 and single.lost.isna().all()


PROBS = st.floats(0, 1, width=32)
POSTS = st.lists(st.tuples(PROBS, PROBS, PROBS, PROBS, st.sampled_from([1.0, 2.0, 5.0])), min_size=10, max_size=30)


def of_posts(posts) -> pd.DataFrame:
    """Rows of an ensemble and of n-grams, whose probabilities come in pairs before and after."""
    one, two, three, four, weight = (list(column) for column in zip(*posts, strict=True))
    return pd.concat([rows(one, two, weight=weight), rows(three, four, weight=weight, member="ngrams")], ignore_index=True)


@settings(deadline=None, max_examples=40)
@given(POSTS)
def test_a_single_member_starts_from_the_ensembles_recall(posts) -> None:
    """Of all its probabilities its threshold is the highest that finds at least what the ensemble finds, found here by trying each."""
    of_all = of_posts(posts)
    threshold = member_thresholds(of_all, CUT)["spam", "text", "ngrams"]
    total = sum(weight for *_, weight in posts)
    wanted = sum(weight for ensemble, _, _, _, weight in posts if ensemble >= 0.5) / total
    reaching = [cut for _, _, cut, _, _ in posts if sum(w for _, _, prob, _, w in posts if prob >= cut) / total >= wanted - 1e-9]
    assert threshold == (max(reaching) if wanted > 0 else np.inf)
    table = measure(of_all, CUT, ALPHA)
    assert cell(table, "ngrams")["clean"] >= cell(table)["clean"] - 1e-9
    assert cell(table, "ngrams")["threshold"] == threshold


def test_a_members_threshold_takes_each_post_once_however_often_it_was_attacked() -> None:
    posts = [(0.9, 0.9, 0.25, 0.2, 1.0)] * 10 + [(0.1, 0.1, 0.3 + place / 100, 0.2, 1.0) for place in range(10)]
    once = of_posts(posts)
    more = once[once.post_id.str[1:].astype(int) < 10].assign(attack="search")
    assert member_thresholds(pd.concat([once, more]), CUT)["spam", "text", "ngrams"] == pytest.approx(0.3)


@settings(deadline=None, max_examples=40)
@given(POSTS)
def test_what_nothing_changes_costs_nothing(posts) -> None:
    same = of_posts(posts).assign(attacked_prob=lambda table: table.clean_prob)
    table = measure(same, CUT, ALPHA)
    assert (table.lost == 0).all()
    assert ((table.ci_low <= 0) & (table.ci_high >= 0)).all()


@settings(deadline=None, max_examples=40)
@given(POSTS, st.sampled_from([1e-6, 0.25, 3.0, 1e6]))
def test_the_unit_of_weights_and_the_order_of_rows_do_not_matter(posts, unit) -> None:
    table = of_posts(posts)
    other = measure(table.assign(weight=table.weight * unit).iloc[::-1], CUT, ALPHA)
    pd.testing.assert_frame_equal(measure(table, CUT, ALPHA), other, rtol=1e-9, atol=1e-9)


def test_intervals_cover_what_is_lost() -> None:
    """90 % intervals of 2,000 worlds, each a language, with weights 1 and 4; posts are found with .85, and of these .3 are lost."""
    rng, num_worlds, num_posts = np.random.default_rng(4), 2000, 150
    found = rng.random(num_worlds * num_posts) < 0.85
    after = found & (rng.random(len(found)) >= 0.3)
    worlds = np.repeat([f"w{number}" for number in range(num_worlds)], num_posts)
    table = measure(rows(found * 0.8, after * 0.8, weight=rng.choice([1.0, 4.0], len(found)), language=worlds), CUT, ALPHA)
    of_worlds = table[table.language != "all"]
    covered = (of_worlds.ci_low <= 0.85 * 0.3) & (of_worlds.ci_high >= 0.85 * 0.3)
    assert (len(covered), covered.mean() >= 0.88) == (num_worlds, True), covered.mean()
