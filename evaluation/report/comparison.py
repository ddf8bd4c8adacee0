"""The comparison with the champion, or with what served, in tables and sentences: for the report, and for the question about promotion."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from upheld.evaluation.metrics.paired import OF_CHALLENGER, OF_COMPARATOR, RANKING
from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.report.words import listed, spaced

Row = Mapping[str, Any]
WEIGHTED = (
    "Posts were drawn for review by the score of the model that served, so figures that count every label alike would be biased. "
    "Here each label counts 1 / the probability of its draw, and these weighted figures decide."
)


def whom(compared: Row) -> str:
    """The model, or models, compared with, as a sentence names them; `compared` has kind and names of a Comparator."""
    if compared["kind"] == "champion":
        return listed(list(compared["names"]))
    verb = "model that" if len(compared["names"]) == 1 else "models that"
    return f"the {verb} served ({listed(list(compared['names']))})"


def table(metrics: pd.DataFrame) -> list[dict[str, Any]]:
    """The comparison of rankings, one row a category and one a language of it, as metrics.parquet has it.

    Returns:
        [{category, language, challenger, comparator, value, ci_low, ci_high, n, reason}]: both areas, their difference with its interval,
        labelled posts, and with which model, or why the difference is undefined; numbers are numbers or None.
    """
    rows = metrics[metrics.metric.isin((RANKING, OF_CHALLENGER, OF_COMPARATOR))].astype(object)
    of_metric = {name: part.where(part.notna(), None).to_dict("records") for name, part in rows.groupby("metric")}
    areas = [
        {(row["category"], row["language"]): row["value"] for row in of_metric.get(name, ())} for name in (OF_CHALLENGER, OF_COMPARATOR)
    ]
    found = []
    for row in of_metric.get(RANKING, ()):
        challenger, comparator = (area.get((row["category"], row["language"])) for area in areas)
        shown = {name: row[name] for name in ("category", "language", "value", "ci_low", "ci_high", "n", "reason")}
        found.append(shown | {"challenger": challenger, "comparator": comparator})
    return found


def differs(row: Row) -> bool:
    """Whether a difference is shown: 0 lies outside its interval."""
    return row["value"] is not None and (row["ci_low"] > 0 or row["ci_high"] < 0)


def sentences(comparison: Row, categories: list[str]) -> Iterator[str]:
    """What the comparison says of each category, languages together, worst first; nothing where nothing is compared.

    Args:
        comparison: kind, names, and rows of `table`.
        categories: all of the report.
    """
    if comparison["kind"] == "nothing":
        return
    other = whom(comparison)
    pooled = {row["category"]: row for row in comparison["rows"] if row["language"] == ALL}
    known = sorted((row for row in pooled.values() if row["value"] is not None), key=lambda row: float(row["value"]))
    for row in (row for row in known if row["ci_high"] < 0):
        areas = f"ROC-AUC of {spaced(row['category'])} is {row['challenger']:.3f} against {row['comparator']:.3f}"
        yield f"Worse than {other}: {areas}, difference between {row['ci_low']:+.3f} and {row['ci_high']:+.3f}; held."
    better = [f"{spaced(row['category'])} (by {row['ci_low']:.3f} to {row['ci_high']:.3f})" for row in known if row["ci_low"] > 0]
    if better:
        yield f"Better than {other} in ROC-AUC of {listed(better)}."
    alike = [f"{spaced(row['category'])} (between {row['ci_low']:+.3f} and {row['ci_high']:+.3f})" for row in known if not differs(row)]
    if alike:
        yield f"No difference in ROC-AUC from {other} is shown in {listed(alike)}."
    why: dict[str, list[str]] = {}
    for name in categories:
        if name not in pooled or pooled[name]["value"] is None:
            reason = pooled[name]["reason"] if name in pooled else "no labelled post has a score of it"
            why.setdefault(reason, []).append(spaced(name))
    yield from (f"Not compared with {other} in {listed(names)}: {reason}." for reason, names in why.items())
