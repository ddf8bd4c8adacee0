"""A bundle gives the same probabilities in any process, and none at all once a byte of it has changed."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
from transformers import AutoModel, AutoModelForSequenceClassification, BertModel

from upheld.common.errors import FailedWork
from upheld.feature_store.contracts import hashing
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline.stage1 import NO_MEDIA, Media

READER = """
import json, sys
from pathlib import Path
import pandas as pd
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline.stage1 import Media
folder = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
import conftest
images = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
media = Media(lambda names: {name: images[name] for name in names}, lambda names: {name: conftest.sound(int(name)) for name in names})
posts = pd.read_json(folder / "posts.json", dtype={"post_id": str})
probs = pipeline.load(folder / "bundle").predict(posts, media)
print(json.dumps({name: [value if isinstance(value, str) else value.hex() for value in probs[name]] for name in probs}))
"""


@pytest.fixture
def bundle(workspace, tmp_path):
    return pipeline.assemble(workspace, tmp_path / "bundle")


def some_posts() -> pd.DataFrame:
    """Text; a picture; both; nothing; a video of two frames, of which one is shown as a picture, too, and its sound."""
    posts = pd.DataFrame({"post_id": ["a", "b", "c", "d", "e"], "language": ["en", "de", "xx", "en", "xx"]})
    posts["text"] = ["buy now", None, "hate them", "", None]
    posts["image_digests"] = [[], ["red"], ["red", "blue"], [], ["red", "blue", "green"]]
    posts["num_frames"] = [0, 0, 0, 0, 2]
    posts["audio_digests"] = [[], [], [], [], ["7"]]
    posts["num_hashtags"] = [0, 1, 2, 0, 0]
    posts["has_link"] = [True, False, False, True, False]
    posts["prior_removals"] = [0, 3, 0, 0, 0]
    return posts


def media_of(tiny) -> Media:
    return Media(lambda names: {name: tiny.picture(name) for name in names}, lambda names: {name: tiny.sound(int(name)) for name in names})


def test_probabilities_are_those_of_the_parts(bundle, tiny) -> None:
    from upheld.training.audio.model import predict_audio
    from upheld.training.image.model import predict_image
    from upheld.training.ngrams.model import predict_ngrams
    from upheld.training.text.model import predict_text

    loaded = pipeline.load(bundle)
    assert (loaded.policies, loaded.synthetic) == (tiny.POLICIES, True)
    probs = loaded.predict(some_posts(), media_of(tiny)).set_index("post_id")
    text, ngrams = predict_text(tiny.text_model(), ["buy now", "hate them"]), predict_ngrams(tiny.ngram_model(), ["buy now", "hate them"])
    image = predict_image(tiny.image_model(), [["red"], ["red", "blue"], ["blue"], ["green"]], tiny.picture)
    audio = predict_audio(tiny.audio_model(), [["7"]], lambda name: tiny.sound(7))

    def logit(prob: float) -> float:
        return math.log(prob / (1 - prob))

    def sigmoid(z: float) -> float:
        return 1 / (1 + math.exp(-z))

    said = [2 * logit(float(of_text[0])) + logit(float(of_ngrams[0])) for of_text, of_ngrams in zip(text, ngrams, strict=True)]
    b, c = float(image[0, 0]), float(image[1, 0])
    still, *frames = (logit(float(image[row, 0])) for row in (0, 2, 3))
    video = (still + max(frames)) / 2  # the frames are one more picture: the worst of them
    fused = {
        "e": sigmoid(0.1 + 0.5 * video + 0.25 * logit(float(audio[0, 0]))),
        "a": sigmoid(0.1 + said[0] + 0.7),
        "b": sigmoid(0.1 + 0.5 * logit(b)),
        "c": sigmoid(0.1 + said[1] + 0.5 * logit(c)),
        "d": sigmoid(-1.0),  # nothing to see: the base rate
    }
    for post_id, prob in fused.items():
        assert probs.loc[post_id, "prob_hate_speech"] == pytest.approx(prob, abs=1e-5)  # null in calibration.json: identity

    of_text = 2 * logit(float(text[0, 1])) + logit(float(ngrams[0, 1]))
    spam = {"a": (of_text + 0.7, 0.2, 1.1), "b": (0.5 * logit(float(image[0, 1])), -0.5, 0.9)}  # b is German, a takes the mean
    for post_id, (seen, intercept, slope) in spam.items():
        score = sigmoid(0.1 + seen)
        isotonic = 0.1 + 0.8 * score
        assert probs.loc[post_id, "prob_spam"] == pytest.approx(sigmoid(intercept + slope * logit(isotonic)), abs=1e-5)


def test_a_clean_process_gives_the_same_bits(bundle, tiny, tmp_path) -> None:
    (tmp_path / "images").mkdir()
    for colour in ("red", "blue", "green"):
        (tmp_path / "images" / colour).write_bytes(tiny.picture(colour))
    some_posts().to_json(tmp_path / "posts.json", orient="records")
    here = pipeline.load(bundle).predict(some_posts(), media_of(tiny))
    run = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", READER, str(tmp_path), str(Path(__file__).parents[1])],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    there = pd.DataFrame({name: [v if name == "post_id" else float.fromhex(v) for v in vs] for name, vs in json.loads(run.stdout).items()})
    assert list(there) == ["post_id", "prob_hate_speech", "prob_spam"]
    np.testing.assert_allclose(there.iloc[:, 1:], here.iloc[:, 1:], rtol=0, atol=0)


def test_no_posts_give_no_probabilities(bundle) -> None:
    probs = pipeline.load(bundle).predict(some_posts().head(0), NO_MEDIA)
    assert list(probs) == ["post_id", "prob_hate_speech", "prob_spam"]
    assert len(probs) == 0


def test_a_bundle_of_format_3_has_no_n_grams_and_scores_as_it_did(bundle) -> None:
    """Registries hold such bundles: no folder `ngrams`, and a fusion layer that never heard of it."""
    said = json.loads((bundle / "pipeline.json").read_text())
    for name in [name for name in said["files"] if name.startswith("ngrams/")]:
        (bundle / name).unlink()
        del said["files"][name]
    fusion = json.loads((bundle / "fusion/fusion.json").read_text())
    for policy in fusion["policies"].values():
        del policy["coefficients"]["ngrams_logit"]
    (bundle / "fusion/fusion.json").write_text(json.dumps(fusion))
    said["files"]["fusion/fusion.json"] = hashing.of_file(bundle / "fusion/fusion.json")
    (bundle / "pipeline.json").write_text(json.dumps(said | {"format": 3}))
    old = pipeline.load(bundle)
    assert old.models.ngrams is None
    rows = pd.DataFrame(
        {"post_id": ["a"], "language": "en", "text": "buy now", "image_digests": [[]], "num_frames": 0, "audio_digests": [[]]}
    )
    rows = rows.assign(num_hashtags=0, has_link=False, prior_removals=0)
    from upheld.training.text.model import predict_text

    prob = float(predict_text(old.models.text, ["buy now"])[0, 0])
    expected = 1 / (1 + math.exp(-(0.1 + 2 * math.log(prob / (1 - prob)))))
    assert old.predict(rows, NO_MEDIA)["prob_hate_speech"].item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["text", "image", "audio", "ngrams"])
def test_other_libraries_refuse_our_folders_and_never_fill_them_at_random(bundle, name: str) -> None:
    folder = bundle / name
    for cls in (AutoModel, AutoModelForSequenceClassification, BertModel):
        with pytest.raises((OSError, ValueError)):
            cls.from_pretrained(folder, local_files_only=True)
    with pytest.raises((OSError, AssertionError, KeyError)):
        timm.create_model(f"local-dir:{folder}", pretrained=True)
    with pytest.raises(RuntimeError, match="Missing key"):
        timm.create_model("test_efficientnet", checkpoint_path=str(folder / "upheld.safetensors"))


def test_folders_with_the_former_name_of_the_weights_load_as_they_did(bundle) -> None:
    now = pipeline.load(bundle).predict(some_posts().head(1), NO_MEDIA)
    renamed = [path.rename(path.with_name("model.safetensors")) for path in bundle.rglob("upheld.safetensors")]
    assert len(renamed) == 4
    rehash(bundle)
    pd.testing.assert_frame_equal(pipeline.load(bundle).predict(some_posts().head(1), NO_MEDIA), now)


def test_nothing_in_a_bundle_is_pickled_and_the_same_workspace_gives_the_same_bundle(bundle, workspace, tmp_path) -> None:
    assert {path.suffix for path in bundle.rglob("*") if path.is_file()} == {".json", ".parquet", ".safetensors"}
    assert hashing.of_folder(pipeline.assemble(workspace, tmp_path / "again")) == hashing.of_folder(bundle)


def test_without_an_image_model_images_are_not_read(workspace, tiny, tmp_path) -> None:
    import shutil

    for name in ("text", "ngrams", "image", "audio"):
        shutil.rmtree(workspace / "models" / name)
    tiny.save_models(workspace, with_image=False)
    learnt = {"intercept": 0.0, "coefficients": {}, "base_rate_logit": 0.0, "num_positive": 0, "num_negative": 0, "reason": "no labels"}
    (workspace / "models/fusion/fusion.json").write_text(json.dumps({"l2": 1.0, "policies": {"spam": learnt}}))
    probs = pipeline.load(pipeline.assemble(workspace, tmp_path / "bundle")).predict(
        some_posts(), Media(lambda names: 1 / 0, media_of(tiny).sounds)
    )
    assert probs.prob_spam.between(0, 1).all()


def test_a_bundle_of_format_4_is_laid_out_as_those_in_registries_are(bundle, workspace) -> None:
    """What `load` asks of a bundle is what every bundle of this format has: a change here needs another number."""
    said = json.loads((bundle / "pipeline.json").read_text())
    assert said["format"] == 4
    assert set(said) == {"format", "policies", "files", "snapshot_digest", "synthetic", "features", "versions"}
    needed = {
        *(f"{name}/metadata.json" for name in ("audio", "image", "logo", "ngrams", "text")),
        "calibration/calibration.json",
        "fusion/fusion.json",
        "logo_evaluation.json",
    }
    assert needed <= set(said["files"])
    assert pipeline.load(bundle).features == said["features"]


def test_marks_on_pictures_and_frames_move_the_policy_that_heeds_them(workspace, tiny, tmp_path, monkeypatch) -> None:
    tiny.patch_detector(monkeypatch)
    plain = pipeline.load(pipeline.assemble(workspace, tmp_path / "plain")).predict(some_posts(), media_of(tiny)).set_index("post_id")
    tiny.save_colours(workspace)
    path = workspace / "models/fusion/fusion.json"
    learnt = json.loads(path.read_text())
    learnt["policies"]["hate_speech"]["coefficients"] |= {"logo_count_red": 2.0, "logo_confidence_red": -1.0, "logo_area_red": 0.5}
    path.write_text(json.dumps(learnt))
    loaded = pipeline.load(pipeline.assemble(workspace, tmp_path / "bundle"))
    probs = loaded.predict(some_posts().iloc[::-1], media_of(tiny)).set_index("post_id")
    assert list(probs.index) == list("edcba")

    def moved(post_id: str) -> float:
        return sum(
            sign * math.log(p / (1 - p)) for sign, p in ((1, probs.prob_hate_speech[post_id]), (-1, plain.prob_hate_speech[post_id]))
        )

    seen = 2 * math.log(2) - 1.0 + 0.5  # one mark, of confidence 1, over the whole picture
    assert [moved(post_id) for post_id in "abce"] == pytest.approx([0, seen, seen, seen], abs=1e-5)
    assert moved("d") == 0
    pd.testing.assert_series_equal(probs.prob_spam.sort_index(), plain.prob_spam, rtol=1e-6)


def test_text_needs_no_columns_of_pictures(workspace, tiny, tmp_path, monkeypatch) -> None:
    tiny.patch_detector(monkeypatch)
    tiny.save_colours(workspace)
    loaded = pipeline.load(pipeline.assemble(workspace, tmp_path / "bundle"))
    bare = some_posts()[["post_id", "language", "text", "num_hashtags", "has_link", "prior_removals"]]
    assert loaded.predict(bare, NO_MEDIA).prob_spam.between(0, 1).all()


@pytest.mark.parametrize(
    "name",
    [
        "text/upheld.safetensors",
        "text/tokenizer.json",
        "image/metadata.json",
        "logo/metadata.json",
        "logo_evaluation.json",
        "fusion/fusion.json",
        "calibration/calibration.json",
    ],
)
def test_a_changed_file_is_refused_by_name(bundle, name: str) -> None:
    path = bundle / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(FailedWork, match=f"{name}: not the file that was registered"):
        pipeline.load(bundle)


def test_a_missing_and_an_added_file_are_refused_by_name(bundle) -> None:
    (bundle / "text/extra.json").write_text("{}")
    with pytest.raises(FailedWork, match=r"text/extra.json: not the file that was registered"):
        pipeline.load(bundle)
    (bundle / "text/extra.json").unlink()
    (bundle / "membership.parquet").unlink()
    with pytest.raises(FailedWork, match=r"membership.parquet: missing from the bundle"):
        pipeline.load(bundle)


@pytest.mark.parametrize("content", [None, "{", json.dumps({"format": 99}), json.dumps({"format": 2})])
def test_a_folder_that_is_no_bundle_is_refused(bundle, content: str | None) -> None:
    (bundle / "pipeline.json").unlink()
    if content is not None:
        (bundle / "pipeline.json").write_text(content)
    with pytest.raises(FailedWork, match=r"pipeline.json: (not readable|format (99|2), this code reads 3 and 4)"):
        pipeline.load(bundle)


def test_an_unfinished_workspace_is_no_bundle(workspace, tmp_path) -> None:
    (workspace / "data/calibration/thresholds.json").unlink()
    with pytest.raises(FailedWork, match=r"thresholds.json: missing"):
        pipeline.assemble(workspace, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


LOADER = """
import sys
from pathlib import Path
from upheld.common.errors import FailedWork
from upheld.training.pipeline import bundle as pipeline
from upheld.training.text import model as text_model
for load, folder in ((pipeline.load, sys.argv[1]), (text_model.load_text, sys.argv[1] + "/text")):
    try:
        load(Path(folder))
    except FailedWork as error:
        print("refused:", error)
"""


def test_code_in_a_bundle_is_never_run_even_where_somebody_says_yes(bundle, tmp_path) -> None:
    """transformers asks on standard input whether to import it; a pipe that says yes answers for the person."""
    config = json.loads((bundle / "text/config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (bundle / "text/config.json").write_text(json.dumps(config))
    (bundle / "text/evil.py").write_text(
        f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import BertConfig as Config, BertModel as Model"
    )
    rehash(bundle)
    done = subprocess.run([sys.executable, "-c", LOADER, str(bundle)], input="y\n" * 18, capture_output=True, text=True)
    assert not (tmp_path / "ran").exists()
    assert "[y/N]" not in done.stdout + done.stderr
    whole, text = (line for line in done.stdout.splitlines() if line.startswith("refused: "))
    assert "text/config.json: key auto_map: names code to run" in whole
    assert "not a readable text model" in text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text/tokenizer.json", '{"a": [{"b": {"auto_map": null}}]}'),
        ("logo_evaluation.json", '{"\\u0061uto_map": {"AutoConfig": "evil.Config"}}'),
        ("text/config.json", '{"auto_map": {"AutoConfig": "evil.Config"}, "auto_map": null}'),
    ],
)
def test_a_key_auto_map_is_found_at_any_depth_and_spelling(bundle, name: str, content: str) -> None:
    (bundle / name).write_text(content)
    rehash(bundle)
    with pytest.raises(FailedWork, match=f"{name}: key auto_map"):
        pipeline.load(bundle)


def rehash(bundle: Path) -> None:
    """Write the digests into pipeline.json, as whoever changed the files would."""
    described = json.loads((bundle / "pipeline.json").read_text())
    files = [path for path in bundle.rglob("*") if path.is_file() and path.name != "pipeline.json"]
    described["files"] = {path.relative_to(bundle).as_posix(): hashing.of_file(path) for path in files}
    (bundle / "pipeline.json").write_text(json.dumps(described))


def change_fusion(workspace: Path, change, **of_layer) -> None:
    path = workspace / "models/fusion/fusion.json"
    layer = json.loads(path.read_text()) | of_layer
    for policy, learnt in layer["policies"].items():
        change(policy, learnt)
    path.write_text(json.dumps(layer))


def test_members_that_no_policy_hears_are_neither_loaded_nor_run(workspace, tiny, tmp_path, monkeypatch) -> None:
    from upheld.training.pipeline import stage1

    def leave_out(policy: str, learnt: dict) -> None:
        learnt["left_out"] = ["text", "image", *(["ngrams"] if policy == "spam" else [])]

    change_fusion(workspace, leave_out)
    asked = []
    for name in ("predict_text", "predict_ngrams", "predict_image", "predict_audio"):
        real = getattr(stage1, name)
        monkeypatch.setattr(stage1, name, lambda *given, name=name, real=real: [asked.append(name), real(*given)][1])
    loaded = pipeline.load(pipeline.assemble(workspace, tmp_path / "bundle"))
    assert loaded.models.text is None and loaded.models.image is None
    probs = loaded.predict(some_posts(), media_of(tiny)).set_index("post_id")
    assert set(asked) == {"predict_ngrams", "predict_audio"}  # one policy hears n-grams
    assert probs.prob_hate_speech["a"] != probs.prob_hate_speech["c"]
    plain = calibrated_spam(-1.0, "en")  # of a post of which nothing is heard: the base rate
    assert probs.prob_spam["a"] == pytest.approx(plain, abs=1e-9)


def calibrated_spam(z: float, language: str) -> float:
    """The fixture's calibration of spam by hand: from .1 to .9 along the probability, then the language's line on the logit."""
    prob = 0.1 + 0.8 / (1 + math.exp(-z))
    offset, slope = {"de": (-0.5, 0.9)}.get(language, (0.2, 1.1))
    return 1 / (1 + math.exp(-(offset + slope * math.log(prob / (1 - prob)))))


def test_the_incumbents_score_comes_with_the_posts_and_counts_as_missing_where_it_does_not(workspace, tiny, tmp_path) -> None:
    def hear(policy: str, learnt: dict) -> None:
        learnt["coefficients"] |= {"incumbent_logit": 0.5, "incumbent_missing": -1.25}

    before = pipeline.load(pipeline.assemble(workspace, tmp_path / "before")).predict(some_posts(), media_of(tiny)).set_index("post_id")
    change_fusion(workspace, hear, incumbent="old-1")
    loaded = pipeline.load(pipeline.assemble(workspace, tmp_path / "bundle"))
    assert loaded.fusion.incumbent == "old-1"
    posts = some_posts().assign(prob_incumbent_spam=[0.9, 0.2, np.nan, np.nan, 0.5])
    probs = loaded.predict(posts, media_of(tiny)).set_index("post_id")
    none = loaded.predict(some_posts(), media_of(tiny)).set_index("post_id")

    def shift(post: str, after: pd.DataFrame) -> float:
        """By how much the fused logit moved, the calibration undone by hand."""

        def fused(prob: float) -> float:
            offset, slope = (-0.5, 0.9) if post == "b" else (0.2, 1.1)
            raw = 1 / (1 + math.exp(-((math.log(prob / (1 - prob)) - offset) / slope)))
            return math.log((raw - 0.1) / 0.8 / (1 - (raw - 0.1) / 0.8))

        return fused(after.prob_spam[post]) - fused(before.prob_spam[post])

    assert shift("a", probs) == pytest.approx(0.5 * math.log(9), abs=1e-6)
    assert shift("b", probs) == pytest.approx(0.5 * math.log(1 / 4), abs=1e-6)
    assert shift("c", probs) == pytest.approx(-1.25, abs=1e-6)
    assert shift("a", none) == pytest.approx(-1.25, abs=1e-6)
