"""Which members are left out: against fits that are made again without each post, and on posts whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from upheld.training.fusion import model as fusion_model
from upheld.training.fusion import selection
from upheld.training.fusion.selection import MIN_LABELS
from upheld.training.loop.logistic import fit_logistic, left_one_out


def rows(num: int = 300, seed: int = 1, told: float = 2.0) -> pd.DataFrame:
    """Texts tell `told` times their logit of the truth, n-grams say the same less surely, pictures are noise, nothing is heard."""
    random = np.random.default_rng(seed)
    said = random.normal(-0.5, 1.0, num)
    table = pd.DataFrame({"post_id": [f"p{n:04d}" for n in range(num)], "prior_removals": 0, "num_hashtags": 0, "has_link": False})
    table["prob_text_spam"] = expit(said)
    table["prob_ngrams_spam"] = expit(said + random.normal(0, 1, num))
    table["prob_image_spam"] = expit(random.normal(0, 2, num))
    table["prob_audio_spam"] = np.nan
    table["label"] = (random.random(num) < expit(told * said)).astype(float)
    table["weight"] = random.uniform(0.5, 1, num)
    table["inclusion_prob"] = random.uniform(0.3, 1, num)
    return table


def agreeing(table: pd.DataFrame) -> pd.DataFrame:
    """Pictures say a little of what texts do, so that none counts against what it says."""
    return table.assign(prob_image_spam=expit(0.1 * logit(table.prob_image_spam) + 0.5 * logit(table.prob_text_spam)))


def held_out_by_hand(table: pd.DataFrame, left_out: tuple[str, ...]) -> np.ndarray:
    """Each post's logit from a fit in which its label is unknown."""
    logits = []
    for place in range(len(table)):
        blind = table.assign(label=table.label.mask(table.index == place))
        learnt, _ = fusion_model.fit_held_out(blind, "spam", 3.0, 5, left_out)
        logits.append(logit(fusion_model.apply({"spam": learnt}, table.iloc[[place]]).prob_spam.item()))
    return np.array(logits)


def test_one_newton_step_leaves_a_row_out() -> None:
    random = np.random.default_rng(3)
    design = np.column_stack([np.ones(60), random.normal(size=(60, 3))])
    label, weight = (random.random(60) < 0.4).astype(float), random.uniform(0.2, 2, 60)
    prior, penalty = np.array([0.0, 1, 0, 0]), np.array([0.0, 3, 3, 3])
    fitted = fit_logistic(design, label, weight, prior, penalty)
    quick = left_one_out(design, label, weight, penalty, fitted)
    rest = [np.arange(60) != row for row in range(60)]
    slow = np.array([design[~kept][0] @ fit_logistic(design[kept], label[kept], weight[kept], prior, penalty) for kept in rest])
    assert quick == pytest.approx(slow, abs=0.03)
    assert np.abs(design @ fitted - slow).max() > 0.2  # which the fit on all rows does not give


def test_the_verdict_is_that_of_fits_without_each_post() -> None:
    table = rows(130).assign(prob_ngrams_spam=np.nan)
    learnt, verdicts = selection.select(table, "spam", 3.0, 5)
    assert set(verdicts) == {"text", "image"}  # nothing else judged
    with_it, without = held_out_by_hand(table, ()), held_out_by_hand(table, ("image",))
    weight = 1 / table.inclusion_prob
    losses = [
        np.array([-np.log(expit(z) if label else expit(-z)) for z, label in zip(scores, table.label, strict=True)])
        for scores in (without, with_it)
    ]
    gains = losses[0] - losses[1]
    gain = np.average(gains, weights=weight)
    assert verdicts["image"].gain == pytest.approx(gain, abs=5e-4)
    assert verdicts["image"].standard_error == pytest.approx(np.sqrt(sum((weight * (gains - gain)) ** 2)) / sum(weight), rel=0.05)
    for found, scores in ((verdicts["image"].roc_auc, with_it), (verdicts["image"].roc_auc_without, without)):
        assert found == pytest.approx(roc_auc_score(table.label, scores, sample_weight=weight), abs=2e-3)
    assert verdicts["image"].left_out == (gain <= 0 and verdicts["image"].roc_auc_without >= verdicts["image"].roc_auc)
    assert ("image" in learnt.left_out) == verdicts["image"].left_out
    assert verdicts["image"].num == 130


def test_what_tells_nothing_is_mostly_left_out_and_what_tells_never() -> None:
    found = [selection.select(rows(300, seed), "spam", 3.0, 5)[0].left_out for seed in range(12)]
    assert sum("image" in left_out for left_out in found) >= 6
    assert not any("text" in left_out for left_out in found)


def test_leaving_out_does_not_rank_new_posts_worse() -> None:
    """The truth is known: 2,000 posts that nobody reviewed. The mean over worlds, so that one unlucky draw decides nothing."""
    changes, num_left_out = [], 0
    for seed in range(12):
        chosen, _ = selection.select(rows(200, seed), "spam", 3.0, 5)
        whole = fusion_model.fit(rows(200, seed), "spam", 3.0, 5)
        new = rows(2000, 1000 + seed)
        areas = [roc_auc_score(new.label, fusion_model.apply({"spam": one}, new).prob_spam) for one in (chosen, whole)]
        changes.append(areas[0] - areas[1])
        num_left_out += len(chosen.left_out)
    assert np.mean(changes) >= 0
    assert num_left_out > 0


@pytest.mark.parametrize(("num", "is_compared"), [(MIN_LABELS, True), (MIN_LABELS - 1, False)])
def test_with_fewer_labels_of_a_class_nothing_is_left_out(num: int, is_compared: bool) -> None:
    table = agreeing(rows(300, 5).assign(inclusion_prob=0.5))
    positive = table.index[table.label == 1]
    table.loc[positive[num:], "label"] = np.nan
    learnt, verdicts = selection.select(table, "spam", 3.0, 5)
    assert (verdicts["image"].gain is not None or "image" in learnt.left_out) == is_compared
    assert is_compared or learnt == fusion_model.fit(table, "spam", 3.0, 5)


def test_labels_count_by_their_effective_number() -> None:
    """Forty of each class are enough, but not where one of them stands for a thousand posts."""
    even = rows(300, 5).groupby("label").head(40).sort_values("post_id").assign(inclusion_prob=0.5)
    uneven = even.assign(inclusion_prob=np.where(even.post_id == even.post_id[even.label == 1].iloc[0], 0.001, 0.5))
    for table, is_compared in ((even, True), (uneven, False)):
        _, verdicts = selection.select(table, "spam", 3.0, 5)
        assert any(verdict.gain is not None for verdict in verdicts.values()) == is_compared


def test_a_member_that_judged_too_few_posts_stays() -> None:
    table = agreeing(rows(300, 2))
    table.loc[MIN_LABELS * 2 - 2 :, "prob_image_spam"] = np.nan
    learnt, verdicts = selection.select(table, "spam", 3.0, 5)
    assert (verdicts["image"].num, verdicts["image"].gain, verdicts["image"].left_out) == (2 * MIN_LABELS - 2, None, False)
    assert "image" not in learnt.left_out


def test_posts_that_no_draw_chose_are_fitted_on_and_decide_nothing() -> None:
    table = rows(200, 4)
    chosen = rows(200, 4).assign(label=1.0, inclusion_prob=np.nan, post_id=lambda t: "x" + t.post_id).head(100)
    _, alone = selection.select(table, "spam", 3.0, 5)
    learnt, beside = selection.select(pd.concat([table, chosen], ignore_index=True), "spam", 3.0, 5)
    assert {name: verdict.num for name, verdict in beside.items()} == {name: verdict.num for name, verdict in alone.items()}
    assert learnt.num_positive == table.label.sum() + 100


def test_a_lower_cross_entropy_alone_leaves_nobody_out() -> None:
    """With the member posts are ranked well and too surely, without it not at all: ranking decides, too."""
    label = np.tile([0.0, 1.0], 30)
    sure = np.where(label > 0, 9.0, -9.0) + np.where(np.arange(60) % 10 == 0, -18.0, 0) * (label * 2 - 1)
    assert selection._compared(label, np.ones(60), sure, np.zeros(60), 60).gain < 0
    assert not selection._compared(label, np.ones(60), sure, np.zeros(60), 60).left_out
    assert selection._compared(label, np.ones(60), np.zeros(60), np.zeros(60), 60).left_out  # nothing is lost at all


def test_an_equal_ranking_alone_leaves_nobody_out() -> None:
    """Without the member posts are ranked alike and far too surely."""
    label = np.tile([0.0, 1.0], 30)
    said = np.where(label > 0, 1.0, -1.0) * np.where(np.arange(60) % 5 == 0, -1.0, 1.0)
    found = selection._compared(label, np.ones(60), said, 9 * said, 60)
    assert found.roc_auc == found.roc_auc_without
    assert found.gain > 0 and not found.left_out


def test_each_post_counts_one_over_the_probability_of_its_draw() -> None:
    label = np.tile([0.0, 1.0], 40)
    helped = np.where(np.arange(80) < 40, 1.0, -1.0) * (label * 2 - 1)  # a member that is right of the first half alone
    often, rarely = (np.where(np.arange(80) < 40, first, 1.0) for first in (1.0, 0.1))
    assert selection._compared(label, 1 / rarely, helped, np.zeros(80), 80).gain > 0
    assert selection._compared(label, np.where(np.arange(80) < 40, 0.1, 1.0), helped, np.zeros(80), 80).gain < 0
    assert selection._compared(label, 1 / often, helped, np.zeros(80), 80).gain < 0


def test_the_first_member_of_a_modality_goes_after_the_others() -> None:
    """Texts tell nothing beside n-grams here, and the n-grams all: the encoder stays, for what is known of it from elsewhere."""
    found = []
    for seed in range(12):
        table = rows(300, seed).rename(columns={"prob_text_spam": "prob_ngrams_spam", "prob_ngrams_spam": "prob_text_spam"})
        learnt, verdicts = selection.select(
            table.assign(prob_text_spam=expit(np.random.default_rng(seed + 1000).normal(size=300))), "spam", 3.0, 5
        )
        assert "text" not in learnt.left_out
        assert verdicts["text"].gain is None
        found.append(learnt.left_out)
    assert not any("ngrams" in left_out for left_out in found)


def test_a_layer_that_leaves_out_hears_nothing_of_it() -> None:
    table = rows()
    without, _ = fusion_model.fit_held_out(table, "spam", 3.0, 5, ("ngrams", "image"))
    assert set(without.coefficients) == {"text_logit", "audio_logit", "text_missing", "audio_missing", *fusion_model.CONTEXT}
    bare = table.drop(columns=["prob_ngrams_spam", "prob_image_spam"])
    probs = fusion_model.apply({"spam": without}, table)
    pd.testing.assert_frame_equal(fusion_model.apply({"spam": without}, bare), probs)
    never = table.assign(prob_ngrams_spam=np.nan, prob_image_spam=np.nan)  # the same as a member that never judged anything
    there = fusion_model.apply({"spam": fusion_model.fit(never, "spam", 3.0, 5)}, never)
    assert probs.prob_spam.to_numpy() == pytest.approx(there.prob_spam.to_numpy(), abs=1e-7)


def test_a_layer_says_what_no_policy_hears() -> None:
    both, one = (fusion_model.fit_held_out(rows(), "spam", 3.0, 5, left_out)[0] for left_out in (("image", "ngrams"), ("ngrams",)))
    assert fusion_model.Fusion(l2=3.0, policies={"spam": both, "hate": one}).unheard() == {"ngrams"}
