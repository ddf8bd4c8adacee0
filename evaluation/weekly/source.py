"""What a weekly report reads: the decisions of one ISO week, with their posts and review outcomes, from the ledger or a delivery.

Also the gold items, whose truth was adjudicated, against which reviewers are measured.
"""

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
from upheld.common.params.data import Ingest
from upheld.evaluation.scores import files
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.contracts.workspace import Hold
from upheld.feature_store.ingest import delivered
from upheld.feature_store.ledger import verdicts

POSTS = ("post_id", "language", "region", "author_group", "text")
DECISIONS = ("decision_id", "post_id", "decided_at", "category", "score", "action", "model_version")
OUTCOMES = ("outcome_id", "revision", "post_id", "category", "verdict", "reviewer_id", "reviewed_at", "source", "inclusion_prob")
DRAWS = ("draw_id", "post_id", "category")
GOLD = ("post_id", "category", "label")
Scan = Callable[[str, Sequence[str]], Iterator[pa.Table]]


class Tables(NamedTuple):
    """Decisions of the week, posts that they are about, and those posts' review outcomes (`recorded_at` where the ledger has it).

    Second reviews of labels that a model doubted are not among the outcomes. Of the ledger's, those that do not answer our draw of their
    post have no inclusion_prob."""

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


def weeks_before(week: str, number: int) -> list[str]:
    """The `number` ISO weeks before one, oldest first. Raises as `bounds`."""
    first, _ = bounds(week)
    return [
        f"{day.isocalendar().year}-W{day.isocalendar().week:02}" for day in (first - pd.Timedelta(weeks=k) for k in range(number, 0, -1))
    ]


def in_week(week: str) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    """What tells which times, of whatever resolution, lie in an ISO week. Raises as `bounds`."""
    first, after = (pa.scalar(moment, contracts.TIMESTAMP) for moment in bounds(week))

    def inside(times: pa.ChunkedArray) -> pa.ChunkedArray:
        """Compare at the contract's resolution."""
        moments = times.cast(contracts.TIMESTAMP)
        return pc.and_(pc.greater_equal(moments, first), pc.less(moments, after))

    return inside


@dataclass(frozen=True)
class Source:
    """Where weeks are read from: the ledger of a store, or a delivery (posts/, decisions/, review_outcomes/) where one is given.

    `ingest` bounds what is held in memory of a delivery. `held` are reviewers whose verdicts a person has taken out."""

    store: Path
    ingest: Ingest
    delivery: Path | None = None
    held: tuple[Hold, ...] = ()

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
        inside = in_week(week)
        scan, synthetic = self._ledger() if self.delivery is None else self._delivery(self.delivery)
        decisions = _gather(scan("decisions", DECISIONS), DECISIONS, lambda rows: rows.filter(inside(rows["decided_at"])))
        if decisions.empty:
            return None
        wanted = pa.array(sorted({*decisions.post_id, *also}), pa.string())
        posts = _gather(scan("posts", POSTS), POSTS, lambda rows: rows.filter(pc.is_in(rows["post_id"], wanted)))
        columns = (*OUTCOMES, *(("recorded_at", "draw_id") if self.delivery is None else ()))
        reviews = _gather(scan("review_outcomes", columns), columns, lambda rows: rows.filter(pc.is_in(rows["post_id"], wanted)))
        outcomes = verdicts.without_held(verdicts.for_estimates(reviews), self.held)
        if self.delivery is None:
            draws = _gather(scan("audit_draws", DRAWS), DRAWS, lambda rows: rows.filter(pc.is_in(rows["post_id"], wanted)))
            outcomes = verdicts.weighed(outcomes, draws)
        return Tables(decisions, posts.drop_duplicates("post_id", keep="last"), outcomes, synthetic)

    def _ledger(self) -> tuple[Scan, bool]:
        """The committed ledger; its package is loaded only here, so that deliveries need the core alone."""
        from upheld.feature_store.ledger.ledger import Ledger

        book = Ledger(self.store)
        return lambda table, columns: (pa.Table.from_batches([batch]) for batch in book.scan(table, columns)), book.synthetic

    def _delivery(self, folder: Path) -> tuple[Scan, bool]:
        synthetic = (folder / contracts.SYNTHETIC_MARK).is_file()
        return lambda table, columns: delivered.read(folder / table, table, columns, self.ingest), synthetic


def _gather(parts: Iterator[pa.Table], columns: Sequence[str], keep: Callable[[pa.Table], pa.Table]) -> pd.DataFrame:
    """The rows to keep, batch by batch, so that memory is that of a week."""
    kept = [rows for part in parts if (rows := keep(part)).num_rows]
    return pa.concat_tables(kept).to_pandas() if kept else pd.DataFrame(columns=list(columns))


def read_gold(path: Path | None) -> pd.DataFrame:
    """Read post_id, category (str) and label (0 or 1) of every item of known truth; none where there is no file.

    Raises:
        BadUse: a column is missing, a label is neither 0 nor 1, or an item comes twice.
    """
    if path is None:
        return pd.DataFrame({"post_id": pd.Series(dtype=str), "category": pd.Series(dtype=str), "label": pd.Series(dtype=float)})
    parts = []
    for file in files.find(path):
        absent = [name for name in GOLD if name not in files.column_names(file)]
        if absent:
            raise BadUse(f"{file}: no column {absent[0]!r}; expected {', '.join(GOLD)}")
        parts += [batch.to_pandas().astype(str) for batch in files.batches(file, GOLD)]
    gold: pd.DataFrame = pd.concat(parts, ignore_index=True)
    label = pd.to_numeric(gold.label, errors="coerce")
    wrong = ~label.isin([0, 1]) | gold.duplicated(["post_id", "category"])
    if wrong.any():
        first = gold[wrong].iloc[0]
        raise BadUse(f"{path}: post_id {first.post_id!r}, {first.category}: found label {first.label!r}; expected 0 or 1, once an item")
    return gold.assign(label=label)
