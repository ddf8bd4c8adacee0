"""Raw rows of a score table, batch by batch: Parquet, CSV or JSONL, one file or a folder of them."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from upheld.common.errors import BadUse

BATCH_ROWS = 1 << 19
BLOCK_BYTES = 1 << 24
MAX_DEPTH = 64  # of lists and objects in one another
_JSON_TEXT = re.compile(rb'"(?:[^"\\]|\\.)*"')
_PARQUET, _CSV, _JSONL = (".parquet", ".pq"), (".csv",), (".jsonl", ".ndjson", ".json")


def find(path: Path) -> tuple[Path, ...]:
    """The files of a score table, at least one, in order of name.

    Args:
        path: a file, or a folder whose Parquet, CSV and JSONL files (at any depth) are one table.

    Raises:
        BadUse: nothing is there, or nothing in one of the three formats.
    """
    known = _PARQUET + _CSV + _JSONL
    if not path.exists():
        raise BadUse(f"{path}: no such file; expected a score table ({', '.join(known)})")
    files = sorted(item for item in path.rglob("*") if item.suffix in known) if path.is_dir() else [path]
    if not files or files[0].suffix not in known:
        raise BadUse(f"{path}: not a score table; expected {', '.join(known)}")
    return tuple(files)


def column_names(file: Path) -> list[str]:
    """Names of the columns of one file.

    Raises:
        BadUse: the file cannot be read as what its suffix says, or a row of JSONL is nested too deep to be read.
    """
    try:
        if file.suffix in _PARQUET:
            return list(pa.parquet.read_schema(file).names)
        if file.suffix in _JSONL:
            _refuse_deep(file)
        return list(next(iter(_stream(file)), pa.RecordBatch.from_pylist([])).schema.names)
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(file, error) from error


def batches(file: Path, columns: Sequence[str], plain: Sequence[str] = ()) -> Iterator[pa.RecordBatch]:
    """Rows of one file in their order.

    Args:
        file: Parquet, CSV or JSONL.
        columns: the columns to read; all must exist.
        plain: text columns that are not dictionary-encoded.

    Yields:
        record batches with those columns and at least one row; CSV columns are strings, the empty string is null;
        text columns of Parquet come dictionary-encoded.

    Raises:
        BadUse: the bytes are not what the suffix says.
    """
    try:
        if file.suffix in _PARQUET:
            stored = pa.parquet.read_schema(file)
            kinds = {name: stored.field(name).type for name in columns if name not in plain}
            texts = [name for name, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)]
            source = pa.parquet.ParquetFile(file, read_dictionary=texts)
            yield from source.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))
        else:
            yield from (batch.select(list(columns)) for batch in _stream(file) if batch.num_rows)
    except (pa.ArrowInvalid, OSError) as error:
        raise unreadable(file, error) from error


def unreadable(file: Path, error: Exception) -> BadUse:
    """The error for bytes that are not what the suffix says, in one line of bounded length."""
    return BadUse(f"{file}: cannot be read as {file.suffix[1:].upper()}: {' '.join(str(error).split())[:200]}")


def _refuse_deep(file: Path) -> None:
    """Arrow's JSON reader goes down level by level, and a row of many thousands takes the process with it."""
    with file.open("rb") as lines:
        for number, line in enumerate(iter(lambda: lines.readline(BLOCK_BYTES), b""), 1):
            if line.count(b"[") + line.count(b"{") > MAX_DEPTH:
                signs = np.frombuffer(_JSON_TEXT.sub(b"", line), np.uint8)
                steps = np.isin(signs, list(b"[{")).astype(np.int64) - np.isin(signs, list(b"]}"))
                if steps.cumsum().max() > MAX_DEPTH:
                    raise BadUse(f"{file}: row {number}: nested more than {MAX_DEPTH} levels deep; expected one flat JSON object a row")


def _stream(file: Path) -> Iterator[pa.RecordBatch]:
    """Batches of a text format, whole rows with every column."""
    if file.stat().st_size == 0:
        raise pa.ArrowInvalid("the file is empty")
    if file.suffix in _CSV:
        names = pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=BLOCK_BYTES)).schema.names
        convert = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True)
        yield from pa.csv.open_csv(file, pa.csv.ReadOptions(block_size=BLOCK_BYTES), convert_options=convert)
    else:
        yield from pa.json.open_json(file, pa.json.ReadOptions(block_size=BLOCK_BYTES))
