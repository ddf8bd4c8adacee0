"""Extract features: of every content that posts have, what each extractor has not seen yet in its present version; or show what is known
of one post, and from which extractor.

usage: upheld features [--only NAME]… [--explain POST_ID]
"""

import sys
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc
import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from upheld.common import files, progress
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.common.terminal import console, visible
from upheld.feature_store.contracts.workspace import features_location
from upheld.feature_store.extraction.contents import KEYFRAMES, PostContents, contents_of
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Extractor, Kind
from upheld.feature_store.features import shards
from upheld.feature_store.features.table import KEYS, FeatureStore
from upheld.feature_store.ledger import lance
from upheld.feature_store.ledger.ledger import Ledger

_KINDS: tuple[Kind, ...] = ("text", "image", "video", "audio")
_LONG = 160  # characters of a text that are shown


def run(parameters: params.Params, store: Path, only: Sequence[str] = ()) -> dict[str, Any]:
    """Bring the feature store up to date with the ledger.

    Args:
        parameters: reads features and each extractor's own section.
        store: folder that holds the ledger.
        only: names of extractors; empty means every one that can run here and is not in `features.skip`.

    Returns:
        erased (table -> contents that no post has any more), unavailable (extractor -> why), and extractors: of each that ran its
        version, contents, known (before), computed (with features), refused (reason -> contents), took_s.

    Raises:
        BadUse: no such extractor, in `only` or in `features.skip`, or no ledger.
        FailedWork: an extractor named by `only` cannot run here, or another process is writing.
    """
    if unknown := set(parameters.features.skip) - set(catalogue.EXTRACTORS):
        raise BadUse(f"features.skip: no extractor {', '.join(sorted(unknown))}; there are {', '.join(catalogue.EXTRACTORS)}")
    unskipped = [name for name in catalogue.EXTRACTORS if name not in parameters.features.skip]
    chosen = [catalogue.make(name, parameters) for name in only or unskipped]
    unavailable = {extractor.name: why for extractor in chosen if (why := extractor.unavailable()) is not None}
    if only and unavailable:
        name, why = next(iter(unavailable.items()))
        raise FailedWork(f"extractor {name} is not available: {why}")
    order = list(catalogue.EXTRACTORS)
    chosen = sorted((each for each in chosen if each.name not in unavailable), key=lambda each: order.index(each.name))
    features = FeatureStore(features_location(store, parameters.features.location))
    known = PostContents(Ledger(store), features)
    with files.only_writer(Path(store) / ".features.lock", "feature store"):
        erased = erase_orphans(known, features, Path(store) / "decoded")
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
        with progress.shown(*columns, unit="contents") as bars:
            ran = {extractor.name: _bring_up(parameters, store, known, features, extractor, bars) for extractor in chosen}
    return {"erased": erased, "unavailable": unavailable, "extractors": ran}


def erase_orphans(known: PostContents, features: FeatureStore, decoded: Path) -> dict[str, int]:
    """Delete every content of which the ledger has no accepted post: a tombstone's, unless another post has the same.

    Keyframes go with their video: they count as a post's only as long as a post has the video.

    Args:
        known: what the posts of the ledger have.
        features: what is cleaned; it belongs to that ledger alone.
        decoded: the store's folder of decoded arrays, cleaned alike.

    Returns:
        table -> number of contents deleted.

    Raises:
        FailedWork: a run holds an older version of a table; the next call goes on.
    """
    if not features.versions and not decoded.exists():
        return {}
    kinds = [known.of("text"), known.of("image"), known.of("audio")]  # videos are among the last
    living = pa.chunked_array([chunk for table in kinds for chunk in table["digest"].chunks], pa.string())
    shards.keep_only(decoded, living.to_pylist())
    return features.keep_only(living)


def _bring_up(
    parameters: params.Params, store: Path, known: PostContents, features: FeatureStore, extractor: Extractor, bars: Progress
) -> dict[str, Any]:
    """Extract what one extractor has not seen."""
    started = monotonic()
    everything = known.of(extractor.kind)
    missing = pa.array(features.missing(extractor.name, extractor.version, everything["digest"].to_pylist()), pa.string())
    fared: Counter[str] = Counter()
    if len(missing):
        from upheld.feature_store.extraction import engine  # Daft takes a second to import

        task = bars.add_task(extractor.name, total=len(missing))
        contents = everything.filter(pc.is_in(everything["digest"], missing))
        for reasons in engine.extract(parameters, store, extractor, contents, lambda num: bars.advance(task, num)):
            fared.update(reasons)
            bars.update(task, completed=max(fared.total(), bars.tasks[-1].completed))  # on Ray no batch is heard of, but whole portions are
        features.compact(extractor.name, timedelta(days=parameters.features.keep_versions_days))
        if extractor.name == KEYFRAMES:
            known.forget("image")
    computed = fared.pop("", 0)
    return {
        "version": extractor.version,
        "contents": len(everything),
        "known": len(everything) - len(missing),
        "computed": computed,
        "refused": dict(sorted(fared.items())),
        "took_s": round(monotonic() - started, 3),
    }


class _Rate(ProgressColumn):
    """Contents a second."""

    def render(self, task: Task) -> Text:
        """The speed so far; nothing before there is one."""
        return Text("" if task.finished_speed is None and task.speed is None else f"{task.finished_speed or task.speed:,.1f}/s")


def _print(result: dict[str, Any]) -> None:
    table = Table("extractor", "version", "contents", "known", "computed", "refused", "s")
    for name, ran in result["extractors"].items():
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in ran["refused"].items()) or "0"
        numbers = (f"{ran[key]:,}" for key in ("contents", "known", "computed"))
        table.add_row(name, ran["version"], *numbers, reasons, f"{ran['took_s']:.1f}")
    shown = console(stderr=False)
    shown.print(table)
    for name, why in result["unavailable"].items():
        shown.print(visible(f"{name} is not available: {why}"), markup=False)
    for name, count in result["erased"].items():
        shown.print(f"{name}: {count:,} contents erased that no post has any more", markup=False)


def explain(parameters: params.Params, store: Path, post_id: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """Look a post up.

    Returns:
        post_id, and rows: of each content and extractor (of those in `only`; empty means all) kind, digest, extractor, version,
        extracted_at (ISO 8601), reason and detail, or values in short; version is null where nothing was extracted.

    Raises:
        BadUse: no such post, extractor or ledger.
    """
    ledger = Ledger(store)
    posts = list(ledger.scan("posts", ["text", "hashtags", "media"], f"post_id = {lance.quoted([post_id])}"))
    if not sum(batch.num_rows for batch in posts):
        raise BadUse(f"--explain {post_id}: the ledger has no accepted post of that name")
    features = FeatureStore(features_location(store, parameters.features.location))
    rows = []
    for kind in _KINDS:
        digests = contents_of(posts, features, kind)["digest"].to_pylist()
        for name in only or catalogue.EXTRACTORS:
            if digests and catalogue.make(name, parameters).kind == kind:
                found = features.read(name, digests).to_pylist() if name in features.versions else []
                by_digest = {row["digest"]: row for row in found}
                rows += [_row(name, kind, digest, by_digest.get(digest)) for digest in digests]
    return {"post_id": post_id, "rows": rows}


def print_explained(result: dict[str, Any]) -> None:
    """Show what `explain` found as a table."""
    table = Table("content", "digest", "extractor", "version", "when", "what", title=escape(visible(f"post {result['post_id']}")))
    for row in result["rows"]:
        values = "\n".join(visible(f"{name}: {value}") for name, value in row["values"].items())
        what = Text(visible(f"{row['reason']}: {row['detail']}") if row["reason"] else values)
        table.add_row(row["kind"], row["digest"][:12], row["extractor"], row["version"] or "", row["extracted_at"] or "", what)
    console(stderr=False).print(table)


def _row(name: str, kind: Kind, digest: str, found: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"kind": kind, "digest": digest, "extractor": name, "version": None, "extracted_at": None}
    if found is None:
        return row | {"detail": "`upheld features` has not seen it", "values": {}, "reason": "not_extracted"}
    known = {"version": found["extractor_version"], "extracted_at": found["extracted_at"].isoformat()}
    values = {} if found["reason"] else {key: _short(value) for key, value in found.items() if key not in KEYS.names}
    return row | known | {"detail": found["detail"], "values": values, "reason": found["reason"]}


def _short(value: Any) -> Any:
    """A value that fits on a few lines: long texts are cut; vectors, lists and bytes are counted."""
    if isinstance(value, str):
        return value if len(value) <= _LONG else f"{value[:_LONG]}… ({len(value):,} characters)"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        few = [_short(item) for item in value[:4]]
        return few if len(value) <= 4 else f"{len(value):,} values, the first ones {few}"
    return round(value, 6) if isinstance(value, float) else value


@command("features")
def main(
    only: Annotated[list[str], typer.Option("--only", help="Extractor to run; may repeat. Default: all but those of features.skip.")] = [],  # noqa: B006
    explain_: Annotated[str | None, typer.Option("--explain", help="Show what is known of this post; extract nothing.")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Extract the features of every post's contents, or show what is known of one post."""
    parameters = params.load(*asked, store)
    result = run(parameters, store, only) if explain_ is None else explain(parameters, store, explain_, only)
    return Output(result, lambda: _print(result) if explain_ is None else print_explained(result))


if __name__ == "__main__":
    sys.exit(main())
