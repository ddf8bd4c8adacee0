"""Processes that train one model together, as a stage starts them."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
from safetensors.numpy import load_file

from upheld.training.loop import teacher
from upheld.training.loop.processes import MEETING

ROOT = Path(__file__).resolve().parents[3]


def workspace(tiny: ModuleType, folder: Path) -> Path:
    """What the stage text reads, and a backbone folder in Hugging Face's format without dropout."""
    tiny.save_snapshot(folder / "data/snapshot")
    for name in ("posts", "examples"):
        path = folder / f"data/snapshot/{name}.parquet"
        table = pd.read_parquet(path)
        table.assign(split=table["split"].replace({"fusion": "train", "calib": "val"})).to_parquet(path)
    (folder / "models/ngrams").mkdir(parents=True)
    teacher.save_weight(folder / "models/ngrams", 0.0, {}, {})
    model = tiny.text_model()
    model.encoder.config.hidden_dropout_prob = model.encoder.config.attention_probs_dropout_prob = 0.0
    model.encoder.save_pretrained(folder / "backbone")
    model.tokenizer.save(str(folder / "backbone/tokenizer.json"))
    (folder / "backbone/tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]"}))
    return folder


def stage(folder: Path, **changes: Any) -> list[str]:
    text = {"backbone": "backbone", "mode": "full", "max_tokens": 32, "epochs": 2, "dropout": 0.0, "learning_rate": 0.01}
    values = {"policies": "[hate_speech, spam]"} | {f"text.{key}": value for key, value in text.items()} | changes
    options = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    return [
        sys.executable,
        "-m",
        "upheld.training.text.stage",
        "--params",
        str(ROOT / "params.yaml"),
        *options,
        "--store",
        str(folder / "store"),
    ]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_processes_on_one_machine_train_what_one_trains(tiny: ModuleType, tmp_path: Path) -> None:
    records, weights = [], []
    for number in (1, 2):
        folder = workspace(tiny, tmp_path / str(number))
        done = subprocess.run(stage(folder, **{"compute.processes": number}), cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("epoch 2: train loss") == 1
        assert done.stderr.count("posts, ") == 1  # what the stage says at its end
        records.append(json.loads((folder / "models/text/metadata.json").read_text()))
        weights.append(load_file(folder / "models/text/upheld.safetensors"))
    assert [record["machine"]["processes"] for record in records] == [1, 2]
    one, two = ([epoch["train_loss"] for epoch in record["history"]] for record in records)
    assert two == pytest.approx(one, abs=1e-3)
    for name, values in weights[0].items():
        if not name.endswith("key.bias"):  # its gradient is rounding alone, which Adam magnifies
            assert abs(values.astype(float) - weights[1][name].astype(float)).max() < 0.01, name


@pytest.mark.slow
def test_the_exit_code_is_that_of_the_process_that_failed(tiny: ModuleType, tmp_path: Path) -> None:
    folder = workspace(tiny, tmp_path)
    done = subprocess.run(
        stage(folder, **{"compute.processes": 2, "text.backbone": "nowhere/none"}), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "nowhere/none" in done.stderr


@pytest.mark.slow
def test_killed_processes_take_the_others_with_them(tiny: ModuleType, tmp_path: Path) -> None:
    """One of the two, and another time the stage that started both."""
    for victim in ("process", "stage"):
        folder = workspace(tiny, tmp_path / victim)
        child = subprocess.Popen(
            stage(folder, **{"compute.processes": 2, "text.epochs": 500, "text.patience": 500}), cwd=folder, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 240  # two processes import torch first, on a machine that may be busy
        while not list((folder / "store").glob("checkpoints/*/progress.safetensors")):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        ranks = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if told(pid, str(folder)) and told(pid, MEETING)]
        assert len(ranks) == 2
        os.kill(ranks[1] if victim == "process" else child.pid, signal.SIGKILL)
        assert child.wait(30) == (128 + signal.SIGKILL if victim == "process" else -signal.SIGKILL)
        while any(Path(f"/proc/{pid}").exists() for pid in ranks):
            assert time.monotonic() < deadline + 30
            time.sleep(0.1)


def told(pid: int, text: str) -> bool:
    try:
        return text in Path(f"/proc/{pid}/environ").read_text() + Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return False
