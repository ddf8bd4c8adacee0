"""Is the fine-tuned text classifier better than character n-grams on the same labels? Rolling origin over eight weeks.

usage: python benchmarks/training/text_quality.py [--data ../shared/data/stream] [--folds 5 6 7 8] [--set text.epochs=2] [--work DIR]

For each week k: train on the posts of earlier weeks with the labels known when week k begins, test on the sampled labels of
week k's posts. Scores of two folds come from two models, so only rows of one fold are compared with each other: a cell's
ROC-AUC is the share of (violation, other) pairs within folds that are ranked rightly, weighted by 1/π where it says so.
Hate speech is a cell for every language with at least 50 labels of each class over all folds, spam is one cell. Intervals:
2,000 bootstraps of rows within fold and class, the same rows for both models.
The last line is `ratio N`: (1 - ROC-AUC of the n-grams) / (1 - ROC-AUC of ours), pooled and unweighted; above 1 ours errs less.
"""

import argparse
import datetime
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV

from upheld.common.params import params as parameters
from upheld.feature_store.snapshot import label_aggregation
from upheld.training.text.model import predict_text
from upheld.training.text.stage import fit_text, prepare

CATEGORIES = ["hate_speech", "spam"]
MIN_LABELS = 50  # of each class, for a language to be a cell of its own
NUM_BOOTSTRAPS = 2000
VAL_SHARE = 0.1
Float = NDArray[np.float64]


class Cell(NamedTuple):
    """The pairs of one cell: for each fold, which pairs (P, Q) each model ranks rightly, and 1/π of both sides."""

    name: str
    num_labels: int
    folds: list[tuple[dict[str, Float], Float, Float]]


def main() -> None:
    """Train and score what is not in the work folder yet, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/stream"), help="delivery folder with eight weeks")
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 6, 7, 8], help="weeks to test on")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    finished = "scores of finished folds; empty it to start anew"
    parser.add_argument("--work", type=Path, default=Path("store/benchmarks/text_quality"), help=finished)
    args = parser.parse_args()
    params = parameters.load(args.params, args.set)
    posts, outcomes = read_delivery(args.data)
    tables = []
    for fold in args.folds:
        path = args.work / f"week-{fold}.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            run_fold(posts, outcomes, fold, params, args.work).to_parquet(path)
        tables.append(pd.read_parquet(path))
    report(pd.concat(tables, ignore_index=True), params)


def read_delivery(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Posts with their week (1 = the first), and review outcomes."""
    posts, outcomes = (
        pd.concat([pd.read_parquet(path) for path in sorted((folder / table).glob("*.parquet"))], ignore_index=True)
        for table in ("posts", "review_outcomes")
    )
    posts["text"] = posts["text"].fillna("")
    posts["week"] = (posts["created_at"] - first_day(posts)).dt.days // 7 + 1
    return posts, outcomes


def first_day(posts: pd.DataFrame) -> pd.Timestamp:
    """Midnight of the Monday of the first week."""
    earliest = posts["created_at"].min().normalize()
    return earliest - pd.Timedelta(days=earliest.weekday())


def run_fold(posts: pd.DataFrame, outcomes: pd.DataFrame, week: int, params: parameters.Params, work: Path) -> pd.DataFrame:
    """Scores of both models on the sampled labels of one week: fold, post_id, category, language, label, inclusion_prob, ours, peer."""
    about = posts[["post_id", "language", "text", "week"]]
    begin = first_day(posts) + pd.Timedelta(weeks=week - 1)
    train = labelled(posts, outcomes, begin, params).merge(about, on="post_id", validate="m:1")
    train = train[(train["week"] < week) & train["label"].notna()]
    test = labelled(posts, outcomes, outcomes["reviewed_at"].max(), params).merge(about, on="post_id", validate="m:1")
    test = test[(test["week"] == week) & (test["evidence"] == "sample") & test["hard_label"].notna() & test["category"].isin(CATEGORIES)]
    test = test.reset_index(drop=True)
    test["ours"], test["peer"] = scores_of_ours(train, test, params, work / f"week-{week}.safetensors"), scores_of_peer(train, test)
    test = test.assign(fold=week, label=test["hard_label"].astype(int))
    return test[["fold", "post_id", "category", "language", "label", "inclusion_prob", "ours", "peer"]]


def labelled(posts: pd.DataFrame, outcomes: pd.DataFrame, as_of: pd.Timestamp, params: parameters.Params) -> pd.DataFrame:
    """One row a post and category, as known at a time."""
    return label_aggregation.label(outcomes, posts.set_index("post_id")["language"], as_of, params.labels).items


def scores_of_ours(train: pd.DataFrame, test: pd.DataFrame, params: parameters.Params, checkpoint: Path) -> Float:
    """Fine-tune on nine tenths of the posts, choose the epoch on the rest."""
    posts = train.drop_duplicates("post_id").sort_values("post_id", ignore_index=True)
    is_val = np.random.default_rng(params.seed).random(len(posts)) < VAL_SHARE
    model = prepare(params)
    examples = train[["post_id", "category", "label"]].assign(weight=1.0)
    halves = [posts[mask].reset_index(drop=True) for mask in (~is_val, is_val)]
    record, samples_per_s = fit_text(model, *halves, examples, examples, params, checkpoint)
    checkpoint.unlink(missing_ok=True)
    print(f"trained on {len(halves[0])} posts, epoch {record['best_epoch']} kept, {samples_per_s or 0:.1f} samples/s", flush=True)
    probs = predict_text(model, test["text"].tolist())
    return probs[np.arange(len(test)), test["category"].map({name: c for c, name in enumerate(params.policies)})].astype(np.float64)


def scores_of_peer(train: pd.DataFrame, test: pd.DataFrame) -> Float:
    """Logistic regression per category on TF-IDF of character n-grams, its C cross-validated on the same labels (val included)."""
    scores = np.zeros(len(test))
    for category in CATEGORIES:
        known = train[(train["category"] == category) & train["hard_label"].notna()]
        rows = (test["category"] == category).to_numpy()
        vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
        regression = LogisticRegressionCV(
            Cs=[0.5, 2.0, 8.0], cv=3, solver="liblinear", scoring="roc_auc", use_legacy_attributes=False, l1_ratios=(0,)
        )
        regression.fit(vectoriser.fit_transform(known["text"]), known["hard_label"].astype(int))
        scores[rows] = regression.decision_function(vectoriser.transform(test["text"][rows]))
    return scores


def cells_of(table: pd.DataFrame) -> Iterator[Cell]:
    """Hate speech by language where there are labels enough, and spam."""
    for language, rows in table[table["category"] == "hate_speech"].groupby("language"):
        if rows["label"].value_counts().reindex([0, 1], fill_value=0).min() >= MIN_LABELS:
            yield cell_of(f"hate_speech {language}", rows)
    yield cell_of("spam all", table[table["category"] == "spam"])


def cell_of(name: str, rows: pd.DataFrame) -> Cell:
    """Compare every violation with every other row of its fold."""
    folds = []
    for _, part in rows.groupby("fold"):
        positive, negative = part[part["label"] == 1], part[part["label"] == 0]
        right = {}
        for model in ("ours", "peer"):
            gap = positive[model].to_numpy()[:, None] - negative[model].to_numpy()[None, :]
            right[model] = (gap > 0) + 0.5 * (gap == 0)
        folds.append((right, 1 / positive["inclusion_prob"].to_numpy(), 1 / negative["inclusion_prob"].to_numpy()))
    return Cell(name, len(rows), folds)


def areas_of(cell: Cell, is_weighted: bool, random: np.random.Generator) -> dict[str, Float]:
    """ROC-AUC of both models: element 0 as observed, the others bootstrapped."""
    right, all_pairs = {model: np.zeros(NUM_BOOTSTRAPS + 1) for model in ("ours", "peer")}, np.zeros(NUM_BOOTSTRAPS + 1)
    for matrices, inverse_p, inverse_q in cell.folds:
        sides = [resampled(inverse if is_weighted else np.ones_like(inverse), random) for inverse in (inverse_p, inverse_q)]
        all_pairs += sides[0].sum(1) * sides[1].sum(1)
        for model, matrix in matrices.items():
            right[model] += ((sides[0] @ matrix) * sides[1]).sum(1)
    return {model: total / all_pairs for model, total in right.items()}


def resampled(weights: Float, random: np.random.Generator) -> Float:
    """Weights times how often a bootstrap drew each row, (NUM_BOOTSTRAPS + 1, N); row 0 is the rows as they are."""
    num = len(weights)
    draws = random.multinomial(num, np.full(num, 1 / max(num, 1)), NUM_BOOTSTRAPS) if num else np.zeros((NUM_BOOTSTRAPS, 0))
    return np.vstack([np.ones(num), draws]) * weights


def report(table: pd.DataFrame, params: parameters.Params) -> None:
    """Print a table for each weighting, the pooled differences, and the ratio."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"text: {params.text.model_dump()}")
    cells = list(cells_of(table))
    sizes = np.array([cell.num_labels for cell in cells])
    for is_weighted in (False, True):
        random = np.random.default_rng(0)
        areas = [areas_of(cell, is_weighted, random) for cell in cells]
        print(f"\nROC-AUC, {'weighted by 1/π' if is_weighted else 'unweighted'} (difference with 95 % interval)")
        print(f"{'cell':18}{'labels':>8}{'ours':>8}{'n-grams':>9}{'difference':>12}")
        for cell, area in zip(cells, areas, strict=True):
            print(line(cell.name, cell.num_labels, area))
        is_hate = np.array([cell.name.startswith("hate") for cell in cells])
        for name, chosen in (("hate_speech pooled", is_hate), ("all pooled", np.ones(len(cells), bool))):
            shares = np.where(chosen, sizes, 0) / sizes[chosen].sum()  # a cell counts by its labels
            pooled = {model: sum(share * area[model] for share, area in zip(shares, areas, strict=True)) for model in ("ours", "peer")}
            print(line(name, int(sizes[chosen].sum()), pooled))
        if not is_weighted:
            ratio = (1 - pooled["peer"][0]) / (1 - pooled["ours"][0])
    print(f"ratio {ratio:.3f}")


def line(name: str, num_labels: int, area: dict[str, Float]) -> str:
    """One row of the table; the interval holds the middle 95 % of the bootstrapped differences."""
    difference = area["ours"] - area["peer"]
    low, high = np.quantile(difference[1:], [0.025, 0.975])
    return f"{name:18}{num_labels:>8}{area['ours'][0]:>8.3f}{area['peer'][0]:>9.3f}{difference[0]:>+12.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
