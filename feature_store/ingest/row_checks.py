"""Row contracts, judged a column at a time: which rows of a batch are well formed, and what is wrong with the others."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.params.data import Ingest
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest.convert import convert, flags
from upheld.feature_store.ingest.readers import FileRejected, RawBatch

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


def one_spelling(columns: dict[str, pa.Array], findings: Findings, name: str) -> None:
    """Mark ids of people that look like another id: a cap on one person's share, or a comparison with colleagues, must not be got round.

    Letters of other scripts that look alike are not found; see Unicode's UAX 15 for NFKC.
    """
    coded = columns[name].dictionary_encode()

    def plain(written: str) -> str:
        shown = "".join(letter for letter in written if unicodedata.category(letter) != "Cf")
        return " ".join(unicodedata.normalize("NFKC", shown).split())

    odd = pa.array([written != plain(written) for written in coded.dictionary.to_pylist()], pa.bool_())
    expected = "expected its NFKC form without format characters or needless blanks"
    findings.mark(flags(odd.take(coded.indices)), "id_invalid", f"column {name}: {expected}")


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


def check_posts(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    """Judge a batch of posts; text, language, hashtags and media are replaced by their canonical forms in `columns`, N values each."""
    identifiers(columns, findings, rules, "post_id")
    short_and_clean(columns, findings, rules, "context_id", "author_id", "author_group")
    times(columns, findings, "created_at")
    fits = flags(pc.match_substring_regex(columns["language"], contracts.LANGUAGE_PATTERN))
    findings.mark(~fits, "language_invalid", "column language: expected a BCP-47 tag or und")
    coded = columns["language"].dictionary_encode()
    tags = pa.array([contracts.canonical_language(tag) for tag in coded.dictionary.to_pylist()], pa.string())
    columns["language"] = tags.take(coded.indices)
    for name in ("language", "author_group"):
        pooled = flags(pc.equal(columns[name], contracts.POOLED))
        findings.mark(pooled, "reserved_word", f"column {name}: {contracts.POOLED!r} means all of them together; give another word")
    known = flags(pc.or_kleene(pc.is_null(columns["region"]), pc.is_in(columns["region"], pa.array(sorted(contracts.REGIONS)))))
    findings.mark(~known, "region_invalid", "column region: expected an ISO 3166-1 alpha-2 code or null")
    long = flags(pc.greater(pc.utf8_length(columns["text"]), rules.bounds.max_text_chars))
    findings.mark(long, "text_too_long", f"column text: more than {rules.bounds.max_text_chars} characters")
    columns["text"] = empty_is_null(_without_controls(columns["text"]))
    hashtags = _without_controls(pc.list_flatten(columns["hashtags"]).cast(pa.string()))
    kept = pc.is_valid(hashtags)
    owners = pc.list_parent_indices(columns["hashtags"]).filter(kept).to_numpy(zero_copy_only=False)
    columns["hashtags"] = lists_of(hashtags.filter(kept), owners, len(columns["hashtags"]))
    media = columns["media"]
    flat, owners = pc.list_flatten(media), pc.list_parent_indices(media).to_numpy(zero_copy_only=False)
    kinds, uris = (pc.struct_field(flat, name).cast(pa.string()) for name in ("kind", "uri"))
    known = flags(pc.is_in(kinds, pa.array(contracts.MEDIA_KINDS)))
    named = flags(pc.and_kleene(pc.is_valid(uris), pc.not_equal(uris, ""))) & ~controls(uris)
    for good, reason, detail in (
        (known, "media_kind_unknown", f"media: expected kind {', '.join(contracts.MEDIA_KINDS)}"),
        (named, "media_path_unsafe", "media: uri is empty or holds control characters"),
    ):
        findings.mark(np.isin(np.arange(len(media)), owners[~good]), reason, detail)
    many = lengths(media) > rules.bounds.max_media_per_post
    findings.mark(many, "media_too_many", f"media: more than {rules.bounds.max_media_per_post} files")
    pairs = pa.StructArray.from_arrays([kinds, uris], names=["kind", "uri"])
    columns["media"] = lists_of(pairs, owners, len(media))
    blank = flags(pc.or_kleene(pc.is_null(columns["text"]), pc.equal(pc.utf8_trim_whitespace(columns["text"]), "")))
    alone = lengths(columns["hashtags"]) + lengths(columns["media"]) == 0
    findings.mark(blank & alone, "empty_post", "no text, no hashtag, no media")


def _without_controls(texts: pa.Array) -> pa.Array:
    found = pc.match_substring_regex(texts, CONTROL_PATTERN)
    if not pc.any(pc.fill_null(found, False)).as_py():
        return texts
    return pc.replace_substring_regex(texts, CONTROL_PATTERN, "")


def check(table: str, batch: RawBatch, rules: Rules) -> tuple[pa.Table, Findings]:
    """Convert a batch to its contract and judge every row of it.

    Args:
        table: a key of `contracts.DELIVERED`.
        batch: N rows as delivered.
        rules: policies and bounds.

    Returns:
        the N rows with the contract's columns and types (null where a value is bad), and what is wrong with them.
        Optional text is null where it was empty, lists are empty where they were null.

    Raises:
        FileRejected: a required column is missing, or a column's type cannot be meant.
    """
    contract = contracts.DELIVERED[table]
    missing = [name for name in contract.schema.names if name not in batch.columns and name not in contract.optional]
    if missing and batch.header:
        raise FileRejected("missing_column", f"expected the columns {', '.join(missing)}")
    num_rows = len(batch.row_numbers)
    findings = Findings(num_rows)
    columns: dict[str, pa.Array] = {}
    for field in contract.schema:
        if field.name not in batch.columns:
            columns[field.name] = pa.nulls(num_rows, field.type)
            continue
        values, faults = convert(batch.columns[field.name], field.type, field.name)
        for reason, bad in faults.items():
            findings.mark(bad, reason, f"column {field.name}")
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        columns[field.name] = empty_is_null(values) if field.nullable and pa.types.is_string(field.type) else values
    _CHECKS[table](columns, findings, rules)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns)), findings


def _decisions(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    identifiers(columns, findings, rules, "decision_id", "post_id", "model_version")
    times(columns, findings, "decided_at")
    one_of(columns, findings, "category", rules.policies)
    one_of(columns, findings, "action", contracts.ACTIONS)
    score = columns["score"]
    findings.mark(flags(pc.or_kleene(pc.is_null(score), pc.is_nan(score))), "score_nan", "column score is no number")
    findings.mark(~within(score, 0.0, 1.0), "score_out_of_range", "column score: expected 0 to 1")


def _review_outcomes(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    identifiers(columns, findings, rules, "outcome_id", "post_id", "reviewer_id")
    one_spelling(columns, findings, "reviewer_id")
    short_and_clean(columns, findings, rules, "draw_id")
    revision(columns, findings, rules)
    times(columns, findings, "reviewed_at")
    one_of(columns, findings, "category", rules.policies)
    one_of(columns, findings, "verdict", contracts.VERDICTS)
    one_of(columns, findings, "source", contracts.SOURCES)
    undrawn = pc.and_kleene(pc.equal(columns["source"], contracts.TARGETED), pc.is_null(columns["inclusion_prob"]))
    prob = columns["inclusion_prob"] = pc.if_else(pc.fill_null(undrawn, False), 1.0, columns["inclusion_prob"])  # which nobody reads
    possible = within(prob, 0.0, 1.0) & ~flags(pc.equal(prob, 0.0))
    findings.mark(~possible, "inclusion_prob_out_of_range", "column inclusion_prob: expected more than 0, at most 1")
    least = rules.bounds.min_inclusion_prob
    findings.mark(~within(prob, least, 1.0), "inclusion_prob_too_small", f"column inclusion_prob: expected at least {least}")


def _logo_outcomes(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    identifiers(columns, findings, rules, "outcome_id", "post_id", "media_uri", "brand", "reviewer_id")
    one_spelling(columns, findings, "reviewer_id")
    revision(columns, findings, rules)
    times(columns, findings, "reviewed_at")
    one_of(columns, findings, "verdict", contracts.LOGO_VERDICTS)
    x1, y1, x2, y2 = (columns[name] for name in ("x1", "y1", "x2", "y2"))
    finite = np.logical_and.reduce([within(edge, 0.0, float(rules.bounds.max_media_pixels)) for edge in (x1, y1, x2, y2)])
    drawn = finite & flags(pc.less(x1, x2)) & flags(pc.less(y1, y2))
    findings.mark(~drawn, "box_invalid", "columns x1 y1 x2 y2: expected pixels with x1 < x2 and y1 < y2")


def _tombstones(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    times(columns, findings, "deleted_at")
    nobody = flags(pc.and_(pc.is_null(columns["post_id"]), pc.is_null(columns["author_id"])))
    findings.mark(nobody, "missing_required", "columns post_id and author_id are both empty")
    short_and_clean(columns, findings, rules, "post_id", "author_id")


_CHECKS: dict[str, Callable[[dict[str, pa.Array], Findings, Rules], None]] = {
    "tombstones": _tombstones,
    "posts": check_posts,
    "decisions": _decisions,
    "review_outcomes": _review_outcomes,
    "logo_outcomes": _logo_outcomes,
}
