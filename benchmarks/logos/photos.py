"""Real photos with logos for measurements: FlickrLogos-27 as a logo dataset with a held-out part.

usage: python benchmarks/logos/photos.py --out /tmp/flickrlogos [--data ../shared/data/flickrlogos27] [--set logo_data.test_share=0.3]

With `--icons package` (what `npm pack simple-icons` unpacks to) the marks of those brands that it has go to OUT.marks.
"""

import argparse
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from upheld.common.params import params as parameters
from upheld.common.params.params import Params
from upheld.feature_store.logos.sources import import_dataset


def flickr_logos(data: Path, out: Path, params: Params) -> import_dataset.Result:
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
    return import_dataset.run(params.logo_data, params.seed, coco, "coco", out)


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


def marks_of(brands: Iterable[str], icons: Path, out: Path) -> list[str]:
    """Write the icons of brands, each in the brand's own colour, as a folder of marks.

    Args:
        brands: names in the dataset, such as "RedBull".
        icons: unpacked npm package simple-icons (CC0-1.0): icons/SLUG.svg, and each slug's colour in data/simple-icons.json.
        out: folder to write.

    Returns:
        brands that have an icon.
    """
    listed = json.loads((icons / "data" / "simple-icons.json").read_text(encoding="utf-8"))
    colours = {icon.get("slug", icon["title"].lower()): icon["hex"] for icon in listed}
    out.mkdir(parents=True, exist_ok=True)
    found = []
    for brand in sorted(brands):
        path = icons / "icons" / f"{brand.lower()}.svg"
        if path.is_file():
            svg = path.read_text(encoding="utf-8").replace("<svg ", f'<svg fill="#{colours.get(brand.lower(), "000000")}" ', 1)
            (out / f"{brand}.svg").write_text(svg, encoding="utf-8")
            found.append(brand)
    return found


def main() -> None:
    """Convert, and print what became of every photo and box."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickrlogos27"))
    parser.add_argument("--icons", type=Path)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    result = flickr_logos(args.data, args.out, parameters.load(args.params, args.set))
    print(json.dumps(result.report, indent=2))
    if args.icons:
        print("marks of", *marks_of(result.dataset.brands, args.icons, args.out.with_name(f"{args.out.name}.marks")))


if __name__ == "__main__":
    main()
