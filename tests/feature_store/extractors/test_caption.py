"""A BLIP of a few thousand random weights, saved by the test, goes the way that real weights would go."""

import io
from pathlib import Path

import pytest
from PIL import Image

from upheld.common.errors import FailedWork
from upheld.common.params import params
from upheld.feature_store.extractors.image.caption import Caption

PARAMS_FILE = Path(__file__).resolve().parents[3] / "params.yaml"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "picture", "of", "red", "cat", "##s"]


def caption(**settings: object) -> Caption:
    return Caption(params.load(PARAMS_FILE, [f"caption.{key}={value}" for key, value in settings.items()]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch
    from transformers import BertTokenizer, BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    folder = tmp_path_factory.mktemp("blip")
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {
        **size,
        "vocab_size": len(WORDS),
        "encoder_hidden_size": 16,
        "bos_token_id": 5,
        "eos_token_id": 3,
        "sep_token_id": 3,
        "pad_token_id": 0,
    }
    torch.manual_seed(1)
    config = BlipConfig(text_config=text, vision_config={**size, "image_size": 32, "patch_size": 16}, projection_dim=8)
    BlipForConditionalGeneration(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    tokenizer = BertTokenizer(vocab=str(folder / "vocab.txt"))
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (50, 20), colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_are_captioned_the_same_alone_and_together(folder: Path) -> None:
    captioner = caption(model=folder, max_tokens=6)
    assert captioner.unavailable() is None
    arrays = [captioner.decode(picture(colour)) for colour in ("red", "blue")]
    rows = captioner.extract(arrays)
    assert [set(row) for row in rows] == [{"caption"}] * 2
    assert all(set(row["caption"].split()) <= {*WORDS, "cats"} for row in rows)
    assert [captioner.extract([one])[0] for one in arrays] == rows


def test_it_is_off_by_default() -> None:
    assert "no weights" in str(caption().unavailable())


def test_a_hub_id_needs_its_commit() -> None:
    assert "caption.revision" in str(caption(model="someone/blip").unavailable())
    assert caption(model="someone/blip", revision="0abc").unavailable() is None


def test_a_folder_without_safetensors_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert "safetensors" in str(caption(model=tmp_path).unavailable())


def test_weights_that_are_none_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    captioner = caption(model=tmp_path)
    with pytest.raises(FailedWork, match="cannot be loaded") as failure:
        captioner.extract([captioner.decode(picture("red"))])
    assert "\n" not in str(failure.value)


def test_the_version_follows_weights_and_length(folder: Path) -> None:
    versions = {
        caption(model=folder).version,
        caption(model=folder, max_tokens=9).version,
        caption(model="someone/blip", revision="0abc").version,
    }
    assert len(versions) == 3
