"""CLIP slot: absent with words, present with whatever weights are named, here a tiny random model that the test saves."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from tests.feature_store.extractors.pictures import blobs, encoded
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.feature_store.extractors.clip import ClipImage, ClipText

TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
TEXTS = ["a red lorry", "buy now", "", "Hallo Welt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(1)
    network = open_clip.CLIP(**TINY)
    save_file(network.state_dict(), path / "open_clip_model.safetensors")
    (path / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}))
    return path


def settings(pretrained: object) -> params.Params:
    return params.load(Path("params.yaml"), [f"clip.pretrained={pretrained}"])


def test_without_weights_it_says_what_to_do() -> None:
    for kind in (ClipImage, ClipText):
        said = kind(params.load(Path("params.yaml"))).unavailable()
        assert said is not None
        assert "set clip.pretrained" in said


def test_towers_give_what_the_model_gives(folder: Path) -> None:
    network = open_clip.CLIP(**TINY).eval()
    open_clip.load_checkpoint(network, str(folder / "open_clip_model.safetensors"))
    image, text = ClipImage(settings(folder)), ClipText(settings(folder))
    assert image.unavailable() is None
    pictures = [blobs(seed, 32, 32) for seed in range(4)]
    pixels = torch.stack([(torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1) / 255 - 0.5) / 0.25 for picture in pictures])
    with torch.inference_mode():
        shown, said = network.encode_image(pixels, normalize=True), network.encode_text(open_clip.tokenize(TEXTS, 16), normalize=True)
    rows = image.extract([image.decode(encoded(picture, "PNG")) for picture in pictures])
    assert np.abs(np.stack([row["embedding"] for row in rows if isinstance(row, dict)]) - shown.numpy()).max() < 1e-5
    rows = text.extract([text.decode(content.encode()) for content in TEXTS])
    assert np.abs(np.stack([row["embedding"] for row in rows if isinstance(row, dict)]) - said.numpy()).max() < 1e-5


def test_version_follows_the_weights(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    same = ClipImage(settings(other)).version
    assert ClipImage(settings(folder)).version == same
    (other / "open_clip_model.safetensors").write_bytes(b"other")
    assert ClipImage(settings(other)).version != same
    with pytest.raises(BadUse, match=r"clip\.pretrained: cannot load"):
        ClipText(settings(other)).extract([{"bytes": np.frombuffer(b"a", np.uint8)}])


def test_pickles_and_half_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"\x80\x04")
    assert "expected a .safetensors file" in str(ClipImage(settings(tmp_path / "weights.pt")).unavailable())
    assert "expected open_clip_config.json" in str(ClipImage(settings(tmp_path)).unavailable())


def test_code_beside_the_text_tower_is_never_run_even_where_somebody_says_yes(tmp_path: Path) -> None:
    """open_clip lets transformers ask on standard input whether to import it."""
    tower = tmp_path / "tower"
    tower.mkdir()
    (tower / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}))
    (tower / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nfrom transformers import BertConfig as Config")
    text = {"hf_model_name": str(tower), "hf_tokenizer_name": str(tower), "pooler_type": "mean_pooler"}
    clip = tmp_path / "clip"
    clip.mkdir()
    described = {"model_cfg": TINY | {"text_cfg": text}, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}
    (clip / "open_clip_config.json").write_text(json.dumps(described))
    save_file({"logit_scale": torch.zeros(())}, clip / "open_clip_model.safetensors")
    script = "import sys; from upheld.feature_store.extractors.clip import load_clip; from upheld.common.params.extractors import Clip; "
    script += "load_clip(Clip.model_construct(model='ViT-B-32', pretrained=sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", script, str(clip)], input="y\n" * 9, capture_output=True, text=True)
    assert not (tmp_path / "ran").exists()
    assert "[y/N]" not in done.stdout + done.stderr
    assert "clip.pretrained: cannot load" in done.stderr
