"""The row contract of posts."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from upheld.feature_store.ingest.convert import flags
from upheld.feature_store.ingest.findings import (
    CONTROL_PATTERN,
    Findings,
    Rules,
    controls,
    empty_is_null,
    identifiers,
    lengths,
    lists_of,
    short_and_clean,
    times,
)
from upheld.feature_store.ledger import tables as contracts


def check_posts(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    """Judge a batch of posts.

    Args:
        columns: converted columns, N values each; text, language, hashtags and media are replaced by their canonical forms.
        findings: takes note of what is wrong.
        rules: policies and bounds.
    """
    identifiers(columns, findings, rules, "post_id")
    short_and_clean(columns, findings, rules, "context_id", "author_id", "author_group")
    times(columns, findings, "created_at")
    fits = flags(pc.match_substring_regex(columns["language"], contracts.LANGUAGE_PATTERN))
    findings.mark(~fits, "language_invalid", "column language: expected a BCP-47 tag or und")
    columns["language"] = _canonical_languages(columns["language"])
    for name in ("language", "author_group"):
        pooled = flags(pc.equal(columns[name], contracts.POOLED))
        findings.mark(pooled, "reserved_word", f"column {name}: {contracts.POOLED!r} means all of them together; give another word")
    known = flags(pc.or_kleene(pc.is_null(columns["region"]), pc.is_in(columns["region"], pa.array(sorted(contracts.REGIONS)))))
    findings.mark(~known, "region_invalid", "column region: expected an ISO 3166-1 alpha-2 code or null")
    long = flags(pc.greater(pc.utf8_length(columns["text"]), rules.bounds.max_text_chars))
    findings.mark(long, "text_too_long", f"column text: more than {rules.bounds.max_text_chars} characters")
    columns["text"] = empty_is_null(_without_controls(columns["text"]))
    columns["hashtags"] = _clean_lists(columns["hashtags"])
    _media(columns, findings, rules)
    blank = flags(pc.or_kleene(pc.is_null(columns["text"]), pc.equal(pc.utf8_trim_whitespace(columns["text"]), "")))
    alone = lengths(columns["hashtags"]) + lengths(columns["media"]) == 0
    findings.mark(blank & alone, "empty_post", "no text, no hashtag, no media")


def _canonical_languages(languages: pa.Array) -> pa.Array:
    """RFC 5646 section 2.1.1: language in lower case, script in title case, region in upper case."""
    coded = languages.dictionary_encode()
    tags = pa.array([_canonical_language(tag) for tag in coded.dictionary.to_pylist()], pa.string())
    return tags.take(coded.indices)


def _canonical_language(tag: str) -> str:
    first, *rest = tag.split("-")
    cased = {2: str.upper, 4: str.title}
    return "-".join([first.lower(), *(cased.get(len(part), str.lower)(part) for part in rest)])


def _without_controls(texts: pa.Array) -> pa.Array:
    found = pc.match_substring_regex(texts, CONTROL_PATTERN)
    if not pc.any(pc.fill_null(found, False)).as_py():
        return texts
    return pc.replace_substring_regex(texts, CONTROL_PATTERN, "")


def _clean_lists(lists: pa.Array) -> pa.Array:
    """Lists without nulls and control characters; a null list is an empty one."""
    flat = _without_controls(pc.list_flatten(lists).cast(pa.string()))
    kept = pc.is_valid(flat)
    owners = pc.list_parent_indices(lists).filter(kept).to_numpy(zero_copy_only=False)
    return lists_of(flat.filter(kept), owners, len(lists))


def _media(columns: dict[str, pa.Array], findings: Findings, rules: Rules) -> None:
    media = columns["media"]
    flat, owners = pc.list_flatten(media), pc.list_parent_indices(media).to_numpy(zero_copy_only=False)
    kinds, uris = (pc.struct_field(flat, name).cast(pa.string()) for name in ("kind", "uri"))
    known = flags(pc.is_in(kinds, pa.array(contracts.MEDIA_KINDS)))
    named = flags(pc.and_kleene(pc.is_valid(uris), pc.not_equal(uris, ""))) & ~controls(uris)
    findings.mark(_rows(owners, ~known, len(media)), "media_kind_unknown", f"media: expected kind {', '.join(contracts.MEDIA_KINDS)}")
    findings.mark(_rows(owners, ~named, len(media)), "media_path_unsafe", "media: uri is empty or holds control characters")
    many = lengths(media) > rules.bounds.max_media_per_post
    findings.mark(many, "media_too_many", f"media: more than {rules.bounds.max_media_per_post} files")
    pairs = pa.StructArray.from_arrays([kinds, uris], names=["kind", "uri"])
    columns["media"] = lists_of(pairs, owners, len(media))


def _rows(owners: np.ndarray, bad_items: np.ndarray, num_rows: int) -> np.ndarray:
    rows = np.zeros(num_rows, bool)
    rows[owners[bad_items]] = True
    return rows
