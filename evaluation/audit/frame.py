"""What an audit draws from: the latest decision on each post and category, without what people have judged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from upheld.common.errors import BadUse
from upheld.evaluation.audit.design import ZONES
from upheld.evaluation.scores import files as score_files

DECISION_COLUMNS = ("post_id", "category", "decided_at", "score", "action")


def read_frame(decisions: Path, languages: pd.DataFrame, labelled: pd.DataFrame, draws: pd.DataFrame) -> pd.DataFrame:
    """The latest decision on each post and category that has no label yet, or has one because we drew it.

    Args:
        decisions: table of decisions (docs/architecture.md, Contracts), a file or a folder; a column `language` is used where it exists.
        languages: post_id, language; from the ledger where there is one.
        labelled: post_id, category of what people have judged already.
        draws: post_id, category of our earlier draws.

    Raises:
        BadUse: a missing column, an unknown action, a score outside [0, 1]; naming file, row and column.
    """
    parts = [_read_decisions(file) for file in score_files.find(decisions)]
    frame = pd.concat(parts).sort_values("decided_at", kind="stable").drop_duplicates(["post_id", "category"], keep="last")
    if "language" not in frame:
        frame = frame.merge(languages, on="post_id", how="left", validate="many_to_one")
    frame = frame.assign(drawn_before=_among(frame, draws))
    frame = frame[frame.drawn_before | ~_among(frame, labelled)]
    return frame.assign(language=frame.language.fillna("und")).sort_values(["post_id", "category"], ignore_index=True)


def _among(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.Series:
    """Whether each row's post and category is among the keys."""
    known = pd.MultiIndex.from_frame(keys[["post_id", "category"]])
    return pd.Series(pd.MultiIndex.from_frame(frame[["post_id", "category"]]).isin(known), index=frame.index)


def _read_decisions(file: Path) -> pd.DataFrame:
    there = score_files.column_names(file)
    for name in DECISION_COLUMNS:
        if name not in there:
            raise BadUse(f"{file}: no column {name!r}; expected a table of decisions, it has {', '.join(there[:30])}")
    names = [*DECISION_COLUMNS, *(["language"] if "language" in there else [])]
    frame = pd.concat(
        [pd.DataFrame(batch.to_pylist(), columns=names) for batch in score_files.batches(file, names)] or [pd.DataFrame(columns=names)]
    )
    frame = frame.reset_index(drop=True)
    score = pd.to_numeric(frame.score, errors="coerce")
    for column, bad, expected in (
        ("post_id", frame.post_id.isna(), "an id"),
        ("category", frame.category.isna(), "a policy"),
        ("score", ~score.between(0, 1), "a number in [0, 1]"),
        ("action", ~frame.action.isin(ZONES), " / ".join(ZONES)),
    ):
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise BadUse(f"{file}: row {row + 1}, column {column}: found {frame[column][row]!r}, expected {expected}")
    return frame.assign(score=score, decided_at=pd.to_datetime(frame.decided_at, utc=True, errors="coerce"))


def known(decisions: Path, store: Path) -> tuple[Path, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The decisions' path, (post_id, language), and the (post_id, category) of what people judged and of earlier draws.

    Both come from the delivery that the decisions lie in, where they lie in one, and from the ledger, where there is one.
    """
    delivery = decisions if (decisions / "decisions").is_dir() else decisions.parent
    decisions = delivery / "decisions" if delivery == decisions else decisions
    beside = delivery if decisions.is_dir() and decisions.name == "decisions" else None
    languages = [_columns(beside and beside / "posts", ["post_id", "language"])]
    labelled = [_columns(beside and beside / "review_outcomes", ["post_id", "category"])]
    draws = pd.DataFrame(columns=["post_id", "category"], dtype=str)
    if (store / "ledger").is_dir():
        from upheld.feature_store.ledger.ledger import Ledger

        book = Ledger(store)
        languages.append(book.read("posts", ["post_id", "language"]).to_pandas())
        labelled.append(book.read("review_outcomes", ["post_id", "category"]).to_pandas())
        draws = book.read("audit_draws", ["post_id", "category"]).to_pandas()
    return decisions, pd.concat(languages).drop_duplicates("post_id", keep="last"), pd.concat(labelled), draws


def _columns(folder: Path | None, names: list[str]) -> pd.DataFrame:
    """Columns of a table of the delivery, as text; no rows where the table is not there."""
    files = score_files.find(folder) if folder and folder.is_dir() else ()
    parts = [pa.Table.from_batches([batch]).to_pandas().astype(str) for file in files for batch in score_files.batches(file, names)]
    rows: pd.DataFrame = pd.concat([pd.DataFrame(columns=names, dtype=str), *parts])
    return rows
