"""What a weekly report reads: the decisions of one ISO week, with their posts and review outcomes, from the ledger or a delivery."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.errors import BadUse
from upheld.evaluation.scores import files
from upheld.evaluation.scores.table import MIN_INCLUSION_PROB
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ledger import verdicts

POSTS = ("post_id", "language", "region", "author_group", "text")
DECISIONS = ("decision_id", "post_id", "decided_at", "category", "score", "action", "model_version")
OUTCOMES = ("outcome_id", "revision", "post_id", "category", "verdict", "reviewer_id", "reviewed_at", "source", "inclusion_prob")
DRAWS = ("draw_id", "post_id", "category")
OPTIONAL = ("region", "author_group")
ALLOWED = {"action": contracts.ACTIONS, "verdict": contracts.VERDICTS, "source": contracts.SOURCES}
Scan = Callable[[str, Sequence[str]], Iterator[pa.Table]]


class Tables(NamedTuple):
    """Decisions of the week, posts that they are about, and those posts' review outcomes (`recorded_at` where the ledger has it).

    Of the ledger's outcomes those that do not answer our draw of their post have no inclusion_prob."""

    decisions: pd.DataFrame
    posts: pd.DataFrame
    outcomes: pd.DataFrame
    synthetic: bool


def bounds(week: str) -> tuple[pd.Timestamp, pd.Timestamp]:
    """First moment of an ISO week and of the next one, UTC.

    Raises:
        BadUse: it is not a week such as 2026-W43.
    """
    match = re.fullmatch(r"(\d{4})-W(\d{2})", week)
    try:
        monday = date.fromisocalendar(int(match[1]), int(match[2]), 1) if match else None
    except ValueError:
        monday = None
    if monday is None:
        raise BadUse(f"--week {week!r}: expected an ISO week such as 2026-W43")
    return pd.Timestamp(monday, tz="UTC"), pd.Timestamp(monday + timedelta(days=7), tz="UTC")


@dataclass(frozen=True)
class Source:
    """Where weeks are read from: the ledger of a store, or a delivery (posts/, decisions/, review_outcomes/) where one is given."""

    store: Path
    delivery: Path | None = None

    def read(self, week: str, *, also: frozenset[str] = frozenset()) -> Tables:
        """Read one week.

        Args:
            week: ISO week in which the decisions were made.
            also: further post ids whose outcomes are wanted (items of known truth).

        Raises:
            BadUse: no such week, no ledger or delivery, a broken row, or no decision in that week.
        """
        start, end = bounds(week)
        found = self.find(week, also=also)
        if found is None:
            where = self.delivery or self.store
            raise BadUse(f"{where}: no decision of {week}; expected decisions with decided_at from {start.date()} on, before {end.date()}")
        return found

    def find(self, week: str, *, also: frozenset[str] = frozenset()) -> Tables | None:
        """As `read`; None where there is no decision."""
        start, end = bounds(week)
        scan, synthetic, origin = _ledger(self.store) if self.delivery is None else _delivery(self.delivery)
        decisions = _gather(scan("decisions", DECISIONS), DECISIONS, lambda rows: _during(rows, start, end))
        if decisions.empty:
            return None
        wanted = pa.array(sorted({*decisions.post_id, *also}), pa.string())
        posts = _gather(scan("posts", POSTS), POSTS, lambda rows: rows.filter(pc.is_in(rows["post_id"], wanted)))
        columns = (*OUTCOMES, *(("recorded_at", "draw_id") if self.delivery is None else ()))
        outcomes = _gather(scan("review_outcomes", columns), columns, lambda rows: rows.filter(pc.is_in(rows["post_id"], wanted)))
        outcomes = _checked(outcomes, origin, "review_outcomes", "outcome_id")
        if self.delivery is None:
            draws = _gather(scan("audit_draws", DRAWS), DRAWS, lambda rows: rows.filter(pc.is_in(rows["post_id"], wanted)))
            outcomes = verdicts.weighed(outcomes, draws)
        return Tables(
            _checked(decisions, origin, "decisions", "decision_id"),
            posts.drop_duplicates("post_id", keep="last"),
            outcomes,
            synthetic,
        )


def _during(rows: pa.Table, start: pd.Timestamp, end: pd.Timestamp) -> pa.Table:
    times = rows["decided_at"].cast(contracts.TIMESTAMP)
    first, after = pa.scalar(start, contracts.TIMESTAMP), pa.scalar(end, contracts.TIMESTAMP)
    return rows.filter(pc.and_(pc.greater_equal(times, first), pc.less(times, after)))


def _ledger(store: Path) -> tuple[Scan, bool, str]:
    """The committed ledger; its package is loaded only here, so that deliveries need the core alone."""
    from upheld.feature_store.ledger.ledger import Ledger

    book = Ledger(store)

    def scan(table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Those columns of a table, part by part."""
        yield from (pa.Table.from_batches([batch]) for batch in book.scan(table, columns))

    return scan, book.synthetic, str(store)


def _delivery(folder: Path) -> tuple[Scan, bool, str]:
    def scan(table: str, columns: Sequence[str]) -> Iterator[pa.Table]:
        """Those columns of a table, part by part."""
        for file in files.find(folder / table):
            there = files.column_names(file)
            absent = [name for name in columns if name not in there]
            wrong = [name for name in absent if name not in OPTIONAL]
            if wrong:
                raise BadUse(f"{file}: no column {wrong[0]!r}; expected a table of {table}, it has {', '.join(there[:30])}")
            for batch in files.batches(file, [name for name in columns if name in there]):
                rows = _plain(pa.Table.from_batches([batch]), file)
                for name in absent:
                    rows = rows.append_column(name, pa.nulls(rows.num_rows, pa.string()))
                yield rows.select(list(columns))

    return scan, (folder / contracts.SYNTHETIC_MARK).is_file(), str(folder)


def _plain(rows: pa.Table, file: Path) -> pa.Table:
    """Text as text and times as times, whatever the file format made of them."""
    for position, field in enumerate(rows.schema):
        kind = contracts.TIMESTAMP if field.name in ("decided_at", "reviewed_at") else None
        kind = (
            pa.float64() if field.name in ("score", "inclusion_prob") else pa.int64() if field.name == "revision" else kind or pa.string()
        )
        try:
            column = rows.column(position).cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise BadUse(f"{file}: column {field.name}: expected {kind}: {' '.join(str(error).split())[:160]}") from error
        rows = rows.set_column(position, field.name, column)
    return rows


def _gather(parts: Iterator[pa.Table], columns: Sequence[str], keep: Callable[[pa.Table], pa.Table]) -> pd.DataFrame:
    """The rows to keep, batch by batch, so that memory is that of a week."""
    kept = [rows for part in parts if (rows := keep(part)).num_rows]
    return pa.concat_tables(kept).to_pandas() if kept else pd.DataFrame(columns=list(columns))


def _checked(rows: pd.DataFrame, origin: str, table: str, key: str) -> pd.DataFrame:
    """Refuse what a ledger would have put into quarantine."""
    for column in rows.columns.intersection([*DECISIONS, *OUTCOMES]):
        bad, expected = rows[column].isna(), "a value"
        if column in ("score", "inclusion_prob"):
            least = 0 if column == "score" else MIN_INCLUSION_PROB
            bad, expected = ~rows[column].between(least, 1), f"a number from {least:g} to 1"
        elif column in ALLOWED:
            bad, expected = ~rows[column].isin(ALLOWED[column]), " / ".join(ALLOWED[column])
        if bad.any():
            row = rows[bad].iloc[0]
            raise BadUse(f"{origin}/{table}: {key} {row[key]!r}, column {column}: found {row[column]!r}, expected {expected}")
    return rows
