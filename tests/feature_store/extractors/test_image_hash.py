"""Perceptual hashes: right by their definition, near for copies, far for other pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from tests.feature_store.extractors.pictures import blobs, encoded
from upheld.common.params import params
from upheld.feature_store.extractors.image.hashes import ImageHash

# Meta's reference bounds for PDQ; for pHash what its author calls similar.
COPY = {"phash": 10, "pdq": 31}


@pytest.fixture(scope="module")
def hasher() -> ImageHash:
    return ImageHash(params.load(Path("params.yaml")))


def hashes(hasher: ImageHash, content: bytes) -> dict[str, str]:
    (row,) = hasher.extract([hasher.decode(content)])
    assert isinstance(row, dict)
    assert list(row) == hasher.columns.names
    return row


def distances(first: dict[str, str], second: dict[str, str]) -> dict[str, int]:
    return {name: (int(first[name], 16) ^ int(second[name], 16)).bit_count() for name in COPY}


def cosine_transform(size: int) -> np.ndarray:
    """DCT-II, by its definition."""
    place = np.arange(size)
    return np.cos(np.pi / size * (place[None, :] + 0.5) * place[:, None])


@pytest.mark.parametrize("seed", range(5))
def test_phash_by_definition(hasher: ImageHash, seed: int) -> None:
    image = blobs(seed, 400, 300)
    grey = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.LANCZOS), float)
    transform = cosine_transform(32)
    low = (transform @ grey @ transform.T)[:8, :8]
    expected = "".join(map(str, (low > np.median(low)).astype(int).ravel()))
    assert hashes(hasher, encoded(image, "PNG"))["phash"] == f"{int(expected, 2):016x}"


@pytest.mark.parametrize("seed", range(5))
def test_pdq_by_definition(hasher: ImageHash, seed: int) -> None:
    """The 16 x 16 lowest frequencies but the constant, against their median; its filter is not box averaging, hence the slack."""
    image = blobs(seed, 512, 512)
    grey = np.asarray(image, float) @ [0.299, 0.587, 0.114]
    coarse = grey.reshape(64, 8, 64, 8).mean((1, 3))
    transform = cosine_transform(64)[1:17]
    low = (transform @ coarse @ transform.T).ravel()
    expected = sum(1 << place for place in np.flatnonzero(low > np.median(low)).tolist())  # the lowest frequency is the last bit
    found = hashes(hasher, encoded(image, "PNG"))
    assert len(found["pdq"]) == 64
    assert (int(found["pdq"], 16) ^ expected).bit_count() <= 16


CHANGES = {
    "JPEG at 50": lambda image: encoded(image, "JPEG", quality=50),
    "JPEG at 20": lambda image: encoded(image, "JPEG", quality=20),
    "WebP": lambda image: encoded(image, "WEBP", quality=60),
    "half as large": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=80),
    "a quarter": lambda image: encoded(image.resize((image.width // 4, image.height // 4)), "JPEG", quality=80),
    "twice as large": lambda image: encoded(image.resize((image.width * 2, image.height * 2)), "JPEG", quality=80),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.1), "JPEG", quality=80),
    "grey": lambda image: encoded(image.convert("L"), "PNG"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_copies_are_near(hasher: ImageHash, change: str) -> None:
    for seed in range(10):
        image = blobs(seed)
        found = distances(hashes(hasher, encoded(image, "PNG")), hashes(hasher, CHANGES[change](image)))
        assert all(found[name] <= COPY[name] for name in COPY), (seed, found)


def test_other_pictures_are_far(hasher: ImageHash) -> None:
    rows = [hashes(hasher, encoded(blobs(seed), "PNG")) for seed in range(20)]
    found = [distances(rows[a], rows[b]) for a in range(20) for b in range(a)]
    assert min(pair["phash"] for pair in found) > COPY["phash"]
    assert min(pair["pdq"] for pair in found) > 60
    assert 110 < np.mean([pair["pdq"] for pair in found]) < 146  # of 256 bits, as by chance


def test_flat_pictures_have_no_quality(hasher: ImageHash) -> None:
    assert hashes(hasher, encoded(Image.new("RGB", (64, 64), "white"), "PNG"))["pdq_quality"] == 0
