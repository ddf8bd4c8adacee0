"""Photos to paste marks onto: those of a folder, of a logo dataset, or of the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.logos import LogoData
from upheld.common.progress import track
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.boxes import Corners
from upheld.feature_store.logos.dataset.dataset import Dataset, checked_bytes, from_ledger
from upheld.feature_store.logos.dataset.photos import upright
from upheld.feature_store.logos.sources.inspection import inspect_photos, photo_bytes
from upheld.feature_store.logos.sources.source import Refusal

_Place = tuple[str, Path]  # what a photo is called in reports, and where it lies

_SUFFIXES: Final = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class Background:
    """A photo, read anew whenever it is used; `boxes`: brand and corners of marks that are on it already."""

    digest: str
    pdq: str | None
    where: Path  # a file, or a store whose ledger holds the photo
    boxes: list[tuple[str, Corners]]

    def open(self, max_pixels: int) -> Image.Image:
        """The photo, upright.

        Raises:
            FailedWork: it is gone, or is no longer the one that was inspected.
        """
        if self.where.is_file():
            return upright(checked_bytes(self.where, self.digest), max_pixels)
        return upright(next(from_ledger(self.where, [self.digest]))[1], max_pixels)


@dataclass
class Backgrounds:
    """Photos in order of digest, brands of the boxes on them, and what was refused."""

    photos: list[Background]
    brands: tuple[str, ...] = ()
    synthetic: bool = False
    refused: list[Refusal] = field(default_factory=list)


def backgrounds(photos: str, store: Path, rules: LogoData) -> Backgrounds:
    """Find photos and check that each decodes.

    Args:
        photos: folder with photos at any depth, folder of a logo dataset, or "ledger".
        store: holds the ledger.

    Returns:
        photos, each once. Of a logo dataset those of the train split that are no composites.

    Raises:
        BadUse: there is no such folder or ledger.
        FailedWork: no photo can be used.
    """
    folder = Path(photos)
    if (folder / "dataset.json").is_file():
        found = of_dataset(logo_dataset.read(folder), store)
    else:
        by_digest: dict[str, Background] = {}
        refused = []
        contents = _of_ledger(store) if photos == "ledger" else _of_folder(folder, rules)
        for (position, where), seen in track(inspect_photos(contents, rules), "photos"):
            if isinstance(seen, Refused):
                refused.append(Refusal("photo", position, position, seen.reason, seen.detail))
            else:  # the same photo under another name would only be drawn more often
                by_digest.setdefault(seen.digest, Background(seen.digest, seen.pdq, where, []))
        found = Backgrounds(sorted(by_digest.values(), key=lambda photo: photo.digest), refused=refused)
    if not found.photos:
        raise FailedWork(f"--photos {photos}: no photo can be used ({len(found.refused)} refused); expected {', '.join(_SUFFIXES)} files")
    return found


def of_dataset(dataset: Dataset, store: Path) -> Backgrounds:
    """The photos of a logo dataset to paste onto, with their boxes: those of split train that are no composites. None is opened."""
    rows = dataset.images[(dataset.images["split"] == "train") & ~dataset.images["composite"]]
    of_photo: dict[str, list[tuple[str, Corners]]] = {}
    for name, brand, *corners in dataset.boxes[["digest", "brand", *logo_dataset.CORNERS]].itertuples(index=False):
        of_photo.setdefault(name, []).append((brand, (corners[0], corners[1], corners[2], corners[3])))
    found = Backgrounds([], dataset.brands, dataset.synthetic)
    for row in rows.sort_values("digest").itertuples():
        where = dataset.folder / str(row.file) if isinstance(row.file, str) else store
        pdq = row.pdq if isinstance(row.pdq, str) else None
        found.photos.append(Background(str(row.digest), pdq, where, of_photo.get(str(row.digest), [])))
    return found


def _of_folder(folder: Path, rules: LogoData) -> Iterator[tuple[_Place, bytes | Refused]]:
    if not folder.is_dir():
        raise BadUse(f"--photos {folder}: no such folder; name one with photos, one of a logo dataset, or `ledger`")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and not path.is_dir():
            yield (str(path), path), photo_bytes(path, rules)


def _of_ledger(store: Path) -> Iterator[tuple[_Place, bytes]]:
    from upheld.feature_store.ledger.ledger import Ledger  # LanceDB: only where photos lie in it

    ledger = Ledger(store)
    names = ledger.read("media", ["digest"], where="kind = 'image'")["digest"].to_pylist()
    for name, content in ledger.media_bytes(names):
        yield (f"ledger:{name}", store), content
