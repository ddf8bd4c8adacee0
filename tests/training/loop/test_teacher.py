"""The model in production as a teacher: what it says is corrected by reviewers, language by language, and never outvotes them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts.snapshot import Snapshot
from upheld.training.loop import teacher

ROOT = Path(__file__).resolve().parents[3]


def world(num: int = 4000, bias: float = 2.0, seed: int = 0) -> Snapshot:
    """Posts of two languages whose truth is known to have probability `truth`; the scorer adds `bias` to the logits of Hindi."""
    random = np.random.default_rng(seed)
    posts = pd.DataFrame({"post_id": [f"p{number:05}" for number in range(num)], "language": random.choice(["en", "hi"], num)})
    z = random.normal(-1, 1.5, num)
    posts["truth"] = expit(z)
    score = expit(z + bias * (posts["language"] == "hi"))
    served = posts[["post_id"]].assign(category="spam", score=score, action="none", model_version="old-1")
    prob = np.where(score > 0.5, 0.8, 0.1)
    drawn = random.random(num) < prob
    label = (random.random(num) < posts["truth"]).astype(float)
    examples = posts[["post_id"]].assign(category="spam", label=label, hard_label=label, weight=1.0, inclusion_prob=prob, split="train")
    examples = examples[drawn].reset_index(drop=True)
    posts["split"] = "train"
    reviewed = posts["post_id"].isin(examples["post_id"])
    return Snapshot(posts[reviewed].reset_index(drop=True), examples, posts[~reviewed].reset_index(drop=True), served, {})


def bias_of(data: Snapshot, soft: pd.DataFrame, language: str) -> float:
    """Mean of what is taught minus the mean truth, over all posts of a language."""
    posts = pd.concat([data.posts, data.unreviewed])
    rows = posts[posts["language"] == language].merge(soft, on="post_id", validate="1:1")
    return float((rows["label"] - rows["truth"]).mean())


def test_a_teacher_biased_against_one_language_is_corrected_by_reviewers() -> None:
    data = world()
    raw = data.served.rename(columns={"score": "label"})
    soft, account = teacher.soft_labels(data, ["spam"])
    assert bias_of(data, raw, "hi") > 0.2
    assert abs(bias_of(data, soft, "hi")) < 0.05
    assert abs(bias_of(data, soft, "en")) < 0.05
    entry = account["old-1"]["spam"]
    assert entry["languages"]["hi"] - entry["languages"]["en"] == pytest.approx(-2.0, abs=0.6)  # shrunk towards no correction
    assert entry["num_positive"] + entry["num_negative"] == len(data.examples)


def test_unweighted_it_would_believe_the_draw() -> None:
    """Where reviewers look mostly at what scored high, only weighting by 1/inclusion_prob finds the traffic's rate."""
    data = world(bias=0.0)
    random = np.random.default_rng(3)
    outcomes = data.examples.merge(data.posts, on="post_id")
    kept = random.random(len(outcomes)) < np.where(outcomes["label"] == 1, 1.0, 0.25)  # violations are drawn four times as often
    examples = data.examples[kept].assign(inclusion_prob=lambda rows: rows["inclusion_prob"] * np.where(rows["label"] == 1, 1.0, 0.25))
    weighted, _ = teacher.soft_labels(Snapshot(data.posts, examples, data.unreviewed, data.served, {}), ["spam"])
    flat = examples.assign(inclusion_prob=0.5)
    unweighted, _ = teacher.soft_labels(Snapshot(data.posts, flat, data.unreviewed, data.served, {}), ["spam"])
    assert abs(bias_of(data, weighted, "en")) < 0.04
    assert bias_of(data, unweighted, "en") > 0.1


def test_with_few_labels_the_scores_are_taken_as_they_are() -> None:
    data = world()
    few = Snapshot(data.posts, data.examples.head(12).assign(label=[0.0] * 9 + [1.0] * 3), data.unreviewed, data.served, {})
    soft, account = teacher.soft_labels(few, ["spam"])
    assert soft["label"].to_numpy() == pytest.approx(data.served["score"].to_numpy(), abs=1e-12)
    assert account["old-1"]["spam"]["slope"] == 1.0


def test_posts_kept_apart_are_not_taught_and_neither_are_other_categories() -> None:
    data = world(300)
    apart = data.posts.assign(split=np.where(np.arange(len(data.posts)) % 2, "test", "train"))
    data = Snapshot(apart, data.examples, data.unreviewed, data.served, {})
    soft, _ = teacher.soft_labels(data, ["spam"])
    assert set(soft["post_id"]) == set(apart.loc[apart["split"] == "train", "post_id"]) | set(data.unreviewed["post_id"])
    assert teacher.soft_labels(data, ["hate_speech"])[0].empty


def test_each_model_version_has_a_scale_of_its_own() -> None:
    data = world(bias=0.0)
    newer = data.served["post_id"].str[-1].isin(list("02468"))
    served = data.served.assign(
        score=data.served["score"].where(~newer, expit(logit(data.served["score"]) * 0.5 - 2)),
        model_version=np.where(newer, "old-2", "old-1"),
    )
    soft, account = teacher.soft_labels(Snapshot(data.posts, data.examples, data.unreviewed, served, {}), ["spam"])
    assert account["old-1"]["spam"]["slope"] == pytest.approx(1, abs=0.2)
    assert account["old-2"]["spam"]["slope"] == pytest.approx(2, abs=0.4)
    assert abs(bias_of(data, soft, "en")) < 0.04


def test_reviewers_overrule_and_weight_zero_is_no_teacher() -> None:
    columns = ["post_id", "category", "label", "weight"]
    examples = pd.DataFrame([("a", "spam", 0.0, 1.0), ("b", "spam", None, 1.0), ("c", "hate", 1.0, 0.5)], columns=columns)
    soft = pd.DataFrame([("a", "spam", 0.9), ("b", "spam", 0.8), ("d", "spam", 0.1)], columns=columns[:3])
    both = teacher.taught(examples, soft, 0.25).set_index(["post_id", "category"])
    assert both.loc[("a", "spam"), "label"] == pytest.approx(0.9 * 0.25 / 1.25)
    assert both.loc[("a", "spam"), "weight"] == 1.25
    assert both.loc[("b", "spam")].tolist() == pytest.approx([0.8, 0.25])
    assert both.loc[("c", "hate")].tolist() == pytest.approx([1.0, 0.5])
    assert both.loc[("d", "spam")].tolist() == pytest.approx([0.1, 0.25])
    assert teacher.taught(examples, soft, 0.0)["post_id"].tolist() == ["a", "c"]


def test_a_sample_of_pupils_is_nested_and_by_hash(tmp_path: Path) -> None:
    data = world(500)
    data.unreviewed["text"] = "said"
    data.unreviewed.loc[::3, "text"] = " "

    def pupils(num: int, seed: int = 1, weight: float = 0.3) -> set[str]:
        teacher.save_weight(tmp_path, weight, {}, {})
        given = parameters.load(ROOT / "params.yaml", [f"seed={seed}", f"teacher.posts={{text: {num}, image: 0, audio: 0}}"])
        return set(teacher.lesson(data, given, "text", tmp_path).pupils["post_id"])

    few, many = pupils(20), pupils(60)
    assert len(few) == 20
    assert few < many < pupils(10**6) == set(data.unreviewed.loc[data.unreviewed["text"] == "said", "post_id"])
    assert pupils(20, seed=2) != few
    assert pupils(20, weight=0.0) == set()


def test_a_missing_weight_names_the_stage(tmp_path) -> None:
    with pytest.raises(FailedWork, match=r"teacher\.json: not readable.*run the stage ngrams"):
        teacher.chosen_weight(tmp_path)


def test_three_posts_that_stand_for_many_do_not_overrule_the_prior() -> None:
    data = world(num=400, bias=0.0)
    hindi = data.examples["post_id"].isin(data.posts.loc[data.posts["language"] == "hi", "post_id"])
    few = data.examples.index[hindi & (data.examples["label"] == 1)][:3]
    examples = data.examples.assign(inclusion_prob=0.8)
    examples.loc[few, "inclusion_prob"] = 0.004
    _, account = teacher.soft_labels(Snapshot(data.posts, examples, data.unreviewed, data.served, {}), ["spam"])
    assert account["old-1"]["spam"]["slope"] == pytest.approx(1.0, abs=0.1)  # the other labels count for little, and the scores are right
