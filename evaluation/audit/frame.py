"""What an audit draws from: the latest decision on each post and category, without what people have judged."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from upheld.common.params.data import Ingest
from upheld.feature_store.ingest import delivered

DECISION_COLUMNS = ("post_id", "category", "decided_at", "score", "action")


def read_frame(decisions: Path, languages: pd.DataFrame, labelled: pd.DataFrame, draws: pd.DataFrame, ingest: Ingest) -> pd.DataFrame:
    """The latest decision on each post and category that has no label yet, or has one because we drew it.

    Args:
        decisions: table of decisions (docs/architecture.md, Contracts), a file or a folder; a column `language` is used where it exists.
        languages: post_id, language; from the ledger where there is one.
        labelled: post_id, category of what people have judged already.
        draws: post_id, category of our earlier draws.
        ingest: bounds of what is held in memory.

    Raises:
        BadUse: a missing column, an unknown action, a score outside [0, 1]; naming file, row and column.
    """
    rows = pa.concat_tables(delivered.read(decisions, "decisions", DECISION_COLUMNS, ingest, also=("language",))).to_pandas()
    frame = rows.sort_values("decided_at", kind="stable").drop_duplicates(["post_id", "category"], keep="last")
    named = frame.post_id.map(languages.set_index("post_id").language)
    frame = frame.assign(language=frame.language.fillna(named))
    frame = frame.assign(drawn_before=_among(frame, draws))
    frame = frame[frame.drawn_before | ~_among(frame, labelled)]
    return frame.assign(language=frame.language.fillna("und")).sort_values(["post_id", "category"], ignore_index=True)


def _among(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.Series:
    """Whether each row's post and category is among the keys."""
    known = pd.MultiIndex.from_frame(keys[["post_id", "category"]])
    return pd.Series(pd.MultiIndex.from_frame(frame[["post_id", "category"]]).isin(known), index=frame.index)


def known(decisions: Path, store: Path, ingest: Ingest) -> tuple[Path, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The decisions' path, (post_id, language), and the (post_id, category) of what people judged and of earlier draws.

    Both come from the delivery that the decisions lie in, where they lie in one, and from the ledger, where there is one.
    """
    delivery = decisions if (decisions / "decisions").is_dir() else decisions.parent
    decisions = delivery / "decisions" if delivery == decisions else decisions
    beside = delivery if decisions.is_dir() and decisions.name == "decisions" else None
    languages = [pd.DataFrame(columns=["post_id", "language"], dtype=str)]
    labelled = [pd.DataFrame(columns=["post_id", "category"], dtype=str)]
    for table, found, second in (("posts", languages, "language"), ("review_outcomes", labelled, "category")):
        if beside and (beside / table).is_dir():
            found += [rows.to_pandas() for rows in delivered.read(beside / table, table, ("post_id", second), ingest)]
    draws = pd.DataFrame(columns=["post_id", "category"], dtype=str)
    if (store / "ledger").is_dir():
        from upheld.feature_store.ledger.ledger import Ledger

        book = Ledger(store)
        languages.append(book.read("posts", ["post_id", "language"]).to_pandas())
        labelled.append(book.read("review_outcomes", ["post_id", "category"]).to_pandas())
        draws = book.read("audit_draws", ["post_id", "category"]).to_pandas()
    return decisions, pd.concat(languages).drop_duplicates("post_id", keep="last"), pd.concat(labelled), draws
