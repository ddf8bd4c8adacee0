"""Brand marks: the pictures of a folder, each checked and drawn in a confined worker, and cut to what is seen of it."""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from upheld.common.errors import BadUse, FailedWork
from upheld.common.files import ordinary_bytes
from upheld.common.progress import track
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.logos.composites.drawing import MAX_RATIO, MarkBounds
from upheld.feature_store.logos.sources.source import Refusal, is_brand
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

OURS: Final = Path(__file__).with_name("fictitious")  # fictitious brands, drawn by us
SIDE_PX: Final = 320  # longer side of a mark as it is kept: as large as any is pasted
MAX_PIXELS: Final = 16_000_000  # of a picture file
MAX_BYTES: Final = 8 << 20
_BOUNDS: Final = MarkBounds(side_px=SIDE_PX, max_pixels=MAX_PIXELS, decode_memory_bytes=1 << 29)
_TIMEOUT_S: Final = 20.0  # of one mark; drawing one takes hundredths
_AHEAD: Final = 8  # marks in memory
_SEEN: Final = 8  # of 255: what is more transparent is cut off
_ONE_COLOUR: Final = 12.0  # of 255: standard deviation of the opaque pixels up to which a mark has one colour
_AS_MARK: Final = {"decode_memory": "mark_too_large", "decode_timeout": "mark_too_large"}  # what a worker's end means

Rgba = NDArray[np.uint8]


@dataclass(frozen=True)
class Mark:
    """A mark: RGBA with straight alpha, (height, width, 4); `one_colour` marks may be printed in any other."""

    brand: str
    rgba: Rgba
    one_colour: bool


def load(folder: Path) -> tuple[list[Mark], list[Refusal]]:
    """Read the marks of a folder.

    Args:
        folder: pictures (.svg, .png, .webp) named after their brand, and folders named after a brand with several pictures of it.

    Returns:
        marks in order of brand and file, and what was refused with its reason.

    Raises:
        BadUse: `folder` is no folder.
        FailedWork: not one mark can be used.
    """
    if not folder.is_dir():
        raise BadUse(f"--marks {folder}: no such folder; expected one with a picture for each brand")
    marks, refused = [], []
    files: list[tuple[str, Path]] = []  # brand and picture
    for path in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        if path.is_dir():
            files += [(path.name, file) for file in sorted(path.iterdir()) if not file.name.startswith(".")]
        else:
            files.append((path.stem, path))
    for path, found in track(_drawn(files), "marks", len(files)):
        if isinstance(found, Mark):
            marks.append(found)
        else:
            refused.append(Refusal("mark", str(path), str(path), found.reason, found.detail))
    if not marks:
        first = f"; the first: {refused[0].file}: {refused[0].detail}" if refused else ""
        raise FailedWork(f"{folder}: {len(refused)} pictures and no mark that can be used{first}")
    return marks, refused


def _drawn(files: list[tuple[str, Path]]) -> Iterator[tuple[Path, Mark | Refused]]:
    """Each file with its mark, or why there is none."""

    def contents() -> Iterator[tuple[tuple[str, Path], bytes | Refused]]:
        for name, path in files:
            brand = unicodedata.normalize("NFC", name)
            content: bytes | Refused = Refused("brand_name", f"{brand[:80]!r}: expected printable characters")
            try:
                content = ordinary_bytes(path, MAX_BYTES) if is_brand(brand) else content
            except ValueError as error:
                content = Refused("mark_too_large", str(error))
            except OSError as error:
                content = Refused("mark_corrupt", f"cannot be read: {error.strerror}")
            yield (brand, path), content

    with DecodePool("upheld.feature_store.logos.composites.drawing:MarkDrawer", _BOUNDS, _TIMEOUT_S, num_cpus()) as pool:
        for (brand, path), answer in pool.decode_named(contents(), _AHEAD):
            yield path, _mark(brand, answer)


def _mark(brand: str, answer: Arrays | Refused) -> Mark | Refused:
    """The mark that a worker drew, cut; what comes from there is looked at before it is believed."""
    if isinstance(answer, Refused):
        return Refused(_AS_MARK.get(answer.reason, answer.reason), answer.detail)
    rgba = answer.get("rgba", np.zeros(0))
    if rgba.dtype != np.uint8 or rgba.ndim != 3 or rgba.shape[2] != 4 or max(rgba.shape) > SIDE_PX:
        return Refused("mark_corrupt", "its decoder spoke nonsense")
    rows, columns = (np.flatnonzero((rgba[..., 3] > _SEEN).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return Refused("mark_empty", "nothing of it is seen")
    rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(rgba.shape[:2]) > MAX_RATIO * min(rgba.shape[:2]):
        return Refused("mark_size", f"{rgba.shape[1]} x {rgba.shape[0]} pixels of it are seen; it is too thin to be told apart")
    opaque = rgba[rgba[..., 3] > 128][:, :3]
    return Mark(brand, rgba, bool(len(opaque)) and float(opaque.std(axis=0).max()) <= _ONE_COLOUR)
