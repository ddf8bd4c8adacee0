"""Stage `ngrams`: what it learns, how much the model in production teaches it, what it saves, what it refuses."""

import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import TfidfVectorizer

from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing
from upheld.training.loop import teacher
from upheld.training.loop.logistic import fit_soft
from upheld.training.ngrams import stage as ngrams
from upheld.training.ngrams.model import NgramModel, NgramSetup, load_ngrams, predict_ngrams, save_ngrams

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def snapshot(tiny: ModuleType, tmp_path: Path) -> Path:
    """A snapshot with the splits train and val."""
    tiny.save_snapshot(tmp_path / "snapshot")
    for name in ("posts", "examples"):
        change(tmp_path / "snapshot", name, lambda table: table.assign(split=table["split"].replace({"fusion": "train", "calib": "val"})))
    return tmp_path / "snapshot"


def change(snapshot: Path, name: str, how) -> None:
    path = snapshot / f"{name}.parquet"
    how(pd.read_parquet(path)).to_parquet(path)


def run(snapshot: Path, *overrides: str, out: str = "ngrams") -> ngrams.Result:
    params = parameters.load(ROOT / "params.yaml", ["policies=[hate_speech, spam]", *overrides])
    return ngrams.run(params, snapshot, snapshot.parent / out)


def test_it_learns_spellings_and_loads_without_a_pickle(snapshot: Path) -> None:
    result = run(snapshot)
    assert result.trained
    folder = snapshot.parent / "ngrams"
    assert {path.name for path in folder.iterdir()} == {"upheld.safetensors", "vocabulary.json", "metadata.json", "teacher.json"}
    model = load_ngrams(folder)
    assert model is not None
    spam = model.setup.policies.index("spam")
    probs = predict_ngrams(model, ["buy cheap now", "hello friend", "buyy ch3ap", ""])
    assert probs.dtype == np.float32
    assert probs[0, spam] > 0.7 > 0.3 > probs[1, spam]
    assert probs[2, spam] > 0.5 > probs[1, spam]  # no word of it was ever seen
    assert np.isfinite(probs[3]).all()


def test_same_inputs_same_bytes_and_nothing_of_val_fusion_calib_or_test_is_learned(snapshot: Path) -> None:
    run(snapshot, "teacher.weights=[0.3]")
    change(snapshot, "examples", lambda rows: rows.assign(label=rows["label"].mask(rows["split"] == "test", 1.0)))
    for name in ("posts", "served"):  # scores of posts that are kept apart, and their texts
        posts = pd.read_parquet(snapshot / "posts.parquet")
        apart = set(posts.loc[posts["split"] != "train", "post_id"]) - set(posts.loc[posts["split"] == "val", "post_id"])
        column, value = ("text", "zebra zebra") if name == "posts" else ("score", 0.99)
        change(snapshot, name, lambda rows: rows.assign(**{column: rows[column].mask(rows["post_id"].isin(apart), value)}))  # noqa: B023
    run(snapshot, "teacher.weights=[0.3]", out="again")
    one, two = snapshot.parent / "ngrams", snapshot.parent / "again"
    assert hashing.of_file(one / "upheld.safetensors") == hashing.of_file(two / "upheld.safetensors")
    assert "zebra" not in (two / "vocabulary.json").read_text()


def test_the_weight_that_ranks_val_best_is_kept(snapshot: Path) -> None:
    right = run(snapshot, "teacher.weights=[0.0, 1.0]")
    assert right.tried is not None
    assert right.teacher_weight == float(max(right.tried, key=lambda name: right.tried[name]))
    assert teacher.chosen_weight(snapshot.parent / "ngrams") == right.teacher_weight
    # A teacher that says the opposite of what reviewers say, loud enough to be believed, ranks val worse: it is not listened to.
    change(snapshot, "served", lambda rows: rows.assign(score=1 - rows["score"]))
    change(snapshot, "examples", lambda rows: rows.assign(inclusion_prob=rows["inclusion_prob"].mask(rows["split"] == "train")))
    wrong = run(snapshot, "teacher.weights=[1000.0, 0.0]")
    assert wrong.tried is not None
    assert wrong.teacher_weight == 0.0
    assert wrong.tried["1000"] < 0.5 < wrong.tried["0"]


def test_without_decisions_there_is_no_teacher(snapshot: Path) -> None:
    change(snapshot, "served", lambda rows: rows.head(0))
    change(snapshot, "unreviewed", lambda rows: rows.head(0))
    result = run(snapshot)
    assert (result.teacher_weight, result.num_unreviewed, list(result.tried or {})) == (0.0, 0, ["0"])


def test_without_a_text_there_is_no_model_and_it_says_so(snapshot: Path) -> None:
    change(snapshot, "posts", lambda rows: rows.assign(text=None))
    result = run(snapshot)
    assert (result.trained, result.reason) == (False, "no labelled post of split train has a text")
    assert load_ngrams(snapshot.parent / "ngrams") is None


def test_one_text_shares_its_n_grams_with_no_other_and_trains_nothing(snapshot: Path) -> None:
    change(snapshot, "unreviewed", lambda rows: rows.head(0))
    posts = pd.read_parquet(snapshot / "posts.parquet")
    labelled = pd.read_parquet(snapshot / "examples.parquet").query("split == 'train' and label.notna()")["post_id"]
    one = posts.index[posts["post_id"].isin(labelled) & posts["text"].notna()][0]
    change(snapshot, "posts", lambda rows: rows.assign(text=rows["text"].where((rows.index == one) | (rows["split"] != "train"), None)))
    assert run(snapshot).reason == "fewer than 2 texts to learn from"


def test_a_policy_that_nobody_speaks_of_is_left_out(snapshot: Path) -> None:
    params = parameters.load(ROOT / "params.yaml", ["policies=[hate_speech, spam, misinformation]"])
    ngrams.run(params, snapshot, snapshot.parent / "ngrams")
    model = load_ngrams(snapshot.parent / "ngrams")
    assert model is not None
    assert model.setup.policies == ("hate_speech", "spam")


def test_saved_and_loaded_it_says_the_same(tiny: ModuleType, tmp_path: Path) -> None:
    model = tiny.ngram_model()
    save_ngrams(model, tmp_path, {})
    again = load_ngrams(tmp_path)
    assert again is not None
    texts = ["buy now", "hate them", "unseen \n tabs\tand  spaces", "बच्चे खरीद"]
    assert predict_ngrams(again, texts).tolist() == predict_ngrams(model, texts).tolist()


@pytest.mark.parametrize("damage", ["vocabulary.json", "upheld.safetensors", "metadata.json", "shorter"])
def test_a_damaged_folder_is_refused(tiny: ModuleType, tmp_path: Path, damage: str) -> None:
    save_ngrams(tiny.ngram_model(), tmp_path, {})
    if damage == "shorter":
        vocabulary = json.loads((tmp_path / "vocabulary.json").read_text())
        (tmp_path / "vocabulary.json").write_text(json.dumps(vocabulary[:-1]))
    else:
        (tmp_path / damage).write_bytes(b"x")
    with pytest.raises(FailedWork, match="not a readable n-gram model"):
        load_ngrams(tmp_path)


def test_soft_labels_are_fitted_by_cross_entropy() -> None:
    """The oracle minimises scikit-learn's stated objective, C * sum(w * cross-entropy) + |beta|^2 / 2, without derivatives of ours."""
    random = np.random.default_rng(1)
    x = random.normal(size=(80, 3))
    label, weight = random.uniform(0, 1, 80).astype(np.float32), random.uniform(0.1, 2, 80).astype(np.float32)
    label[:5], label[5:10] = 0.0, 1.0

    def objective(beta):
        prob = 1 / (1 + np.exp(-(beta[0] + x @ beta[1:])))
        return -2.0 * (weight @ (label * np.log(prob) + (1 - label) * np.log(1 - prob))) + (beta[1:] ** 2).sum() / 2

    expected = minimize(objective, np.zeros(4)).x
    slopes, intercept = fit_soft(csr_matrix(x), label, weight, 2.0)
    assert [intercept, *slopes] == pytest.approx(expected, abs=2e-3)


def test_validation_is_weighted_as_if_every_post_had_been_reviewed(snapshot: Path) -> None:
    """Pairs by hand: a rarely drawn post stands for many."""
    model = load_or_train(snapshot)
    spam = model.setup.policies.index("spam")
    texts = ["buy cheap now"] * 12 + ["hello friend"] * 12
    labels = np.array([1.0] * 11 + [0.0] + [0.0] * 11 + [1.0])
    weights = np.array([1.0] * 12 + [1.0] * 11 + [30.0])
    val = ngrams.Validation(model.vectoriser.transform(texts), pd.DataFrame({"spam": labels}), pd.DataFrame({"spam": weights}))
    probs = predict_ngrams(model, texts)
    scores = probs[:, spam]
    right = total = 0.0
    for i in range(24):
        for j in range(24):
            if labels[i] == 1 and labels[j] == 0:
                mass = weights[i] * weights[j]
                total += mass
                right += mass * (1.0 if scores[i] > scores[j] else 0.5 if math.isclose(scores[i], scores[j]) else 0.0)
    table = pd.DataFrame(probs, columns=model.setup.policies)
    assert ngrams.mean_area(table, val, ["spam"], np.ones(24)) == pytest.approx(right / total)
    # A post that the sample holds twice counts twice; one that it lacks counts not at all.
    twice = ngrams.mean_area(table, val, ["spam"], np.array([2.0] + [1.0] * 22 + [0.0]))
    double = ngrams.Validation(val.features, val.labels, val.weights.assign(spam=[2.0, *weights[1:23], 0.0]))
    assert twice == pytest.approx(ngrams.mean_area(table, double, ["spam"], np.ones(24)))


def judged(num: int, noise: dict[float, float], seed: int = 0) -> tuple[dict[float, NgramModel], ngrams.Validation]:
    """Models of one feature each, the label with noise, for each weight of the teacher; `num` posts of which half violate."""
    random = np.random.default_rng(seed)
    label = np.tile([0.0, 1.0], num // 2)
    features = csr_matrix(np.stack([label + random.normal(0, spread, num) for spread in noise.values()], axis=1).astype(np.float32))
    setup, width = NgramSetup(("spam",), (2, 5)), len(noise)
    bias = np.zeros(1, np.float32)
    models = {w: NgramModel(setup, TfidfVectorizer(), np.eye(width, dtype=np.float32)[[i]], bias) for i, w in enumerate(noise)}
    return models, ngrams.Validation(features, pd.DataFrame({"spam": label}), pd.DataFrame({"spam": np.ones(num)}))


@pytest.mark.slow
def test_the_teacher_is_dropped_only_where_validation_tells() -> None:
    """Of equally good models another than the first is chosen about as often as two standard errors say; a clearly better one is."""
    first = [ngrams.preferred(*judged(40, {1.0: 1.0, 0.0: 1.0}, seed), seed)[0] == 1.0 for seed in range(30)]
    assert sum(first) >= 27
    assert ngrams.preferred(*judged(400, {1.0: 3.0, 0.0: 1.0, 0.3: 0.5}), 0)[0] == 0.3
    models, val = judged(18, {1.0: 3.0, 0.0: 0.1})
    assert ngrams.preferred(models, val, 0) == (1.0, {1.0: None, 0.0: None})  # nine labels of a class tell nothing


def load_or_train(snapshot: Path):
    run(snapshot)
    model = load_ngrams(snapshot.parent / "ngrams")
    assert model is not None
    return model
