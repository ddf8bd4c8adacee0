"""The oracle writes the penalised likelihood down row by row and minimises it without derivatives of ours."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.model import FEATURES, Fusion, PolicyFusion


def rows(num: int = 400, seed: int = 1) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"post_id": [f"p{n}" for n in range(num)]})
    table["prob_text_spam"] = random.uniform(0.01, 0.99, num)
    table["prob_ngrams_spam"] = random.uniform(0.01, 0.99, num)
    table["prob_image_spam"] = random.uniform(0.01, 0.99, num)
    table["prob_audio_spam"] = random.uniform(0.01, 0.99, num)
    table.loc[random.random(num) < 0.7, "prob_audio_spam"] = np.nan
    table.loc[random.random(num) < 0.3, "prob_image_spam"] = np.nan
    table.loc[random.random(num) < 0.2, ["prob_text_spam", "prob_ngrams_spam"]] = np.nan
    table.loc[random.random(num) < 0.1, "prob_ngrams_spam"] = np.nan  # the n-grams do not know the policy
    table["prior_removals"] = random.integers(0, 6, num)
    table["num_hashtags"] = random.integers(0, 4, num)
    table["has_link"] = random.random(num) < 0.4
    boards = np.random.default_rng(seed + 1).normal(size=num)  # a draw of its own: the other columns stay what they were
    table["context_excess"] = [[("hate", 9.0), ("spam", board)] if place % 3 else None for place, board in enumerate(boards)]
    truth = 1.5 * np.nan_to_num(np.log(table.prob_text_spam / (1 - table.prob_text_spam))) + 0.8 * table.prior_removals - 1
    table["label"] = np.where(random.random(num) < 1 / (1 + np.exp(-truth)), 0.9, 0.05)
    table["weight"] = random.uniform(0.2, 3, num)
    return table


def logit(prob: float) -> float:
    return math.log(prob / (1 - prob))


def features_of(row) -> tuple[list[float], float | None]:
    """One row by hand: the eleven features, and the mean over the modalities that are there, of which text is two members, .6 and .4."""
    shares = ((row.prob_text_spam, 0.6), (row.prob_ngrams_spam, 0.4))
    members = [(logit(prob), share) for prob, share in shares if not math.isnan(prob)]
    said = [sum(value * share for value, share in members) / sum(share for _, share in members)] if members else []
    there = [*said, *(logit(prob) for prob in (row.prob_image_spam, row.prob_audio_spam) if not math.isnan(prob))]
    of_text = [said[0] if math.isnan(prob) else logit(prob) for prob in (row.prob_text_spam, row.prob_ngrams_spam)] if said else [0.0, 0.0]
    logits = [*of_text, *(0.0 if math.isnan(prob) else logit(prob) for prob in (row.prob_image_spam, row.prob_audio_spam))]
    missing = [float(not said), float(math.isnan(row.prob_image_spam)), float(math.isnan(row.prob_audio_spam))]
    context = [
        math.log(1 + row.prior_removals),
        math.log(1 + row.num_hashtags),
        float(row.has_link),
        row.context_excess[1][1] if row.context_excess else 0.0,
    ]
    return [*logits, *missing, *context], sum(there) / len(there) if there else None


def penalty(beta, l2: float, table: pd.DataFrame) -> float:
    """Of intercept and coefficients as in FEATURES, brands after them: each modality's voice is drawn to 1, text's members to their shares,
    and a missing modality to one that says what all posts say on average."""
    _, text, ngrams, image, audio, *flags = beta[:8]
    means = [mean for _, mean in (features_of(row) for row in table.itertuples()) if mean is not None]
    average = sum(means) / len(means)
    voices = [text + ngrams, image, audio]
    shifts = [flag - voice * average for flag, voice in zip(flags, voices, strict=True)]
    squares = sum((voice - 1) ** 2 for voice in voices) + sum(shift**2 for shift in shifts) + sum(b**2 for b in beta[8:])
    return l2 / 2 * squares + 100 / 2 * (ngrams - 0.4 * (text + ngrams)) ** 2


def oracle(table: pd.DataFrame, l2: float) -> np.ndarray:
    used = [(*features_of(row), row.label, row.weight) for row in table.itertuples() if not math.isnan(row.label)]
    used = [item for item in used if item[1] is not None]
    mean_weight = sum(weight for *_, weight in used) / len(used)

    def loss(beta):
        total = penalty(beta, l2, table)
        for x, _, label, weight in used:
            z = beta[0] + sum(b * v for b, v in zip(beta[1:], x, strict=True))
            prob = 1 / (1 + math.exp(-z))
            total -= weight / mean_weight * (label * math.log(prob) + (1 - label) * math.log(1 - prob))
        return total

    return minimize(loss, np.zeros(12), method="BFGS", options={"gtol": 1e-4}).x


@pytest.mark.filterwarnings("ignore:Desired error not necessarily achieved")
@pytest.mark.parametrize("l2", [0.5, 20.0])
def test_fit_minimises_the_penalised_likelihood(l2: float) -> None:
    table = rows(120)
    learnt = fusion_model.fit(table, "spam", l2, min_labels=5)
    expected = oracle(table, l2)
    assert learnt.reason is None
    assert learnt.intercept == pytest.approx(expected[0], abs=2e-4)
    assert [learnt.coefficients[name] for name in FEATURES] == pytest.approx(expected[1:], abs=2e-4)


def test_unseen_posts_teach_nothing_and_unlabelled_ones_only_what_is_said_on_average() -> None:
    table = rows()
    noise = rows(25, seed=9).assign(post_id=lambda t: "x" + t.post_id)
    unknown = table.assign(post_id=lambda t: "y" + t.post_id, label=np.nan)  # on average as the others
    unseen = noise.assign(prob_text_spam=np.nan, prob_ngrams_spam=np.nan, prob_image_spam=np.nan, prob_audio_spam=np.nan)
    seen = table[table[["prob_text_spam", "prob_ngrams_spam", "prob_image_spam", "prob_audio_spam"]].notna().any(axis=1)]
    plain = fusion_model.fit(seen, "spam", 1.0, 5)
    more = fusion_model.fit(pd.concat([table, unknown, unseen], ignore_index=True), "spam", 1.0, 5)
    assert more.coefficients == plain.coefficients
    assert (more.intercept, more.num_positive, more.num_negative) == (plain.intercept, plain.num_positive, plain.num_negative)
    lower = unknown.assign(prob_image_spam=0.01)
    assert fusion_model.fit(pd.concat([table, lower], ignore_index=True), "spam", 1.0, 5).coefficients != plain.coefficients


def test_scale_of_the_weights_does_not_matter_but_their_ratios_do() -> None:
    table = rows()
    fitted = fusion_model.fit(table, "spam", 1.0, 5)
    assert fusion_model.fit(table.assign(weight=table.weight * 64), "spam", 1.0, 5) == fitted
    assert fusion_model.fit(table.assign(weight=1.0), "spam", 1.0, 5) != fitted


@pytest.mark.parametrize("num_positive", [0, 4])
def test_too_few_labels_of_a_class_pass_stage_1_through_and_say_so(num_positive: int) -> None:
    table = rows(60).assign(label=0.0)
    table.loc[: num_positive - 1, "label"] = 1.0
    table["prob_text_spam"] = table["prob_text_spam"].fillna(0.3)
    learnt = fusion_model.fit(table, "spam", 1.0, min_labels=5)
    assert learnt.reason == (
        f"{num_positive} violations and {60 - num_positive} others in the fusion split, 5 of each needed: "
        "the mean of the stage-1 logits passes through"
    )
    fused = fusion_model.apply({"spam": learnt}, table)
    for prob, row in zip(fused.prob_spam, table.itertuples(), strict=True):
        assert prob == pytest.approx(1 / (1 + math.exp(-features_of(row)[1])), abs=1e-12)


def test_no_labels_at_all() -> None:
    learnt = fusion_model.fit(rows(0), "spam", 1.0, min_labels=1)
    assert (learnt.num_positive, learnt.num_negative, learnt.base_rate_logit) == (0, 0, 0.0)


def test_a_post_of_which_nothing_was_seen_gets_the_base_rate() -> None:
    table = rows(100).assign(label=[1.0] * 20 + [0.0] * 80, weight=1.0)
    learnt = fusion_model.fit(table, "spam", 1.0, 5)
    unseen = table.head(1).assign(prob_text_spam=np.nan, prob_ngrams_spam=np.nan, prob_image_spam=np.nan, prob_audio_spam=np.nan)
    assert fusion_model.apply({"spam": learnt}, unseen).prob_spam.item() == pytest.approx(21 / 102, abs=1e-8)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_a_modality_absent_from_the_fusion_split_still_speaks(modality: str) -> None:
    table = rows().assign(**{f"prob_{modality}_spam": np.nan})
    table = table[table.prob_text_spam.notna()]
    learnt = fusion_model.fit(table, "spam", 1.0, 5)
    post = table.head(1)
    probs = [fusion_model.apply({"spam": learnt}, post.assign(**{f"prob_{modality}_spam": p})).prob_spam.item() for p in (0.1, 0.5, 0.9)]
    assert probs == sorted(probs) and probs[0] < probs[2]
    average = np.mean([features_of(row)[1] for row in table.itertuples()])
    usual = post.assign(**{f"prob_{modality}_spam": 1 / (1 + math.exp(-average))})
    without, with_it = (fusion_model.apply({"spam": learnt}, one).prob_spam.item() for one in (post, usual))
    assert with_it == pytest.approx(without, abs=1e-8)  # what is said of posts on average says nothing of this one


def test_a_layer_from_before_sound_was_heard_scores_as_it_did() -> None:
    table = rows().assign(prob_audio_spam=np.nan)
    learnt = fusion_model.fit(table, "spam", 1.0, 5)
    silent = {name: value for name, value in learnt.coefficients.items() if not name.startswith("audio")}
    old = learnt.model_copy(update={"coefficients": silent})
    now = fusion_model.apply(
        {"spam": learnt.model_copy(update={"coefficients": silent | {"audio_logit": 1.0, "audio_missing": 0.0}})}, table
    )
    pd.testing.assert_frame_equal(fusion_model.apply({"spam": old}, table), now)


def test_a_layer_from_before_there_were_n_grams_scores_as_it_did() -> None:
    table = rows().assign(prob_ngrams_spam=np.nan)
    learnt = fusion_model.fit(table, "spam", 1.0, 5)
    old = {name: value for name, value in learnt.coefficients.items() if name != "ngrams_logit"} | {"text_logit": 1.3}
    silent = fusion_model.apply({"spam": learnt.model_copy(update={"coefficients": old | {"ngrams_logit": 0.0}})}, table)
    pd.testing.assert_frame_equal(fusion_model.apply({"spam": learnt.model_copy(update={"coefficients": old})}, table), silent)


def test_the_incumbent_is_a_modality_like_pictures() -> None:
    """The same columns under another name, pictures being never there: the same voice, and the same silence where it is missing."""
    shown = rows()
    table = shown.assign(prob_incumbent_spam=shown.prob_image_spam, prob_image_spam=np.nan)
    of_pictures, learnt = fusion_model.fit(shown, "spam", 1.0, 5), fusion_model.fit(table, "spam", 1.0, 5)
    for name, own in of_pictures.coefficients.items():
        assert learnt.coefficients[name.replace("image", "incumbent")] == pytest.approx(own, abs=1e-6)
    assert "incumbent_logit" not in of_pictures.coefficients
    probs = [fusion_model.apply({"spam": one}, posts).prob_spam for one, posts in ((of_pictures, shown), (learnt, table))]
    assert probs[1].to_numpy() == pytest.approx(probs[0].to_numpy(), abs=1e-6)


def test_two_members_that_agree_count_once() -> None:
    """Without evidence fusion adds up modalities, not members."""
    table = rows(60).assign(prob_image_spam=np.nan, prob_audio_spam=np.nan)
    table["prob_ngrams_spam"] = table["prob_text_spam"]
    learnt = fusion_model.fit(table, "spam", 1e9, 5)
    assert learnt.coefficients["text_logit"] + learnt.coefficients["ngrams_logit"] == pytest.approx(1, abs=1e-6)


def test_order_of_rows_and_json_change_nothing() -> None:
    table = rows()
    fusion = Fusion(l2=1.0, policies={"spam": fusion_model.fit(table, "spam", 1.0, 5)})
    shuffled = fusion_model.fit(table.sample(frac=1, random_state=3), "spam", 1.0, 5)
    assert shuffled == fusion.policies["spam"]
    text = json.dumps(fusion.model_dump(), sort_keys=True)
    again = Fusion.model_validate_json(text)
    assert again == fusion
    assert json.dumps(again.model_dump(), sort_keys=True) == text
    pd.testing.assert_frame_equal(fusion_model.apply(again.policies, table), fusion_model.apply(fusion.policies, table), check_exact=True)


@given(
    text=st.none() | st.floats(0, 1),
    ngrams=st.none() | st.floats(0, 1),
    image=st.none() | st.floats(0, 1),
    audio=st.none() | st.floats(0, 1),
    slopes=st.lists(st.floats(-50, 50), min_size=11, max_size=11),
    removals=st.integers(0, 10**9),
    excess=st.sampled_from([None, {}, {"hate": 1.0}]) | st.floats(-20, 20).map(lambda value: {"spam": value}),
)
def test_any_input_gives_a_probability_inside_the_score_grid(text, ngrams, image, audio, slopes, removals, excess) -> None:
    row = {"post_id": ["p"], "prob_text_spam": [text], "prob_ngrams_spam": [ngrams], "prob_image_spam": [image], "prob_audio_spam": [audio]}
    table = pd.DataFrame(row | {"prior_removals": [removals], "num_hashtags": [0], "has_link": [True], "context_excess": [excess]})
    learnt = PolicyFusion(
        intercept=0.5,
        coefficients=dict(zip(FEATURES, slopes, strict=True)),
        base_rate_logit=-2.0,
        num_positive=9,
        num_negative=9,
        reason=None,
    )
    prob = fusion_model.apply({"spam": learnt}, table).prob_spam.item()
    assert 6e-6 < prob < 1 - 6e-6


def with_marks(table: pd.DataFrame, seed: int = 4, **shares: float) -> pd.DataFrame:
    """Marks of brands: each on that share of the posts, whatever they say."""
    random = np.random.default_rng(seed)
    for brand, share in shares.items():
        count = np.where(random.random(len(table)) < share, random.integers(1, 4, len(table)), 0)
        table = table.assign(
            **{
                f"logo_count_{brand}": count,
                f"logo_confidence_{brand}": np.where(count > 0, random.uniform(0.5, 1, len(table)), 0.0),
                f"logo_area_{brand}": np.where(count > 0, random.uniform(0.01, 0.5, len(table)), 0.0),
            }
        )
    return table


@pytest.mark.filterwarnings("ignore:Desired error not necessarily achieved")
def test_marks_enter_the_penalised_likelihood_shrunk_towards_nothing() -> None:
    table = with_marks(rows(120), acme=0.3)
    learnt = fusion_model.fit(table, "spam", 2.0, min_labels=5)
    marks = np.column_stack([np.log(1 + table.logo_count_acme), table.logo_confidence_acme, table.logo_area_acme])
    seen = [features_of(row)[1] is not None for row in table.itertuples()]
    plain = np.array([features_of(row)[0] for row in table.itertuples()])
    x, label, weight = (values[seen] for values in (np.hstack([plain, marks]), table.label.to_numpy(), table.weight.to_numpy()))

    def loss(beta):
        prob = 1 / (1 + np.exp(-(beta[0] + x @ beta[1:])))
        likelihood = (weight / weight.mean()) @ (label * np.log(prob) + (1 - label) * np.log(1 - prob))
        return penalty(beta, 2.0, table) - likelihood

    expected = minimize(loss, np.zeros(15), method="BFGS", options={"gtol": 1e-4}).x
    names = [*FEATURES, "logo_count_acme", "logo_confidence_acme", "logo_area_acme"]
    assert list(learnt.coefficients) == names
    assert [learnt.intercept, *learnt.coefficients.values()] == pytest.approx(expected, abs=2e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_brand_that_predicts_a_policy_pushes_its_way_and_one_that_says_nothing_hardly_moves(sign: int) -> None:
    table = with_marks(rows(600), fake=0.3, plain=0.3)
    shown = table.logo_count_fake > 0
    table["label"] = np.where(shown == (sign > 0), 0.95, 0.05)
    learnt = fusion_model.fit(table, "spam", 3.0, 5)

    def push(brand: str) -> float:
        return sum(learnt.coefficients[f"logo_{name}_{brand}"] * value for name, value in (("count", math.log(2)), ("confidence", 0.8)))

    assert sign * push("fake") > 1 > 5 * abs(push("plain"))
    one = table[table.prob_text_spam.notna()].head(1).assign(logo_area_fake=0.1, logo_confidence_fake=0.8)
    prob = [fusion_model.apply({"spam": learnt}, one.assign(logo_count_fake=count)).prob_spam.item() for count in (0, 1)]
    assert sign * (prob[1] - prob[0]) > 0


def test_a_brand_too_few_labelled_posts_show_is_no_feature_and_changes_no_bit() -> None:
    table = rows(200)
    table.loc[150:, "label"] = np.nan
    plain = fusion_model.fit(table, "spam", 1.0, min_labels=5)
    rare = with_marks(table, rare=0.0, often=0.0)
    known = rare.index[rare.label.notna() & rare.prob_text_spam.notna()]
    unknown = rare.index[rare.label.isna()]
    columns = [f"logo_{name}_rare" for name in ("count", "confidence", "area")]
    rare.loc[[*known[:4], *unknown], columns] = [2, 0.9, 0.1]  # four reviewed posts, and all that nobody has reviewed
    assert fusion_model.fit(rare, "spam", 1.0, min_labels=5) == plain
    pd.testing.assert_frame_equal(fusion_model.apply({"spam": plain}, rare), fusion_model.apply({"spam": plain}, table), check_exact=True)
    rare.loc[known[4], columns] = [1, 0.5, 0.1]
    assert fusion_model.brands_of(fusion_model.fit(rare, "spam", 1.0, min_labels=5)) == ["rare"]


def test_each_policy_heeds_its_own_brands_in_any_order_of_columns() -> None:
    table = with_marks(rows(), **{"b": 0.3, "a c": 0.2, "d": 0.0})
    table = table.assign(**{f"prob_{name}_hate": table[f"prob_{name}_spam"] for name in ("text", "ngrams", "image", "audio")})
    learnt = {"spam": fusion_model.fit(table, "spam", 1.0, 5), "hate": fusion_model.fit(table.iloc[:0], "hate", 1.0, 5)}
    assert [fusion_model.brands_of(one) for one in learnt.values()] == [["a c", "b"], []]
    assert fusion_model.fit(table[sorted(table)[::-1]], "spam", 1.0, 5) == learnt["spam"]
    again = Fusion.model_validate_json(json.dumps(Fusion(l2=1.0, policies=learnt).model_dump(), sort_keys=True))
    pd.testing.assert_frame_equal(fusion_model.apply(again.policies, table), fusion_model.apply(learnt, table), check_like=True)
