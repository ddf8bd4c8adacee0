"""Stage `attack` on a tiny workspace: the contract of its table, its independence of order and company, and what it says where there is
nothing to attack."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from upheld.common.errors import FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing, tables
from upheld.feature_store.features import media
from upheld.feature_store.posts.text_normalisation import normalised
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion import stage as fusion
from upheld.training.loop import classifier
from upheld.training.ngrams.model import load_ngrams, predict_ngrams
from upheld.training.pipeline import predict
from upheld.training.robustness import stage
from upheld.training.robustness.words import ATTACKS, attacked, chance
from upheld.training.text.model import load_text, predict_text

PARAMS = predict.Path(__file__).parents[3] / "params.yaml"
MEMBERS = {"text": {"text", "ngrams", "ensemble"}, "image": {"image", "ensemble"}}
NAMES = {"text": {*ATTACKS, "search"}, "image": {"fgsm", "pgd", "pixels", "jpeg"}}
KEY = ["modality", "policy", "language", "post_id", "attack", "member"]


class Ledger:
    """Two pictures."""

    pictures: dict[str, bytes]

    def __init__(self, store) -> None:
        self.store = store

    def media_bytes(self, digests):
        return ((name, self.pictures[name]) for name in set(digests) if name in self.pictures)


def params(posts=3):
    """`posts` of each language and policy, fewer by one for the search."""
    loaded = parameters.load(PARAMS, ["policies=[hate_speech, spam]", "attacks.pgd_steps=2", "attacks.search_edits=3"])
    number = {"text": posts, "search": max(0, posts - 1), "image": posts}
    return loaded.model_copy(update={"attacks": loaded.attacks.model_copy(update={"posts": number})})


def finish(workspace) -> None:
    """What the stages predict and fusion leave behind."""
    given = params()
    data = workspace / "data"
    predict.run(given, workspace / "store", workspace, data / "stage1.parquet", data / "champion_scores.parquet")
    fusion.run(
        given,
        data / "snapshot",
        data / "stage1.parquet",
        workspace / "models/fusion/fusion.json",
        data / "scores.parquet",
        data / "ablations.parquet",
    )


@pytest.fixture(scope="module")
def attacked_once(tmp_path_factory, tiny):
    """A workspace with pictures in its posts whose models have been attacked, and what came of it; nobody changes it."""
    workspace = tiny.save_workspace(tmp_path_factory.mktemp("attacks") / "workspace")
    Ledger.pictures = {hashing.of_bytes(content): content for content in (tiny.marked("red"), tiny.marked("blue", "green"))}
    shutil.rmtree(workspace / "data/snapshot")
    tiny.save_snapshot(workspace / "data/snapshot", digests=tuple(Ledger.pictures))
    inputs = {"tables": dict.fromkeys(("posts", "decisions", "review_outcomes", "audit_draws"), 1), "as_of": "2026-10-01T00:00:00Z"}
    inputs |= {"ledger_digest": "a" * 64, "synthetic": True, "champion": None}
    (workspace / "data/inputs.json").write_text(json.dumps(inputs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(media, "Ledger", Ledger)
        patch.setattr(stage, "PIXEL_QUERIES", 3)
        finish(workspace)
        return workspace, *run(workspace)


@pytest.fixture
def pictured(attacked_once, tmp_path, monkeypatch):
    """A copy of it."""
    monkeypatch.setattr(media, "Ledger", Ledger)
    monkeypatch.setattr(stage, "PIXEL_QUERIES", 3)
    shutil.copytree(attacked_once[0], tmp_path / "workspace")
    return tmp_path / "workspace"


def run(workspace, name="attacks", **changes):
    out = workspace / f"{name}.parquet"
    result = stage.run(params(**changes), workspace / "store", workspace, out)
    return result, pd.read_parquet(out), out


def test_the_table_keeps_its_contract(attacked_once) -> None:
    pictured, result, table, out = attacked_once
    assert pq.read_schema(out).equals(tables.ATTACKS)
    assert not table.isna().any(axis=None)
    pd.testing.assert_frame_equal(table, table.sort_values(KEY, ignore_index=True))
    assert not table.duplicated(KEY).any()
    for modality, own in table.groupby("modality"):
        assert set(own.member) == MEMBERS[modality] and set(own.attack) == NAMES[modality]
        drawn, search = (part.groupby(["post_id", "policy"]).size() for part in (own[own.attack != "search"], own[own.attack == "search"]))
        assert set(drawn) == {len(MEMBERS[modality]) * len(NAMES[modality] - {"search"})}
        assert result.num_attacked[modality] == len(drawn) > 5
        if modality == "text":
            assert set(search) == {3} and set(search.index) < set(drawn.index) and result.num_attacked["search"] == len(search)
        assert own.drop_duplicates(["post_id", "policy"]).groupby(["language", "policy"]).size().max() <= 3
    assert table[table.modality == "text"].label.all()
    assert set(table[table.modality == "image"].label) == {True, False}
    scores = pd.read_parquet(pictured / "data/scores.parquet").set_index(["item_id", "category"])
    rows = scores.loc[pd.MultiIndex.from_frame(table[["post_id", "policy"]])]
    assert (rows.split == "test").all()
    assert rows.label.tolist() == table.label.tolist() and rows.language.tolist() == table.language.tolist()
    assert (table.weight * rows.inclusion_prob.to_numpy() > 1 - 1e-9).all()  # more where a row stands for others that were not drawn
    assert table.clean_prob.between(0, 1).all() and table.attacked_prob.between(0, 1).all()
    assert set(table[table.attack.isin(["fgsm", "pgd", "jpeg"])].edits) == {0}
    assert table[table.attack == "search"].edits.max() == 3
    assert table[table.attack == "pixels"].edits.between(0, 5).all() and table[table.attack == "pixels"].edits.any()


def test_before_the_attack_members_say_what_the_stages_said(attacked_once) -> None:
    pictured, _, table, _ = attacked_once
    said = pd.read_parquet(pictured / "data/stage1.parquet").set_index("post_id")
    scores = pd.read_parquet(pictured / "data/scores.parquet").set_index(["item_id", "category"]).score
    for row in table.itertuples():
        before = scores[row.post_id, row.policy] if row.member == "ensemble" else said.loc[row.post_id, f"prob_{row.member}_{row.policy}"]
        assert row.clean_prob == pytest.approx(before, abs=2e-6)


def test_the_ensemble_hears_both_members_of_the_attacked_text_and_the_rest_as_before(attacked_once) -> None:
    pictured, _, table, _ = attacked_once
    posts = pd.read_parquet(pictured / "data/snapshot/posts.parquet")
    layer = fusion_model.Fusion.model_validate_json((pictured / "models/fusion/fusion.json").read_text())
    rows = pd.read_parquet(pictured / "data/stage1.parquet").drop(columns="split").merge(posts, on="post_id")
    rows = rows[rows.text.notna() & rows.post_id.isin(table.post_id)].reset_index(drop=True)
    for attack in ("leetspeak", "swap"):
        pairs = zip(rows.text, rows.post_id, strict=True)
        found = [attacked(text, ATTACKS[attack], chance(params().seed, attack, post), 0.5) for text, post in pairs]
        texts = [normalised(one.text) for one in found]
        text, ngrams = load_text(pictured / "models/text"), load_ngrams(pictured / "models/ngrams")
        said = {"text": predict_text(text, texts), "ngrams": predict_ngrams(ngrams, texts)}
        for column, policy in enumerate(params().policies):
            heard = rows.assign(**{f"prob_{name}_{policy}": probs[:, column] for name, probs in said.items()})
            fused = fusion_model.apply({policy: layer.policies[policy]}, heard).set_index("post_id")[f"prob_{policy}"]
            own = table[(table.attack == attack) & (table.policy == policy)]
            ensemble = own[own.member == "ensemble"].set_index("post_id")
            np.testing.assert_allclose(ensemble.attacked_prob, fused.loc[ensemble.index], atol=2e-6)
            assert (ensemble.edits == pd.Series([one.edits for one in found], rows.post_id).loc[ensemble.index]).all()
    hidden = table[table.attack == "zero_width"]  # the spelling undoes it before any member reads the text
    assert hidden.edits.any() and (hidden.attacked_prob == hidden.clean_prob).all()
    moved = table[(table.modality == "image") & (table.member == "ensemble")]
    assert (moved.clean_prob != moved.attacked_prob).any()


def test_the_search_leaves_alone_what_no_review_would_see(attacked_once) -> None:
    """That is a post that scores below the upper half of all test posts, by the member that is searched against."""
    pictured, result, table, _ = attacked_once
    scores = pd.read_parquet(pictured / "data/scores.parquet").query("split == 'test'")
    said = pd.read_parquet(pictured / "data/stage1.parquet")
    layer = fusion_model.Fusion.model_validate_json((pictured / "models/fusion/fusion.json").read_text())
    searched = table[table.attack == "search"]
    assert (searched.attacked_prob <= searched.clean_prob).all()
    for (member, policy), own in searched.groupby(["member", "policy"]):
        others = scores[scores.category == policy].merge(said, left_on="item_id", right_on="post_id")
        probs = (others.score if member == "ensemble" else others[f"prob_{member}_{policy}"]).dropna()
        bound = sorted(probs, reverse=True)[len(probs) // 2]
        unseen, seen = own[own.clean_prob < bound - 1e-5], own[own.clean_prob > bound + 1e-5]
        assert (unseen.edits == 0).all() and (unseen.attacked_prob == unseen.clean_prob).all()
        hears_text = member != "ensemble" or not {"text", "ngrams"} <= set(layer.policies[policy].left_out)
        assert len(seen) == 0 or not hears_text or seen.edits.any(), (member, policy, layer.policies[policy])
        assert result.recall[member]["search"][1] <= result.recall[member]["search"][0]
    assert searched.edits.any()


def test_rows_in_another_order_give_the_same_bytes(attacked_once, pictured) -> None:
    first = attacked_once[3].read_bytes()
    for name in ("snapshot/posts", "snapshot/examples", "scores", "stage1"):
        path = pictured / f"data/{name}.parquet"
        pd.read_parquet(path).sample(frac=1, random_state=3).to_parquet(path)
    _, _, out = run(pictured, "again")
    assert out.read_bytes() == first


def test_a_post_is_attacked_alike_whichever_others_are(attacked_once, pictured) -> None:
    _, _, many, _ = attacked_once
    _, few, _ = run(pictured, "few", posts=2)
    both = few.merge(many, on=KEY, suffixes=("", "_of_many"), validate="1:1")
    assert len(both) == len(few) < len(many)
    assert both.edits.tolist() == both.edits_of_many.tolist()
    by_gradient = both.attack.isin(["fgsm", "pgd"])  # there rounding decides on the sign of a slope that is next to nothing
    assert ((both.attacked_prob - both.attacked_prob_of_many).abs() < np.where(by_gradient, 1e-3, 2e-6)).all()


def test_violations_come_first_and_then_a_hash_decides() -> None:
    rows = pd.DataFrame({"post_id": [f"p{number:03d}" for number in range(60)], "language": "en", "policy": "spam", "weight": 1.0})
    rows["label"] = np.arange(60) % 20 == 0
    found = stage.drawn(rows, params(posts=10), "text")
    assert len(found) == 10 and set(rows.post_id[rows.label]) <= set(found.post_id)
    assert found.weight[found.label].tolist() == [1.0] * 3
    assert found.weight[~found.label].tolist() == pytest.approx([57 / 7] * 7)  # each stands for those that were not drawn
    assert found.post_id.tolist() == stage.drawn(rows.sample(frac=1, random_state=1), params(posts=10), "text").post_id.tolist()
    assert sorted(found.post_id) != sorted(rows.sort_values(["label", "post_id"], ascending=[False, True]).head(10).post_id)


def test_posts_that_were_never_found_count_as_not_found() -> None:
    columns = ["member", "attack", "policy", "label", "weight", "clean_prob", "attacked_prob"]
    rows = [
        ("text", "swap", "spam", True, 1.0, 0.9, 0.1),  # found, then not
        ("text", "swap", "spam", True, 2.0, 0.2, 0.1),  # never found
        ("text", "swap", "hate_speech", True, 1.0, 0.35, 0.35),  # found by the bound of its policy
        ("text", "swap", "spam", False, 9.0, 0.9, 0.9),  # none to be found
    ]
    found = stage.recall(pd.DataFrame(rows, columns=columns), {"text": {"spam": 0.5, "hate_speech": 0.3}})
    assert found == {"text": {"swap": (0.5, 0.25)}}


def test_without_an_image_model_only_texts_are_attacked(pictured) -> None:
    shutil.rmtree(pictured / "models/image")
    (pictured / "models/image").mkdir()
    classifier.save_untrained(pictured / "models/image", "no labelled post has an image", ("hate_speech", "spam"))
    finish(pictured)
    result, table, _ = run(pictured)
    assert set(table.modality) == {"text"} and result.num_attacked["image"] == 0


@pytest.mark.parametrize("nothing", ["posts", "labels"])
def test_where_there_is_nothing_to_attack_the_table_is_empty_and_typed(pictured, nothing: str) -> None:
    path = pictured / "data/scores.parquet"
    if nothing == "labels":
        pd.read_parquet(path).assign(label=np.nan).to_parquet(path)
    result, table, out = run(pictured, posts=0 if nothing == "posts" else 3)
    assert len(table) == 0 and pq.read_schema(out).equals(tables.ATTACKS)
    assert result.num_attacked == {"text": 0, "search": 0, "image": 0} and result.recall == {}


def test_what_is_missing_or_broken_is_named(pictured, monkeypatch) -> None:
    monkeypatch.setattr(Ledger, "pictures", {})
    with pytest.raises(FailedWork, match="is gone; start a new run"):
        run(pictured)
    (pictured / "models/fusion/fusion.json").write_text("{}")
    with pytest.raises(FailedWork, match="not what the stages predict and fusion write"):
        run(pictured)


def test_the_command_tells_what_is_still_found(pictured, monkeypatch, capsys) -> None:
    monkeypatch.chdir(pictured)
    file = pictured / "params.yaml"
    shutil.copy(PARAMS, file)
    changes = ("policies=[hate_speech, spam]", "attacks.posts={text: 1, search: 1, image: 1}", "attacks.pgd_steps=1")
    assert stage.main(["--params", str(file), "--store", "store", *(f"--set={change}" for change in changes)]) == 0
    assert (pictured / "data/attacks.parquet").exists()
    assert "ensemble, share of the violations found: drop" in capsys.readouterr().err
