"""Scoring lanes of the text classifier: bf16 against fp32 on real posts, by speed and by the gate that a stage `text` asks.

usage: python benchmarks/training/lanes.py [--data ../shared/data/stream] [--category hate_speech] [--threads 2]

The head is fitted in fp32 on posts of all weeks but the last two that people confirmed or restored; both lanes score those of the last two
weeks, in turns, `ROUNDS` times. The last line is `ratio N`: texts/s of the fastest lane that the gate lets pass, over those of fp32.
"""

import argparse
import datetime
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from sklearn.metrics import roc_auc_score

from upheld.common.params import params as parameters
from upheld.feature_store.backbones.devices import best_device, has_fast_bfloat16
from upheld.training.loop.head import fit_head, set_head
from upheld.training.text import lanes
from upheld.training.text.model import build_text, in_bfloat16, predict_text, text_features

ROUNDS = 3
MAX_TRAIN = 1500  # the latest


def main() -> None:
    """Fit, score in turns, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/stream"))
    parser.add_argument("--category", default="hate_speech")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    text = parameters.load(Path("params.yaml"), []).text
    train, test = labelled(args.data, args.category)
    model = build_text(text.backbone, [args.category], text.max_tokens, text.prefix, 0.0).to(best_device()).eval()
    targets, weights = train.label.to_numpy(np.float32)[:, None], np.ones((len(train), 1), np.float32)
    set_head(
        model.head, *fit_head(text_features(model, train.text.tolist()), targets, weights, np.ones(1, np.float32), text.head_inverse_l2)
    )
    sides = {"fp32": model} | ({"bf16": in_bfloat16(model)} if has_fast_bfloat16(best_device()) else {})
    texts = test.text.tolist()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    probs = {}
    for one in sides.values():
        predict_text(one, texts[:32])
    for _ in range(ROUNDS):
        for name, one in sides.items():
            begin = time.perf_counter()
            probs[name] = predict_text(one, texts)
            seconds[name].append(time.perf_counter() - begin)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · {args.data.name} · {args.category} · {args.threads} threads")
    tokens = np.mean([len(ids) for ids in model.encode(texts)])
    print(f"{len(train)} posts learnt from, {len(test)} scored, {tokens:.0f} tokens each; texts/s of each of {ROUNDS} rounds")
    for name, of_lane in seconds.items():
        print(f"{name:6}" + "".join(f"{len(test) / one:9.1f}" for one in of_lane))
    ratios = [1.0]
    found = test.label.to_numpy(np.float32)[:, None]
    for name in sides.keys() - {"fp32"}:
        verdict = lanes.gate(probs["fp32"], probs[name], found, np.ones_like(found), test.language.tolist(), [args.category])
        print(f"{name} beside fp32: a probability moves by {verdict.mean_prob_shift:.4f} on average, {verdict.max_prob_shift:.4f} at most")
        alone = np.concatenate([predict_text(sides[name], [one]) for one in texts[:200]])
        print(f"{name} one text at a time beside batches: {np.abs(alone - probs[name][:200]).max():.4f} at most of 200")
        for language, shift in verdict.auc_shift.get(args.category, {}).items():
            rows = (test.language == language).to_numpy()
            before = roc_auc_score(test.label[rows], probs["fp32"][rows, 0])
            print(f"  {language:6}{rows.sum():6} posts, ROC-AUC {before:.4f} in fp32, {shift:+.4f}")
        print(f"gate: {verdict.reason or 'passed'}")
        if verdict.reason is None:
            ratios.append(float(np.median(seconds["fp32"]) / np.median(seconds[name])))
    print(f"ratio {max(ratios):.2f}")


def labelled(folder: Path, category: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reviewed posts with a text of all weeks but the last two, the latest MAX_TRAIN, and of these two: text, language, label (0 or 1)."""
    posts = pq.ParquetDataset(folder / "posts").read(["post_id", "created_at", "text", "language"]).to_pandas()
    outcomes = pq.ParquetDataset(folder / "review_outcomes").read().to_pandas()
    own = outcomes[(outcomes.category == category) & outcomes.verdict.isin(["confirm_removal", "restore"])]
    last = own.sort_values(["reviewed_at", "outcome_id", "revision"]).drop_duplicates("post_id", keep="last")
    rows = posts.merge(last[["post_id", "verdict"]], on="post_id").sort_values("created_at", ignore_index=True)
    rows = rows[rows.text.fillna("").str.strip() != ""].assign(label=lambda table: (table.verdict == "confirm_removal").astype(int))
    late = rows.created_at >= rows.created_at.max().normalize() - pd.Timedelta(weeks=2)
    return rows[~late].tail(MAX_TRAIN), rows[late]


if __name__ == "__main__":
    main()
