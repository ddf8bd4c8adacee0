"""What a model does on cases whose right answer is known: pass rates of functionalities, and whether like cases score alike.

Intervals take the cases of a functionality as a sample of all that could be written for it. Cases out of one template resemble each other,
so they are narrower than they should be. Verdicts: PASS or FAIL where the whole interval lies on one side of the bound, else INSUFFICIENT.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from upheld.common import files
from upheld.common.arrays import Bools, Floats
from upheld.common.errors import BadUse
from upheld.common.params.evaluation import Behave
from upheld.evaluation.metrics import table as metrics
from upheld.evaluation.metrics.fairness import FAIL, INSUFFICIENT, PASS
from upheld.evaluation.metrics.rows import ALL, COLUMNS
from upheld.evaluation.scores import files as score_files
from upheld.evaluation.scores.table import Columns
from upheld.evaluation.statistics import intervals
from upheld.feature_store.contracts import hashing

REQUIRED = ("case_id", "text", "language", "functionality", "label", "category")
# pair_id: cases that should score alike (translations, swapped identities); ref_case_id: the case that this one is a variant of.
OPTIONAL = ("pair_id", "ref_case_id", "identity")
LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}
SLICE = ["category", "language", "group_column", "group_value"]
GROUPS = ("functionality", "identity")
TABLE, SUMMARY = "metrics.parquet", "behaviour.json"
METRICS = ("pass_rate", "flip_rate", "score_shift", "ordered_rate")
FIGURES = ("value", "ci_low", "ci_high", "n", "verdict", "need_n", "reason")
MAX_FAILED = 12  # slices that a report lists; metrics.parquet has them all


def read_suite(path: Path, columns: Columns, violation: str | None = None) -> pd.DataFrame:
    """Read a suite.

    Args:
        path: Parquet, CSV or JSONL file, or a folder of them.
        columns: other names and constants for the columns above.
        violation: the value of `label` that expects a violation, where labels are words; the one other value expects none.

    Returns:
        the columns of REQUIRED and OPTIONAL: texts without nulls (a missing language is `und`), label int 0 or 1, optional ones
        with None where there is nothing.

    Raises:
        BadUse: a column or a value is missing, a label is neither 0 nor 1, or a case_id comes twice; the message names file and row.
    """
    cases = pd.concat([_file(file, columns) for file in score_files.find(path)], ignore_index=True)
    if cases.empty:
        raise BadUse(f"{path}: no case; expected one row a case")
    cases["language"] = cases["language"].fillna("und")
    for name in REQUIRED:
        _refuse(path, cases[name].isna(), name, "is empty")
    labels = cases["label"].str.strip()
    if violation is None:
        known = labels.str.lower().map(LABELS)
        _refuse(path, known.isna(), "label", "is neither 0 nor 1; name the word for a violation with --violation")
        cases["label"] = known.astype(int)
    else:
        words = sorted(labels.unique())
        if violation not in words or len(words) > 2:
            raise BadUse(f"{path}: column label: expected {violation!r} and one other word, found {', '.join(map(repr, words[:5]))}")
        cases["label"] = (labels == violation).astype(int)
    _refuse(path, cases["case_id"].duplicated(), "case_id", "comes twice")
    return cases


def _file(file: Path, columns: Columns) -> pd.DataFrame:
    there = score_files.column_names(file)
    sources = {name: columns.renames.get(name, name) for name in (*REQUIRED, *OPTIONAL)}
    unknown = sorted((columns.renames.keys() | columns.constants.keys()) - sources.keys())
    if unknown:
        raise BadUse(f"--columns {unknown[0]}: no column of a suite; expected one of {', '.join(sources)}")
    for name, source in sources.items():
        wanted = name in REQUIRED or name in columns.renames
        if wanted and name not in columns.constants and source not in there:
            raise BadUse(f"{file}: no column {source!r} for {name}; it has {', '.join(there[:30])}; map one with --columns {name}=COLUMN")
    found = {name: source for name, source in sources.items() if name not in columns.constants and source in there}
    parts = [batch.to_pandas() for batch in score_files.batches(file, tuple(dict.fromkeys(found.values())))]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(found.values()))
    content: dict[str, Any] = dict(columns.constants)
    for name, source in found.items():
        nested = [value for value in rows[source] if isinstance(value, list | dict | np.ndarray)]
        if nested:
            raise BadUse(f"{file}: column {name}: expected one value a row, found {type(nested[0]).__name__}")
        # Values as text; None where there is nothing or only white space.
        texts = [None if pd.isna(value) or not str(value).strip() else str(value) for value in rows[source]]
        content[name] = pd.Series(texts, index=rows.index, dtype=object)
    return pd.DataFrame(content, index=rows.index, columns=[*REQUIRED, *OPTIONAL], dtype=object)


def _refuse(path: Path, bad: "pd.Series[bool]", name: str, what: str) -> None:
    if bad.any():
        raise BadUse(f"{path}: row {int(bad.to_numpy().argmax()) + 1}: column {name}: {what}")


def measure(cases: pd.DataFrame, section: Behave, alpha: float) -> pd.DataFrame:
    """Every metric of every slice.

    Args:
        cases: columns of `read_suite`, and prob (calibrated, float64 in [0, 1]) and flagged (bool).
        section: the bounds.
        alpha: two-sided error of intervals.

    Returns:
        the columns of metrics.parquet; group_column is functionality, identity or all; language or group `all` is the pooled slice.
        pass_rate: share of cases whose decision is the expected one. Of pairs with the same expected label: score_shift (mean of the
        case's probability minus its reference's) and flip_rate (share whose decisions differ). Of pairs with different ones:
        ordered_rate (share in which the violation scores higher). A slice without such a pair has no such row.
    """
    pairs = paired(cases)
    alike, contrasts = pairs[pairs["same"]], pairs[~pairs["same"]]
    passed = _rates(cases.assign(event=cases["flagged"] == (cases["label"] == 1)), alpha)
    bounds = np.array([section.min_pass_rates.get(name, section.min_pass_rate) for name in passed["group_value"]], np.float64)
    # Mean shift of each slice with Student's interval; one pair alone has none.
    shifts, largest = _sliced(alike).groupby(SLICE)["shift"].agg(["mean", "std", "size"]).reset_index(), section.max_score_shift
    mean, spread, n = (shifts.pop(name).to_numpy(float) for name in ("mean", "std", "size"))
    half = student.ppf(1 - alpha / 2, np.maximum(n - 1, 1)) * spread / np.sqrt(n)
    shifts = shifts.assign(value=mean, ci_low=mean - half, ci_high=mean + half, n=n, n_eff=n)
    inside = (mean - half >= -largest) & (mean + half <= largest)
    outside = (mean - half > largest) | (mean + half < -largest)
    reasons = [f"tolerated: {largest:g} either way" if num > 1 else "one pair alone has no interval" for num in n]
    parts = [
        _judged("pass_rate", passed, bounds, at_least=True),
        _judged("flip_rate", _rates(alike.assign(event=alike["flips"]), alpha), section.max_flip_rate, at_least=False),
        _judged("ordered_rate", _rates(contrasts.assign(event=contrasts["ordered"]), alpha), section.min_ordered_rate, at_least=True),
        _decided("score_shift", shifts, inside, outside, largest - np.abs(mean), reasons),
    ]
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    return metrics.tidy(table.sort_values([*SLICE, "metric"], ignore_index=True)[COLUMNS])


def paired(cases: pd.DataFrame) -> pd.DataFrame:
    """Each case beside its reference: the case that ref_case_id names, else the mean of the others with its pair_id and expected label.

    Returns:
        the cases that have one, with same (bool: both expect the same), shift (prob minus the reference's), flips (bool: another
        decision than the reference, or than most of the others), ordered (bool: the violation scores higher; of use where not same).
    """
    named = cases[cases["ref_case_id"].notna() & (cases["ref_case_id"] != cases["case_id"])]
    known = cases.set_index("case_id")[["label", "prob", "flagged"]].add_prefix("ref_")
    by_name = named.join(known, on="ref_case_id", how="inner").assign(ref_flagged=lambda rows: rows["ref_flagged"].astype(float))
    grouped = cases[cases["pair_id"].notna()]
    group = grouped.groupby(["category", "pair_id", "label"])
    others = group["prob"].transform("size") - 1
    of_others = pd.DataFrame(
        {
            "ref_label": grouped["label"],
            "ref_prob": (group["prob"].transform("sum") - grouped["prob"]) / others.where(others > 0),
            "ref_flagged": (group["flagged"].transform("sum") - grouped["flagged"]) / others.where(others > 0),
        }
    )
    by_group = grouped.join(of_others)[(others > 0) & ~grouped["case_id"].isin(by_name["case_id"])]
    rows = pd.concat([part for part in (by_name, by_group) if len(part)] or [by_name])
    gap = (rows["prob"] - rows["ref_prob"]).astype(float)
    return rows.assign(
        same=rows["label"] == rows["ref_label"],
        shift=gap,
        flips=(rows["flagged"].astype(float) - rows["ref_flagged"]).abs() > 0.5,
        ordered=np.where(rows["label"] > rows["ref_label"], gap > 0, gap < 0),
    )


def _sliced(rows: pd.DataFrame) -> pd.DataFrame:
    """Each row once for every slice that it belongs to."""
    parts = []
    for language in (rows["language"], ALL):
        parts.append(rows.assign(language=language, group_column=ALL, group_value=ALL))
        parts += [rows.assign(language=language, group_column=name, group_value=rows[name])[rows[name].notna()] for name in GROUPS]
    return pd.concat(parts, ignore_index=True)


def _rates(rows: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Share of `event` in each slice with its exact interval: a verdict on two cases must be able to stand."""
    counts = _sliced(rows).groupby(SLICE)["event"].agg(["sum", "size"]).reset_index()
    events, n = counts.pop("sum").to_numpy(float), counts.pop("size").to_numpy(float)
    low, high = intervals.clopper_pearson(events, n, alpha)
    return counts.assign(value=intervals.rates(events, n), ci_low=low, ci_high=high, n=n, n_eff=n)


def _judged(name: str, found: pd.DataFrame, bound: Floats | float, *, at_least: bool) -> pd.DataFrame:
    """Verdicts of rates against a bound."""
    low, high = found["ci_low"].to_numpy(float), found["ci_high"].to_numpy(float)
    good, bad = (low >= bound, high < bound) if at_least else (high <= bound, low > bound)
    reasons = [f"expected: at {'least' if at_least else 'most'} {limit:g}" for limit in np.broadcast_to(bound, len(found))]
    return _decided(name, found, good, bad, np.abs(found["value"].to_numpy(float) - bound), reasons)


def _decided(name: str, found: pd.DataFrame, good: Bools, bad: Bools, room: Floats, reason: list[str]) -> pd.DataFrame:
    """Add verdict, bound, and cases until the interval would leave the bound on one side, at the value seen."""
    value, low, high = (found[column].to_numpy(float) for column in ("value", "ci_low", "ci_high"))
    verdict = np.select([good, bad], [PASS, FAIL], INSUFFICIENT)
    reach = np.maximum(high - value, value - low)
    needed = np.ceil(found["n"].to_numpy(float) * np.square(reach / np.maximum(np.abs(room), 0.01)))
    return found.assign(metric=name, verdict=verdict, need_n=np.where(verdict == INSUFFICIENT, needed, np.nan), reason=reason)


def folder_of(store: Path, model_version: str) -> Path:
    """Folder of a model version's results, one folder a suite in it; the name is a digest, since versions may hold any character."""
    return store / "behaviour" / hashing.of_bytes(model_version.encode())[:16]


def write(out: Path, table: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Write metrics.parquet and behaviour.json.

    Args:
        out: folder.
        table: of `measure`.
        summary: suite, suite_digest, model_version, thresholds_version, cases, pairs, synthetic and whatever else belongs to it.
    """
    files.write_parquet(out / TABLE, table)
    files.write_json(out / SUMMARY, dict(summary))  # last: where it is, everything is


def keep(store: Path, out: Path) -> None:
    """Keep what `write` wrote to `out` with its model version in the store, in place of earlier results of the same suite."""
    summary = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    kept = folder_of(store, summary["model_version"]) / summary["suite_digest"][:16]
    for name in (TABLE, SUMMARY):
        with files.replacing(kept / name) as partial:
            shutil.copyfile(out / name, partial)


def load(folder: Path) -> list[dict[str, Any]]:
    """What a report shows of every suite in a folder (that of a model version, or the one that `upheld behave` wrote to).

    Args:
        folder: need not exist.

    Returns:
        by name of the suite: {suite, model_version, thresholds_version, synthetic, cases, pairs, languages: [{category, language,
        pass_rate, flip_rate, score_shift, ordered_rate}], failed: [{category, language, group_column, group_value, metric, ...}],
        num_failed, num_slices}; a metric is {value, ci_low, ci_high, n, verdict, need_n, reason} or None where no pair gives it.

    Raises:
        BadUse: a file is not what `upheld behave` writes.
    """
    suites = []
    for path in folder.rglob(SUMMARY):
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
            table = pd.read_parquet(path.parent / TABLE)
            rows = table.astype(object).where(table.notna(), None)
            facts = {name: summary[name] for name in
                     ("suite", "suite_digest", "model_version", "thresholds_version", "synthetic", "cases", "pairs")}  # fmt: skip
            pooled = rows[rows.group_column == ALL]
            columns = ["category", "language", "metric", *FIGURES]
            found = {row[:3]: dict(zip(FIGURES, row[3:], strict=True)) for row in pooled[columns].itertuples(index=False, name=None)}
            cells = sorted({key[:2] for key in found}, key=lambda cell: (cell[0], cell[1] != ALL, cell[1]))  # all languages first
            languages = [{"category": category, "language": language} | {name: found.get((category, language, name)) for name in METRICS}
                         for category, language in cells]  # fmt: skip
            suites.append(facts | {"languages": languages} | _failed(rows))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise BadUse(f"{path.parent}: cannot be read ({error!r}); expected what `upheld behave` writes; run it again") from error
    return sorted(suites, key=lambda suite: (suite["suite"], suite["suite_digest"]))


def _failed(rows: pd.DataFrame) -> dict[str, Any]:
    """Functionalities and identities whose whole interval misses its bound, those with the lowest rates of passing first."""
    slices = rows[rows.group_column != ALL]
    failed = slices[slices.verdict == "FAIL"]
    order = failed.assign(last=failed.metric != "pass_rate").sort_values(["last", "value", "category", "language"], kind="stable")
    names = ["category", "language", "group_column", "group_value", "metric", *FIGURES]
    return {"failed": order[names].head(MAX_FAILED).to_dict("records"), "num_failed": len(failed), "num_slices": len(slices)}
