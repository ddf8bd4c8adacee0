"""How the scores of what served are corrected: a bias against a language is found over all categories, and chance is not taken for one."""

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import quad
from scipy.special import expit, logit

from upheld.training.loop.correction import corrected
from upheld.training.loop.logistic import fit_logistic, log_evidence

LANGUAGES = ["de", "en", "es", "fr", "hi", "id", "pt", "tr"]
CATEGORIES = ["dangerous_content", "graphic_violence", "hate_speech", "misinformation", "spam"]


def stream(seed: int, biased: dict[str, float], num: int = 300, language: str = "hi") -> pd.DataFrame:
    """`num` labels a category, drawn the more often the higher the score, and four times as many posts without; `biased` is added."""
    random = np.random.default_rng(seed)
    parts = []
    for category in CATEGORIES:
        posts = pd.DataFrame({"language": random.choice(LANGUAGES, 5 * num), "category": category})
        z = random.normal(-1, 1.5, len(posts))
        posts["truth"] = expit(z)
        posts["score"] = expit(z + biased.get(category, 0.0) * (posts["language"] == language))
        posts["inclusion_prob"] = np.clip(0.5 * posts["score"], 0.02, 1.0)
        drawn = random.random(len(posts)) < num / len(posts) * posts["inclusion_prob"] / posts["inclusion_prob"].mean()
        posts["label"] = np.where(drawn, random.random(len(posts)) < posts["truth"], np.nan)
        posts.loc[~drawn, "inclusion_prob"] = np.nan
        parts.append(posts)
    return pd.concat(parts, ignore_index=True)


def offsets(served: pd.DataFrame) -> pd.DataFrame:
    """By how many logits more than the other languages' posts those of a language are moved: a row a category, a column a language."""
    scores = served.assign(moved=logit(corrected(served)[0]) - logit(served["score"]), bin=(logit(served["score"]) * 2).round())
    found = {}
    for language in LANGUAGES:
        level = scores.groupby(["category", "bin", scores["language"] == language])["moved"].mean().unstack()
        found[language] = (level[True] - level[False]).groupby("category").mean()
    return pd.DataFrame(found)


def test_a_bias_in_every_category_is_found_with_some_forty_labels_of_each() -> None:
    found = sum(offsets(stream(seed, dict.fromkeys(CATEGORIES, 1.5)))["hi"] for seed in range(3)) / 3
    assert found.to_numpy() == pytest.approx(np.full(len(CATEGORIES), -1.5), abs=0.35)


def test_chance_is_not_taken_for_a_bias() -> None:
    assert np.mean([offsets(stream(seed, {})).abs().to_numpy() for seed in range(3)]) < 0.12


def test_a_bias_in_one_category_stays_there() -> None:
    found = sum(offsets(stream(seed, {"spam": 2.0}, num=600))["hi"] for seed in range(2)) / 2
    assert found["spam"] < -1.2
    assert found.drop("spam").abs().max() < 0.5


def test_a_category_without_labels_of_its_own_is_corrected_by_the_others() -> None:
    served = stream(1, dict.fromkeys(CATEGORIES, 1.5))
    served.loc[(served["category"] == "spam") & (served["label"] == 1), "label"] = np.nan
    scores, account = corrected(served)
    entry = account["spam"]
    assert (entry["intercept"], entry["slope"], entry["num_positive"]) == (0.0, 1.0, 0)
    assert entry["languages"]["hi"] < -1
    spam = served["category"] == "spam"
    moved = logit(scores[spam]) - logit(served.loc[spam, "score"])
    assert moved.to_numpy() == pytest.approx(served.loc[spam, "language"].map(entry["languages"]).to_numpy())


def test_a_draw_by_score_alone_costs_no_evidence() -> None:
    """Weighted by 1/inclusion_prob alone some hundred of the labels would count, and the bias would be found less."""
    served = stream(2, dict.fromkeys(CATEGORIES, 1.5))
    weight = 1 / served["inclusion_prob"].dropna()
    assert weight.sum() ** 2 / (weight @ weight) < 0.5 * len(weight)
    flat = served.assign(inclusion_prob=served["inclusion_prob"].where(served["inclusion_prob"].isna(), 0.3))
    ours, unweighted = (offsets(table)["hi"].mean() for table in (served, flat))
    assert ours == pytest.approx(unweighted, abs=0.1)


def test_scores_at_the_ends_stay_finite_and_a_language_without_labels_keeps_its_level() -> None:
    served = stream(3, {})
    served.loc[0, "score"], served.loc[1, "score"] = 0.0, 1.0
    served.loc[2, ["language", "label", "inclusion_prob"]] = ["zu", np.nan, np.nan]
    scores, account = corrected(served)
    assert np.isfinite(logit(scores)).all()
    entry = account[served["category"][2]]
    assert logit(scores[2]) == pytest.approx(entry["intercept"] + entry["slope"] * logit(served["score"][2]))


def test_evidence_is_the_integral_of_likelihood_and_prior() -> None:
    random = np.random.default_rng(0)
    design, weight = random.normal(size=(40, 1)), random.uniform(0.5, 1.5, 40)
    label = (random.random(40) < expit(0.8 * design[:, 0])).astype(float)
    prior = np.zeros(1)

    def by_quadrature(penalty: float) -> float:
        def density(beta: float) -> float:
            z = design[:, 0] * beta
            return float(np.exp(-(weight @ (np.logaddexp(0, z) - label * z)) - penalty * beta**2 / 2) * np.sqrt(penalty / (2 * np.pi)))

        return float(np.log(quad(density, -8, 8)[0]))

    def by_us(penalty: float) -> float:
        given = (design, label, weight, prior, np.array([penalty]))
        return log_evidence(*given, fit_logistic(*given))

    for strong in (3.0, 30.0):
        assert by_us(strong) - by_us(0.3) == pytest.approx(by_quadrature(strong) - by_quadrature(0.3), abs=0.02)
