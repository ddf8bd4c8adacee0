"""Twenty SIGKILLs at random moments of one training, against the same training undisturbed: are the weights the same to the last bit?

usage: python benchmarks/training/kills.py [--kills 20] [--seed 1]

A transformer of two layers learns random labels in 3 epochs of 200 steps, with a checkpoint every 10. A process that trains it says each
step; it is killed a random number of steps (1 to 50) and up to 50 ms after the last start, and started again until it ends. Work that a
kill threw away is counted. The last line is `ratio N`: the share of weights that are equal, 1 when all are.
"""

import argparse
import datetime
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertModel

from upheld.common.params import params as parameters
from upheld.training.loop.batches import Batches
from upheld.training.loop.loop import fit

CHECKPOINT_STEPS = 10
NUM_ROWS, BATCH, EPOCHS = 1600, 8, 3


class Classifier(nn.Module):
    """Encoder, mean and head, with dropout."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
        self.encoder = BertModel(BertConfig(vocab_size=500, **sizes), add_pooling_layer=False)
        self.head = nn.Linear(64, 2)

    def new_parameters(self) -> list[nn.Parameter]:
        """The head's."""
        return list(self.head.parameters())

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Logits (N, 2)."""
        logits: torch.Tensor = self.head(self.encoder(input_ids=input_ids).last_hidden_state.mean(1))
        return logits


def train(folder: Path) -> None:
    """Train, going on from what is in the folder, and write the weights; each step is a line on standard output."""
    draw = np.random.default_rng(0)
    ids = torch.from_numpy(draw.integers(0, 500, (NUM_ROWS, 12)))
    targets = torch.from_numpy(draw.integers(0, 2, (NUM_ROWS, 2)).astype(np.float32))

    def loss(forward: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        print("step", flush=True)
        return nn.functional.binary_cross_entropy_with_logits(forward({"input_ids": inputs["ids"]}), inputs["targets"], reduction="sum")

    torch.manual_seed(0)
    model = Classifier()
    batches = Batches(
        np.ones(NUM_ROWS, np.int64),
        lambda rows, seed: {"ids": ids[rows], "targets": targets[rows]},
        loss,
        lambda rows: float(len(rows)),
        [str(row) for row in range(NUM_ROWS)],
    )
    changes = [f"text.batch_size={BATCH}", f"text.epochs={EPOCHS}", "text.patience=9", f"text.checkpoint_steps={CHECKPOINT_STEPS}"]
    settings = parameters.load(Path("params.yaml"), changes).text
    fit(model, batches, lambda: {"score": None}, settings, 0, folder / "progress", use_bfloat16=False, lane="deterministic")
    save_file(model.state_dict(), folder / "weights.safetensors")


def start(folder: Path) -> subprocess.Popen[str]:
    """A process that trains."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, __file__, "--train", folder], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.train:
        train(args.train)
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {os.cpu_count()} processors · torch {torch.__version__} · commit {commit}")
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as place:
        whole, part = Path(place) / "whole", Path(place) / "part"
        steps = len((start(whole).communicate()[0]).splitlines())
        done = kills = 0
        ended = False
        while not ended:
            child = start(part)
            assert child.stdout
            if kills < args.kills:
                for _ in range(draw.randint(1, 50)):
                    done += child.stdout.readline() == "step\n"
                time.sleep(draw.random() / 20)
                ended = child.poll() is not None
                child.send_signal(signal.SIGKILL)
                kills += not ended
            done += len(child.communicate()[0].splitlines())
            ended = ended or child.returncode == 0
        weights, resumed = (load_file(folder / "weights.safetensors") for folder in (whole, part))
    equal = sum(int((weights[name] == resumed[name]).sum()) for name in weights)
    num = sum(weight.numel() for weight in weights.values())
    print(f"{kills} kills in {steps} steps, of which {done - steps} were done twice; {equal:,} of {num:,} weights equal")
    print(f"ratio {equal / num}")


if __name__ == "__main__":
    main()
