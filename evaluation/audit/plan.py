"""A draw as the file that people get, and out of the ledger again: the same rows in the same order, byte for byte."""

import json
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.feature_store.contracts import tables as contracts

COLUMNS = contracts.AUDIT_DRAWS.names
SUFFIXES = (".csv", ".jsonl", ".parquet")
LAST = "last"


def table(plan: pd.DataFrame) -> pa.Table:
    """The rows of a draw with the ledger's columns and types."""
    return pa.Table.from_pydict({name: plan[name].tolist() for name in COLUMNS}, schema=contracts.AUDIT_DRAWS)


def require_suffix(out: Path) -> None:
    """Refuse a name that tells no format.

    Raises:
        BadUse: it does not end in one of SUFFIXES.
    """
    if out.suffix not in SUFFIXES:
        raise BadUse(f"--out {out}: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write(draws: pa.Table, path: Path, suffix: str) -> None:
    """Write a draw.

    Args:
        draws: of `table` or `recorded`.
        path: file to write.
        suffix: one of SUFFIXES, the format.
    """
    ordered = draws.sort_by([(name, "ascending") for name in ("category", "language", "zone", "draw_id")])
    if suffix == ".parquet":
        pq.write_table(ordered, path)
    elif suffix == ".csv":
        ordered.to_pandas().to_csv(path, index=False)
    else:
        lines = (json.dumps(row | {"drawn_at": row["drawn_at"].isoformat()}, ensure_ascii=False) for row in ordered.to_pylist())
        files.write_text(path, "".join(f"{line}\n" for line in lines))


def recorded(store: Path, draw: str) -> pa.Table:
    """An earlier draw, as the ledger keeps it.

    Args:
        store: folder with the ledger.
        draw: `last`, the time of the draw (ISO 8601 with a zone), or a draw_id of it.

    Raises:
        BadUse: there is no ledger, or no such draw; the message names the latest ones.
    """
    from upheld.feature_store.ledger.ledger import Ledger

    draws = Ledger(store).read("audit_draws", COLUMNS)
    times = sorted(pc.unique(draws["drawn_at"]).to_pylist())
    if not times:
        raise BadUse(f"--again {draw}: no draw is recorded in {store}; draw with --decisions and --budget")
    if draw == LAST:
        at = times[-1]
    elif draw.startswith("a_"):
        at = next(iter(draws.filter(pc.equal(draws["draw_id"], draw))["drawn_at"].to_pylist()), None)
    else:
        from upheld.common.command import parse_time  # Typer, which whoever only reads a plan does not need

        at = parse_time(draw, "--again")
    if at not in times:
        known = ", ".join(f"{time.isoformat()}" for time in times[-3:])
        raise BadUse(f"--again {draw}: no such draw; expected `{LAST}`, a draw_id, or the time of a draw, the latest are {known}")
    return draws.filter(pc.equal(draws["drawn_at"], pa.scalar(at, contracts.TIMESTAMP)))


def record(store: Path, draws: pa.Table) -> None:
    """Write a draw into the ledger, the authority on its probabilities; without a ledger the plan is all there is."""
    if (store / "ledger").is_dir():
        from upheld.feature_store.ledger.ledger import record_draws

        record_draws(store, draws)


def times(store: Path) -> set[datetime]:
    """Times of all draws that the store's ledger keeps; none without a ledger."""
    if not (store / "ledger").is_dir():
        return set()
    from upheld.feature_store.ledger.ledger import Ledger

    return set(Ledger(store).read("audit_draws", ["drawn_at"])["drawn_at"].to_pylist())
