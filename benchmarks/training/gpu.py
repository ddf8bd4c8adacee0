"""What training makes of a GPU: text against HF Trainer and the peak of its tensor cores, pictures against tensors that lie on it already.

usage: python benchmarks/training/gpu.py [--toy] [--steps 60]

Everything is random: weights, tokens whose lengths are those of posts (log-normal, median 24), pictures. For each text encoder (width 384
and 768, twelve layers): posts/s of our loop and of `transformers.Trainer` in bf16 with its defaults and eight loader processes, at the same
batch, and the share of the measured bf16 peak that our floating-point operations on real tokens are. For ResNet-50 and ViT-B/16: pictures/s
of our loop over decoded uint8 pictures, of the same steps over one batch that lies on the device (its limit), and of the loader alone.
`--toy` shrinks all of it to what a CPU does in a minute, so that the script is known to start; its figures mean nothing.
The last line is `ratio N`: ours / HF Trainer at width 384.
"""

import argparse
import datetime
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel, Trainer, TrainingArguments

from upheld.common.params import params as parameters
from upheld.common.params.training import Fit
from upheld.feature_store.backbones.devices import best_device
from upheld.feature_store.backbones.image import Backbone
from upheld.training.image.model import ImageModel, ImageSetup
from upheld.training.loop.batches import Batches, loaded
from upheld.training.loop.loop import fit

POLICIES = ("a", "b", "c", "d", "e")
VOCABULARY, LAYERS, MAX_TOKENS = 30_000, 12, 128
SIZE = 224


def main() -> None:
    """Measure one thing after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toy", action="store_true", help="tiny networks, a few steps")
    parser.add_argument("--steps", type=int, default=60, help="steps of each measurement, after as many to warm up")
    args = parser.parse_args()
    device, steps = best_device(), 2 if args.toy else args.steps
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(
        f"{datetime.date.today()} · {name}, {os.cpu_count()} processors · torch {torch.__version__} · commit {commit}{' · toy' * args.toy}"
    )
    peak = peak_of(device, 256 if args.toy else 8192)
    print(f"bf16 matrix product: {peak / 1e12:.1f} TFLOP/s")
    settings = parameters.load(Path("params.yaml"), ["text.epochs=2", "text.checkpoint_steps=100000", "text.micro_batch_cost=1000000"]).text
    ratio = None
    for width, batch in ((16, 4),) if args.toy else ((384, 256), (768, 128)):
        config = BertConfig(
            vocab_size=VOCABULARY, hidden_size=width, num_hidden_layers=2 if args.toy else LAYERS,
            num_attention_heads=max(1, width // 64), intermediate_size=4 * width,
        )  # fmt: skip
        ours, theirs, flops = text_rates(config, replace_batch(settings, batch), batch * steps, device)
        ratio = ratio or ours / theirs
        print(
            f"text, width {width}, batch {batch}: ours {ours:.0f} posts/s, {flops / peak:.1%} of the peak on real tokens; HF {theirs:.0f}"
        )
    for network, batch in (("resnet10t", 2),) if args.toy else (("resnet50", 128), ("vit_base_patch16_224", 128)):
        whole, resident, loader = image_rates(network, replace_batch(settings, batch), batch * steps, device)
        share = f"{whole / resident:.0%} of {resident:.0f} with the tensors there"
        print(f"{network}, batch {batch}: ours {whole:.0f} pictures/s, {share}; the loader alone {loader:.0f}")
    print(f"ratio {ratio:.2f}")


def replace_batch(settings: Fit, batch: int) -> Fit:
    """The same settings with another batch size."""
    return settings.model_copy(update={"batch_size": batch})


def peak_of(device: torch.device, side: int) -> float:
    """Floating-point operations a second of a large matrix product in bfloat16."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    took_s = timed(lambda: [a @ b for _ in range(10)], device)
    return 10 * 2 * side**3 / took_s


def timed(call: Callable[[], Any], device: torch.device) -> float:
    """Seconds of a call, the device's work included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - start


class Bert(nn.Module):
    """What the text classifier is, without its tokenizer."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.encoder = BertModel(config, add_pooling_layer=False)
        self.head = nn.Linear(config.hidden_size, len(POLICIES))

    def new_parameters(self) -> list[nn.Parameter]:
        """The head's."""
        return list(self.head.parameters())

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) of token ids (N, T)."""
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        logits: torch.Tensor = self.head((hidden * mask).sum(1) / mask.sum(1))
        return logits.float()


def text_rates(config: BertConfig, settings: Fit, num_posts: int, device: torch.device) -> tuple[float, float, float]:
    """Posts/s of ours and of HF Trainer, and floating-point operations a second of ours on real tokens."""
    random = np.random.default_rng(0)
    lengths = np.clip(np.exp(random.normal(np.log(24), 0.7, num_posts)), 5, MAX_TOKENS).astype(int)
    token_ids = [random.integers(1, VOCABULARY, length) for length in lengths]
    labels = torch.from_numpy(random.integers(0, 2, (num_posts, len(POLICIES))).astype(np.float32))

    def inputs(rows: Any, seed: int) -> dict[str, torch.Tensor]:
        return padded([token_ids[row] for row in rows]) | {"labels": labels[rows]}

    def loss(forward: Any, some: dict[str, torch.Tensor]) -> torch.Tensor:
        wanted = some.pop("labels")
        return nn.functional.binary_cross_entropy_with_logits(forward(some), wanted, reduction="sum")

    batches = Batches(lengths, inputs, loss, lambda rows: float(len(rows)), [str(row) for row in range(num_posts)])
    rate = rate_of(Bert(config), batches, settings, device)
    model = Bert(config)
    matrices = sum(parameter.numel() for name, parameter in model.encoder.named_parameters() if "encoder.layer" in name)
    # Forward and backward: 6 operations a parameter and token, and of attention 12 a layer, token and key and dimension.
    # Source: Kaplan et al. (2020), Scaling Laws for Neural Language Models, table 1; 3 times the forward pass.
    operations = (
        6.0 * matrices * lengths.mean() + 12.0 * config.num_hidden_layers * config.hidden_size * (lengths.astype(float) ** 2).mean()
    )
    return rate, rate_of_trainer(config, token_ids, labels, settings.batch_size, device), rate * operations


def padded(token_ids: list[Any]) -> dict[str, torch.Tensor]:
    """Token ids as a batch, padded to the longest."""
    ids = np.zeros((len(token_ids), max(map(len, token_ids))), np.int64)
    for row, some in enumerate(token_ids):
        ids[row, : len(some)] = some
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy((ids > 0).astype(np.int64))}


def rate_of_trainer(config: BertConfig, token_ids: list[Any], labels: torch.Tensor, batch: int, device: torch.device) -> float:
    """Posts/s that `transformers.Trainer` tells of its second epoch."""
    config = BertConfig(**{**config.to_dict(), "num_labels": len(POLICIES), "problem_type": "multi_label_classification"})
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=batch, num_train_epochs=1, bf16=device.type == "cuda", report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, dataloader_num_workers=8 if device.type == "cuda" else 0,
            use_cpu=device.type == "cpu", dataloader_pin_memory=device.type == "cuda", remove_unused_columns=False,
        )  # fmt: skip
        rows: Any = [{"ids": ids, "labels": label} for ids, label in zip(token_ids, labels, strict=True)]

        def collate(some: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
            return padded([row["ids"] for row in some]) | {"labels": torch.stack([row["labels"] for row in some])}

        trainer = Trainer(BertForSequenceClassification(config), arguments, train_dataset=rows, data_collator=collate)
        trainer.train()
        rate: float = trainer.train().metrics["train_samples_per_second"]
        return rate


def rate_of(model: nn.Module, batches: Batches, settings: Fit, device: torch.device) -> float:
    """Rows/s of the loop's second epoch; the first warms up."""
    ended = []

    def evaluate() -> dict[str, Any]:
        if device.type == "cuda":
            torch.cuda.synchronize()
        ended.append(time.perf_counter())
        return {"score": float(len(ended))}

    with tempfile.TemporaryDirectory() as folder:
        fit(model, batches, evaluate, settings, 0, Path(folder) / "progress", use_bfloat16=True, lane="fast")
    return len(batches.costs) / (ended[1] - ended[0])


def image_rates(name: str, settings: Fit, num_pictures: int, device: torch.device) -> tuple[float, float, float]:
    """Pictures/s of the loop over decoded pictures, over a batch that lies on the device, and of the loader alone."""
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (64, SIZE, SIZE, 3)).astype(np.uint8)
    labels = torch.from_numpy(random.integers(0, 2, (num_pictures, len(POLICIES))).astype(np.float32))

    def model() -> ImageModel:
        network = timm.create_model(name, num_classes=0)
        mean, std = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
        return ImageModel(Backbone(network, network.num_features, mean, std), ImageSetup(name, "", POLICIES, SIZE, mean, std))

    collate = model().collate

    def inputs(rows: Any, seed: int) -> dict[str, torch.Tensor]:
        return collate([[pictures[row % len(pictures)]] for row in rows]) | {"labels": labels[rows]}

    def loss(forward: Any, some: dict[str, torch.Tensor]) -> torch.Tensor:
        wanted = some.pop("labels")
        return nn.functional.binary_cross_entropy_with_logits(forward(some), wanted, reduction="sum")

    ones = np.ones(num_pictures, np.int64)
    batches = Batches(ones, inputs, loss, lambda rows: float(len(rows)), [str(row) for row in range(num_pictures)])
    there = {key: tensor.to(device) for key, tensor in inputs(np.arange(settings.batch_size), 0).items()}
    resident = replace(batches, inputs=lambda rows, seed: {}, loss=lambda forward, some: loss(forward, dict(there)))
    parts = [(np.arange(start, start + settings.batch_size), 0) for start in range(0, num_pictures, settings.batch_size)]
    run: Iterator[Any] = loaded(batches, parts, device)
    next(run)
    alone = (num_pictures - settings.batch_size) / timed(lambda: list(run), device)
    return rate_of(model(), batches, settings, device), rate_of(model(), resident, settings, device), alone


if __name__ == "__main__":
    main()
