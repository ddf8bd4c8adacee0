"""Runs one extractor over contents, as a Daft program: on the native engine, or on Ray where DAFT_RUNNER says so.

Each portion of contents is read, decoded in worker processes, extracted and written where it is; what travels back is only how each
fared. While one portion is extracted, the next is being decoded; portions are written one after the other, each in one version.
"""

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import daft
import numpy as np
import pyarrow as pa

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.params import Params, check
from upheld.feature_store.contracts.workspace import features_location
from upheld.feature_store.decoding.contract import Arrays, Refused, load_class
from upheld.feature_store.extraction.contents import CONTENTS, ContentReader
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Extractor
from upheld.feature_store.features.table import KEYS, FeatureStore
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

ERASED: Final = "content_gone"  # erased while it waited for its turn
_DONE: Final = ""  # in place of a reason
_AT_ONCE: Final = 2  # portions: while one is extracted, the next is being decoded
_turn = threading.Lock()  # of the process: the engine may make several instances of the UDF, and one portion may be at stake, not one each
_live: "weakref.WeakSet[Portions]" = weakref.WeakSet()  # in this process
_watchers: list[Callable[[int], None]] = []  # in this process: told how many contents the extractor has just been through
Outcome = dict[str, Any] | Refused


def extract(params: Params, store: Path, extractor: Extractor, contents: pa.Table, watch: Callable[[int], None]) -> Iterator[list[str]]:
    """Extract and write; what was written is safe however the program ends.

    Args:
        params: features and the extractor's own section.
        contents: columns `CONTENTS`.
        watch: told after each batch of the extractor how many contents it had, for a bar; not from Ray's other processes.

    Yields:
        for the contents of each portion why they have no features, "" where they have; as each is written.

    Raises:
        FailedWork: the extractor or its decoder cannot work here.
        KeyboardInterrupt: Ctrl-C.
    """
    nothing = table_schema(extractor.columns).empty_table()
    FeatureStore(features_location(store, params.features.location)).write(extractor.name, nothing)
    size = max(1, params.features.batch_size[extractor.kind])
    frame = daft.from_arrow(contents)
    on_ray = os.environ.get("DAFT_RUNNER", "").lower() == "ray"
    if on_ray:
        frame = frame.into_partitions(-(-len(contents) // size))
    extraction = _program(size, on_ray)(catalogue.EXTRACTORS[extractor.name], params.model_dump(mode="json"), str(store))
    frame = frame.select(extraction.reasons(*(frame[name] for name in CONTENTS.names)).alias("reason"))
    num_done = 0
    _watchers.append(watch)
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        for batch in frame.to_arrow_iter(results_buffer_size=1):
            num_done += batch.num_rows
            yield batch["reason"].to_pylist()
    except Exception as error:
        inner: BaseException | None = error  # our own error inside the engine's, or the engine's
        while inner is not None and not isinstance(inner, BadUse | FailedWork):
            inner = inner.__cause__ or inner.__context__
        raise (inner or error) from error
    finally:
        for portions in list(_live):
            portions.stop()
        _watchers.remove(watch)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, on_interrupt)  # the engine keeps it
    if num_done < len(contents):  # the engine takes Ctrl-C for an end like any other
        raise KeyboardInterrupt


def _program(size: int, on_ray: bool) -> Any:
    """The UDF class. On Ray each instance is an actor; the native engine calls one instance from several threads."""
    gpus = 1 if Path("/dev/nvidiactl").exists() else 0
    placed: dict[str, Any] = {"gpus": gpus, "use_process": False}
    if on_ray:
        import ray

        ray.init(ignore_reinit_error=True, log_to_driver=False)
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        nodes: list[Any] = ray.nodes()  # type: ignore[no-untyped-call]
        placed = {"gpus": gpus, "max_concurrency": max(1, int(resources.get("GPU", 0)) if gpus else len(nodes))}

    @daft.cls(**placed)
    class Extraction(Portions):
        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=size)  # type: ignore[untyped-decorator]
        def reasons(self, digests: daft.Series, texts: daft.Series, videos: daft.Series) -> list[str]:
            """As `take`, for the columns of `CONTENTS`."""
            columns = [series.to_arrow().cast(pa.string()) for series in (digests, texts, videos)]
            return self.take(pa.table(columns, schema=CONTENTS))

    return Extraction


class Portions:
    """Takes portions of contents through one extractor, one after the other.

    Args:
        path: the extractor, as `module:Class`.
        params: all parameters, as JSON has them.
    """

    def __init__(self, path: str, params: dict[str, Any], store: str) -> None:
        checked = check(params, "params")
        self._extractor: Extractor = load_class(path)(checked)
        kind = self._extractor.kind
        where = features_location(Path(store), checked.features.location)
        self._reader = ContentReader(Path(store), where)
        self._features = FeatureStore(where)
        self._size = checked.features.model_batch[kind]
        self._pool = DecodePool(path, checked, checked.features.decode_timeout_s[kind], num_cpus())
        self._next = threading.Semaphore(_AT_ONCE)
        self._stopped = False
        _live.add(self)

    def take(self, contents: pa.Table) -> list[str]:
        """Extract and write one portion, columns `CONTENTS`; says for each content why it has no features, or ""."""
        with self._next:
            if self._stopped:
                raise FailedWork("the extraction has been stopped")
            decoded = self._pool.decode_named(self._reader.read(contents), 2 * self._size)
            first = list(islice(decoded, 1))  # starts the decoders while another portion is extracted
            with _turn:
                outcomes = self._outcomes(chain(first, decoded))
                kept = {digest: outcome for digest, outcome in outcomes.items() if not (isinstance(outcome, Refused) and outcome.passing)}
                rows = feature_rows(self._extractor.columns, list(kept), list(kept.values()), self._extractor.version, datetime.now(UTC))
                self._features.write(self._extractor.name, rows)
        reasons = {digest: outcome.reason if isinstance(outcome, Refused) else _DONE for digest, outcome in outcomes.items()}
        return [reasons.get(digest, ERASED) for digest in contents["digest"].to_pylist()]

    def stop(self) -> None:
        """End the decoders, and wait until nobody is at work here: a thread must not be left in an ending interpreter."""
        self._stopped = True
        self._pool.close()
        for _ in range(_AT_ONCE):
            self._next.acquire()
        self._next.release(_AT_ONCE)

    def _outcomes(self, decoded: Iterator[tuple[str, Arrays | Refused]]) -> dict[str, Outcome]:
        found: dict[str, Outcome] = {}
        while some := list(islice(decoded, self._size)):
            found |= {digest: arrays for digest, arrays in some if isinstance(arrays, Refused)}
            good = {digest: arrays for digest, arrays in some if not isinstance(arrays, Refused)}
            found |= dict(zip(good, self._extracted(list(good.values())), strict=True))
            for watch in _watchers:
                watch(len(some))
        return found

    def _extracted(self, batch: Sequence[Arrays]) -> list[Outcome]:
        """What the extractor makes of a batch; if it fails, of each alone, so that only the culprit goes without."""
        if not batch:
            return []
        try:
            outcomes = self._extractor.extract(batch)
            if len(outcomes) != len(batch):
                raise ValueError(f"{len(outcomes)} results for {len(batch)} contents")
            feature_columns(self._extractor.columns, outcomes)
        except (BadUse, FailedWork):
            raise
        except Exception as error:
            if len(batch) == 1:
                return [Refused("extract_failed", f"{type(error).__name__}: {error}"[:500])]
            return [outcome for arrays in batch for outcome in self._extracted([arrays])]
        return list(outcomes)


def table_schema(columns: pa.Schema) -> pa.Schema:
    """Schema of the table of an extractor whose features are these columns."""
    return pa.schema([*KEYS, *(field.with_nullable(True) for field in columns)])


def feature_columns(columns: pa.Schema, outcomes: Sequence[Outcome]) -> list[pa.Array]:
    """One array a column; null where a content was refused.

    Raises:
        ValueError, TypeError, KeyError: an outcome does not fit the columns (Arrow's errors are among the first two).
    """
    found = [outcome for outcome in outcomes if not isinstance(outcome, Refused)]
    strange = next((name for row in found for name in row if name not in columns.names), None)
    if strange is not None:
        raise KeyError(f"{strange} is no column")
    place = iter(range(len(found)))
    at = pa.array([None if isinstance(outcome, Refused) else next(place) for outcome in outcomes], pa.int64())
    return [_array([row[field.name] for row in found], field.type).take(at) for field in columns]


def feature_rows(columns: pa.Schema, digests: Sequence[str], outcomes: Sequence[Outcome], version: str, at: datetime) -> pa.Table:
    """Rows as they are written: what became of the content with each digest, under the extractor's version and time of extraction."""
    refused = [outcome if isinstance(outcome, Refused) else None for outcome in outcomes]
    keys = [
        pa.array(digests, pa.string()),
        pa.array([version] * len(digests), pa.string()),
        pa.array([at] * len(digests), KEYS.field("extracted_at").type),
        pa.array([None if each is None else each.reason for each in refused], pa.string()),
        pa.array([None if each is None else each.detail for each in refused], pa.string()),
    ]
    return pa.table([*keys, *feature_columns(columns, outcomes)], schema=table_schema(columns))


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """As pa.array; vectors of one length are joined as numbers, not one by one."""
    if pa.types.is_fixed_size_list(kind) and values and all(isinstance(value, np.ndarray) for value in values):
        flat = np.stack(values)
        if flat.shape != (len(values), kind.list_size):
            raise ValueError(f"expected vectors of {kind.list_size} numbers, got {flat.shape[1:]}")
        if not np.isfinite(flat).all():
            raise ValueError("a vector holds NaN or infinity")
        return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1), kind.value_type), kind.list_size)
    return pa.array(values, kind)
