"""Photos to paste marks onto: those of a folder, of a logo dataset, or of the ledger."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image
from rich.progress import track

from feature_store import digest, logo_dataset, logo_image
from feature_store.command import console
from feature_store.errors import BadUse, FailedWork
from feature_store.logo_source import Corners, Refusal
from feature_store.params_logo import LogoData

_SUFFIXES: Final = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


@dataclass(frozen=True)
class Background:
    """A photo, read anew whenever it is used; `boxes`: brand and corners of marks that are on it already."""

    digest: str
    pdq: str | None
    where: Path  # a file, or a store whose ledger holds the photo
    boxes: list[tuple[str, Corners]]

    def open(self, max_pixels: int) -> Image.Image:
        """The photo, upright."""
        if self.where.is_file():
            return logo_image.upright(self.where.read_bytes(), max_pixels)
        return logo_image.upright(next(_stored(self.where, [self.digest]))[1], max_pixels)


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
        rules: section `logo_data`.

    Returns:
        photos, each once. Of a logo dataset those of the train split that are no composites.

    Raises:
        BadUse: there is no such folder or ledger.
        FailedWork: no photo can be used.
    """
    found = _of_dataset(Path(photos), store) if (Path(photos) / "dataset.json").is_file() else _checked(photos, store, rules)
    if not found.photos:
        raise FailedWork(f"--photos {photos}: no photo can be used ({len(found.refused)} refused); expected {', '.join(_SUFFIXES)} files")
    found.photos.sort(key=lambda photo: photo.digest)
    return found


def _of_dataset(folder: Path, store: Path) -> Backgrounds:
    dataset = logo_dataset.read(folder)
    rows = dataset.images[(dataset.images["split"] == "train") & ~dataset.images["composite"]]
    of_photo: dict[str, list[tuple[str, Corners]]] = {}
    for name, brand, *corners in dataset.boxes[["digest", "brand", *logo_dataset.CORNERS]].itertuples(index=False):
        of_photo.setdefault(name, []).append((brand, (corners[0], corners[1], corners[2], corners[3])))
    found = Backgrounds([], dataset.brands, dataset.synthetic)
    for row in rows.itertuples():
        where = folder / str(row.file) if isinstance(row.file, str) else store
        pdq = row.pdq if isinstance(row.pdq, str) else None
        found.photos.append(Background(str(row.digest), pdq, where, of_photo.get(str(row.digest), [])))
    return found


def _checked(photos: str, store: Path, rules: LogoData) -> Backgrounds:
    found, known = Backgrounds([]), set()
    given = _ledger(store) if photos == "ledger" else _files(Path(photos))
    for position, where, content in track(given, "photos", console=console(), transient=True):
        name = digest.of_bytes(content)
        if name in known:
            continue  # the same photo under another name would only be drawn more often
        known.add(name)
        try:
            image = logo_image.upright(content, rules.max_pixels)
        except logo_image.Unreadable as error:
            found.refused.append(Refusal("photo", position, position, error.reason, error.detail))
            continue
        found.photos.append(Background(name, logo_image.pdq(image), where, []))
    return found


def _files(folder: Path) -> Iterator[tuple[str, Path, bytes]]:
    if not folder.is_dir():
        raise BadUse(f"--photos {folder}: no such folder; name one with photos, one of a logo dataset, or `ledger`")
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield str(path), path, path.read_bytes()


def _ledger(store: Path) -> Iterator[tuple[str, Path, bytes]]:
    from feature_store.ledger import Ledger  # LanceDB: only where photos lie in it

    ledger = Ledger(store)
    names = ledger.read("media", ["digest"], where="kind = 'image'")["digest"].to_pylist()
    for name, content in ledger.media_bytes(names):
        yield f"ledger:{name}", store, content


def _stored(store: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    from feature_store.ledger import Ledger

    return Ledger(store).media_bytes(names)
