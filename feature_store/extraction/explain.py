"""What is known of one post, and from which extractor."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from upheld.common.errors import BadUse
from upheld.common.params.params import Params
from upheld.common.terminal import console, visible
from upheld.feature_store.contracts.inputs import features_location
from upheld.feature_store.extraction.contents import contents_of
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Kind
from upheld.feature_store.features.table import KEYS, FeatureStore
from upheld.feature_store.ledger import lance
from upheld.feature_store.ledger.ledger import Ledger

_KINDS: tuple[Kind, ...] = ("text", "image", "video", "audio")
_LONG = 160  # characters of a text that are shown


def explain(params: Params, store: Path, post_id: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """Look a post up.

    Args:
        params: reads features.
        store: folder that holds the ledger.
        post_id: which post.
        only: names of extractors; empty means all.

    Returns:
        post_id, and rows: of each content and extractor kind, digest, extractor, version, extracted_at (ISO 8601), reason and detail,
        or values in short; version is null where nothing was extracted.

    Raises:
        BadUse: no such post, extractor or ledger.
    """
    ledger = Ledger(store)
    posts = list(ledger.scan("posts", ["text", "hashtags", "media"], f"post_id = {lance.quoted([post_id])}"))
    if not sum(batch.num_rows for batch in posts):
        raise BadUse(f"--explain {post_id}: the ledger has no accepted post of that name")
    features = FeatureStore(features_location(store, params.features.location))
    rows = []
    for kind in _KINDS:
        digests = contents_of(posts, features, kind)["digest"].to_pylist()
        for name in only or catalogue.EXTRACTORS:
            if digests and catalogue.make(name, params).kind == kind:
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
    row: dict[str, Any] = {
        "kind": kind,
        "digest": digest,
        "extractor": name,
        "version": None,
        "extracted_at": None,
        "detail": None,
        "values": {},
    }
    if found is None:
        return row | {"reason": "not_extracted", "detail": "`upheld features` has not seen it"}
    known = {"version": found["extractor_version"], "extracted_at": found["extracted_at"].isoformat()}
    values = {} if found["reason"] else {key: _short(value) for key, value in found.items() if key not in KEYS.names}
    return row | known | {"reason": found["reason"], "detail": found["detail"], "values": values}


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
