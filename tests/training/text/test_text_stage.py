"""Stage `text` on a tiny Hugging Face folder: what it writes, what it starts from, what it refuses."""

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from upheld.common.errors import FailedWork
from upheld.common.params import params
from upheld.feature_store.backbones.text import mean_over_tokens
from upheld.feature_store.backbones.vectors import text_version
from upheld.feature_store.contracts import hashing
from upheld.training.loop import teacher
from upheld.training.text import stage as text
from upheld.training.text.model import TextModel, has_own_vectors, in_bfloat16, load_text, predict_text, save_text, text_features


@pytest.fixture
def world(tiny: ModuleType, tmp_path: Path) -> Path:
    """A snapshot with the splits train and val, and a backbone folder in Hugging Face's format."""
    tiny.save_snapshot(tmp_path / "data/snapshot")
    for name in ("posts", "examples"):
        path = tmp_path / f"data/snapshot/{name}.parquet"
        table = pd.read_parquet(path)
        table["split"] = table["split"].replace({"fusion": "train", "calib": "val"})
        table.to_parquet(path)
    backbone, model = tmp_path / "backbone", tiny.text_model()
    model.encoder.save_pretrained(backbone)
    model.tokenizer.save(str(backbone / "tokenizer.json"))
    (backbone / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}))
    return tmp_path


def params_of(world: Path, **changes: Any) -> params.Params:
    file = Path(__file__).resolve().parents[3] / "params.yaml"
    values = {
        "backbone": str(world / "backbone"),
        "mode": "full",
        "max_tokens": 32,
        "epochs": 2,
        "learning_rate": 0.01,
        "head_learning_rate": 0.02,
        **changes,
    }
    return params.load(file, ["policies=[hate_speech, spam]", *(f"text.{key}={yaml.safe_dump(value)}" for key, value in values.items())])


def run(world: Path, out: str = "models/text", taught: float = 0.0, **changes: Any) -> text.Result:
    (world / "models/ngrams").mkdir(parents=True, exist_ok=True)
    teacher.save_weight(world / "models/ngrams", taught, {}, {})
    return text.run(params_of(world, **changes), world / "data/snapshot", world / "models/ngrams", world / out, world / "store")


def test_stage_writes_a_model_that_loads_and_has_learnt(world: Path) -> None:
    result = run(world, epochs=4)
    assert result.val is not None
    assert result.val["roc_auc"]["spam"] > 0.8
    model = load_text(world / "models/text")
    probs = predict_text(model, ["buy cheap now", "hello friend", "buy cheap now"])
    assert probs.dtype == np.float32
    assert probs.shape == (3, 2)
    assert probs[0, 1] > probs[1, 1]
    assert probs[0].tolist() == probs[2].tolist()
    files = {path.name for path in (world / "models/text").iterdir()}
    assert files == {"upheld.safetensors", "config.json", "tokenizer.json", "metadata.json"}
    metadata = json.loads((world / "models/text/metadata.json").read_text())
    assert metadata["synthetic"] is True
    assert metadata["num_train_posts"] == result.num_train_posts
    assert metadata["val"]["score"] == pytest.approx(np.mean(list(metadata["val"]["roc_auc"].values())))
    assert not list((world / "store/checkpoints").iterdir())


def test_a_head_alone_leaves_the_backbone_as_it_came(world: Path) -> None:
    result = run(world, mode="head")
    model, before = load_text(world / "models/text"), text.prepare(params_of(world))
    assert all(
        torch.equal(ours.cpu(), theirs) for ours, theirs in zip(model.encoder.parameters(), before.encoder.parameters(), strict=True)
    )
    texts = ["buy cheap now", "hello friend", "hate them"]
    logits = text_features(model, texts) @ model.head.weight.detach().cpu().numpy().T + model.head.bias.detach().cpu().numpy()
    assert predict_text(model, texts) == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)
    assert result.val is not None
    assert result.val["roc_auc"]["spam"] > 0.8
    assert (result.best_epoch, result.samples_per_s) == (0, None)
    make_champion(world)
    assert run(world, out="again", mode="head").warm_start == {"used": False}
    assert (world / "again/upheld.safetensors").read_bytes() == (world / "models/text/upheld.safetensors").read_bytes()


def test_vectors_of_the_feature_store_are_as_good_as_computed_ones(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = text.prepare(params_of(world)).eval()
    texts = ["buy cheap now", "hello friend", "hate them"]
    computed = text_features(model, texts)
    inputs = model.collate(model.encode(texts))
    with torch.inference_mode():
        mean = mean_over_tokens(model.encoder(**inputs).last_hidden_state, inputs["attention_mask"])
    unit = torch.nn.functional.normalize(mean).numpy()  # as the extractor text_embedding stores them
    known = {hashing.of_bytes(text.encode()): vector for text, vector in zip(texts, unit, strict=True)}
    del known[hashing.of_bytes(b"hello friend")]
    seen: list[int] = []
    monkeypatch.setattr(type(model), "encode", lambda self, some: seen.append(len(some)) or encode(self, some))
    assert text_features(model, texts, known) == pytest.approx(computed, abs=2e-3)
    assert seen == [1]
    with torch.no_grad():
        model.head.weight.copy_(torch.linspace(-1, 1, model.head.weight.numel()).reshape(model.head.weight.shape))
    assert predict_text(model, texts, known=known) == pytest.approx(predict_text(model, texts), abs=1e-3)
    assert seen == [1, 1, 3]


def test_vectors_of_the_feature_store_are_those_of_an_untouched_backbone_in_any_lane(world: Path) -> None:
    run(world, mode="head")
    model = load_text(world / "models/text")
    assert has_own_vectors(model)
    run(world, "whole", mode="head", freeze_word_embeddings=False)  # none of whose weights was rounded before
    assert has_own_vectors(load_text(world / "whole"))
    assert has_own_vectors(in_bfloat16(load_text(world / "whole")))
    run(world, "tuned", mode="full", epochs=1)
    assert not has_own_vectors(load_text(world / "tuned"))
    with torch.no_grad():
        model.encoder.encoder.layer[0].output.dense.bias[3] += 1e-4  # type: ignore[union-attr, index, operator]
    assert not has_own_vectors(model)
    model = load_text(world / "models/text")
    (world / "backbone/config.json").write_text((world / "backbone/config.json").read_text() + "\n")
    assert not has_own_vectors(model)  # something else lies where the backbone lay
    shutil.rmtree(world / "backbone")
    assert not has_own_vectors(model)


encode = TextModel.encode


def test_a_head_is_fitted_on_pinned_vectors_and_fine_tuning_on_none(world: Path) -> None:
    asked: list[tuple[str, str, int]] = []

    class Pinned:
        """Answers that nothing is there, and notes who asked for what."""

        def vectors(self, name: str, version: str, digests: set[str]) -> dict[str, np.ndarray]:
            asked.append((name, version, len(digests)))
            return {}

    for mode in ("full", "head"):
        chosen = world / "models/ngrams"
        chosen.mkdir(parents=True, exist_ok=True)
        teacher.save_weight(chosen, 0.0, {}, {})
        given = params_of(world, mode=mode, epochs=1)
        text.run(given, world / "data/snapshot", chosen, world / mode, world / "store", Pinned())  # type: ignore[arg-type]
    settings = given.text
    assert [(name, version) for name, version, _ in asked] == [
        ("text_embedding", text_version(settings.backbone, settings.prefix, settings.max_tokens, lane)) for lane in ("fp32", "bf16")
    ]
    assert asked[0][2] > 1


def test_a_head_is_fitted_on_the_vectors_of_whichever_lane_is_pinned(world: Path) -> None:
    run(world, mode="head")
    settings = params_of(world).text
    given = []

    class Pinned:
        """Vectors in bfloat16 of all texts, each the same."""

        def vectors(self, name: str, version: str, digests: set[str]) -> dict[str, np.ndarray]:
            given.append(version == text_version(settings.backbone, settings.prefix, settings.max_tokens, "bf16"))
            return dict.fromkeys(digests, np.linspace(-1, 1, 16, dtype=np.float32)) if given[-1] else {}

    asked = params_of(world, mode="head")
    text.run(asked, world / "data/snapshot", world / "models/ngrams", world / "pinned", world / "store", Pinned())  # type: ignore[arg-type]
    assert given == [False, True]
    weights = [load_text(world / folder).head.weight.detach() for folder in ("models/text", "pinned")]
    assert not torch.allclose(*weights, atol=0.1)  # what was computed is not what was pinned


def test_fine_tuning_can_start_from_the_fitted_head(world: Path) -> None:
    run(world, mode="head")
    result = run(world, out="tuned", mode="head-then-full", epochs=1, learning_rate=1e-9, head_learning_rate=1e-9)
    head, tuned = (load_text(world / name) for name in ("models/text", "tuned"))
    texts = ["buy cheap now", "hello friend", "hate them"]
    assert predict_text(tuned, texts) == pytest.approx(predict_text(head, texts), abs=1e-4)
    history = json.loads((world / "tuned/metadata.json").read_text())["history"]
    assert [record["epoch"] for record in history] == [0, 1]  # the fitted head competes on val
    assert history[0]["roc_auc"] == json.loads((world / "models/text/metadata.json").read_text())["val"]["roc_auc"]
    assert result.best_epoch in (0, 1)


def test_the_model_in_production_teaches_what_reviewers_never_said(world: Path) -> None:
    """No reviewer speaks of spam in split train; the scores in production do, on posts that nobody reviewed."""
    path = world / "data/snapshot/examples.parquet"
    examples = pd.read_parquet(path)
    examples[(examples["category"] != "spam") | (examples["split"] != "train")].to_parquet(path)
    alone = run(world, out="alone", epochs=4)
    result = run(world, taught=1.0, epochs=4)
    assert (alone.num_unreviewed, result.num_unreviewed) == (0, len(result_texts(world)))
    assert result.num_train_posts == alone.num_train_posts + result.num_unreviewed
    assert alone.val is not None
    assert result.val is not None
    assert result.val["roc_auc"]["spam"] > 0.8 > alone.val["roc_auc"]["spam"]
    assert json.loads((world / "models/text/metadata.json").read_text())["teacher_weight"] == 1.0


def result_texts(world: Path) -> pd.Series:
    return pd.read_parquet(world / "data/snapshot/unreviewed.parquet")["text"].dropna()


def test_same_inputs_same_bytes_whatever_was_before(world: Path) -> None:
    run(world)
    run(world, out="again")
    assert hashing.of_folder(world / "models/text") == hashing.of_folder(world / "again")


def test_frozen_word_embeddings_stay_and_are_stored_small(world: Path) -> None:
    run(world)
    run(world, out="free", freeze_word_embeddings=False)
    frozen, free = (load_text(world / name).encoder.get_input_embeddings().weight for name in ("models/text", "free"))  # type: ignore[operator]
    before = text.prepare(params_of(world)).encoder.get_input_embeddings().weight  # type: ignore[operator]
    assert frozen.dtype == torch.float16
    assert torch.equal(frozen.cpu(), before)
    assert free.dtype == torch.float32
    assert not torch.equal(free.cpu().half(), before)


def make_champion(world: Path, name: str = "c" * 64) -> None:
    """The model of an earlier run becomes the champion's text model."""
    shutil.copytree(world / "models/text", world / "store/bundles" / name / "text")
    manifest = world / "data/snapshot/manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "champion": {"version": 1, "digest": name}}))


def test_champion_is_where_training_starts(world: Path) -> None:
    run(world, epochs=4)
    make_champion(world)
    result = run(world, epochs=1, learning_rate=1e-9, head_learning_rate=1e-9)
    assert result.warm_start == {"used": True, "bundle": "c" * 64, "reason": "same backbone"}
    champion, challenger = (load_text(world / path) for path in (f"store/bundles/{'c' * 64}/text", "models/text"))
    texts = ["buy cheap now", "hello friend", "hate them"]
    assert predict_text(challenger, texts) == pytest.approx(predict_text(champion, texts), abs=1e-4)


def test_what_was_forgotten_is_told_per_language(world: Path) -> None:
    run(world, epochs=4)
    make_champion(world)
    run(world, epochs=1, learning_rate=1e-9, head_learning_rate=1e-9)
    record = json.loads((world / "models/text/metadata.json").read_text())
    assert all(cell["before"] == pytest.approx(cell["after"], abs=1e-3) for cell in record["since_start"])
    run(world, warm_start=False, epochs=1)
    assert "since_start" not in json.loads((world / "models/text/metadata.json").read_text())


def test_ranking_since_the_start_is_of_each_language_alone() -> None:
    labels = np.tile([[1.0, 1.0], [0.0, 0.0]], (24, 1)).astype(np.float32)  # two of 24 of each class in turn
    languages = ["de"] * 24 + ["en"] * 24
    start = labels.copy()  # perfect
    now = labels.copy()
    now[:24, 0] = 1 - now[:24, 0]  # German hate speech is ranked the wrong way round now
    weights = np.ones_like(labels)
    weights[24:, 1] = 0  # nobody looked for spam in English
    assert text.ranking_since(start, now, labels, weights, languages, ["hate_speech", "spam"]) == [
        {"language": "de", "category": "hate_speech", "labels": 24, "before": 1.0, "after": 0.0},
        {"language": "de", "category": "spam", "labels": 24, "before": 1.0, "after": 1.0},
        {"language": "en", "category": "hate_speech", "labels": 24, "before": 1.0, "after": 1.0},
    ]


def test_champion_with_other_policies_lends_those_it_shares(world: Path, tiny: ModuleType) -> None:
    run(world)
    model = tiny.text_model(("spam", "graphic_violence"))
    model.setup = type(model.setup)(**{**model.setup.__dict__, "backbone_digest": load_text(world / "models/text").setup.backbone_digest})
    shutil.rmtree(world / "models/text")
    (world / "models/text").mkdir()
    save_text(model, world / "models/text", {})
    make_champion(world)
    started = text.prepare(params_of(world))
    text._start_from_champion(started, {"digest": "c" * 64}, world / "store")
    assert torch.equal(started.head.weight[1], model.head.weight[0])
    assert (started.head.weight[0] == 0).all()


def test_cold_start_if_told_so_or_if_the_backbone_changed(world: Path) -> None:
    run(world)
    make_champion(world)
    assert run(world, warm_start=False).warm_start["used"] is False
    config = world / "backbone/config.json"
    config.write_text(config.read_text() + " ")
    assert run(world).warm_start == {"used": False, "bundle": "c" * 64, "reason": "the champion has another backbone"}


def test_missing_champion_and_missing_labels_are_failed_work(world: Path) -> None:
    run(world)
    make_champion(world)
    shutil.rmtree(world / "store/bundles")
    with pytest.raises(FailedWork, match=r"champion's text model is not there.*text\.warm_start=false"):
        run(world)
    path = world / "data/snapshot/posts.parquet"
    pd.read_parquet(path).assign(text=" ").to_parquet(path)
    with pytest.raises(FailedWork, match="no labelled post of split train has a text"):
        run(world, warm_start=False)


def test_commands_say_what_is_wrong_in_one_line(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(world)
    file = str(Path(__file__).resolve().parents[3] / "params.yaml")
    assert text.main(["--params", file, "--set", "text.no_such_key=1"]) == 2
    assert text.main(["--params", file, "--set", "text.backbone=/no/such/model"]) == 2
    (world / "data/snapshot/manifest.json").unlink()
    assert text.main(["--params", file]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["upheld text"] * 3
    assert "no_such_key" in lines[0]
    assert "/no/such/model" in lines[1]
    assert "run the stage snapshot again" in lines[2]


def test_damaged_model_is_failed_work(world: Path) -> None:
    run(world)
    weights = world / "models/text/upheld.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(FailedWork, match="not a readable text model"):
        load_text(world / "models/text")


def test_activations_computed_again_give_the_same_model_and_are_not_kept(world: Path) -> None:
    kept = {}
    for again in (False, True):
        model = text.prepare(params_of(world, gradient_checkpointing=again)).train()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            loss = model(**model.collate(model.encode(["buy cheap now", "hello friend"]))).sum()
        loss.backward()
        kept[again] = sum(sizes)
    assert kept[True] < 0.7 * kept[False]
    plain, saving = (run(world, out, gradient_checkpointing=again) for out, again in (("plain", False), ("saving", True)))
    assert plain.val == saving.val


def test_the_lane_is_chosen_on_val_and_recorded(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(world, mode="head")
    plain = json.loads((world / "models/text/metadata.json").read_text())
    assert plain["scoring"] == {"lane": "fp32", "reason": "text.scoring_lane is fp32", "gate": None}
    monkeypatch.setattr(text.lanes, "has_fast_bfloat16", lambda device: True)
    monkeypatch.setattr(text.lanes, "MIN_TEXTS", 10)
    monkeypatch.setattr(text.lanes, "MIN_LABELS", 2)
    monkeypatch.setattr(text.lanes, "MAX_AUC_SHIFT", 1.0)  # of a handful of labels
    monkeypatch.setattr(text.lanes, "speedup", lambda *models: 3.0)
    assert run(world, "fast", mode="head", scoring_lane="fastest").lane == "bf16"
    chosen = json.loads((world / "fast/metadata.json").read_text())
    assert chosen["scoring"]["lane"] == chosen["setup"]["lane"] == "bf16"
    assert set(chosen["scoring"]["gate"]["auc_shift"]["spam"]) == {"de", "und"}  # of en there are too few
    assert (world / "fast/upheld.safetensors").read_bytes() == (world / "models/text/upheld.safetensors").read_bytes()
