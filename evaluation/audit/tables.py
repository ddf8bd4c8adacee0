"""What an audit draws from, and its draw as the file that people get and as the ledger keeps it.

The frame is the latest decision on each post and category, without what people have judged. A draw comes out of the ledger again as it
was written: the same rows in the same order, byte for byte.
"""

import json
from datetime import datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.common.params.data import Ingest
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ingest import delivered

DECISION_COLUMNS = ("post_id", "category", "decided_at", "score", "action")
COLUMNS = contracts.AUDIT_DRAWS.names
SUFFIXES = (".csv", ".jsonl", ".parquet")
LAST = "last"


def read_known(decisions: Path, store: Path, ingest: Ingest) -> tuple[Path, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
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
    frame: pd.DataFrame = rows.sort_values("decided_at", kind="stable").drop_duplicates(["post_id", "category"], keep="last")
    named = frame.post_id.map(languages.set_index("post_id").language)
    frame = frame.assign(language=frame.language.fillna(named))
    frame = frame.assign(drawn_before=_among(frame, draws))
    frame = frame[frame.drawn_before | ~_among(frame, labelled)]
    return frame.assign(language=frame.language.fillna("und")).sort_values(["post_id", "category"], ignore_index=True)


def _among(frame: pd.DataFrame, keys: pd.DataFrame) -> pd.Series:
    """Whether each row's post and category is among the keys."""
    known = pd.MultiIndex.from_frame(keys[["post_id", "category"]])
    return pd.Series(pd.MultiIndex.from_frame(frame[["post_id", "category"]]).isin(known), index=frame.index)


def draws_of(plan: pd.DataFrame) -> pa.Table:
    """The rows of a draw with the ledger's columns and types."""
    return pa.Table.from_pydict({name: plan[name].tolist() for name in COLUMNS}, schema=contracts.AUDIT_DRAWS)


def require_suffix(out: Path) -> None:
    """Refuse a name that tells no format.

    Raises:
        BadUse: it does not end in one of SUFFIXES.
    """
    if out.suffix not in SUFFIXES:
        raise BadUse(f"--out {out}: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")


def write_draws(draws: pa.Table, path: Path, suffix: str) -> None:
    """Write a draw.

    Args:
        draws: of `draws_of` or `recorded_draws`.
        path: file to write.
        suffix: one of SUFFIXES, the format.
    """
    ordered = draws.sort_by([(name, "ascending") for name in ("category", "language", "zone", "draw_id")])
    if suffix == ".parquet":
        pq.write_table(ordered, path)
    elif suffix == ".csv":
        ordered.to_pandas().to_csv(path, index=False)
    else:
        lines = (json.dumps(row | {"drawn_at": row["drawn_at"].isoformat()}, ensure_ascii=False) for row in ordered.to_pylist())
        files.write_text(path, "".join(f"{line}\n" for line in lines))


def recorded_draws(store: Path, draw: str) -> pa.Table:
    """An earlier draw, as the ledger keeps it.

    Args:
        store: folder with the ledger.
        draw: `last`, the time of the draw (ISO 8601 with a zone), or a draw_id of it.

    Raises:
        BadUse: there is no ledger, or no such draw; the message names the latest ones.
    """
    from upheld.feature_store.ledger.ledger import Ledger

    draws = Ledger(store).read("audit_draws", COLUMNS)
    times = sorted(pc.unique(draws["drawn_at"]).to_pylist())
    if not times:
        raise BadUse(f"--again {draw}: no draw is recorded in {store}; draw with --decisions and --budget")
    if draw == LAST:
        at = times[-1]
    elif draw.startswith("a_"):
        at = next(iter(draws.filter(pc.equal(draws["draw_id"], draw))["drawn_at"].to_pylist()), None)
    else:
        from upheld.common.command import parse_time  # Typer, which whoever only reads a plan does not need

        at = parse_time(draw, "--again")
    if at not in times:
        known = ", ".join(f"{time.isoformat()}" for time in times[-3:])
        raise BadUse(f"--again {draw}: no such draw; expected `{LAST}`, a draw_id, or the time of a draw, the latest are {known}")
    return draws.filter(pc.equal(draws["drawn_at"], pa.scalar(at, contracts.TIMESTAMP)))


def record(store: Path, draws: pa.Table) -> None:
    """Write a draw into the ledger, the authority on its probabilities; without a ledger the plan is all there is."""
    if (store / "ledger").is_dir():
        from upheld.feature_store.ledger.ledger import record_draws

        record_draws(store, draws)


def draw_times(store: Path) -> set[datetime]:
    """Times of all draws that the store's ledger keeps; none without a ledger."""
    if not (store / "ledger").is_dir():
        return set()
    from upheld.feature_store.ledger.ledger import Ledger

    return set(Ledger(store).read("audit_draws", ["drawn_at"])["drawn_at"].to_pylist())
