"""The pretrained text encoder and its tokenizer: multilingual-e5-small out of pinned packages, or any Hugging Face model."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, PretrainedConfig
from transformers.initialization import no_init_weights

from upheld.common.errors import BadUse
from upheld.feature_store.backbones import e5_packed
from upheld.feature_store.backbones.pretrained import (
    E5_SMALL,
    converted,
    e5_small_weights,
    no_such_text_backbone,
    packaged_file,
    pinned,
    text_origin,
)


def load_text_backbone(name: str) -> tuple[nn.Module, Tokenizer, str]:
    """Load an encoder and its tokenizer.

    Args:
        name: `multilingual-e5-small`, `ID@COMMIT` of the Hugging Face hub, or a local folder in Hugging Face's format.

    Returns:
        (encoder, tokenizer without truncation and padding, digest of weights or of the id and commit they came from).
        Word embeddings hold float16 values, in float16 where they came from the package.

    Raises:
        FailedWork: a packaged file is missing.
        BadUse: `name` is neither a folder nor a model that the hub (or its cache) can give, or lacks its commit.
    """
    if name != E5_SMALL:
        where, commit = (name, None) if Path(name).is_dir() else pinned(name)
        try:
            config = AutoConfig.from_pretrained(where, revision=commit, trust_remote_code=False)
            model = AutoModel.from_pretrained(where, revision=commit, config=config, trust_remote_code=False, use_safetensors=True)
            tokenizer = AutoTokenizer.from_pretrained(where, revision=commit, trust_remote_code=False, use_fast=True).backend_tokenizer
        except (OSError, ValueError) as error:
            raise BadUse(no_such_text_backbone(name, error)) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return _without_pooler(model), tokenizer, text_origin(name)
    packed = e5_small_weights()
    tokenizer_file = packaged_file("semantra_multilingual", "assets/multilingual-e5-small/tokenizer.json")
    weights = converted(E5_SMALL, packed, e5_packed.read_tensors)
    sizes = e5_packed.read_sizes(packed)
    e5_config = BertConfig(
        vocab_size=sizes.vocabulary,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.num_layers,
        num_attention_heads=sizes.num_heads,
        intermediate_size=sizes.intermediate,
        max_position_embeddings=sizes.max_positions,
        type_vocab_size=sizes.num_token_types,
        layer_norm_eps=sizes.epsilon,
        attention_probs_dropout_prob=0.0,  # costs a fifth of training time; the hidden layers keep their dropout
        pad_token_id=1,  # <pad> of the XLM-R vocabulary, as in the packaged tokenizer.json
    )
    with no_init_weights():
        encoder = BertModel(e5_config, add_pooling_layer=False)
    encoder.load_state_dict(load_file(weights), assign=True)
    return encoder, Tokenizer.from_file(str(tokenizer_file)), text_origin(name)


def empty_encoder(config: PretrainedConfig) -> nn.Module:
    """Encoder of this architecture whose weights are to be filled from a file; nothing is drawn at random.

    The pooling layer (a linear layer on the first token, made for sentence pairs) is left out where the architecture has one.
    """
    with no_init_weights():
        encoder: nn.Module = AutoModel.from_config(config, trust_remote_code=False)
    return _without_pooler(encoder)


def in_bfloat16(encoder: nn.Module) -> nn.Module:
    """A copy that computes in bfloat16 where the encoder lies, two to four times as fast as in float32 where the processor has it."""
    copy = deepcopy(encoder).bfloat16()
    if next(copy.parameters()).device.type == "cpu":  # torch's fused attention takes longer there in bfloat16 than plain matrix products
        copy.set_attn_implementation("eager")  # type: ignore[operator]
    return copy


def padded(encoder: nn.Module, token_ids: Sequence[Sequence[int] | NDArray[np.int32]]) -> dict[str, torch.Tensor]:
    """Pad token ids to the longest of them: `input_ids` and `attention_mask`, int64 (N, T), the latter 1 where there is a token."""
    longest = max(map(len, token_ids))
    padding = int(getattr(encoder.config, "pad_token_id", 0) or 0)
    ids = np.full((len(token_ids), longest), padding, np.int64)
    mask = np.zeros((len(token_ids), longest), np.int64)
    for row, tokens in enumerate(token_ids):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def mean_over_tokens(hidden_NTH: torch.Tensor, attention_mask_NT: torch.Tensor) -> torch.Tensor:
    """Mean of the hidden states of a text's tokens, float32 (N, H); what e5 models were trained to be read by."""
    mask_NT1 = attention_mask_NT.unsqueeze(-1).float()
    mean_NH: torch.Tensor = (hidden_NTH.float() * mask_NT1).sum(1) / mask_NT1.sum(1).clamp(min=1)
    return mean_NH


def _without_pooler(encoder: nn.Module) -> nn.Module:
    if getattr(encoder, "pooler", None) is not None:
        encoder.register_module("pooler", None)
    return encoder
