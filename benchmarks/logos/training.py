"""Logo detectors on real photos: how well each way of training finds the brands of photos held out, and how it got there.

usage: python benchmarks/logos/training.py ARM --dataset /tmp/flickrlogos --marks /tmp/flickrlogos.marks --out /tmp/arms --samples 4136

`photos.py` makes dataset and marks. Arms, each trained on the same number of samples:
  real        the training photos
  composites  the training photos and as many composites: marks, and the marks cut out of training photos, on training photos
  one-shot    brands of HELD_BACK as composites of their mark file alone: no photo of them is trained on or validated with
  yolo        the training photos, by YOLO from scratch
`compare` tests the arms' difference on the photos held out, both resampled together.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from upheld.common.files import write_json
from upheld.common.params import params
from upheld.common.params.params import Params
from upheld.evaluation.logos.metrics import boxes_of, resampled
from upheld.feature_store.logos.composites import command as logo_compose
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.dataset import Dataset
from upheld.feature_store.logos.dataset.precision import average_precision
from upheld.feature_store.logos.sources import grouping
from upheld.training.logos import stage as logo

HELD_BACK = ("Apple", "DHL", "Nike", "Starbucks", "Vodafone")
RESAMPLES = 1000
SHARE = 1  # composites for each training photo


def cut_out(data: Dataset, out: Path) -> None:
    """Write the marks of the training photos as pictures, a folder for each brand."""
    boxes = data.boxes[data.boxes["split"] == "train"]
    for name, rows in boxes.groupby("digest"):
        with Image.open(data.folder / data.images.set_index("digest").loc[name, "file"]) as photo:
            for number, row in enumerate(rows.itertuples()):
                if min(row.x2 - row.x1, row.y2 - row.y1) >= 24:  # smaller ones would be enlarged into a blur
                    (out / row.brand).mkdir(parents=True, exist_ok=True)
                    photo.convert("RGB").crop((row.x1, row.y1, row.x2, row.y2)).save(out / row.brand / f"{name[:12]}-{number}.png")


def without(data: Dataset, brands: Sequence[str], folder: Path) -> Dataset:
    """The dataset without the photos of splits train and val that show one of `brands`."""
    shown = set(data.boxes.loc[data.boxes["brand"].isin(brands), "digest"])
    kept = data.images[(data.images["split"] == "test") | ~data.images["digest"].isin(shown)]
    kept = kept.assign(file=[str((data.folder / file).resolve()) for file in kept["file"]])
    boxes, negatives = (table[table["digest"].isin(kept["digest"])] for table in (data.boxes, data.negatives))
    reduced = logo_dataset.assemble(folder, data.brands, kept.drop(columns="composite"), boxes, negatives, data.synthetic)
    logo_dataset.write(reduced)
    return reduced


def dataset_of(arm: str, data: Dataset, marks: Path, out: Path, given: Params) -> Dataset:
    """What an arm is trained on."""
    if arm in ("real", "yolo"):
        return data
    base = data
    if arm == "one-shot":
        base = without(data, HELD_BACK, out / "without")
        marks = only(marks, HELD_BACK, out / "marks")
    else:
        cut_out(data, out / "marks")
        for path in marks.iterdir():
            (out / "marks" / path.stem).mkdir(parents=True, exist_ok=True)
            (out / "marks" / path.stem / path.name).write_bytes(path.read_bytes())
        marks = out / "marks"
    num = SHARE * int((base.images["split"] == "train").sum())
    made = logo_compose.run(given, given.seed, marks, str(base.folder), out / "composites", num, out / "store").dataset
    merged, account = grouping.merge([base, made], out / "merged", given.logo_data.max_hash_distance)
    print("merged:", account, logo_dataset.counts(merged)["splits"])
    # Composites do not choose the epoch: all arms are validated on the same kind of photo.
    images = merged.images[~merged.images["composite"] | (merged.images["split"] == "train")].drop(columns="composite")
    tables = (table[table["digest"].isin(images["digest"])] for table in (merged.boxes, merged.negatives))
    final = logo_dataset.assemble(out / "merged", merged.brands, images, *tables, synthetic=merged.synthetic)
    logo_dataset.write(final)
    return final


def only(marks: Path, brands: Sequence[str], out: Path) -> Path:
    """A folder with the marks of `brands` alone."""
    out.mkdir(parents=True, exist_ok=True)
    for brand in brands:
        (out / f"{brand}.svg").write_bytes((marks / f"{brand}.svg").read_bytes())
    return out


def train(arm: str, dataset: Path, marks: Path, out: Path, samples: int, overrides: list[str]) -> None:
    """Train one arm and write ARM/result.json: settings, curve on split val, mAP on split test."""
    data, place = logo_dataset.read(dataset), out / arm
    place.mkdir(parents=True, exist_ok=True)
    given = params.load(Path("params.yaml"), overrides)
    used = dataset_of(arm, data, marks, place, given)
    num_photos = int((used.images["split"] == "train").sum())
    epochs = max(1, round(samples / num_photos))
    detector = ["logo.detector=yolo"] if arm == "yolo" else []
    given = params.load(Path("params.yaml"), [f"logo.epochs={epochs}", f"logo.patience={epochs}", *detector, *overrides])
    logo.run(given, used.folder, place / "model", place / "detections.parquet", place / "store")
    record = json.loads((place / "model" / "metadata.json").read_text(encoding="utf-8"))
    photos, boxes, finds = held_out(data, place)
    precision = average_precision(photos["image"].tolist(), boxes, finds, data.brands)
    result = {
        "arm": arm, "photos": num_photos, "epochs": epochs, "samples": epochs * num_photos,
        "settings": given.logo.model_dump(), "curve": record["history"],
        "test_map_50": precision.mean(True), "test_map_50_95": precision.mean(False),
        "test_ap_50": dict(zip(data.brands, precision.at[0, :, 0].round(4).tolist(), strict=True)), "cpus": os.cpu_count(),
    }  # fmt: skip
    write_json(place / "result.json", result)
    print(json.dumps({key: value for key, value in result.items() if key != "settings"}, indent=1))


def held_out(data: Dataset, place: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Photos and marks of split test, and what an arm found on them."""
    photos = data.images[data.images["split"] == "test"].rename(columns={"digest": "image"})
    boxes, finds = boxes_of(data.boxes), pd.read_parquet(place / "detections.parquet")
    return photos, *(table[table["image"].isin(photos["image"])].reset_index(drop=True) for table in (boxes, finds))  # type: ignore[return-value]


def compare(arms: Sequence[str], dataset: Path, out: Path, seed: int) -> None:
    """Difference in mAP@50 of the second arm from the first, with a 95 % interval over groups of photos."""
    data = logo_dataset.read(dataset)
    first, second = (held_out(data, out / arm) for arm in arms)
    drawn = []
    for number in range(RESAMPLES):
        scores = [average_precision(*resampled(*parts, [seed, number]), data.brands).mean(True) for parts in (first, second)]
        drawn.append(scores[1] - scores[0])  # type: ignore[operator]
    low, high = np.quantile(drawn, [0.025, 0.975])
    whole = [average_precision(photos["image"].tolist(), boxes, finds, data.brands).mean(True) for photos, boxes, finds in (first, second)]
    print(f"mAP@50 {arms[0]} {whole[0]:.3f}, {arms[1]} {whole[1]:.3f}; difference {whole[1] - whole[0]:+.3f} [{low:+.3f}, {high:+.3f}]")  # type: ignore[operator]


def main() -> None:
    """Train an arm, or compare two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arms", nargs="+", metavar="ARM", help="one to train, or `compare` and two that were trained")
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--marks", type=Path, default=Path("marks"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=4136)  # eight epochs of FlickrLogos-27's training photos
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    if args.arms[0] == "compare":
        compare(args.arms[1:], args.dataset, args.out, seed=0)
    else:
        train(args.arms[0], args.dataset, args.marks, args.out, args.samples, args.set)


if __name__ == "__main__":
    main()
