"""Reading a delivery, from any fsspec file system: its files, their rows in batches of bounded size, and its media.

Each file of media is found inside the delivery, read within bounds and decoded once before a post may refer to it. Images are decoded in
worker processes, so that a hostile file can take down neither the ingest nor `upheld score`.
"""

import csv
import posixpath
import re
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import fsspec
import pyarrow as pa

from upheld.common import files
from upheld.common.errors import BadUse
from upheld.common.params.data import Ingest
from upheld.common.params.params import Params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.decoding.images import ImageBounds, ImageCheck
from upheld.feature_store.ingest.readers import READERS, FileRejected, RawBatch
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

_DECODER: Final = "upheld.feature_store.decoding.images:ImageCheck"
# What a worker's end means for the file that ended it.
_AS_MEDIA = {"decode_memory": "media_too_large"} | dict.fromkeys(("decode_timeout", "decode_crashed", "decode_failed"), "media_corrupt")
_FILES_AT_ONCE = 16  # what is held in memory: this many files
_SAFE_PATH = re.compile(r"[^\\:%\x00-\x1f]+")  # no backslash, drive, scheme or percent-encoding

Pair = tuple[str, str]  # kind, uri


@dataclass(frozen=True)
class Delivery:
    """A folder or object-store prefix.

    Attributes:
        files: the fsspec file system that holds it.
        root: its path there, without a trailing slash.
        local: True if it is a folder of this machine, where symbolic links have to be followed with care.
    """

    files: Any
    root: str
    local: bool

    def path(self, relative: str) -> str:
        """Path of a delivered file on the delivery's file system."""
        return f"{self.root}/{relative}"

    def escapes(self, relative: str) -> bool:
        """True if the file, symbolic links followed, lies outside the delivery."""
        return self.local and not files.within(Path(self.root), Path(self.path(relative)))

    def has(self, relative: str) -> bool:
        """True if the delivery holds this file, and it is an ordinary one: no folder, pipe or device, no link to nowhere."""
        return bool(self.files.isfile(self.path(relative)))


@dataclass(frozen=True)
class DeliveredFile:
    """A file of a delivered table; `path` is relative to the delivery, `size` in bytes. In a name that is no UTF-8, and so of no file
    that is read, the odd bytes are escaped."""

    table: str
    path: str
    size: int


def open_delivery(where: str) -> Delivery:
    """Find a delivery.

    Args:
        where: local path or any fsspec URL.

    Raises:
        BadUse: it is not there, is no folder, or its protocol is unknown.
    """
    try:
        files, root = fsspec.core.url_to_fs(where)
        found = files.isdir(root)
    except Exception as error:  # the file systems of fsspec share no type
        raise BadUse(f"{where}: cannot be opened ({error}); expected a folder or an fsspec URL") from error
    if not found:
        raise BadUse(f"{where}: no such folder; expected a delivery with {', '.join(f'{name}/' for name in contracts.DELIVERED)}")
    return Delivery(files, root.rstrip("/"), "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,)))


def table_files(delivery: Delivery) -> list[DeliveredFile]:
    """Every file of every table, in order of table and name. Names that begin with `.` or `_` are left alone.

    Raises:
        BadUse: the delivery has no folder of any table.
    """
    folders = [table for table in contracts.DELIVERED if delivery.files.isdir(delivery.path(table))]
    if not folders:
        expected = ", ".join(f"{name}/" for name in contracts.DELIVERED)
        raise BadUse(f"{delivery.root}: no folder of any table; expected at least one of {expected}")
    files = []
    for table in folders:
        found = delivery.files.find(delivery.path(table), detail=True)
        for path, entry in sorted(found.items()):
            relative = posixpath.relpath(path, delivery.root).encode("utf-8", "backslashreplace").decode()
            if not posixpath.basename(relative).startswith((".", "_")):
                files.append(DeliveredFile(table, relative, int(entry.get("size") or 0)))
    return files


def delivery_digest(delivery: Delivery, files: list[DeliveredFile]) -> str:
    """Digest of names and bytes of the delivered tables; media are digested one by one when they are checked."""
    digests: list[tuple[str, str | None]] = []
    for file in files:
        digest = None
        if not delivery.escapes(file.path) and delivery.has(file.path):
            with suppress(OSError), delivery.files.open(delivery.path(file.path), "rb") as stream:
                digest = hashing.of_stream(stream)
        digests.append((file.path, digest))
    return hashing.of_json(digests)


def read_batches(delivery: Delivery, file: DeliveredFile, bounds: Ingest) -> Iterator[RawBatch]:
    """Rows of one file.

    Raises:
        FileRejected: `file_unreadable`, `file_too_large`, `unknown_format`, `path_unsafe` where it is a link out of the delivery,
            `not_a_file` where it is a pipe, a device or the like, or has a name that is no UTF-8.
    """
    reader = READERS.get(posixpath.splitext(file.path)[1].lower())
    if reader is None:
        raise FileRejected("unknown_format", f"expected {', '.join(READERS)}")
    if delivery.escapes(file.path):
        raise FileRejected("path_unsafe", "a symbolic link that leaves the delivery or leads to itself")
    if not delivery.has(file.path):
        raise FileRejected("not_a_file", "expected an ordinary file with a name in UTF-8")
    try:
        with delivery.files.open(delivery.path(file.path), "rb") as stream:
            yield from reader(stream, bounds)
    except MemoryError as error:  # Arrow's own is one, too
        raise FileRejected("file_too_large", f"needs more memory than there is: {error}") from error
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise FileRejected("file_unreadable", " ".join(str(error).split())[:300]) from error


@dataclass(frozen=True)
class MediaFile:
    """A file that was read and, if an image, decoded; width and height in pixels, None for other kinds."""

    digest: str
    kind: str
    format: str
    width: int | None
    height: int | None
    content: bytes


def image_decoders(params: Params) -> DecodePool:
    """Worker processes that decode images for `check_all`; none is started before the first image."""
    bounds = ImageBounds(max_pixels=params.ingest.max_media_pixels, decode_memory_bytes=params.features.decode_memory_bytes)
    return DecodePool(_DECODER, bounds, params.features.decode_timeout_s["image"], num_cpus(), ImageCheck(bounds).fits)


def check_all(
    delivery: Delivery, media: Iterable[Pair], bounds: Ingest, decoders: DecodePool
) -> Iterator[tuple[Pair, MediaFile | Refused]]:
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
            contents = list(pool.map(lambda pair: _read_media(delivery, pair[1], bounds), some))
            both = list(zip(some, contents, strict=True))
            images = [content for (kind, _), content in both if kind == "image" and isinstance(content, bytes)]
            decoded = decoders.decode(images, _FILES_AT_ONCE)
            for (kind, uri), content in both:
                if isinstance(content, Refused):
                    yield (kind, uri), content
                    continue
                name, width, height = posixpath.splitext(uri)[1].lstrip(".").lower(), None, None
                if kind == "image":
                    found = next(decoded)
                    if isinstance(found, Refused):
                        reason = _AS_MEDIA.get(found.reason, found.reason)
                        detail = found.detail if reason == found.reason else f"{found.reason}: {found.detail}"
                        yield (kind, uri), Refused(reason, detail)
                        continue
                    name = found["format"].tobytes().decode()
                    width, height = found["size"].tolist()
                yield (kind, uri), MediaFile(hashing.of_bytes(content), kind, name, width, height, content)


def _read_media(delivery: Delivery, uri: str, bounds: Ingest) -> bytes | Refused:
    if re.match(r"https?://", uri, re.IGNORECASE):
        return _fetch(uri, bounds)
    parts = uri.split("/")
    if not _SAFE_PATH.fullmatch(uri) or any(part in ("", ".", "..") for part in parts) or delivery.escapes(uri):
        return Refused("media_path_unsafe", f"{uri!r}: expected a relative path inside the delivery")
    try:
        if not delivery.has(uri):
            return Refused("media_missing", f"{uri!r} is not in the delivery")
        with delivery.files.open(delivery.path(uri), "rb") as stream:
            return _bounded(stream, uri, bounds)
    except OSError as error:
        return Refused("media_missing", f"{uri!r} cannot be read: {error}")


def _bounded(stream: IO[bytes] | Any, uri: str, bounds: Ingest) -> bytes | Refused:
    content: bytes = stream.read(bounds.max_media_bytes + 1)
    if len(content) > bounds.max_media_bytes:
        return Refused("media_too_large", f"{uri!r}: more than {bounds.max_media_bytes} bytes")
    return content or Refused("media_corrupt", f"{uri!r} is empty")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An allowed host must not send us to another one."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetch(uri: str, bounds: Ingest) -> bytes | Refused:
    try:
        host = urllib.parse.urlsplit(uri).hostname
    except ValueError:
        host = None
    if host not in bounds.media_hosts:
        return Refused("media_path_unsafe", f"{uri!r}: host not in params ingest.media_hosts")
    try:
        with urllib.request.build_opener(_NoRedirect).open(uri, timeout=bounds.media_timeout_s) as stream:
            return _bounded(stream, uri, bounds)
    except (OSError, ValueError) as error:  # URLError is an OSError
        return Refused("media_missing", f"{uri!r} cannot be fetched: {error}")
