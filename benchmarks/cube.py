"""Count a scores table into a cube: ours against a pandas group-by over the same columns, in one run.

usage: python benchmarks/cube.py [--rows 20000000] [--peer-rows 2000000]

Ours is what evaluate does: rows are checked and counted; that it refuses a table with an item twice is timed for itself. The table is
written first and not timed. pandas reads and counts `peer-rows` of the rows, and its time is scaled linearly to all
of them, which flatters it: its memory would not reach. Prints seconds, peak memory, and `ratio N` (pandas / ours) as last line.
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

from upheld.evaluation.cube.bins import bin_of
from upheld.evaluation.scores import selection
from upheld.evaluation.scores import table as scores

CATEGORIES = ["dangerous_content", "graphic_violence", "hate_speech", "misinformation", "spam"]
LANGUAGES = [f"l{k:02d}" for k in range(40)]
ZONES = ["auto_remove", "review", "none"]
ZONE_PROB = np.array([0.1, 0.6, 0.02])
CHUNK_ROWS = 1_000_000
COLUMNS = ["category", "language", "zone", "label", "score", "inclusion_prob"]


def chunk(first: int, num_rows: int, rng: np.random.Generator) -> pa.Table:
    """Posts of one day: Zipf languages, 5 % violations, labels drawn per zone."""
    share = 1 / np.arange(1, len(LANGUAGES) + 1)
    violation = rng.random(num_rows) < 0.05
    score = np.where(violation, rng.beta(6, 1, num_rows), rng.beta(0.6, 20, num_rows))
    zone = np.where(score > 0.95, 0, np.where(score > 0.5, 1, 2))
    label = np.where(rng.random(num_rows) < ZONE_PROB[zone], violation.astype(float), np.nan)
    return pa.table(
        {
            "item_id": np.arange(first, first + num_rows),
            "category": np.array(CATEGORIES)[rng.integers(0, len(CATEGORIES), num_rows)],
            "language": np.array(LANGUAGES)[rng.choice(len(LANGUAGES), num_rows, p=share / share.sum())],
            "score": score,
            "label": pa.array(label, from_pandas=True).cast(pa.int8()),
            "inclusion_prob": ZONE_PROB[zone],
            "zone": np.array(ZONES)[zone],
        }
    )


def write(path: Path, num_rows: int) -> None:
    """Write the table, a chunk at a time."""
    rng, writer = np.random.default_rng(0), None
    for first in range(0, num_rows, CHUNK_ROWS):
        table = chunk(first, min(CHUNK_ROWS, num_rows - first), rng)
        writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
        writer.write_table(table)
    writer.close()


def count_with_pandas(path: Path, num_rows: int) -> tuple[float, int]:
    """Seconds and non-empty cells for the first `num_rows` rows."""
    start = time.perf_counter()
    batches = pq.ParquetFile(path).iter_batches(CHUNK_ROWS, columns=COLUMNS)
    parts, seen = [], 0
    while seen < num_rows:
        parts.append(next(batches).to_pandas())
        seen += len(parts[-1])
    rows = pd.concat(parts)
    weight = np.where(rows.label.isna(), 1.0, 1 / rows.inclusion_prob)
    rows = rows.assign(bin=bin_of(rows.score), w=weight, w2=weight**2, wp=weight * rows.score, label=rows.label.fillna(2))
    counted = rows.groupby(["category", "language", "zone", "label", "bin"], sort=False)[["w", "w2", "wp"]].agg(["count", "sum"])
    return time.perf_counter() - start, len(counted)


def main() -> None:
    """Write, count twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000_000)
    parser.add_argument("--peer-rows", type=int, default=2_000_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.parquet"
        write(path, args.rows)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        table = scores.open_table(path)
        start, cpu_start = time.perf_counter(), time.process_time()
        cube = selection.build_cubes(selection.Selection(table, None, {}), (), None, {"none": float(ZONE_PROB.min())})[0][None]
        ours, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert cube.num_rows == args.rows
        print(f"ours: {args.rows:,} rows in {ours:.2f} s ({cpu:.2f} s of CPU), {len(cube.keys):,} cells")
        print(f"peak memory {peak / 2**20:.2f} GiB, before counting {before / 2**20:.2f} GiB")
        cpu_start = time.process_time()
        selection.refuse_duplicates(table, None)
        print(f"no item comes twice: {time.process_time() - cpu_start:.2f} s on the processor")
        peer_rows = min(args.peer_rows, args.rows)
        seconds, cells = count_with_pandas(path, peer_rows)
        scaled = seconds * args.rows / peer_rows
        print(f"pandas: {peer_rows:,} rows in {seconds:.2f} s, {cells:,} cells; scaled to all rows {scaled:.1f} s")
        print(f"ratio {scaled / ours:.1f}")


if __name__ == "__main__":
    main()
