"""Great Expectations on the accepted batch: contracts judge rows, this judges whether the whole looks like a week of ours.

A failure does not undo the ingest; it keeps the next snapshot from being made, until a delivery mends it or the params allow it.
The only module that touches Great Expectations.
"""

import logging
import warnings
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from upheld.common.params.data import Expectations
from upheld.feature_store.ledger.ledger import Change

Facts = dict[str, float | None]

_WEEK_US = 7 * 86_400 * 10**6
_MONDAY_US = 4 * 86_400 * 10**6  # 1970-01-01 was a Thursday; ISO weeks begin on Monday


def judge(change: Change, tables: Mapping[str, Mapping[str, Any]], delivery: str, as_of: datetime, bounds: Expectations) -> dict[str, Any]:
    """Judge the batch that this ingest accepted.

    Args:
        change: the ledger with the batch written.
        tables: table -> counts of rows, accepted, duplicate, quarantined in this delivery.
        delivery: digest of the delivery.
        as_of: time of this ingest.

    Returns:
        {"success": bool, "facts": {...}, "checks": [{"name", "observed", "low", "high", "success", "detail"}], "asked": {...}}.
        An ingest that changed nothing judges the last batch again, by the bounds as they are now.
    """
    last = change.ledger.validation
    asked = bounds.model_dump()
    if not change.made and (not last or last["asked"] == asked):
        return last
    facts: Facts = _facts(change, tables, delivery, as_of, bounds) if change.made else last["facts"]
    checks = validate(facts, bounds)
    return {"success": all(check["success"] for check in checks), "facts": facts, "checks": checks, "asked": asked}


def validate(facts: Facts, bounds: Expectations) -> list[dict[str, Any]]:
    """Hold facts against what is expected, with Great Expectations.

    Args:
        facts: name -> value; None where there is too little to tell, which passes and says so.

    Returns:
        one check a fact, in order of name: name, observed, low, high, success, detail.
    """
    # Fact -> lowest and highest value allowed, and what to do about one outside.
    ranges: dict[str, tuple[float | None, float | None, str]] = {
        "num_accepted": (bounds.min_accepted, None, "rows accepted; look at the quarantine table"),
        "quarantined_share": (None, bounds.max_quarantined_share, "of the new rows were quarantined; look at the quarantine table"),
        "label_rate": (bounds.min_label_rate, bounds.max_label_rate, "of the new verdicts confirm a removal"),
        "language_shift": (None, bounds.max_language_shift, "of the new posts would have to change language to match earlier ones"),
        "newest_post_age_days": (None, bounds.max_age_days, "days since the newest post; is a delivery missing?"),
        "num_missing_weeks": (None, bounds.max_missing_weeks, "weeks without a post between others; deliver them"),
    }
    known = {name: value for name, value in facts.items() if value is not None}
    met = _ask_great_expectations(known, ranges) if known else {}
    checks = []
    for name, (low, high, meaning) in sorted(ranges.items()):
        detail = "too few rows to tell"
        if name in known:
            expected = " and ".join(f"{end} {value:g}" for end, value in (("at least", low), ("at most", high)) if value is not None)
            detail = f"{facts[name]:g} {meaning} (expected {expected})"
        checks.append({"name": name, "observed": facts[name], "low": low, "high": high, "success": met.get(name, True), "detail": detail})
    return checks


def _ask_great_expectations(facts: Mapping[str, float], ranges: Mapping[str, tuple[float | None, float | None, str]]) -> dict[str, bool]:
    """Whether each fact lies in its range. The library is imported here: that takes seconds, logs and warns."""
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("ledger").add_dataframe_asset("batch")
    batch = asset.add_batch_definition_whole_dataframe("facts").get_batch({"dataframe": pd.DataFrame([facts])})
    between = gx.expectations.ExpectColumnValuesToBeBetween
    wanted = [between(column=name, min_value=ranges[name][0], max_value=ranges[name][1]) for name in facts]
    results = batch.validate(gx.ExpectationSuite(name="batch", expectations=wanted)).results
    return {result.expectation_config.kwargs["column"]: bool(result.success) for result in results}


def _facts(change: Change, tables: Mapping[str, Mapping[str, Any]], delivery: str, as_of: datetime, bounds: Expectations) -> Facts:
    totals = Counter[str]()
    for counts in tables.values():
        totals.update({name: counts[name] for name in ("rows", "accepted", "duplicate", "quarantined")})
    num_new = totals["rows"] - totals["duplicate"]
    newest: int | None = None
    weeks: set[int] = set()
    for batch in change.now("posts", ["valid_at"]):
        times = batch["valid_at"].cast(pa.int64())
        newest = max(pc.max(times).as_py(), newest or 0)
        weeks |= set(pc.unique(pc.divide(pc.subtract(times, _MONDAY_US), _WEEK_US)).to_pylist())
    verdicts, _ = _counts(change, "review_outcomes", "verdict", delivery)
    decided = verdicts["confirm_removal"] + verdicts["restore"]
    recent = {week for week in weeks if week > max(weeks) - bounds.window_weeks}
    return {
        "num_accepted": float(totals["accepted"]),
        "quarantined_share": totals["quarantined"] / num_new if num_new else None,
        "label_rate": verdicts["confirm_removal"] / decided if decided >= bounds.min_rows_to_tell else None,
        "language_shift": _language_shift(change, delivery, bounds.min_rows_to_tell),
        "newest_post_age_days": None if newest is None else (as_of.timestamp() * 1e6 - newest) / 86_400e6,
        "num_missing_weeks": float(max(recent) - min(recent) + 1 - len(recent)) if recent else None,
    }


def _language_shift(change: Change, delivery: str, at_least: int) -> float | None:
    """Total variation distance between the languages of this delivery's posts and those of all others, in [0, 1]."""
    new, others = _counts(change, "posts", "language", delivery)
    if min(new.total(), others.total()) < at_least:
        return None
    return sum(abs(new[language] / new.total() - others[language] / others.total()) for language in new | others) / 2


def _counts(change: Change, table: str, column: str, delivery: str) -> tuple[Counter[str], Counter[str]]:
    """How often each value occurs in the rows of this delivery, and in all other rows."""
    new, others = Counter[str](), Counter[str]()
    for batch in change.now(table, [column, "delivery"]):
        ours = pc.equal(batch["delivery"], delivery)
        for counter, mask in ((new, ours), (others, pc.invert(ours))):
            counts = pc.value_counts(batch[column].filter(mask))
            counter.update(dict(zip(counts.field("values").to_pylist(), counts.field("counts").to_pylist(), strict=True)))
    return new, others
