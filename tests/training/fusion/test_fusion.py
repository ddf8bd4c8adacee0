"""The stage on a snapshot of its own: which rows are fitted, which are scored, and what the score table says of each."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.common.params.training import Fusion
from upheld.feature_store.contracts.tables import SCORES
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion import stage as fusion


@pytest.fixture
def params():
    loaded = parameters.load(Path(__file__).parents[3] / "params.yaml")
    return loaded.model_copy(update={"policies": ("hate_speech", "spam"), "fusion": Fusion(l2=1.0, min_labels=5, use_incumbent=False)})


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
    return fusion.run(params, snapshot, table, out / "fusion.json", out / "scores.parquet", out / "ablations.parquet")


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


def on(params):
    return params.model_copy(update={"fusion": Fusion(l2=1.0, min_labels=5, use_incumbent=True)})


def change_served(workspace, change) -> None:
    path = workspace / "data/snapshot/served.parquet"
    change(pd.read_parquet(path)).to_parquet(path)


def test_with_the_incumbent_off_its_scores_change_no_bit(workspace, params, stage1, tmp_path) -> None:
    outputs = []
    for name, factor in (("a", 1.0), ("b", 0.1)):
        change_served(workspace, lambda table, factor=factor: table.assign(score=table.score * factor))
        run(workspace, params, tmp_path / name)
        outputs.append([(tmp_path / name / file).read_bytes() for file in ("fusion.json", "metadata.json", "scores.parquet")])
    assert outputs[0] == outputs[1]
    assert b"incumbent" not in outputs[0][0]
    assert json.loads(outputs[0][1])["incumbent"] is None


def test_the_incumbents_score_is_an_input_like_a_modality(workspace, params, stage1, tmp_path) -> None:
    """The fixture's served scores know spam perfectly; texts here know nothing."""
    stage1.assign(prob_text_spam=stage1.prob_text_spam.where(stage1.prob_text_spam.isna(), 0.5)).to_parquet(
        workspace / "data/stage1.parquet"
    )
    posts = pd.read_parquet(workspace / "data/snapshot/posts.parquet").set_index("post_id")
    unscored = posts.index[posts.split == "test"][:7]
    change_served(workspace, lambda table: table[~table.post_id.isin(unscored)])
    off, result = run(workspace, params, tmp_path / "off"), run(workspace, on(params), tmp_path / "on")
    assert (off.incumbent, off.num_without_incumbent) == (None, 0)
    held_out = posts.split.isin(["calib", "test"]).sum()
    assert (result.incumbent, result.num_without_incumbent) == ("old-1", held_out)  # of hate speech it never spoke
    learnt = json.loads((tmp_path / "on/fusion.json").read_text())
    assert learnt["incumbent"] == "old-1" == json.loads((tmp_path / "on/metadata.json").read_text())["incumbent"]
    assert learnt["policies"]["spam"]["coefficients"]["incumbent_logit"] > 0.5
    scores = pd.read_parquet(tmp_path / "on/scores.parquet").query("category == 'spam'").set_index("item_id").score
    is_spam = posts.text.fillna("").str.contains("buy|now|cheap")
    judged = scores.index.difference(unscored)
    assert scores[judged][is_spam[judged]].min() > scores[judged][~is_spam[judged]].max()
    assert (tmp_path / "off/scores.parquet").read_bytes() != (tmp_path / "on/scores.parquet").read_bytes()


def test_the_incumbent_is_whoever_decided_on_the_latest_post_and_no_other_version(workspace, params, stage1, tmp_path) -> None:
    path = workspace / "data/snapshot/posts.parquet"
    posts = pd.read_parquet(path)
    times = pd.Timestamp("2026-10-01", tz="UTC") + pd.to_timedelta(np.random.default_rng(4).permutation(len(posts)), unit="h")
    posts.assign(created_at=times).to_parquet(path)
    latest = posts.post_id.iloc[np.argsort(times)[-40:]]
    change_served(workspace, lambda table: table.assign(model_version=np.where(table.post_id.isin(latest), "new-2", "old-1")))
    result = run(workspace, on(params), tmp_path)
    assert result.incumbent == "new-2"
    change_served(workspace, lambda table: table.assign(score=table.score.mask(table.model_version == "old-1", 0.999)))
    before = [(tmp_path / file).read_bytes() for file in ("fusion.json", "scores.parquet")]
    run(workspace, on(params), tmp_path)
    assert before == [(tmp_path / file).read_bytes() for file in ("fusion.json", "scores.parquet")]


def test_without_a_decision_there_is_no_incumbent_to_use(workspace, params, stage1, tmp_path) -> None:
    change_served(workspace, lambda table: table.head(0))
    with pytest.raises(
        FailedWork, match=r"served\.parquet: no decision of a model in production; expected decisions .*fusion\.use_incumbent"
    ):
        run(workspace, on(params), tmp_path)
    assert not (tmp_path / "fusion.json").exists()


def test_the_account_says_what_was_left_out_and_the_output_too(workspace, params, stage1, tmp_path) -> None:
    random = np.random.default_rng(8)
    table = pd.read_parquet(workspace / "data/stage1.parquet")
    for policy in params.policies:
        table[f"prob_image_{policy}"] = random.uniform(0.01, 0.99, len(table))
    table.to_parquet(workspace / "data/stage1.parquet")
    result = run(workspace, params, tmp_path)
    account = json.loads((tmp_path / "metadata.json").read_text())
    learnt = json.loads((tmp_path / "fusion.json").read_text())["policies"]
    for policy in params.policies:
        left_out = [name for name, verdict in account["members"][policy].items() if verdict["left_out"]]
        assert sorted(result.left_out[policy]) == sorted(left_out) == sorted(learnt[policy].get("left_out", []))
    assert result.left_out["spam"] == ["image"]
    assert account["unheard"] == sorted(set(result.left_out["spam"]) & set(result.left_out["hate_speech"]))


def test_the_lane_goes_with_the_scores(workspace, params, stage1, tmp_path) -> None:
    path = workspace / "data/stage1.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata({"lane_text": "bf16", "other": "x"}), path)
    fusion.run(
        params, workspace / "data/snapshot", path, tmp_path / "fusion.json", tmp_path / "scores.parquet", tmp_path / "ablations.parquet"
    )
    assert pq.read_schema(tmp_path / "scores.parquet").metadata == {b"lane_text": b"bf16"}
