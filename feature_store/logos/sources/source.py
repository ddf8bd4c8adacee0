"""What a reader of a foreign logo dataset hands over: photos, the marks claimed on them, and what it could not read."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from upheld.common.errors import BadUse
from upheld.common.files import ordinary_bytes
from upheld.feature_store.logos.dataset.boxes import Corners
from upheld.feature_store.logos.dataset.dataset import SPLITS

MAX_LABEL_BYTES: Final = 4 << 20  # of one photo's labels; a thousand boxes need a hundredth of it
MAX_BRAND_CHARS: Final = 256


@dataclass(frozen=True)
class Photo:
    """A photo that the dataset lists; `size` is the width and height that it claims, None where it claims none."""

    file: Path
    split: str | None
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class Mark:
    """A box as the dataset states it; `position` says where, such as `labels/a.txt:3`."""

    file: Path
    position: str
    brand: str
    corners: Corners


@dataclass(frozen=True)
class Refusal:
    """A photo, box or mark that is not taken, and why."""

    kind: Literal["photo", "box", "mark"]
    file: str
    position: str
    reason: str
    detail: str


@dataclass
class Source:
    """A dataset as it was read. `relative`: corners are shares of width and height, not pixels."""

    brands: tuple[str, ...]
    relative: bool = False
    photos: list[Photo] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)

    def refuse(self, kind: Literal["photo", "box"], file: Path, position: str, reason: str, detail: str) -> None:
        """Note what is not taken."""
        self.refused.append(Refusal(kind, str(file), position, reason, detail))


def split_named(name: str) -> str | None:
    """Split that a folder or file name speaks of: train, val (or valid, validation) or test; None where it speaks of none."""
    return next((split for split in SPLITS if split in name.lower()), None)


def check_brands(names: list[str], origin: Path) -> tuple[str, ...]:
    """The brands of a class list, in its order, each in Unicode's composed form: é is one character however it was typed.

    Raises:
        BadUse: one is empty, too long, has control characters or occurs twice.
    """
    names = [unicodedata.normalize("NFC", name) for name in names]
    for place, name in enumerate(names):
        if not is_brand(name):
            raise BadUse(f"{origin}: class {place} is called {name!r}; expected 1 to {MAX_BRAND_CHARS} printable characters")
        if name in names[:place]:
            raise BadUse(f"{origin}: classes {names.index(name)} and {place} are both called {name!r}; give each a name of its own")
    return tuple(names)


def is_brand(name: str) -> bool:
    """True for 1 to MAX_BRAND_CHARS printable characters that neither begin nor end with a space."""
    return 0 < len(name) <= MAX_BRAND_CHARS and name.isprintable() and name == name.strip()


def most_held_out(splits: Iterable[str | None]) -> str | None:
    """The split that says most loudly that nobody may learn from a photo; None where none is named."""
    return max((split for split in splits if split), key=SPLITS.index, default=None)


def label_text(path: Path, max_bytes: int = MAX_LABEL_BYTES) -> str:
    """Text of a label file.

    Raises:
        ValueError: missing, no ordinary file, larger than `max_bytes`, or not UTF-8.
    """
    try:
        return ordinary_bytes(path, max_bytes).decode("utf-8-sig")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start}") from error


def list_text(path: Path) -> str:
    """Text of a file that the whole dataset hangs on.

    Raises:
        BadUse: as `label_text`.
    """
    try:
        return label_text(path)
    except ValueError as error:
        raise BadUse(f"{path}: {error}; expected a text file") from error
