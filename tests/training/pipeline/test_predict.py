"""The stage scores exactly the posts that nobody trained on, and the champion's view of the test posts."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.tables import SCORES
from upheld.feature_store.features import media
from upheld.training.fusion import stage as fusion
from upheld.training.logos import scan as logo_scan
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline import predict, stage1
from upheld.training.pipeline.stage1 import Media
from upheld.training.text.model import TextModel


class Ledger:
    """Two pictures."""

    pictures: dict[str, bytes]

    def __init__(self, store) -> None:
        self.store = store

    def media_bytes(self, digests):
        return ((name, self.pictures[name]) for name in set(digests) if name in self.pictures)


@pytest.fixture
def params():
    loaded = parameters.load(predict.Path(__file__).parents[3] / "params.yaml")
    return loaded.model_copy(update={"policies": ("hate_speech", "spam", "misinformation")})


@pytest.fixture
def pictured(workspace, tiny, monkeypatch):
    """The workspace with pictures in its posts, and a ledger that holds them."""
    pictures = {hashing.of_bytes(content): content for content in (tiny.picture("red"), tiny.picture("blue"))}
    monkeypatch.setattr(Ledger, "pictures", pictures, raising=False)
    monkeypatch.setattr(media, "Ledger", Ledger)
    shutil.rmtree(workspace / "data/snapshot")
    tiny.save_snapshot(workspace / "data/snapshot", digests=tuple(pictures))
    inputs(workspace, None)
    return workspace


def inputs(workspace, champion) -> None:
    content = {
        "tables": {"posts": 1, "decisions": 1, "review_outcomes": 1, "audit_draws": 1},
        "as_of": "2026-10-01T00:00:00Z",
        "ledger_digest": "a" * 64,
        "synthetic": True,
        "champion": champion,
    }
    (workspace / "data/inputs.json").write_text(json.dumps(content))


def run(workspace, params, out):
    return predict.run(params, workspace / "store", workspace, out / "stage1.parquet", out / "champion.parquet")


def test_one_row_per_post_outside_training_with_nulls_where_a_modality_is_missing(pictured, params, tmp_path) -> None:
    result = run(pictured, params, tmp_path)
    table = pd.read_parquet(tmp_path / "stage1.parquet")
    posts = pd.read_parquet(pictured / "data/snapshot/posts.parquet").set_index("post_id")
    expected = posts[posts.split.isin(["fusion", "calib", "test"])]
    assert sorted(table.post_id) == table.post_id.tolist() == sorted(expected.index)
    assert result.num_posts == len(table)
    for row in table.itertuples():
        post = posts.loc[row.post_id]
        assert (row.split, row.has_text, row.has_image) == (post.split, pd.notna(post.text), len(post.image_digests) > 0)
        for policy in ("hate_speech", "spam"):
            assert pd.notna(getattr(row, f"prob_text_{policy}")) == row.has_text
            assert pd.notna(getattr(row, f"prob_image_{policy}")) == row.has_image
    assert table[["prob_text_misinformation", "prob_image_misinformation"]].isna().all(axis=None)  # no model knows it
    assert table.has_image.any() and not table.has_image.all() and not table.has_text.all()


def test_what_extraction_left_in_the_feature_store_need_not_be_computed_again(pictured, params, tmp_path, monkeypatch) -> None:
    """Where the encoder is the backbone's own, each text's vector is asked for by the version that embeds as the classifier reads."""
    posts = pd.read_parquet(pictured / "data/snapshot/posts.parquet")
    texts = sorted(set(posts.text[posts.split.isin(["fusion", "calib", "test"])].dropna()))
    spared = {hashing.of_bytes(text.encode()) for text in texts[1:]}
    asked, encoded = [], []

    class Pinned:
        """Vectors of all texts but one."""

        def __init__(self, location, tables):
            assert location == pictured / "store/features" and tables == {}

        def vectors(self, name, version, digests):
            asked.append((name, version))
            return {digest: np.full(16, 0.25, np.float32) + np.arange(16, dtype=np.float32) / 64 for digest in digests & spared}

    encode = TextModel.encode
    monkeypatch.setattr(TextModel, "encode", lambda self, some: encoded.extend(some) or encode(self, some))
    monkeypatch.setattr(predict, "PinnedFeatures", Pinned)
    monkeypatch.setattr(predict, "text_version", lambda *settings: settings)
    setup = stage1.load_text(pictured / "models/text").setup
    tables = {}
    for own in (False, True):
        encoded.clear()
        monkeypatch.setattr(predict, "has_own_vectors", lambda model, own=own: own)
        run(pictured, params, tmp_path / str(own))
        tables[own] = pd.read_parquet(tmp_path / str(own) / "stage1.parquet").set_index("post_id")
        assert set(encoded) == set(texts[:1] if own else texts)
    assert set(asked) == {("text_embedding", (setup.backbone, setup.prefix, setup.max_tokens, "fp32"))}
    metadata = pictured / "models/text/metadata.json"
    metadata.write_text(metadata.read_text().replace('"lane": "fp32"', '"lane": "bf16"'))
    monkeypatch.setattr("upheld.training.text.model.has_fast_bfloat16", lambda device: True)
    asked.clear()
    run(pictured, params, tmp_path / "bf16")
    assert {version[-1] for _, version in asked} == {"bf16"}
    text = posts.set_index("post_id").text.reindex(tables[True].index)
    known = text.map(lambda one: pd.notna(one) and hashing.of_bytes(one.encode()) in spared).to_numpy(bool)
    assert tables[True].prob_text_spam[known].nunique() == 1
    pd.testing.assert_series_equal(tables[True].prob_text_spam[~known], tables[False].prob_text_spam[~known], rtol=1e-5)


def test_the_same_inputs_give_the_same_bytes_in_any_row_order(pictured, params, tmp_path) -> None:
    outputs = []
    for name in ("a", "b"):
        run(pictured, params, tmp_path / name)
        outputs.append([(tmp_path / name / file).read_bytes() for file in ("stage1.parquet", "champion.parquet")])
        path = pictured / "data/snapshot/posts.parquet"
        pd.read_parquet(path).sample(frac=1, random_state=2).to_parquet(path)
    assert outputs[0] == outputs[1]


def test_without_a_champion_and_without_decisions_the_table_is_empty_and_typed(pictured, params, tmp_path) -> None:
    served = pictured / "data/snapshot/served.parquet"
    pd.read_parquet(served).head(0).to_parquet(served)
    assert run(pictured, params, tmp_path).num_comparator_scores == 0
    table = pq.read_table(tmp_path / "champion.parquet")
    assert (table.num_rows, table.schema.names) == (0, [*SCORES.names, "synthetic", "model_version"])


def test_without_a_champion_the_scores_of_what_served_are_compared_with(pictured, params, tmp_path) -> None:
    snapshot = pictured / "data/snapshot"
    posts = pd.read_parquet(snapshot / "posts.parquet")
    chosen = posts.post_id[posts.index % 3 > 0]
    categories = ("spam", "hate_speech", "unheard_of")
    decided = [(name, category) for name in chosen for category in categories if category != "spam" or name > "p0100"]
    served = pd.DataFrame(decided, columns=["post_id", "category"])
    served["score"] = np.random.default_rng(0).random(len(served))
    served["action"], served["model_version"] = "none", np.resize(["old-1", "old-2"], len(served))
    served.sample(frac=1, random_state=1).to_parquet(snapshot / "served.parquet")
    result = run(pictured, params, tmp_path)
    scores = pd.read_parquet(tmp_path / "champion.parquet")
    examples = pd.read_parquet(snapshot / "examples.parquet").set_index(["post_id", "category"])
    test = set(posts.post_id[posts.split == "test"])
    appeals = examples.evidence == "appeal"
    expected = served[served.post_id.isin(test) & (served.category != "unheard_of")].set_index(["post_id", "category"])
    expected = expected[~expected.index.isin(examples.index[appeals])].sort_index()
    assert result.num_comparator_scores == len(scores) == len(expected) > 20
    found = scores.set_index(["item_id", "category"])
    assert found.index.tolist() == expected.index.tolist()
    assert found[["score", "model_version"]].to_numpy().tolist() == expected[["score", "model_version"]].to_numpy().tolist()
    labels = examples.hard_label.reindex(expected.index)
    assert found.label.notna().tolist() == labels.notna().tolist()
    assert found.label.notna().any()


def test_the_champion_scores_the_test_posts_with_its_own_calibration(pictured, params, tmp_path) -> None:
    bundle = pipeline.assemble(pictured, tmp_path / "bundle")
    name = hashing.of_folder(bundle)
    shutil.copytree(bundle, pictured / "store/bundles" / name)
    inputs(pictured, {"version": 2, "digest": name})
    result = run(pictured, params, tmp_path)
    scores = pd.read_parquet(tmp_path / "champion.parquet")
    assert result.num_comparator_scores == len(scores) > 0
    assert set(scores.model_version) == {"champion 2"}
    posts = pd.read_parquet(pictured / "data/snapshot/posts.parquet")
    test = posts[posts.split == "test"].sort_values("post_id", ignore_index=True)
    assert set(scores.item_id) <= set(test.post_id)
    assert (scores.split == "test").all()
    assert set(scores.category) == {"hate_speech", "spam"}
    probs = (
        pipeline.load(bundle).predict(test, Media(lambda names: {name: Ledger.pictures[name] for name in names}, dict)).set_index("post_id")
    )
    for row in scores.itertuples():
        assert row.score == probs.loc[row.item_id, f"prob_{row.category}"]


def test_a_champion_that_needs_the_incumbent_gets_the_scores_that_were_served(pictured, params, tmp_path) -> None:
    path = pictured / "models/fusion/fusion.json"
    layer = json.loads(path.read_text()) | {"incumbent": "old-1"}
    layer["policies"]["spam"]["coefficients"] |= {"incumbent_logit": 2.0, "incumbent_missing": 0.0}
    path.write_text(json.dumps(layer))
    served = pd.read_parquet(pictured / "data/snapshot/served.parquet")
    name = hashing.of_folder(pipeline.assemble(pictured, tmp_path / "bundle"))
    shutil.copytree(tmp_path / "bundle", pictured / "store/bundles" / name)
    inputs(pictured, {"version": 2, "digest": name})
    found = {}
    for version in ("old-1", "other"):  # of which only the first is its input
        served.assign(model_version=version).to_parquet(pictured / "data/snapshot/served.parquet")
        run(pictured, params, tmp_path)
        table = pd.read_parquet(tmp_path / "champion.parquet")
        found[version] = table.set_index(["item_id", "category"]).score.unstack()
    moved = (found["old-1"].spam - found["other"].spam).dropna()
    said = served.set_index("post_id").score.reindex(moved.index)
    assert len(moved[said > 0.5]) > 10 and len(moved[said < 0.5]) > 10
    assert (moved[said > 0.5] > 0).all() and (moved[said < 0.5] < 0).all()
    pd.testing.assert_series_equal(found["old-1"].hate_speech, found["other"].hate_speech)


@pytest.fixture
def marked(pictured, tiny, monkeypatch):
    """Marks on the pictures, and a detector that finds and judges them."""
    drawn = (tiny.marked("red"), tiny.marked("green", "blue"), tiny.marked(), tiny.picture("red"))
    monkeypatch.setattr(Ledger, "pictures", {hashing.of_bytes(content): content for content in drawn})
    shutil.rmtree(pictured / "data/snapshot")
    tiny.save_snapshot(pictured / "data/snapshot", digests=tuple(Ledger.pictures))
    tiny.patch_detector(monkeypatch)
    return pictured


def scan(workspace, tiny, threshold=0.25) -> None:
    tiny.save_colours(workspace, threshold)
    logo_scan.run(workspace / "store", workspace / "data/snapshot", workspace / "models/logo", workspace / "data/logo_scan")


def test_marks_that_count_are_columns_beside_the_same_probabilities(marked, tiny, params, tmp_path) -> None:
    (marked / "data/logo_evaluation/logo.json").unlink()  # without a detector nobody asks for a threshold
    run(marked, params, tmp_path)
    without = pd.read_parquet(tmp_path / "stage1.parquet")
    assert not [column for column in without if column.startswith("logo")]
    scan(marked, tiny)
    run(marked, params, tmp_path / "with")
    table = pd.read_parquet(tmp_path / "with/stage1.parquet")
    pd.testing.assert_frame_equal(table[list(without)], without, check_exact=True)
    assert len(table.columns) == len(without.columns) + 9
    shown = pd.read_parquet(marked / "data/snapshot/posts.parquet").set_index("post_id")["image_digests"]
    red, _, _, full = Ledger.pictures
    for row in table.itertuples():
        expected = {red: (1, 0.2 + 0.8 / 12, 1 / 12), full: (1, 1.0, 1.0)}.get("".join(shown[row.post_id]), (0, 0.0, 0.0))
        assert (row.logo_count_red, row.logo_confidence_red, row.logo_area_red) == pytest.approx(expected)
    scan(marked, tiny, threshold=0.9)
    run(marked, params, tmp_path / "strict")
    assert pd.read_parquet(tmp_path / "strict/stage1.parquet")["logo_count_green"].eq(0).all()


def heed_red(workspace) -> None:
    """A fusion layer that calls red marks spam."""
    path = workspace / "models/fusion/fusion.json"
    learnt = json.loads(path.read_text())
    learnt["policies"]["spam"]["coefficients"] |= {"logo_count_red": 1.5, "logo_confidence_red": 0.5, "logo_area_red": -0.25}
    path.write_text(json.dumps(learnt))


def put_in_force(bundle, workspace) -> None:
    name = hashing.of_folder(bundle)
    shutil.copytree(bundle, workspace / "store/bundles" / name)
    inputs(workspace, {"version": 2, "digest": name})


def test_a_champion_sees_marks_as_the_stages_before_it_did(marked, tiny, params, tmp_path) -> None:
    scan(marked, tiny)
    heed_red(marked)
    put_in_force(pipeline.assemble(marked, tmp_path / "bundle"), marked)
    scan(marked, tiny, threshold=0.9)  # the challenger's is not the champion's
    run(marked, params, tmp_path)
    scores = pd.read_parquet(tmp_path / "champion.parquet").query("category == 'spam'").set_index("item_id")["score"]
    posts = pd.read_parquet(marked / "data/snapshot/posts.parquet")
    test = posts[posts.split == "test"].reset_index(drop=True)
    looked = logo_scan.read(marked / "data/logo_scan")
    marks = stage1.logo_signals(test, looked.detections, looked.sizes, looked.brands, 0.25)
    first = pd.read_parquet(tmp_path / "stage1.parquet").drop(columns=[*marks.columns[1:], "split"])
    rows = test.merge(first, on="post_id").merge(marks, on="post_id")
    loaded = pipeline.load(tmp_path / "bundle")
    fused = pipeline.fusion_model.apply(loaded.fusion.policies, rows)["prob_spam"].to_numpy()
    expected = pipeline.calibration_map.apply(loaded.calibration["categories"]["spam"], fused, rows["language"].to_numpy())
    of_post = dict(zip(rows["post_id"], expected, strict=True))
    assert len(scores) > 0
    assert scores.to_numpy() == pytest.approx([of_post[name] for name in scores.index], abs=1e-6)


def test_a_champion_that_has_no_logos_competes_with_a_model_that_has_them(marked, tiny, params, tmp_path) -> None:
    put_in_force(pipeline.assemble(marked, tmp_path / "bundle"), marked)
    run(marked, params, tmp_path / "without")
    scan(marked, tiny)
    run(marked, params, tmp_path / "with")
    scores = [(tmp_path / name / "champion.parquet").read_bytes() for name in ("without", "with")]
    assert scores[0] == scores[1]
    assert "logo_count_red" in pd.read_parquet(tmp_path / "with/stage1.parquet")


@pytest.mark.parametrize("lost", ["logo_scan/scan.json", "logo_evaluation/logo.json"])
def test_what_the_logo_stages_should_have_written_is_named(marked, tiny, params, tmp_path, lost) -> None:
    scan(marked, tiny)
    (marked / "data" / lost).unlink()
    with pytest.raises(FailedWork, match=f"{lost.split('/')[0]}.*not readable"):
        run(marked, params, tmp_path)


def test_a_champion_whose_bundle_is_gone_is_an_error(pictured, params, tmp_path) -> None:
    inputs(pictured, {"version": 2, "digest": "f" * 64})
    with pytest.raises(FailedWork, match="the champion's bundle is missing"):
        run(pictured, params, tmp_path)


def test_an_image_that_left_the_ledger_is_named(pictured, params, tmp_path, monkeypatch) -> None:
    gone = sorted(Ledger.pictures)[0]
    monkeypatch.setattr(Ledger, "pictures", {name: content for name, content in Ledger.pictures.items() if name != gone})
    with pytest.raises(FailedWork, match=f"image {gone} of the snapshot is gone"):
        run(pictured, params, tmp_path)
    assert not (tmp_path / "stage1.parquet").exists()


def test_inputs_that_are_missing_are_bad_use(pictured, params, tmp_path) -> None:
    (pictured / "data/inputs.json").unlink()
    with pytest.raises(BadUse, match=r"inputs.json: cannot be read"):
        run(pictured, params, tmp_path)


def test_the_two_stages_run_as_commands(pictured, monkeypatch, capsys) -> None:
    shutil.copy(predict.Path(__file__).parents[3] / "params.yaml", pictured / "params.yaml")
    monkeypatch.chdir(pictured)
    monkeypatch.setenv("UPHELD_STORE", str(pictured / "store"))
    given = ["--set", "policies=[hate_speech, spam]", "--set", "fusion.min_labels=5", "--json"]
    assert predict.main(given) == 0
    assert json.loads(capsys.readouterr().out) == {"num_posts": 240, "num_comparator_scores": 55}
    assert fusion.main(given) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed_through"] == {}
    assert said["num_scores"] == pq.read_metadata(pictured / "data/scores.parquet").num_rows
    assert fusion.main(["--set", "fusion.l2=-1"]) == 2
    assert "fusion.l2" in capsys.readouterr().err
    (pictured / "data/stage1.parquet").unlink()
    assert fusion.main(given) == 1
    assert "data/stage1.parquet" in capsys.readouterr().err


def test_the_table_names_the_lane_that_computed_it(pictured, params, tmp_path) -> None:
    run(pictured, params, tmp_path)
    assert pq.read_schema(tmp_path / "stage1.parquet").metadata == {b"lane_text": b"fp32"}
