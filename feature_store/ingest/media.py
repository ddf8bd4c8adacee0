"""Media of a delivery: each file is found inside it, read within bounds and decoded once before a post may refer to it.

Images are decoded in worker processes, so that a hostile file can take down neither the ingest nor `upheld score`.
"""

import posixpath
import re
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import IO, Any, Final

from upheld.common.params.data import Ingest
from upheld.common.params.params import Params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding import image_check
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.ingest.delivery import Delivery
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

_DECODER: Final = "upheld.feature_store.decoding.image_check:ImageCheck"
# What a worker's end means for the file that ended it.
_AS_MEDIA = {
    "decode_memory": "media_too_large",
    "decode_timeout": "media_corrupt",
    "decode_crashed": "media_corrupt",
    "decode_failed": "media_corrupt",
}
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


def image_decoders(params: Params) -> DecodePool:
    """Worker processes that decode images for `check_all`; none is started before the first image."""
    timeout_s = params.features.decode_timeout_s["image"]
    answers = partial(image_check.fits, max_pixels=params.ingest.max_media_pixels)
    return DecodePool(_DECODER, params, timeout_s, num_cpus(), answers)


def check_all(
    delivery: Delivery, media: Iterable[Pair], bounds: Ingest, decoders: DecodePool
) -> Iterator[tuple[Pair, MediaFile | MediaRefused]]:
    """Check files a few at a time, so that memory stays bounded.

    Args:
        delivery: where they must lie.
        media: (kind, uri) pairs.
        bounds: bytes, pixels, hosts.
        decoders: as `image_decoders` makes them.

    Yields:
        each pair with its file, or a refusal: `media_path_unsafe`, `media_missing`, `media_too_large`, `media_corrupt`; in order.
    """
    pairs = iter(media)
    with ThreadPoolExecutor(2) as pool:
        while some := list(islice(pairs, _FILES_AT_ONCE)):
            contents = list(pool.map(lambda pair: _read(delivery, pair[1], bounds), some))
            both = list(zip(some, contents, strict=True))
            images = [content for (kind, _), content in both if kind == "image" and isinstance(content, bytes)]
            decoded = decoders.decode(images, _FILES_AT_ONCE)
            for (kind, uri), content in both:
                if isinstance(content, MediaRefused):
                    yield (kind, uri), content
                    continue
                name, width, height = posixpath.splitext(uri)[1].lstrip(".").lower(), None, None
                if kind == "image":
                    found = next(decoded)
                    if isinstance(found, Refused):
                        reason = _AS_MEDIA.get(found.reason, found.reason)
                        detail = found.detail if reason == found.reason else f"{found.reason}: {found.detail}"
                        yield (kind, uri), MediaRefused(reason, detail)
                        continue
                    name = found["format"].tobytes().decode()
                    width, height = found["size"].tolist()
                yield (kind, uri), MediaFile(hashing.of_bytes(content), kind, name, width, height, content)


def _read(delivery: Delivery, uri: str, bounds: Ingest) -> bytes | MediaRefused:
    if re.match(r"https?://", uri, re.IGNORECASE):
        return _fetch(uri, bounds)
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
    try:
        with urllib.request.build_opener(_NoRedirect).open(uri, timeout=bounds.media_timeout_s) as stream:
            return _bounded(stream, uri, bounds)
    except (OSError, ValueError) as error:  # URLError is an OSError
        return MediaRefused("media_missing", f"{uri!r} cannot be fetched: {error}")
