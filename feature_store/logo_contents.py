"""Bytes of the photos of a logo dataset, checked against their digests: they lie in files, or in a store's ledger."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from feature_store import digest
from feature_store.errors import FailedWork
from feature_store.logo_tables import Dataset


def contents(dataset: Dataset, digests: Iterable[str], store: Path | None = None) -> Iterator[tuple[str, bytes]]:
    """Bytes of photos, those in files first.

    Args:
        dataset: says where each lies.
        digests: wanted photos, each in the dataset.
        store: folder with the ledger; needed for photos without a file.

    Yields:
        (digest, bytes), once each.

    Raises:
        FailedWork: a file is gone or holds other bytes than it did, or the ledger no longer holds a photo.
    """
    rows = dataset.images.set_index("digest").loc[sorted(set(digests))]
    files = rows["file"].dropna()
    for name, file in files.items():
        yield str(name), checked_bytes(dataset.folder / file, str(name))
    yield from from_ledger(store, sorted(set(map(str, rows.index)) - set(map(str, files.index))))


def checked_bytes(path: Path, name: str) -> bytes:
    """Bytes of a photo's file.

    Args:
        path: of the file.
        name: SHA-256 that they had when the photo was accepted.

    Raises:
        FailedWork: the file is gone, or holds other bytes.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FailedWork(f"{path}: cannot be read ({error.strerror}); the logo dataset refers to it, put it back or import anew") from error
    if digest.of_bytes(content) != name:
        raise FailedWork(f"{path}: is not the photo that the logo dataset was made with; put that back or import anew")
    return content


def from_ledger(store: Path | None, digests: list[str]) -> Iterator[tuple[str, bytes]]:
    """Photos of the ledger.

    Args:
        store: holds it.
        digests: wanted photos, each once.

    Yields:
        (digest, bytes).

    Raises:
        FailedWork: no store is named, or its ledger lacks a photo.
    """
    if not digests:
        return
    if store is None:
        raise FailedWork(f"photo {digests[0]}: lies in the ledger and no store is named; name it with --store")
    from feature_store.ledger import Ledger  # LanceDB: only where a photo lies in it

    found = 0
    for name, content in Ledger(store).media_bytes(digests):
        found += 1
        yield name, content
    if found < len(digests):
        raise FailedWork(f"{store}: the ledger holds {found} of {len(digests)} wanted photos; make the dataset of its outcomes anew")
