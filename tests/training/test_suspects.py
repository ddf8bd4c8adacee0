"""Which reviewed labels are suspect: planted errors are found, no post's own label speaks for it, and the count is the paper's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts.snapshot import Snapshot
from upheld.training import suspects
from upheld.training.loop.losses import MIN_LABELS

ROOT = Path(__file__).resolve().parents[2]
NOTHING = pd.DataFrame({"post_id": [], "category": []}, dtype="str")
SPAM = ["buy", "cheap", "prize", "click", "offer"]
TALK = ["hello", "friend", "lake", "otter", "stone"]


def settings(*overrides: str) -> parameters.Params:
    return parameters.load(ROOT / "params.yaml", ["policies=[spam]", *overrides])


def world(num: int = 240, num_wrong: int = 16, seed: int = 0) -> tuple[Snapshot, set[str]]:
    """Texts that tell spam from talk, three quarters in split train; of each split every so many-th label is wrong. Every text comes twice,
    in one group, with the same label. What served scores all of them, and as many posts that nobody reviewed, as if by their truth."""
    random = np.random.default_rng(seed)
    truth = np.arange(num) // 2 % 2
    texts = [" ".join(random.choice((TALK, SPAM)[truth[number]], 5)) for number in range(0, num, 2) for _ in range(2)]
    posts = pd.DataFrame(
        {"post_id": [f"p{number:03}" for number in range(num)], "text": texts, "language": random.choice(["en", "de"], num)}
    )
    posts["group_id"] = [f"g{number // 2}" for number in range(num)]
    posts["split"] = np.array(["train", "train", "train", "test"])[np.arange(num) // 4 % 4]
    wrong = np.arange(num) // 2 % (num // num_wrong) == 0
    label = np.where(wrong, 1 - truth, truth)
    examples = posts[["post_id", "split"]].assign(category="spam", label=label.astype("float32"), hard_label=label, weight=1.0)
    examples["inclusion_prob"] = 0.5
    unreviewed = posts.assign(post_id="u" + posts["post_id"], split="train", text=posts["text"].str[::-1])
    served = pd.concat([posts, unreviewed])[["post_id"]].assign(
        category="spam", score=np.tile(np.where(truth, 0.8, 0.2), 2), model_version="m"
    )
    return Snapshot(posts, examples, unreviewed, served, {}), set(posts["post_id"][wrong])


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_planted_errors_of_split_train_are_found_and_those_of_test_never_listed(weight: float) -> None:
    data, wrong = world()
    found = suspects.find(data, settings(), weight, NOTHING)
    train = set(data.posts.loc[data.posts["split"] == "train", "post_id"])
    assert set(found["post_id"]) <= train
    assert len(wrong & train) > 8 and len(wrong - train) >= 4
    hits = len(set(found["post_id"]) & wrong)
    assert hits >= 0.8 * len(wrong & train) and hits >= 0.9 * len(found)
    given = dict(zip(data.examples["post_id"], data.examples["hard_label"], strict=True))
    assert [given[name] for name in found["post_id"]] == found["label"].tolist()
    assert np.allclose(found["quality"], np.where(found["label"] == 1, found["prob"], 1 - found["prob"]))
    assert found["quality"].is_monotonic_increasing and (found["quality"] < 0.5).all()


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_what_is_said_of_a_post_does_not_depend_on_its_own_label_or_its_copies(weight: float) -> None:
    data, _ = world()
    posts = data.posts[data.posts["split"] == "train"].reset_index(drop=True)
    said = suspects.cross_fitted(data, posts, settings(), weight).set_index("post_id")["prob"]
    assert set(said.index) == set(posts["post_id"])
    for group in posts["group_id"].unique()[::30]:
        of_group = data.examples["post_id"].isin(posts.loc[posts["group_id"] == group, "post_id"])
        label = data.examples["hard_label"].where(~of_group, 1 - data.examples["hard_label"])
        flipped = replace(data, examples=data.examples.assign(hard_label=label, label=label.astype("float32")))
        again = suspects.cross_fitted(flipped, posts, settings(), weight).set_index("post_id")["prob"]
        own = posts.loc[posts["group_id"] == group, "post_id"]
        assert again[own].tolist() == said[own].tolist()  # to the last bit
        assert (again != said).any()  # and others did learn from it


def test_nor_on_the_score_that_it_got_in_production_but_for_its_share_in_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = world()
    posts = data.posts[data.posts["split"] == "train"].reset_index(drop=True)
    heard, fit = [], suspects.fit
    monkeypatch.setattr(suspects, "fit", lambda params, vectoriser, features, *targets: heard.append(features.shape[0]) or fit(
        params, vectoriser, features, *targets))  # fmt: skip
    suspects.cross_fitted(data, posts, settings(), 1.0)
    assert len(heard) == suspects.NUM_FOLDS and sum(heard) == len(heard) * (len(posts) + len(data.unreviewed)) - len(posts)
    without = replace(data, served=data.served[~data.served["post_id"].isin(posts["post_id"])])
    alone = suspects.cross_fitted(without, posts, settings(), 1.0)
    assert np.isfinite(alone["prob"]).all()
    monkeypatch.setattr(suspects, "probabilities", lambda model, features: np.full((features.shape[0], 1), 0.5, np.float32))
    undecided = suspects.cross_fitted(data, posts, settings(), 1.0).merge(data.served, on=["post_id", "category"])
    assert (np.sign(undecided["prob"] - 0.5) == np.sign(undecided["score"] - 0.5)).all()


def counted(label: np.ndarray, prob: np.ndarray) -> int:
    """Off-diagonal of the confident joint (Northcutt et al. 2021, eq. 1 and 2): labels whose other class is as probable as it is on average
    where it is the label, and more so than their own."""
    both = {0: 1 - prob, 1: prob}
    usual = {of: both[of][label == of].mean() for of in (0, 1)}
    return sum(both[1 - y][row] >= usual[1 - y] and both[1 - y][row] > both[y][row] for row, y in enumerate(label))


@pytest.mark.parametrize("seed", range(5))
def test_as_many_are_listed_as_confident_learning_counts(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data, _ = world()
    random = np.random.default_rng(seed)
    train = data.examples[data.examples["split"] == "train"].reset_index(drop=True)
    prob = expit(np.where(train["hard_label"] == 1, 1.0, -1.2) + random.normal(0, 1.7, len(train)))
    said = train[["post_id", "category"]].assign(prob=prob)
    monkeypatch.setattr(suspects, "cross_fitted", lambda *_: said.sample(frac=1, random_state=seed))
    found = suspects.find(data, settings(), 1.0, NOTHING)
    label = train["hard_label"].to_numpy()
    num = counted(label, prob)
    assert 5 < num < 50
    quality = pd.Series(np.where(label == 1, prob, 1 - prob), index=train["post_id"]).sort_values()
    assert found["post_id"].tolist() == quality.index[:num].tolist()
    assert np.allclose(found["usual"], np.where(found["label"] == 1, prob[label == 0].mean(), prob[label == 1].mean()))
    short = suspects.find(data, settings("suspects.max_per_category=3"), 1.0, NOTHING)
    assert short["post_id"].tolist() == quality.index[:3].tolist()
    settled = found.loc[[0, 2], ["post_id", "category"]]
    rest = suspects.find(data, settings("suspects.max_per_category=3"), 1.0, settled)
    assert rest["post_id"].tolist() == quality.index[[1, 3, 4]].tolist()


def test_too_few_labels_of_a_class_list_nothing_and_too_few_groups_are_told() -> None:
    data, _ = world()
    ones = data.examples["hard_label"] == 1
    in_train = data.examples["split"] == "train"
    few = data.examples[~ones | ~in_train | (ones.where(in_train, False).cumsum() < MIN_LABELS)]
    none = suspects.find(replace(data, examples=few), settings(), 1.0, NOTHING)
    assert none.empty and list(none) == ["post_id", "category", "language", "label", "prob", "quality", "usual"]
    first = data.posts["group_id"].isin(["g0", "g1", "g2", "g3"])
    with pytest.raises(FailedWork, match="4 groups of reviewed texts"):
        suspects.find(replace(data, posts=data.posts[first]), settings(), 1.0, NOTHING)
