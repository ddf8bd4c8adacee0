"""Media of a delivery: each file is found inside it, read within bounds and decoded once before a post may refer to it."""

import posixpath
import re
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import IO, Any

from feature_store import digest
from feature_store.extractors.contract import Undecodable
from feature_store.extractors.image_decoding import opened
from feature_store.ingest_files import Delivery
from feature_store.params_data import Ingest

_FILES_AT_ONCE = 16  # what is held in memory: this many files
_SAFE_PATH = re.compile(r"[^\\:%\x00-\x1f]+")  # no backslash, drive, scheme or percent-encoding


Pair = tuple[str, str]  # kind, uri


@dataclass(frozen=True)
class MediaFile:
    """A file that was read and, if an image, decoded; width and height in pixels, None for other kinds."""

    digest: str
    kind: str
    format: str
    width: int | None
    height: int | None
    content: bytes


@dataclass(frozen=True)
class MediaRefused:
    """Why a file cannot be used: a code, and what was found."""

    reason: str
    detail: str


def check_all(delivery: Delivery, media: Iterable[Pair], bounds: Ingest) -> Iterator[tuple[Pair, MediaFile | MediaRefused]]:
    """Check files a few at a time, so that memory stays bounded.

    Args:
        delivery: where they must lie.
        media: (kind, uri) pairs.
        bounds: bytes, pixels, hosts.

    Yields:
        each pair with its file, or a refusal: `media_path_unsafe`, `media_missing`, `media_too_large`, `media_corrupt`; in order.
    """
    pairs = iter(media)
    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("ignore")  # of odd metadata; set here too, for the filters are common to both threads
        while some := list(islice(pairs, _FILES_AT_ONCE)):
            yield from zip(some, pool.map(lambda pair: _check_one(delivery, pair[0], pair[1], bounds), some), strict=True)


def _check_one(delivery: Delivery, kind: str, uri: str, bounds: Ingest) -> MediaFile | MediaRefused:
    content = _fetch(uri, bounds) if re.match(r"https?://", uri, re.IGNORECASE) else _read(delivery, uri, bounds)
    if isinstance(content, MediaRefused):
        return content
    if kind != "image":
        return MediaFile(digest.of_bytes(content), kind, posixpath.splitext(uri)[1].lstrip(".").lower(), None, None, content)
    return _decode(content, bounds)


def _read(delivery: Delivery, uri: str, bounds: Ingest) -> bytes | MediaRefused:
    parts = uri.split("/")
    if not _SAFE_PATH.fullmatch(uri) or any(part in ("", ".", "..") for part in parts) or delivery.escapes(uri):
        return MediaRefused("media_path_unsafe", f"{uri!r}: expected a relative path inside the delivery")
    try:
        if not delivery.has(uri):
            return MediaRefused("media_missing", f"{uri!r} is not in the delivery")
        with delivery.files.open(delivery.path(uri), "rb") as stream:
            return _bounded(stream, uri, bounds)
    except OSError as error:
        return MediaRefused("media_missing", f"{uri!r} cannot be read: {error}")


def _bounded(stream: IO[bytes] | Any, uri: str, bounds: Ingest) -> bytes | MediaRefused:
    content: bytes = stream.read(bounds.max_media_bytes + 1)
    if len(content) > bounds.max_media_bytes:
        return MediaRefused("media_too_large", f"{uri!r}: more than {bounds.max_media_bytes} bytes")
    return content or MediaRefused("media_corrupt", f"{uri!r} is empty")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An allowed host must not send us to another one."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(uri: str, bounds: Ingest) -> bytes | MediaRefused:
    try:
        host = urllib.parse.urlsplit(uri).hostname
    except ValueError:
        host = None
    if host not in bounds.media_hosts:
        return MediaRefused("media_path_unsafe", f"{uri!r}: host not in params ingest.media_hosts")
    opener = urllib.request.build_opener(_NoRedirect)
    try:
        with opener.open(uri, timeout=bounds.media_timeout_s) as stream:
            return _bounded(stream, uri, bounds)
    except (OSError, ValueError) as error:  # URLError is an OSError
        return MediaRefused("media_missing", f"{uri!r} cannot be fetched: {error}")


def _decode(content: bytes, bounds: Ingest) -> MediaFile | MediaRefused:
    """Decode one image's first frame; its size is judged by the header, before any pixel is made."""
    try:
        with opened(content, bounds.max_media_pixels) as image:
            image.load()
            return MediaFile(digest.of_bytes(content), "image", str(image.format), *image.size, content)
    except Undecodable as error:
        reason = "media_too_large" if error.refused.reason == "image_bomb" else "media_corrupt"
        return MediaRefused(reason, f"not a readable image: {error}" if reason == "media_corrupt" else error.refused.detail)
