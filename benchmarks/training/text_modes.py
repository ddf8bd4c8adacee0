"""Which mode of the text classifier: its head alone, fine-tuned from there, or from the base rates? With n-grams beside, and without.

usage: python benchmarks/training/text_modes.py [--data ../shared/data/stream] [--modes head head-then-full full] [--seeds 1 2 3]

Posts of the stream's first four weeks, with the verdicts known then, are drawn by the seed into three parts: 70 % to learn from, 10 % to
choose the epoch on, 20 % to judge. The weeks on which anything else is tested are not read. ROC-AUC is of the judged posts: pooled over
categories and languages by labels, and of hate speech in each language with 15 judged labels of each class. `+ n-grams`
averages the logits with those of character n-grams on the same labels. With `--pupils N` so many posts that nobody reviewed teach, too,
by the score that the model in production gave them, with a reviewed one's weight each; the n-grams learn from reviews alone. Seconds are
of the fit, the vectors of a head out of the feature store (which has made them before a retrain), and with them computed anew.
The last line is `ratio N`: seconds of the last mode named over seconds of the first, medians over seeds.
"""

import argparse
import datetime
import itertools
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from text_quality import CATEGORIES, first_day, labelled, read_delivery, scores_of_peer

from upheld.common.params import params as parameters
from upheld.feature_store.backbones.text import mean_over_tokens
from upheld.feature_store.contracts import hashing
from upheld.training.text.model import TextModel, predict_text
from upheld.training.text.stage import fit_text, prepare

LAST_WEEK = 4
SHARES = (0.7, 0.8)  # up to here to learn from, up to here to choose the epoch on
MIN_LABELS = 15
Float = NDArray[np.float64]


def main() -> None:
    """Train in each mode for each seed and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/stream"), help="delivery folder with eight weeks")
    parser.add_argument("--modes", nargs="+", default=["head", "head-then-full", "full"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--pupils", type=int, default=0, help="unreviewed posts that teach by their score")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    params = parameters.load(args.params, args.set)
    posts, outcomes = read_delivery(args.data)
    known = labelled(posts, outcomes, first_day(posts) + pd.Timedelta(weeks=LAST_WEEK), params)
    rows = known[known["hard_label"].notna() & known["category"].isin(CATEGORIES)].merge(
        posts[["post_id", "language", "text", "week"]], on="post_id", validate="m:1"
    )
    rows = rows[(rows["week"] <= LAST_WEEK) & (rows["text"].str.strip() != "")].reset_index(drop=True)
    pupils = pupils_of(posts, args.data, set(outcomes["post_id"]) | set(rows["post_id"]), args.pupils)
    pupils = pupils[~pupils["text"].isin(rows["text"])]
    start = time.monotonic()
    texts = list(dict.fromkeys([*rows["text"], *pupils["text"]]))
    stored = vectors(prepare(params), texts)
    vectors_s = time.monotonic() - start
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"text: {params.text.model_dump()}")
    print(f"{len(texts)} texts, {len(rows)} labels, {len(pupils)} scores; vectors of all texts: {vectors_s:.1f} s")
    areas: dict[str, list[dict[str, float]]] = {}
    seconds: dict[str, list[float]] = {mode: [] for mode in args.modes}
    for seed, mode in itertools.product(args.seeds, args.modes):
        train, val, judged = drawn(rows, seed)
        own = parameters.load(args.params, [*args.set, f"text.mode={mode}", f"seed={seed}"])
        model = prepare(own)
        unique = [part.drop_duplicates("post_id").sort_values("post_id", ignore_index=True) for part in (train, val)]
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            taught = pd.concat([train, pupils], ignore_index=True)
            unique[0] = taught.drop_duplicates("post_id").sort_values("post_id", ignore_index=True)
            examples = [part[["post_id", "category", "label"]].assign(weight=1.0) for part in (taught, val)]
            record, _ = fit_text(model, *unique, *examples, own, Path(folder) / "progress", known={} if mode == "full" else stored)
        seconds[mode].append(time.monotonic() - start)
        probs = predict_text(model, judged["text"].tolist())
        ours = logit(probs[np.arange(len(judged)), judged["category"].map({name: c for c, name in enumerate(own.policies)})])
        both = (ours + scores_of_peer(train, judged)) / 2
        for name, scores in ((mode, ours), (f"{mode} + n-grams", both)):
            area = areas_of(judged, scores)
            areas.setdefault(name, []).append(area)
            figures = "  ".join(f"{cell} {value:.3f}" for cell, value in area.items())
            print(f"{name:24} seed {seed} epoch {record['best_epoch']}  {seconds[mode][-1]:7.1f} s  {figures}", flush=True)
    print("\nmean over seeds, and its difference from the last mode's with the standard error over seeds")
    for name, each in areas.items():
        other = areas[args.modes[-1] + (" + n-grams" if name.endswith("n-grams") else "")]
        for cell in sorted(set.intersection(*map(set, each), *map(set, other))):
            gaps = np.array([mine[cell] - theirs[cell] for mine, theirs in zip(each, other, strict=True)])
            error = gaps.std(ddof=1) / len(gaps) ** 0.5 if len(gaps) > 1 else float("nan")
            print(f"{name:24} {cell:16} {np.mean([area[cell] for area in each]):.3f}  {gaps.mean():+.3f} ± {error:.3f}")
    first, last = (float(np.median(seconds[mode])) for mode in (args.modes[0], args.modes[-1]))
    print(f"{args.modes[0]} with its vectors computed anew: {first + vectors_s:.1f} s, {last / (first + vectors_s):.1f} times as fast")
    print(f"ratio {last / first:.1f}")


def pupils_of(posts: pd.DataFrame, folder: Path, known: set[str], number: int) -> pd.DataFrame:
    """Posts of these weeks that are not `known`, drawn with a fixed seed: post_id, language, text, category, label (here a score)."""
    about = posts[(posts["week"] <= LAST_WEEK) & ~posts["post_id"].isin(known) & (posts["text"].str.strip() != "")]
    drawn_posts = about.sample(min(number, len(about)), random_state=0)
    decided = pd.concat([pd.read_parquet(path) for path in sorted((folder / "decisions").glob("*.parquet"))[:LAST_WEEK]])
    decided = decided[decided["category"].isin(CATEGORIES)].rename(columns={"score": "label"})[["post_id", "category", "label"]]
    return drawn_posts[["post_id", "language", "text"]].merge(decided, on="post_id", validate="1:m")


def vectors(model: TextModel, texts: list[str]) -> dict[str, NDArray[np.float32]]:
    """Mean over tokens of each text by the frozen encoder, by the text's SHA-256: what the feature store holds."""
    token_ids = model.encode(texts)
    order = sorted(range(len(texts)), key=lambda row: len(token_ids[row]))
    found = {}
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), 64):
            rows = order[start : start + 64]
            inputs = model.collate([token_ids[row] for row in rows])
            means = mean_over_tokens(model.encoder(**inputs).last_hidden_state, inputs["attention_mask"]).float().numpy()
            found |= {hashing.of_bytes(texts[row].encode()): mean for row, mean in zip(rows, means, strict=True)}
    return found


def drawn(rows: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    """Rows to learn from, to choose the epoch on and to judge; all rows of one text are in one of them."""
    texts = rows["text"].unique()
    place = pd.Series(np.random.default_rng(seed).random(len(texts)), index=texts)
    of_rows = rows["text"].map(place)
    masks = (of_rows < SHARES[0], of_rows.between(*SHARES, inclusive="left"), of_rows >= SHARES[1])
    return [rows[mask].reset_index(drop=True) for mask in masks]


def logit(probs: NDArray[np.float32]) -> Float:
    """Log-odds of probabilities."""
    clipped = np.clip(probs.astype(np.float64), 1e-7, 1 - 1e-7)
    odds: Float = np.log(clipped / (1 - clipped))
    return odds


def areas_of(judged: pd.DataFrame, scores: Float) -> dict[str, float]:
    """ROC-AUC pooled over the cells by their labels, and of each cell: hate speech by language, spam."""
    cells = {}
    for (category, language), index in judged.groupby(
        ["category", judged["language"].where(judged["category"] != "spam", "all")]
    ).groups.items():
        labels = judged.loc[index, "hard_label"].astype(int)
        if labels.value_counts().reindex([0, 1], fill_value=0).min() >= MIN_LABELS:
            cells[f"{'hate' if category != 'spam' else 'spam'} {language}"] = (len(index), roc_auc_score(labels, scores[index]))
    total = sum(number for number, _ in cells.values())
    return {"pooled": sum(number * area for number, area in cells.values()) / total, **{name: area for name, (_, area) in cells.items()}}


if __name__ == "__main__":
    main()
