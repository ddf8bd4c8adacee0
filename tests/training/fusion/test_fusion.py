"""The stage on a snapshot of its own: which rows are fitted, which are scored, and what the score table says of each."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from upheld.common.params import params as parameters
from upheld.common.params.training import Fusion
from upheld.feature_store.contracts.tables import SCORES
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion import stage as fusion


@pytest.fixture
def params():
    loaded = parameters.load(Path(__file__).parents[3] / "params.yaml")
    return loaded.model_copy(update={"policies": ("hate_speech", "spam"), "fusion": Fusion(l2=1.0, min_labels=5)})


@pytest.fixture
def stage1(workspace):
    """Stage-1 probabilities that know a little of spam and nothing of hate speech."""
    posts = pd.read_parquet(workspace / "data/snapshot/posts.parquet")
    posts = posts[posts.split != "train"].sort_values("post_id", ignore_index=True)
    random = np.random.default_rng(2)
    table = posts[["post_id", "split"]].assign(has_text=posts.text.notna(), has_image=False)
    guess = np.where(posts.text.fillna("").str.contains("buy|now|cheap"), 0.8, 0.3) + random.uniform(-0.2, 0.2, len(posts))
    table["prob_text_spam"] = np.where(posts.text.notna(), guess, np.nan).astype("float32")
    table["prob_text_hate_speech"] = np.where(posts.text.notna(), 0.5, np.nan).astype("float32")
    for member in ("ngrams", "image", "audio"):
        table[f"prob_{member}_spam"] = table[f"prob_{member}_hate_speech"] = np.float32(np.nan)
    table.to_parquet(workspace / "data/stage1.parquet")
    return table


def run(workspace, params, out):
    snapshot, table = workspace / "data/snapshot", workspace / "data/stage1.parquet"
    return fusion.run(params, snapshot, table, out / "fusion.json", out / "scores.parquet")


def test_only_labelled_fusion_posts_are_fitted(workspace, params, stage1, tmp_path) -> None:
    result = run(workspace, params, tmp_path)
    examples = pd.read_parquet(workspace / "data/snapshot/examples.parquet")
    seen = stage1.loc[stage1.has_text, "post_id"]
    used = examples[(examples.split == "fusion") & examples.label.notna() & examples.post_id.isin(seen)]
    assert result.num_labels == used.groupby("category").size().to_dict()
    assert result.passed_through == {}

    path = workspace / "data/snapshot/examples.parquet"
    examples.loc[examples.split != "fusion", "label"] = 1.0  # what other splits say must not matter to the fit
    examples.to_parquet(path)
    first = (tmp_path / "fusion.json").read_bytes()
    run(workspace, params, tmp_path)
    assert (tmp_path / "fusion.json").read_bytes() == first


def test_every_row_of_the_score_table_is_accounted_for(workspace, params, stage1, tmp_path) -> None:
    result = run(workspace, params, tmp_path)
    table = pq.read_table(tmp_path / "scores.parquet")
    assert table.schema.names == [*SCORES.names, "synthetic"]
    scores = table.to_pandas()
    posts = pd.read_parquet(workspace / "data/snapshot/posts.parquet").set_index("post_id")
    outcomes = pd.read_parquet(workspace / "data/snapshot/examples.parquet").set_index(["post_id", "category"])
    held_out = posts.index[posts.split.isin(["calib", "test"])]
    expected = {(post, category) for post in held_out for category in params.policies}
    appeals = {key for key in expected if key in outcomes.index and outcomes.loc[key, "evidence"] == "appeal"}
    assert result.num_appeal_only_left_out == len(appeals) > 0
    assert set(zip(scores.item_id, scores.category, strict=True)) == expected - appeals
    assert len(scores) == result.num_scores == len(expected - appeals)
    assert scores.label.notna().sum() == result.num_labelled_scores
    assert scores.synthetic.all()
    fused = fusion_model.Fusion.model_validate_json((tmp_path / "fusion.json").read_text())
    inputs = stage1.drop(columns="split").merge(posts.reset_index(), on="post_id")
    probs = fusion_model.apply(fused.policies, inputs).set_index("post_id")
    for row in scores.itertuples():
        assert (row.language, row.split, row.period) == tuple(posts.loc[row.item_id, ["language", "split", "period"]])
        assert row.score == probs.loc[row.item_id, f"prob_{row.category}"]
        if (row.item_id, row.category) in outcomes.index:
            outcome = outcomes.loc[(row.item_id, row.category)]
            assert (row.inclusion_prob, row.zone) == (outcome.inclusion_prob, outcome.zone)
            assert (pd.isna(row.label) and pd.isna(outcome.hard_label)) or row.label == outcome.hard_label
        else:
            assert pd.isna(row.label) and pd.isna(row.inclusion_prob) and pd.isna(row.zone)


def test_the_same_inputs_give_the_same_bytes(workspace, params, stage1, tmp_path) -> None:
    outputs = []
    for name in ("a", "b"):
        if name == "b":  # rows in another order are the same inputs
            for table in ("snapshot/posts", "snapshot/examples", "stage1"):
                path = workspace / f"data/{table}.parquet"
                pd.read_parquet(path).sample(frac=1, random_state=1).to_parquet(path)
        run(workspace, params, tmp_path / name)
        outputs.append([(tmp_path / name / file).read_bytes() for file in ("fusion.json", "scores.parquet")])
    assert outputs[0] == outputs[1]


def test_a_policy_without_labels_passes_through_with_its_reason(workspace, params, stage1, tmp_path) -> None:
    path = workspace / "data/snapshot/examples.parquet"
    examples = pd.read_parquet(path)
    examples[~((examples.category == "spam") & (examples.split == "fusion"))].to_parquet(path)
    result = run(workspace, params, tmp_path)
    reason = "0 violations and 0 others in the fusion split, 5 of each needed: the mean of the stage-1 logits passes through"
    assert result.passed_through == {"spam": reason}
    assert json.loads((tmp_path / "fusion.json").read_text())["policies"]["spam"]["reason"] == reason
    scores = pd.read_parquet(tmp_path / "scores.parquet").query("category == 'spam'").set_index("item_id").score
    given = stage1.set_index("post_id").prob_text_spam.dropna()
    shared = scores.index.intersection(given.index)
    assert scores[shared].to_numpy() == pytest.approx(given[shared].to_numpy(), abs=1e-6)
    assert (scores[scores.index.difference(given.index)] == 0.5).all()


def test_marks_that_go_with_spam_speak_for_spam_alone(workspace, params, stage1, tmp_path) -> None:
    before = run(workspace, params, tmp_path / "before")
    assert before.brands == {"hate_speech": [], "spam": []}
    posts = pd.read_parquet(workspace / "data/snapshot/posts.parquet").set_index("post_id")
    spam = posts.loc[stage1.post_id, "text"].fillna("").str.contains("buy|now|cheap").to_numpy()
    table = stage1.assign(logo_count_fake=spam.astype(int), logo_confidence_fake=0.9 * spam, logo_area_fake=0.2 * spam)
    table = table.assign(logo_count_rare=[1, 1, 1, 1] + [0] * (len(table) - 4), logo_confidence_rare=0.0, logo_area_rare=0.0)
    table["prob_text_spam"] = stage1["prob_text_spam"].where(stage1["prob_text_spam"].isna(), 0.5)  # the text tells nothing any more
    table.to_parquet(workspace / "data/stage1.parquet")
    assert run(workspace, params, tmp_path).brands == {"hate_speech": ["fake"], "spam": ["fake"]}
    learnt = json.loads((tmp_path / "fusion.json").read_text())["policies"]
    pushes = {name: sum(learnt[name]["coefficients"][f"logo_{kind}_fake"] for kind in ("count", "confidence")) for name in learnt}
    assert pushes["spam"] > 0.5 > -0.5 > pushes["hate_speech"]  # what is no spam is hate speech in this world
