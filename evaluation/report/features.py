"""What the report says of features: which of them the posts have, and how far the captions of the latest week have moved."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from upheld.common.errors import BadUse
from upheld.evaluation.metrics.rows import ALL

MIN_POSTS = 20  # of a language that may be named as the least covered


def read(path: Path) -> dict[str, Any]:
    """Read what the stage `snapshot` wrote of features.

    Args:
        path: JSON with coverage and drift, one entry a feature, language (and week).

    Returns:
        coverage: one entry a feature, all languages together, with `least`, its entry of the language that has it least often (None
        where no language has MIN_POSTS posts); drift: the latest week's entries, `all` first; moved: languages that have moved.

    Raises:
        BadUse: the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        coverage = [row | {"least": _least(row, content["coverage"])} for row in content["coverage"] if row["language"] == ALL]
        latest = max((row["period"] for row in content["drift"]), default=None)
        drift = sorted(
            (row for row in content["drift"] if row["period"] == latest), key=lambda row: (row["language"] != ALL, row["language"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadUse(f"{path}: not readable as features' coverage and drift ({error}); the stage snapshot writes it") from error
    return {"coverage": coverage, "drift": drift, "moved": [row["language"] for row in drift if row["verdict"] == "moved"]}


def _least(pooled: Mapping[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The language whose posts lack the feature most often, if one lacks it more often than the posts do together."""
    others = [row for row in rows if row["feature"] == pooled["feature"] and row["language"] != ALL and row["posts"] >= MIN_POSTS]
    least = min(others, key=lambda row: (row["share"], row["language"]), default=None)
    return least if least is not None and least["share"] < pooled["share"] else None
