"""The hidden layer: it never falls with what stage 1 says, finds what only both together tell, and stays away where there is nothing."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from upheld.training.fusion import hidden, selection
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.model import MEMBERS

ALL = [name for members in MEMBERS.values() for name in members]


def rows(num: int, seed: int, rule: str) -> pd.DataFrame:
    """Texts and pictures each say something; what breaks the policy is the sum of both, either, or only both at once."""
    random = np.random.default_rng(seed)
    said, shown = random.normal(0, 1.5, num), random.normal(0, 1.5, num)
    table = pd.DataFrame({"post_id": [f"{seed}/{n}" for n in range(num)], "prior_removals": 0, "num_hashtags": 0, "has_link": False})
    table["context_excess"] = None
    table["prob_text_spam"] = table["prob_ngrams_spam"] = expit(said)
    table["prob_image_spam"] = expit(shown)
    table["prob_audio_spam"] = np.nan
    broken = {"either": (said > 1) | (shown > 1), "both": (said > 0.5) & (shown > 0.5)}
    truth = 3 * np.where(broken[rule], 1, -1) if rule in broken else 0.5 * said + 0.5 * shown - 1
    table["label"] = (random.random(num) < expit(truth)).astype(float)
    return table.assign(weight=1.0, inclusion_prob=0.5)


def learnt(table: pd.DataFrame) -> fusion_model.PolicyFusion:
    chosen, _ = selection.select(table, "spam", 3.0, 5)
    return selection.with_hidden(table, "spam", 3.0, 5, chosen)[0]


def area(one: fusion_model.PolicyFusion, table: pd.DataFrame) -> float:
    return float(roc_auc_score(table.label, fusion_model.apply({"spam": one}, table).prob_spam))


@pytest.mark.parametrize(("rule", "gain"), [("either", 0.03), ("both", 0.002)])
def test_what_no_sum_can_say_is_found_and_new_posts_are_ranked_better(rule: str, gain: float) -> None:
    gains = []
    for seed in range(4):
        one = learnt(rows(1200, seed, rule))
        new = rows(4000, seed + 100, rule)
        gains.append(area(one, new) - area(one.model_copy(update={"hidden": None}), new))
    assert min(gains) >= 0 and np.mean(gains) > gain


def test_where_a_sum_says_all_it_mostly_stays_away_and_costs_little() -> None:
    costs, num = [], 0
    for seed in range(12):
        one = learnt(rows(400, seed, "sum"))
        num += one.hidden is not None
        new = rows(4000, seed + 100, "sum")
        costs.append(area(one.model_copy(update={"hidden": None}), new) - area(one, new))
    assert num <= 4 and max(costs) < 0.02


def test_too_few_labels_are_not_tried() -> None:
    table = rows(60, 1, "either")
    table.loc[table.index[table.label == 1][selection.MIN_LABELS - 1 :], "label"] = np.nan
    chosen, _ = selection.select(table, "spam", 3.0, 5)
    assert selection.with_hidden(table, "spam", 3.0, 5, chosen) == (chosen, None)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), member=st.sampled_from(ALL), missing=st.sets(st.sampled_from(ALL)), rise=st.floats(0.01, 8))
def test_a_higher_probability_of_any_member_never_gives_a_lower_one(seed: int, member: str, missing: set[str], rise: float) -> None:
    """Whatever the labels were: here they are drawn without regard to what is said, or against it."""
    random = np.random.default_rng(seed)
    table = rows(140, seed, "sum")
    for name in ALL:
        table[f"prob_{name}_spam"] = expit(random.normal(0, 2, len(table)))
    table["label"] = (random.random(len(table)) < expit(-logit(table[f"prob_{ALL[seed % 4]}_spam"]))).astype(float)
    one, _ = selection.select(table, "spam", 1.0, 5)
    if one.coefficients:
        features, _ = fusion_model.named_evidence(table, "spam", one)
        offset, label = fusion_model.said(one, features), table.label.to_numpy()
        layer = hidden.fit(features, fusion_model.rising(features), offset, label, np.ones(len(table)))
        one = one.model_copy(update={"hidden": layer})
    table.loc[:, [f"prob_{name}_spam" for name in missing - {member}]] = np.nan
    higher = table.assign(**{f"prob_{member}_spam": expit(logit(table[f"prob_{member}_spam"]) + rise)})
    before, after = (fusion_model.apply({"spam": one}, each).prob_spam.to_numpy() for each in (table, higher))
    assert (after >= before - 1e-12).all()


def test_the_layer_is_a_minimum_of_its_loss_by_numerical_slopes() -> None:
    random = np.random.default_rng(3)
    features = pd.DataFrame(random.normal(size=(200, 3)), columns=["a_logit", "b_logit", "c"])
    label = (random.random(200) < expit(3 * np.where((features.a_logit > 0) & (features.b_logit > 0), 1, -1))).astype(float)
    weight, offset = random.uniform(0.5, 1.5, 200), np.zeros(200)
    layer = hidden.fit(features, ["a_logit", "b_logit"], offset, label, weight)

    def loss(flat: np.ndarray) -> float:
        weights, biases, out = flat[:12].reshape(4, 3), flat[12:16], flat[16:]
        scaled = (features - features.mean()) / features.std(ddof=0)
        z = np.array([sum(out[h] * np.tanh(weights[h] @ row + biases[h]) for h in range(4)) for row in scaled.to_numpy()])
        fit = -(weight * (label * np.log(expit(z)) + (1 - label) * np.log(expit(-z)))).sum()
        return float(fit + hidden.L2 / 2 * ((weights**2).sum() + (out**2).sum()))

    found = np.concatenate([np.ravel(layer.weights), layer.biases, layer.out])
    slopes = np.array([(loss(found + step) - loss(found - step)) / 2e-5 for step in 1e-5 * np.eye(len(found))])
    bounded = np.concatenate([np.tile([True, True, False], 4), np.zeros(4, bool), np.ones(4, bool)])
    assert (found[bounded] >= 0).all()
    inside = ~(bounded & (found == 0))
    assert np.abs(slopes[inside]).max() < 0.05 and slopes[~inside].min(initial=0) > -0.05
    assert loss(found) < loss(np.zeros(len(found))) - 10
    assert layer.logit(features) == pytest.approx(
        [
            float(np.tanh(np.array(layer.weights) @ row + layer.biases) @ layer.out)
            for row in (features.to_numpy() - layer.centre) / layer.scale
        ]
    )
