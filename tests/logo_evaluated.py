"""A small world of marks on photos, what a detector reported of them and of posts, and the evaluation of it."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from score_worlds import settings

from upheld.evaluation.logos import metrics as logo_metrics
from upheld.evaluation.logos import stage as logo_evaluate
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.dataset import dataset as logo_dataset

COLOURS = ((220, 40, 40), (40, 60, 220), (30, 150, 60))
CORNERS = list(logo_dataset.CORNERS)
DETECTIONS = ["image", "brand", "confidence", *CORNERS]


def few_resamples(patch: pytest.MonkeyPatch) -> None:
    """Intervals of a tenth of the resamples, where their width is not what a test is about."""
    patch.setattr(logo_metrics, "NUM_RESAMPLES", 20)
    patch.setattr(logo_metrics, "NUM_PERMUTATIONS", 40)


def dataset(folder: Path, brands=("acorn", "birch", "cedar"), num_photos: int = 150, synthetic: bool = False) -> logo_dataset.Dataset:
    """A third of the photos trains, validates, tests each; every fourth has no mark. The last brand is trained on composites alone."""
    random = np.random.default_rng(11)
    folder.mkdir(parents=True)
    images, boxes = [], []
    for number in range(num_photos):
        place, split = (number // 3) % len(brands), logo_dataset.SPLITS[number % 3]
        pixels = np.full((72, 96, 3), 120, np.uint8) + random.integers(0, 40, (72, 96, 3)).astype(np.uint8)
        side, x, y = (int(edge) for edge in random.integers((20, 0, 0), (40, 56, 32)))
        pasted = split == "train" and place == len(brands) - 1
        with_mark = number % 4 > 0
        if with_mark:
            pixels[y : y + side, x : x + side] = COLOURS[place % len(COLOURS)]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        name = hashing.of_bytes(buffer.getvalue())
        (folder / f"{number}.png").write_bytes(buffer.getvalue())
        images.append((name, f"{number}.png", 96, 72, split, f"g{number}", "composite" if pasted else "import", None))
        if with_mark:
            boxes.append((name, brands[place], float(x), float(y), float(x + side), float(y + side)))
    columns = ["digest", "file", "width", "height", "split", "group_id", "source", "pdq"]
    of_boxes = pd.DataFrame(boxes, columns=["digest", "brand", *CORNERS])
    made = logo_dataset.assemble(folder, brands, pd.DataFrame(images, columns=columns), of_boxes, of_boxes.iloc[:0], synthetic)
    logo_dataset.write(made)
    return made


def empty_dataset(folder: Path) -> logo_dataset.Dataset:
    """A dataset without a photo."""
    images = pd.DataFrame(columns=logo_dataset.IMAGES.names).drop(columns="composite")
    boxes = pd.DataFrame(columns=["digest", "brand", *CORNERS])
    made = logo_dataset.assemble(folder, (), images, boxes, boxes, synthetic=False)
    logo_dataset.write(made)
    return made


def detections(data: logo_dataset.Dataset, found: float = 0.8, confused: float = 0.1) -> pd.DataFrame:
    """What a detector that finds a share of the marks, and takes some for the next brand, reports of splits val and test."""
    random = np.random.default_rng(5)
    held_out = data.boxes[data.boxes["split"] != "train"].rename(columns={"digest": "image"})
    seen = held_out[random.random(len(held_out)) < found]
    wrong = random.random(len(seen)) < confused
    following = dict(zip(data.brands, [*data.brands[1:], data.brands[0]], strict=True))
    sure = np.where(wrong, random.uniform(0.3, 0.7, len(seen)), random.uniform(0.5, 1.0, len(seen)))
    right = seen.assign(brand=np.where(wrong, seen["brand"].map(following), seen["brand"]), confidence=sure)
    bare = data.images.loc[(data.images["split"] != "train") & ~data.images["digest"].isin(data.boxes["digest"]), "digest"]
    alarms = [
        (name, data.brands[number % len(data.brands)], 0.2 + 0.1 * (number % 5), 3.0, 3.0, 30.0, 30.0) for number, name in enumerate(bare)
    ]
    return pd.concat([right[DETECTIONS], pd.DataFrame(alarms, columns=DETECTIONS)], ignore_index=True)


def scanned(folder: Path, brand: str = "acorn", context: str = "board") -> tuple[Path, Path]:
    """Folders of a scan and of a snapshot: five posts in two weeks, three of them in a context, two images that show the brand."""
    images = pd.DataFrame({"image": ["i1", "i2", "i3"], "width": [100, 100, 200], "height": [100, 50, 100]})
    found = [
        ("i1", brand, 0.9, 0.0, 0.0, 50.0, 50.0),
        ("i1", brand, 0.3, 0.0, 0.0, 100.0, 100.0),
        ("i3", brand, 0.8, 0.0, 0.0, 20.0, 100.0),
    ]
    posts = pd.DataFrame(
        {
            "post_id": ["p1", "p2", "p3", "p4", "p5"],
            "context_id": [context, context, context, None, context],
            "created_at": pd.to_datetime(["2026-10-19", "2026-10-20", "2026-10-21", "2026-10-22", "2026-10-26"], utc=True),
            "image_digests": [["i1", "i2"], ["i2"], [], ["i3"], ["i3", "not looked at"]],
        }
    )
    scan, snapshot = folder / "logo_scan", folder / "snapshot"
    for at in (scan, snapshot):
        at.mkdir(parents=True)
    pd.DataFrame(found, columns=DETECTIONS).to_parquet(scan / "detections.parquet")
    images.to_parquet(scan / "images.parquet")
    posts.to_parquet(snapshot / "posts.parquet")
    return scan, snapshot


def evaluated(folder: Path, *overrides: str, brands=("acorn", "birch", "cedar"), context: str = "board", **world) -> Path:
    """The folder that `upheld logo evaluate` writes, of such a world."""
    data = dataset(folder / "logo", brands, **world)
    detections(data).to_parquet(folder / "detections.parquet")
    inputs = logo_evaluate.Inputs(folder / "logo", folder / "detections.parquet", *scanned(folder, brands[0], context))
    logo_evaluate.run(settings(*overrides), inputs, folder / "judged", folder / "store")
    return folder / "judged"
