"""How long a million review outcomes take into the ledger, and how much memory, beside a row-by-row check of the same rows.

usage: python benchmarks/ingest.py [--rows 1000000]

The peer is what one writes first: a pydantic model a row, a dictionary of keys with a digest that tells a repeat from a conflict,
and one Parquet file at the end: the same checks on the same outcomes, without the posts' own contract, quarantine, versions,
Great Expectations or the start of a process, all of which are in our time. It runs on 50,000 rows and is scaled up.
The last line is its time over ours.
"""

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, Field, TypeAdapter

START = datetime(2026, 8, 31, tzinfo=UTC)
AS_OF = datetime(2026, 11, 2, tzinfo=UTC)
POLICIES = ("hate_speech", "spam", "misinformation", "dangerous_content", "graphic_violence")
OUTCOMES_PER_POST = 10
PEER_ROWS = 50_000


class Outcome(BaseModel):
    """The peer's contract of one row."""

    outcome_id: Annotated[str, Field(min_length=1, max_length=256)]
    revision: Annotated[int, Field(ge=0)]
    post_id: Annotated[str, Field(min_length=1, max_length=256)]
    category: Literal["hate_speech", "spam", "misinformation", "dangerous_content", "graphic_violence"]
    verdict: Literal["confirm_removal", "restore", "escalate"]
    reviewer_id: Annotated[str, Field(min_length=1, max_length=256)]
    reviewed_at: AwareDatetime
    source: Literal["queue", "audit_removed", "audit_passed", "appeal"]
    inclusion_prob: Annotated[float, Field(gt=0, le=1)]


def write_delivery(folder: Path, num_rows: int) -> None:
    """Posts and outcomes of an invented world, eight weeks in as many files."""
    rng = np.random.default_rng(7)
    num_posts = max(1, num_rows // OUTCOMES_PER_POST)
    post_ids = np.char.add("p_", np.arange(num_posts).astype(str))
    seconds = np.sort(rng.integers(0, 7 * 7 * 86_400, num_posts))
    for week, chosen in enumerate(np.array_split(np.arange(num_posts), 8)):
        posts = {
            "post_id": post_ids[chosen],
            "created_at": _times(seconds[chosen]),
            "language": rng.choice(["en", "de", "pt", "th"], len(chosen)),
            "text": np.char.add("an invented sentence, number ", chosen.astype(str)),
        }
        _write(folder / "posts" / f"week={week}.parquet", posts)
        about = np.repeat(chosen, OUTCOMES_PER_POST)
        outcomes = {
            "outcome_id": np.char.add(
                np.char.add("o_", about.astype(str)), np.char.add("_", np.tile(np.arange(10), len(chosen)).astype(str))
            ),
            "revision": np.zeros(len(about), np.int64),
            "post_id": post_ids[about],
            "category": rng.choice(POLICIES, len(about)),
            "verdict": rng.choice(["confirm_removal", "restore", "escalate"], len(about), p=[0.4, 0.5, 0.1]),
            "reviewer_id": np.char.add("r_", rng.integers(0, 300, len(about)).astype(str)),
            "reviewed_at": _times(seconds[about] + rng.integers(60, 600_000, len(about))),
            "source": rng.choice(["queue", "audit_removed", "audit_passed"], len(about)),
            "inclusion_prob": rng.choice([0.02, 0.15, 0.6], len(about)),
        }
        _write(folder / "review_outcomes" / f"week={week}.parquet", outcomes)


def _times(seconds: np.ndarray) -> pa.Array:
    return pa.array(np.datetime64(START.replace(tzinfo=None), "us") + seconds.astype("timedelta64[s]")).cast(pa.timestamp("us", tz="UTC"))


def _write(path: Path, columns: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def measure_ours(delivery: Path, store: Path) -> tuple[float, float]:
    """Seconds and GiB of a process that ingests the delivery, its start and imports included."""
    command = [
        sys.executable,
        "-m",
        "upheld.feature_store.ingest.command",
        str(delivery),
        "--store",
        str(store),
        "--as-of",
        AS_OF.isoformat(),
    ]
    started = time.perf_counter()
    subprocess.run(command, check=True)
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def measure_peer(delivery: Path, num_rows: int) -> float:
    """Seconds that the row-by-row way would take for `num_rows`, from a sample of them."""
    rows = pq.read_table(delivery / "review_outcomes").slice(0, PEER_ROWS).to_pylist()
    created = dict(zip(*pq.read_table(delivery / "posts", columns=["post_id", "created_at"]).to_pydict().values(), strict=True))
    adapter = TypeAdapter(Outcome)
    started = time.perf_counter()
    known: dict[tuple[str, int], bytes] = {}
    kept: list[Outcome] = []
    for row in rows:
        outcome = adapter.validate_python(row)
        if outcome.reviewed_at > AS_OF + timedelta(minutes=5) or outcome.reviewed_at < created[outcome.post_id]:
            raise AssertionError("the invented rows are all good")
        content = hashlib.blake2b(outcome.model_dump_json().encode(), digest_size=16).digest()
        if known.setdefault((outcome.outcome_id, outcome.revision), content) != content:
            raise AssertionError("no two invented rows have the same key")
        kept.append(outcome)
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.Table.from_pylist([outcome.model_dump() for outcome in kept]), Path(folder) / "kept.parquet")
    return (time.perf_counter() - started) * num_rows / len(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000, help="review outcomes")
    num_rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as scratch:
        delivery = Path(scratch) / "delivery"
        write_delivery(delivery, num_rows)
        seconds, gib = measure_ours(delivery, Path(scratch) / "store")
        peer = measure_peer(delivery, num_rows)
    print(f"upheld ingest: {num_rows:,} outcomes and {num_rows // OUTCOMES_PER_POST:,} posts in {seconds:.1f} s, {gib:.2f} GiB at most")
    print(f"row by row with pydantic: {peer:.1f} s, scaled from {min(PEER_ROWS, num_rows):,} rows")
    print(f"ratio {peer / seconds:.2f}")


if __name__ == "__main__":
    main()
