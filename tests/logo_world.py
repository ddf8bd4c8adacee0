"""Photos with coloured squares for marks, as a logo dataset on disk."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.dataset import dataset as logo_dataset

BRANDS = {"redsquare": (230, 20, 20), "bluesquare": (20, 20, 230)}


def make(folder: Path, num_photos: int = 24, with_marks: bool = True) -> logo_dataset.Dataset:
    """Write photos and their dataset: of four photos two train, one validates, one tests; every third has no mark."""
    random = np.random.default_rng(7)
    folder.mkdir(parents=True)
    images, boxes = [], []
    for number in range(num_photos):
        pixels = np.full((96, 128, 3), 110, np.uint8) + random.integers(0, 30, (96, 128, 3)).astype(np.uint8)
        brand = list(BRANDS)[number % 2]
        x, y = random.integers(0, 80), random.integers(0, 50)
        if number % 3 and with_marks:
            pixels[y : y + 40, x : x + 40] = BRANDS[brand]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        name = hashing.of_bytes(buffer.getvalue())
        (folder / f"{number}.png").write_bytes(buffer.getvalue())
        split = "val" if number % 4 == 1 else "test" if number % 4 == 2 else "train"
        images.append((name, f"{number}.png", 128, 96, split, f"g{number}", "import", None))
        if number % 3 and with_marks:
            boxes.append((name, brand, float(x), float(y), float(x + 40), float(y + 40)))
    columns = ["digest", "file", "width", "height", "split", "group_id", "source", "pdq"]
    of_boxes = pd.DataFrame(boxes, columns=["digest", "brand", *logo_dataset.CORNERS])
    dataset = logo_dataset.assemble(folder, BRANDS, pd.DataFrame(images, columns=columns), of_boxes, of_boxes.iloc[:0], synthetic=True)
    logo_dataset.write(dataset)
    return dataset
