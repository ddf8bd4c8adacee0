"""What is found wrong with rows, and the checks that several tables share, a column at a time."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.params.data import Ingest
from upheld.feature_store.ingest.convert import flags

# C0 without tab, line feed and carriage return; DEL; C1. They reach terminals and files as commands, not as text.
CONTROL_PATTERN = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}]"


@dataclass(frozen=True)
class Rules:
    """What rows are judged by: the policies there are, and the bounds in params."""

    policies: tuple[str, ...]
    bounds: Ingest


class Findings:
    """The first thing found wrong with each of N rows.

    Attributes:
        reasons: object (N,), a code or None.
        details: object (N,), what was found, for people; "" where nothing is wrong.
    """

    def __init__(self, num_rows: int) -> None:
        self.reasons = np.full(num_rows, None, object)
        self.details = np.full(num_rows, "", object)

    @property
    def good(self) -> np.ndarray:
        """bool (N,): rows with which nothing is wrong so far."""
        return np.array([reason is None for reason in self.reasons], bool)

    def mark(self, bad: np.ndarray, reason: str, detail: str) -> None:
        """Note `reason` for the rows of `bad` (N,) that have none yet."""
        fresh = bad & self.good
        self.reasons[fresh] = reason
        self.details[fresh] = detail

    def mark_one(self, row: int, reason: str, detail: str) -> None:
        """Note `reason` for one row, unless it has one already."""
        if self.reasons[row] is None:
            self.reasons[row], self.details[row] = reason, detail


def empty_is_null(values: pa.Array) -> pa.Array:
    """Text with null in place of the empty string: files differ in which they write."""
    return pc.if_else(pc.equal(values, ""), pa.scalar(None, pa.string()), values)


def identifiers(columns: dict[str, pa.Array], findings: Findings, rules: Rules, *names: str) -> None:
    """Names and ids that a row cannot do without."""
    for name in names:
        absent = flags(pc.or_kleene(pc.is_null(columns[name]), pc.equal(columns[name], "")))
        findings.mark(absent, "missing_required", f"column {name} is empty")
        short_and_clean(columns, findings, rules, name)


def short_and_clean(columns: dict[str, pa.Array], findings: Findings, rules: Rules, *names: str) -> None:
    """Mark ids that are longer than `max_id_chars` or hold control characters: `id_invalid`."""
    for name in names:
        long = flags(pc.greater(pc.utf8_length(columns[name]), rules.bounds.max_id_chars))
        findings.mark(long, "id_invalid", f"column {name}: more than {rules.bounds.max_id_chars} characters")
        findings.mark(controls(columns[name]), "id_invalid", f"column {name}: control characters")


def controls(values: pa.Array) -> np.ndarray:
    """bool (N,): texts that hold control characters."""
    return flags(pc.match_substring_regex(values, CONTROL_PATTERN))


def times(columns: dict[str, pa.Array], findings: Findings, name: str) -> None:
    """Mark rows without a time: `timestamp_unparsable`."""
    findings.mark(flags(pc.is_null(columns[name])), "timestamp_unparsable", f"column {name} is empty or no timestamp")


def one_of(columns: dict[str, pa.Array], findings: Findings, name: str, allowed: tuple[str, ...]) -> None:
    """Mark values outside of an enumeration: `unknown_` and the column's name."""
    known = flags(pc.is_in(columns[name], pa.array(allowed, pa.string())))
    findings.mark(~known, f"unknown_{name}", f"column {name}: expected one of {', '.join(allowed)}")


def revision(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    """Mark revisions that are missing, negative, or so high that nobody could correct them."""
    findings.mark(flags(pc.is_null(columns["revision"])), "missing_required", "column revision is empty")
    most = rules.bounds.max_revision
    findings.mark(~within(columns["revision"], 0, most), "revision_invalid", f"column revision: expected 0 to {most}")


def within(values: pa.Array, low: float, high: float) -> np.ndarray:
    """bool (N,): numbers of [low, high]; null and NaN are in no interval."""
    return flags(pc.and_(pc.greater_equal(values, low), pc.less_equal(values, high)))


def lists_of(flat: pa.Array, owners: np.ndarray, num_lists: int) -> pa.Array:
    """Lists from their items and the index of the list that each belongs to (ascending)."""
    lengths = np.bincount(owners, minlength=num_lists) if len(owners) else np.zeros(num_lists, np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), flat)


def lengths(lists: pa.Array) -> np.ndarray:
    """int (N,): number of items of each list; 0 where it is null."""
    return np.asarray(pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False))
