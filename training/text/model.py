"""The text classifier as a thing on disk and in memory: encoder, mean pooling, one logit a policy."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig

from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import write_json
from upheld.feature_store.backbones import text as backbones
from upheld.feature_store.backbones.devices import best_device, has_fast_bfloat16
from upheld.feature_store.backbones.pretrained import text_origin
from upheld.feature_store.backbones.text import empty_encoder, load_text_backbone, mean_over_tokens, padded
from upheld.feature_store.backbones.vectors import Lane
from upheld.feature_store.contracts import hashing
from upheld.training.loop import tensor_file
from upheld.training.loop.head import NONE_KNOWN

Array = NDArray[np.float32]


@dataclass(frozen=True)
class TextSetup:
    """What turns a text into the model's input, and which outputs it has.

    `backbone` and `backbone_digest` say where the encoder came from; `max_tokens` counts special tokens and prefix;
    `policies` are in the order of the logits; `lane` is the one that the model was validated to score in.
    """

    backbone: str
    backbone_digest: str
    policies: tuple[str, ...]
    max_tokens: int
    prefix: str
    lane: Lane = "fp32"


class TextModel(nn.Module):
    """Encoder, mean over tokens, layer norm, dropout, linear head: logits (N, C) in the order of `setup.policies`."""

    def __init__(self, encoder: nn.Module, tokenizer: Tokenizer, setup: TextSetup, dropout: float = 0.0) -> None:
        """Args: an encoder giving `last_hidden_state` (N, T, H); its tokenizer; the setup; dropout share before the head."""
        super().__init__()
        self.encoder = encoder
        self.tokenizer = tokenizer
        self.setup = setup
        width = int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        # The mean vectors of contrastive encoders share a large common part; normed, the head can use a plain learning rate.
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width, len(setup.policies))

    @property
    def lane(self) -> Lane:
        """The lane that this model computes in, which is not the setup's where the machine has no fast bfloat16."""
        return "bf16" if any(tensor.dtype == torch.bfloat16 for tensor in self.encoder.parameters()) else "fp32"

    def new_parameters(self) -> list[nn.Parameter]:
        """What stands over the pretrained encoder."""
        return [*self.norm.parameters(), *self.head.parameters()]

    def features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """What the head sees, (N, H), of token ids int64 (N, T) with mask int64 (N, T), 1 where there is a token."""
        hidden_NTH = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        features_NH: torch.Tensor = self.norm(mean_over_tokens(hidden_NTH, attention_mask))
        return features_NH

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits float32 (N, C); arguments as of `features`."""
        logits_NC: torch.Tensor = self.head(self.dropout(self.features(input_ids, attention_mask)))
        return logits_NC.float()

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """Token ids of each text, prefix and special tokens included, cut to `max_tokens`."""
        self.tokenizer.enable_truncation(self.setup.max_tokens)
        prefixed = [self.setup.prefix + text for text in texts]
        return [np.asarray(encoding.ids, np.int32) for encoding in self.tokenizer.encode_batch_fast(prefixed)]

    def collate(self, token_ids: Sequence[NDArray[np.int32]]) -> dict[str, torch.Tensor]:
        """Pad token ids to the longest of them: `input_ids` and `attention_mask`, int64 (N, T)."""
        return padded(self.encoder, token_ids)


def build_text(backbone: str, policies: Sequence[str], max_tokens: int, prefix: str, dropout: float) -> TextModel:
    """A classifier on a pretrained encoder, its head zero: every probability starts at one half.

    Raises:
        BadUse: the backbone cannot be loaded.
        FailedWork: packaged weights are missing.
    """
    encoder, tokenizer, origin = load_text_backbone(backbone)
    model = TextModel(encoder, tokenizer, TextSetup(backbone, origin, tuple(policies), max_tokens, prefix), dropout)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return model


def save_text(model: TextModel, folder: Path, metadata: dict[str, Any]) -> None:
    """Write a model into an existing folder: upheld.safetensors, config.json, tokenizer.json, metadata.json.

    Args:
        model: what to write.
        folder: an empty folder; the caller makes it appear atomically.
        metadata: metrics, params and the like, put beside the setup.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / tensor_file.NAME)
    model.encoder.config.to_json_file(folder / "config.json")  # type: ignore[union-attr, operator]
    model.tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "metadata.json", {**metadata, "setup": asdict(model.setup)})


def load_text(folder: Path, lane: Lane | None = None) -> TextModel:
    """Load a model that `save_text` wrote, ready to predict on the best device here.

    Args:
        folder: its folder.
        lane: to compute in; None: the one that the model was validated to score in, or fp32 where the machine has no fast bfloat16.

    Raises:
        FailedWork: the folder is not such a model, or a file of it is damaged.
    """
    try:
        setup = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))["setup"]
        setup["policies"] = tuple(setup["policies"])
        if setup.setdefault("lane", "fp32") not in get_args(Lane):
            raise ValueError(f"lane {setup['lane']!r}, expected one of {', '.join(get_args(Lane))}")
        encoder = empty_encoder(AutoConfig.from_pretrained(folder / "config.json", trust_remote_code=False))
        model = TextModel(encoder, Tokenizer.from_file(str(folder / "tokenizer.json")), TextSetup(**setup))
        model.load_state_dict(load_file(tensor_file.saved(folder)), assign=True)
    except Exception as error:  # safetensors and tokenizers raise types of their own, some plain Exception
        raise FailedWork(f"{folder}: not a readable text model ({error}); run the stage text again") from error
    model.to(best_device()).eval()
    if lane is None:
        lane = model.setup.lane if has_fast_bfloat16(best_device()) else "fp32"
    return in_bfloat16(model) if lane == "bf16" else model


def in_bfloat16(model: TextModel) -> TextModel:
    """A copy to score with whose encoder computes in bfloat16; norm and head in float32 as before."""
    copy = TextModel(backbones.in_bfloat16(model.encoder), model.tokenizer, model.setup)
    copy.norm, copy.head = model.norm, model.head
    return copy.eval()


def has_own_vectors(model: TextModel) -> bool:
    """Whether the feature store's vectors of the model's lane are what its encoder makes: that of the backbone itself, weight for weight,
    as `text.mode: head` leaves it. False where the backbone that it came from is not here."""
    try:
        if text_origin(model.setup.backbone) != model.setup.backbone_digest:
            return False
        backbone = load_text_backbone(model.setup.backbone)[0].state_dict()
    except (BadUse, FailedWork):
        return False
    own = model.encoder.state_dict()
    return own.keys() == backbone.keys() and all(torch.equal(tensor.cpu(), backbone[name].to(tensor.dtype)) for name, tensor in own.items())


def predict_text(model: TextModel, texts: Sequence[str], batch_size: int = 32, known: Mapping[str, Array] = NONE_KNOWN) -> Array:
    """Probability of violation of each policy for each text.

    Args:
        model: from `load_text` (or in training).
        texts: N texts; an empty one is scored as such, callers mark it as a missing modality.
        batch_size: texts in one forward pass; texts of like length go together, results keep the given order.
        known: vectors of texts, as for `text_features`; for a model that `has_own_vectors` alone.

    Returns:
        float32 (N, C) in [0, 1], columns in the order of `model.setup.policies`.
    """
    if known:
        features_NH = torch.from_numpy(text_features(model, texts, known, batch_size))
        with torch.inference_mode():
            return torch.sigmoid(model.head(features_NH.to(model.head.weight.device)).float()).cpu().numpy()
    return _of_texts(model, lambda inputs: torch.sigmoid(model(**inputs)), len(model.setup.policies), texts, batch_size)


def text_features(model: TextModel, texts: Sequence[str], known: Mapping[str, Array] = NONE_KNOWN, batch_size: int = 32) -> Array:
    """What the head sees of each text.

    Args:
        model: from `load_text` (or in training).
        texts: N texts.
        known: SHA-256 of a text's UTF-8 (hexadecimal) -> the mean vector over its tokens, float32 (H,), of any length.
        batch_size: texts in one forward pass.

    Returns:
        float32 (N, H).
    """
    digests = [hashing.of_bytes(text.encode()) for text in texts]
    features = np.zeros((len(texts), model.head.in_features), np.float32)
    new = [row for row, digest in enumerate(digests) if digest not in known]
    old = [row for row, digest in enumerate(digests) if digest in known]
    if old:
        mean_NH = torch.from_numpy(np.stack([known[digests[row]] for row in old]))
        mean_NH *= mean_NH.shape[1] ** 0.5 / torch.linalg.vector_norm(mean_NH, dim=1, keepdim=True)  # so that the norm's epsilon is small
        with torch.inference_mode():
            features[old] = model.norm(mean_NH.to(model.norm.weight.device)).cpu().numpy()
    features[new] = _of_texts(model, lambda inputs: model.features(**inputs), features.shape[1], [texts[row] for row in new], batch_size)
    return features


def _of_texts(
    model: TextModel, call: Callable[[dict[str, torch.Tensor]], torch.Tensor], width: int, texts: Sequence[str], batch_size: int
) -> Array:
    """What `call` makes of the inputs of each text, float32 (N, width)."""
    device = next(model.parameters()).device
    token_ids = model.encode(texts)
    order = sorted(range(len(texts)), key=lambda row: len(token_ids[row]))
    outputs = np.zeros((len(texts), width), np.float32)
    was_training = model.training
    model.eval()
    with torch.inference_mode():  # no autocast: in bfloat16 a logit moves by 0.03 with its neighbours in the batch (measured)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            inputs = {name: tensor.to(device) for name, tensor in model.collate([token_ids[row] for row in rows]).items()}
            outputs[rows] = call(inputs).float().cpu().numpy()
    model.train(was_training)
    return outputs
