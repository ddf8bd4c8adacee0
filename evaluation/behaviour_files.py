"""Where results of behaviour tests are kept for a model version, and what a report shows of them."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.evaluation.metrics.rows import ALL
from upheld.feature_store.contracts import hashing

TABLE, SUMMARY = "metrics.parquet", "behaviour.json"
METRICS = ("pass_rate", "flip_rate", "score_shift", "ordered_rate")
FIGURES = ("value", "ci_low", "ci_high", "n", "verdict", "need_n", "reason")
MAX_FAILED = 12  # slices that a report lists; metrics.parquet has them all


def folder_of(store: Path, model_version: str) -> Path:
    """Folder of a model version's results, one folder a suite in it; the name is a digest, since versions may hold any character."""
    return store / "behaviour" / hashing.of_bytes(model_version.encode())[:16]


def write(out: Path, table: pd.DataFrame, told: Mapping[str, Any]) -> None:
    """Write metrics.parquet and behaviour.json.

    Args:
        out: folder.
        table: of `behaviour.measure`.
        told: suite, suite_digest, model_version, thresholds_version, cases, pairs, synthetic and whatever else belongs to it.
    """
    with files.replacing(out / TABLE) as partial:
        table.to_parquet(partial, index=False)
    files.write_json(out / SUMMARY, dict(told))  # last: where it is, everything is


def keep(store: Path, out: Path) -> None:
    """Keep what `write` wrote to `out` with its model version in the store, in place of earlier results of the same suite."""
    told = json.loads((out / SUMMARY).read_text(encoding="utf-8"))
    kept = folder_of(store, told["model_version"]) / told["suite_digest"][:16]
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
    return sorted((_suite(path.parent) for path in folder.rglob(SUMMARY)), key=lambda told: (told["suite"], told["suite_digest"]))


def _suite(folder: Path) -> dict[str, Any]:
    try:
        told = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        table = pd.read_parquet(folder / TABLE)
        rows = table.astype(object).where(table.notna(), None)
        facts = {name: told[name] for name in
                 ("suite", "suite_digest", "model_version", "thresholds_version", "synthetic", "cases", "pairs")}  # fmt: skip
        return facts | _languages(rows) | _failed(rows)
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadUse(f"{folder}: cannot be read ({error!r}); expected what `upheld behave` writes; run it again") from error


def _languages(rows: pd.DataFrame) -> dict[str, Any]:
    """Pooled metrics of every category and language, all languages first."""
    pooled = rows[rows.group_column == ALL]
    found = {tuple(row[:3]): row[3:] for row in pooled[["category", "language", "metric", *FIGURES]].itertuples(index=False, name=None)}
    cells = sorted({key[:2] for key in found}, key=lambda cell: (cell[0], cell[1] != ALL, cell[1]))
    return {"languages": [{"category": category, "language": language} | {
        name: dict(zip(FIGURES, found[category, language, name], strict=True)) if (category, language, name) in found else None
        for name in METRICS} for category, language in cells]}  # fmt: skip


def _failed(rows: pd.DataFrame) -> dict[str, Any]:
    """Functionalities and identities whose whole interval misses its bound, those with the lowest rates of passing first."""
    slices = rows[rows.group_column != ALL]
    failed = slices[slices.verdict == "FAIL"]
    order = failed.assign(last=failed.metric != "pass_rate").sort_values(["last", "value", "category", "language"], kind="stable")
    names = ["category", "language", "group_column", "group_value", "metric", *FIGURES]
    return {"failed": order[names].head(MAX_FAILED).to_dict("records"), "num_failed": len(failed), "num_slices": len(slices)}
