"""The fit against scikit-learn's isotonic and logistic regression; the map against its own formula written out."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from upheld.common.errors import BadUse
from upheld.common.params.evaluation import Calibration
from upheld.evaluation.thresholds import calibration
from upheld.feature_store.decisions import calibration as calibration_map

SECTION = Calibration(share=0.5, min_labels=20)


def sample(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    score = rng.beta(0.7, 1.2, num)
    return score, (rng.random(num) < score**1.5).astype(float)


def test_isotonic_stays_near_scikit_learns_and_rises_strictly() -> None:
    score, label = sample(4000, 0)
    weight = np.random.default_rng(1).uniform(1, 20, 4000)
    found = calibration.fit_isotonic(score, label, weight)
    theirs = IsotonicRegression(y_min=0, y_max=1).fit(score, label, sample_weight=weight).predict(score)
    ours = np.interp(score, found["x"], found["y"])
    assert np.abs(ours - theirs).mean() < 0.01
    assert np.average(ours, weights=weight) == pytest.approx(np.average(label, weights=weight), abs=0.005)
    inside = np.sort(score[(score > 0.01) & (score < 0.99)])
    assert (np.diff(np.interp(inside, found["x"], found["y"])) > 0).all()


def test_perfect_separation_gives_no_certainty() -> None:
    found = calibration.fit_isotonic(np.linspace(0, 1, 40), (np.arange(40) >= 20).astype(float), np.ones(40))
    assert found["y"].min() > 0 and found["y"].max() < 1
    assert found["x"].tolist() == sorted(set(found["x"]))


def test_one_large_language_is_plain_logistic_regression() -> None:
    score, label = sample(20_000, 2)
    logit = np.log(score / (1 - score))
    _, pairs = calibration.fit_languages(logit, label, np.ones_like(label), np.zeros(20_000, np.int64))
    theirs = LogisticRegression(C=np.inf).fit(logit[:, None], label)
    assert pairs[0] == pytest.approx([theirs.intercept_[0], theirs.coef_[0, 0]], abs=0.01)


def test_scaling_all_weights_changes_nothing() -> None:
    score, label = sample(500, 3)
    code = np.arange(500) % 3
    logit, weight = np.log(score / (1 - score)), np.random.default_rng(4).uniform(1, 30, 500)
    once, thrice = (calibration.fit_languages(logit, label, factor * weight, code)[1] for factor in (1.0, 3.0))
    assert once == pytest.approx(thrice, abs=1e-6)


def test_a_language_with_one_label_stays_near_the_mean() -> None:
    score, label = sample(6001, 5)
    code = np.append(np.arange(6000) % 4, 4)
    mean, pairs = calibration.fit_languages(np.log(score / (1 - score)), label, np.ones_like(label), code)
    assert np.abs(pairs[4] - mean).max() < 0.2


def test_too_few_labels_leave_scores_as_they_are_and_say_so() -> None:
    score, label = sample(400, 6)
    rows = pd.DataFrame({"category": "spam", "language": "en", "score": score, "label": label, "inclusion_prob": 0.5})
    content = calibration.fit(rows, ("hate_speech", "spam"), SECTION)
    assert content["categories"]["hate_speech"] is None
    assert "0 labels of the rarer kind, 20 needed" in content["reasons"]["hate_speech"]
    assert content["categories"]["spam"]["n"] == 400
    assert calibration_map.apply(None, [0.2, 0.9], ["en", "xx"]).tolist() == [0.2, 0.9]
    json.dumps(content, allow_nan=False)


ENTRY = {"isotonic": {"x": [0.1, 0.5, 0.9], "y": [0.05, 0.4, 0.95]}, "mean": [0.1, 0.9], "languages": {"en": [-0.5, 1.2]}, "n": 9}


def test_map_is_the_formula_written_out() -> None:
    base = 0.05 + (0.3 - 0.1) / (0.5 - 0.1) * (0.4 - 0.05)
    logit = -0.5 + 1.2 * np.log(base / (1 - base))
    assert calibration_map.apply(ENTRY, [0.3], ["en"])[0] == pytest.approx(1 / (1 + np.exp(-logit)))
    logit = 0.1 + 0.9 * np.log(0.95 / 0.05)
    assert calibration_map.apply(ENTRY, [1.0], ["never-seen"])[0] == pytest.approx(1 / (1 + np.exp(-logit)))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=50), st.sampled_from(["en", "de"]))
@settings(max_examples=50, deadline=None)
def test_map_never_turns_the_order_round(scores: list[float], language: str) -> None:
    ordered = np.sort(scores)
    mapped = calibration_map.apply(ENTRY, ordered, np.repeat(language, len(ordered)))
    assert (np.diff(mapped) >= 0).all()
    assert ((mapped > 0) & (mapped < 1)).all()


def test_codes_and_names_calibrate_alike() -> None:
    names = np.array(["de", "en", "de", "en"])
    scores = [0.2, 0.4, 0.6, 0.8]
    coded = calibration_map.apply_coded(ENTRY, scores, [1, 0, 1, 0], ["en", "de"])
    assert coded.tolist() == calibration_map.apply(ENTRY, scores, names).tolist()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"isotonic": {"x": [0.5, 0.5], "y": [0.1, 0.2]}}, "x must rise"),
        ({"isotonic": {"x": [0.1, 0.5], "y": [0.1, 1.2]}}, "lie in"),
        ({"mean": [0.0]}, "expected isotonic"),
        ({"languages": {"en": [0.0, -1.0]}}, "positive slope"),
        ({"isotonic": None}, "expected isotonic"),
    ],
)
def test_a_broken_entry_is_refused_by_name(tmp_path, change, said) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"categories": {"spam": ENTRY | change}}))
    with pytest.raises(BadUse, match=said) as caught:
        calibration_map.load(path)
    assert "category spam" in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"categories": 3}'])
def test_what_is_no_calibration_is_refused(tmp_path, text) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(BadUse, match="not a calibration"):
        calibration_map.load(path)


def test_a_good_file_is_read(tmp_path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"categories": {"spam": ENTRY, "hate_speech": None}}))
    assert calibration_map.load(path)["categories"]["hate_speech"] is None
    with pytest.raises(BadUse, match="not a calibration"):
        calibration_map.load(tmp_path / "missing.json")
