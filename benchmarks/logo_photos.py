"""Real photos with logos for measurements: FlickrLogos-27 as a logo dataset with a held-out part.

usage: python benchmarks/logo_photos.py --out /tmp/flickrlogos [--data ../shared/data/flickrlogos27] [--set logo_data.test_share=0.3]
"""

import argparse
import json
import zipfile
from pathlib import Path

import pandas as pd

from feature_store import logo_import
from feature_store import params as parameters
from feature_store.params import Params


def flickr_logos(data: Path, out: Path, params: Params) -> logo_import.Result:
    """Convert FlickrLogos-27 to COCO beside `out`, and import it: near-duplicates together, each brand in every split.

    Args:
        data: folder with images.zip and train_boxes.parquet.
        out: folder of the logo dataset; photos go to `out`.coco.
        params: sections logo_data and seed; the splits are drawn from these.

    Returns:
        the dataset and its report. The degenerate box of the original is in its quarantine.
    """
    coco = out.with_name(f"{out.name}.coco")
    (coco / "images").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(data / "images.zip") as archive:
        for name in archive.namelist():
            (coco / "images" / Path(name).name).write_bytes(archive.read(name))
    (coco / "annotations.json").write_text(json.dumps(as_coco(pd.read_parquet(data / "train_boxes.parquet"))), encoding="utf-8")
    return logo_import.run(params.logo_data, params.seed, coco, "coco", out)


def as_coco(boxes: pd.DataFrame) -> dict[str, list[dict[str, object]]]:
    """The table of boxes as one COCO file. Numbers are places in the sorted names, from 1."""
    files = boxes.drop_duplicates("file").sort_values("file").reset_index(drop=True)
    photo = {file: number for number, file in enumerate(files["file"], start=1)}
    brand = {name: number for number, name in enumerate(sorted(boxes["brand"].unique()), start=1)}
    images = [{"id": photo[row.file], "file_name": row.file, "width": row.width, "height": row.height} for row in files.itertuples()]
    annotations = [
        {"image_id": photo[row.file], "category_id": brand[row.brand], "bbox": [row.x1, row.y1, row.x2 - row.x1, row.y2 - row.y1]}
        for row in boxes.itertuples()
    ]
    return {"images": images, "categories": [{"id": number, "name": name} for name, number in brand.items()], "annotations": annotations}


def main() -> None:
    """Convert, and print what became of every photo and box."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickrlogos27"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    print(json.dumps(flickr_logos(args.data, args.out, parameters.load(args.params, args.set)).report, indent=2))


if __name__ == "__main__":
    main()
