"""Pictures decoded once: pixels on disk while a training run needs them, so that memory stays flat and epochs decode nothing."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from feature_store.errors import FailedWork
from feature_store.extractors.image_decoding import decode_square
from training.image_model import ReadImages


class PictureCache:
    """Pictures by digest, uint8 (size, size, 3), for as long as the `with` block lasts.

    Args:
        folder: where the temporary file goes; made if missing.
        posts: digests of each post's images.
        size: side in pixels.
        read_images: gives (digest, bytes) of the images asked for, in any order.

    Raises:
        FailedWork: an image is not in the store.
    """

    def __init__(self, folder: Path, posts: Iterable[Sequence[str]], size: int, read_images: ReadImages) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._scratch = tempfile.TemporaryDirectory(dir=folder, prefix="pictures-")
        wanted = sorted({name for names in posts for name in names})
        shape = (len(wanted), size, size, 3)
        self._pixels = np.memmap(Path(self._scratch.name) / "pixels.u8", np.uint8, "w+", shape=shape)
        self._place = {name: place for place, name in enumerate(wanted)}
        missing = set(wanted)
        for name, content in read_images(wanted):
            self._pixels[self._place[name]] = decode_square(content, size)
            missing.discard(name)
        if missing:
            self.__exit__(None, None, None)
            raise FailedWork(f"image {min(missing)}: not in the store's media table (of {len(missing)} missing); take a new snapshot")

    def __getitem__(self, name: str) -> NDArray[np.uint8]:
        """The picture of this digest."""
        picture: NDArray[np.uint8] = self._pixels[self._place[name]]
        return picture

    def __enter__(self) -> Self:
        """Nothing to do: the pictures are decoded by now."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Remove the file."""
        del self._pixels
        self._scratch.cleanup()
