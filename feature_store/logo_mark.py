"""Brand marks: the pictures of a folder, each checked, drawn and cut to what is seen of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from feature_store import logo_svg
from feature_store.command import console
from feature_store.errors import BadUse, FailedWork
from feature_store.logo_image import FORMATS
from feature_store.logo_source import Refusal, is_brand
from feature_store.logo_svg import MarkRefused

OURS: Final = Path(__file__).with_name("logo_marks")  # fictitious brands, drawn by us
SIDE_PX: Final = 320  # longer side of a mark as it is kept: as large as any is pasted
MAX_PIXELS: Final = 16_000_000  # of a picture file
MAX_BYTES: Final = 8 << 20
_SEEN: Final = 8  # of 255: what is more transparent is cut off
_ONE_COLOUR: Final = 12.0  # of 255: standard deviation of the opaque pixels up to which a mark has one colour

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
    for brand, path in track(list(_files(folder)), "marks", console=console(), transient=True):
        try:
            marks.append(_mark(brand, path))
        except MarkRefused as error:
            refused.append(Refusal("mark", str(path), str(path), error.reason, error.detail))
    if not marks:
        found = f"; the first: {refused[0].file}: {refused[0].detail}" if refused else ""
        raise FailedWork(f"{folder}: {len(refused)} pictures and no mark that can be used{found}")
    return marks, refused


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from ((path.name, file) for file in sorted(path.iterdir()) if file.is_file() and not file.name.startswith("."))
        else:
            yield path.stem, path


def _mark(brand: str, path: Path) -> Mark:
    if not is_brand(brand):
        raise MarkRefused("brand_name", f"{brand[:80]!r}: expected printable characters")
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise MarkRefused("mark_too_large", f"more than {MAX_BYTES} bytes")
    drawn = logo_svg.draw(content, SIDE_PX) if path.suffix.lower() == ".svg" else _opened(path)
    seen = drawn.getchannel("A").point(lambda alpha: 255 if alpha > _SEEN else 0).getbbox()
    if seen is None:
        raise MarkRefused("mark_empty", "nothing of it is seen")
    rgba = np.asarray(drawn.crop(seen))
    if max(rgba.shape[:2]) > logo_svg.MAX_RATIO * min(rgba.shape[:2]):
        raise MarkRefused("mark_size", f"{rgba.shape[1]} x {rgba.shape[0]} pixels of it are seen; it is too thin to be told apart")
    opaque = rgba[rgba[..., 3] > 128][:, :3]
    return Mark(brand, rgba, bool(len(opaque)) and float(opaque.std(axis=0).max()) <= _ONE_COLOUR)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise MarkRefused("mark_too_large", f"{image.width} x {image.height} pixels, at most {MAX_PIXELS}")
            picture = image.convert("RGBA")
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, OverflowError, Image.DecompressionBombError) as error:
        if isinstance(error, MarkRefused):
            raise
        raise MarkRefused("mark_corrupt", f"no readable picture: {type(error).__name__}; expected SVG, PNG or WebP") from error
    picture.thumbnail((SIDE_PX, SIDE_PX))
    return picture
