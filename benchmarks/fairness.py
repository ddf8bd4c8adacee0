"""Rates per language with intervals: ours against Fairlearn's MetricFrame, on the same rows in one run; then the large table.

usage: python benchmarks/fairness.py [--rows 1000000] [--large 0]

Fairlearn is measured with 10 bootstraps, and scaled linearly to the 100 that an interval wants: each bootstrap repeats the same
work. Ours reads its rows from Parquet, checks them, counts them and computes every metric with its interval and verdict; Fairlearn
gets the arrays. The last line is `ratio N`.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

from upheld.common.params import params
from upheld.evaluation import evaluate
from upheld.evaluation.metrics import table as metrics
from upheld.evaluation.metrics.rows import Settings
from upheld.evaluation.scores import selection as score_rows
from upheld.evaluation.scores import table as scores
from upheld.evaluation.thresholds.operating_point import operating_point

NUM_LANGUAGES, BATCH = 40, 1_000_000
CATEGORIES = ("hate_speech", "spam", "misinformation", "dangerous_content", "graphic_violence")
MEASURED_BOOTSTRAPS, WANTED_BOOTSTRAPS = 10, 100
PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def write_table(path: Path, num_rows: int, num_categories: int) -> None:
    """Scores in the contract, a tenth of them violations, written a million rows at a time."""
    rng = np.random.default_rng(0)
    writer = None
    for start in range(0, num_rows, BATCH):
        size = min(BATCH, num_rows - start)
        label = rng.random(size) < 0.1
        table = pa.table(
            {
                "item_id": [f"post-{number}" for number in range(start, start + size)],
                "category": np.array(CATEGORIES)[rng.integers(0, num_categories, size)],
                "language": np.array([f"l{code:02d}" for code in range(NUM_LANGUAGES)])[rng.integers(0, NUM_LANGUAGES, size)],
                "score": 1 / (1 + np.exp(-rng.normal(np.where(label, 1.5, -2.5), 1.4))),
                "label": label.astype(float),
            }
        )
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def time_ours(path: Path, settings: params.Params) -> tuple[float, pd.DataFrame]:
    """Seconds from Parquet to every metric of every cell, and the metrics."""
    start = time.perf_counter()
    selection = score_rows.select(path, scores.Columns(), (), wanted="test", other="calib")
    cubes, _ = score_rows.build_cubes(selection, (), None, settings.thresholds.frame_min_inclusion_prob)
    points = {category: operating_point(None, category, cubes[None].languages, 0.5) for category in cubes[None].categories}
    table = metrics.compute(cubes[None], points, Settings(0.1, 0.05, 2.0, 0.05, 0))
    return time.perf_counter() - start, table


def time_fairlearn(rows: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """Seconds for three rates per language with WANTED_BOOTSTRAPS bootstraps, scaled from what is measured; and the rates."""
    rates = {"recall": true_positive_rate, "fpr": false_positive_rate, "flagged": selection_rate}
    given = {"metrics": rates, "y_true": rows.label, "y_pred": (rows.score >= 0.5).astype(int), "sensitive_features": rows.language}
    start = time.perf_counter()
    plain = MetricFrame(**given)
    once = time.perf_counter() - start
    start = time.perf_counter()
    MetricFrame(**given, n_boot=MEASURED_BOOTSTRAPS, ci_quantiles=[0.05, 0.95], random_state=0)
    with_bootstraps = time.perf_counter() - start
    each = (with_bootstraps - once) / MEASURED_BOOTSTRAPS
    print(f"fairlearn: {once:.2f} s without intervals, {with_bootstraps:.2f} s with {MEASURED_BOOTSTRAPS} bootstraps, {each:.2f} s each")
    return once + each * WANTED_BOOTSTRAPS, plain.by_group


def main() -> None:
    """Print both times, check that the rates agree, and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the comparison")
    parser.add_argument("--large", type=int, default=0, help="rows of a table that the whole of evaluate runs on; 0 leaves it out")
    arguments = parser.parse_args()
    settings = params.load(PARAMS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        write_table(path, arguments.rows, num_categories=1)
        ours, table = time_ours(path, settings)
        theirs, by_language = time_fairlearn(pd.read_parquet(path))
        pooled = table[table.group_column == "all"]
        for metric in ("recall", "fpr"):
            mine = pooled[(pooled.metric == metric) & (pooled.language != "all")].set_index("language").value
            assert np.allclose(mine, by_language[metric][mine.index], atol=1e-12), metric
        print(
            f"ours: {ours:.2f} s for {len(table)} figures with intervals, {arguments.rows} rows from Parquet; recall and fpr agree to 1e-12"
        )
        print(f"fairlearn: {theirs:.1f} s for 3 rates with {WANTED_BOOTSTRAPS} bootstraps (scaled linearly from {MEASURED_BOOTSTRAPS})")
        if arguments.large:
            write_table(path, arguments.large, num_categories=len(CATEGORIES))
            start = time.perf_counter()
            evaluate.run(settings, evaluate.Inputs(path), Path(folder) / "out")
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"evaluate: {arguments.large} rows, {time.perf_counter() - start:.1f} s, peak of the whole benchmark {peak:.2f} GiB")
    print(f"ratio {theirs / ours:.0f}")


if __name__ == "__main__":
    main()
