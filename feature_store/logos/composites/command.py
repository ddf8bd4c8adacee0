"""Paste brand marks onto photos: training data for a brand before any label of it exists.

usage: upheld logo compose --marks brands --photos photos --out composites --num 2000 --seed 1
"""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.files import replacing, write_json
from upheld.common.params import params
from upheld.common.params.params import Params
from upheld.common.progress import track
from upheld.common.terminal import console
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.composites import paste
from upheld.feature_store.logos.composites.backgrounds import Background, Backgrounds, backgrounds
from upheld.feature_store.logos.composites.marks import OURS, Mark, load
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset.dataset import Result
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.logos.sources.source import Refusal
from upheld.feature_store.splits.near_pictures import near_pictures


def one(number: int, given: Params, seed: int, marks: list[Mark], photos: list[Background], out: Path, provenance: str) -> dict[str, Any]:
    """Make composite `number`, unless it is there; what is known of it is written after its picture.

    Args:
        number: counts from 0.
        given: sections `logo_compose` and `logo_data`.
        seed: of the random stream, with `number`.
        marks, photos: to draw from.
        out: folder of the dataset.
        provenance: names the marks, photos, params and seed; composites of others lie beside.

    Returns:
        digest, file, width, height, and the photo's digest and hash; boxes: brand, x1, y1, x2, y2, share seen.

    Raises:
        FailedWork: the photo is gone.
    """
    part = out / "parts" / provenance / f"{number:07d}.json"
    if part.is_file():
        known: dict[str, Any] = json.loads(part.read_text(encoding="utf-8"))
        return known
    rng = np.random.default_rng([seed, number])
    photo = photos[rng.integers(len(photos))]
    settings = given.logo_compose
    chosen: list[Mark] = []
    if rng.random() >= settings.empty_share:  # brands take turns at being the first, so that each gets as many composites
        brands = sorted({mark.brand for mark in marks})
        wanted = [brands[number % len(brands)], *rng.choice(brands, int(rng.integers(settings.max_marks)))]
        of_brand = [[mark for mark in marks if mark.brand == brand] for brand in wanted]
        chosen = [some[rng.integers(len(some))] for some in of_brand]
    made = paste.compose(photo.open(given.logo_data.max_pixels), photo.boxes, chosen, rng, settings)
    file = f"images/{provenance}/{number:07d}.jpg"
    with replacing(out / file) as partial:
        partial.write_bytes(made.jpeg)
    row = {
        "digest": hashing.of_bytes(made.jpeg),
        "file": file,
        "width": made.width,
        "height": made.height,
        "photo": photo.digest,
        "pdq": photo.pdq,
        "boxes": [[brand, *box, share] for brand, box, share in zip(made.brands, made.boxes, made.visible, strict=True)],
    }
    write_json(part, row)
    return row


def dataset_of(rows: list[dict[str, Any]], brands: set[str], out: Path, given: Params, synthetic: bool) -> logo_dataset.Dataset:
    """Composites (rows as `one` gives them) as a dataset; all on near-duplicate photos are in one split, and none is in the test split."""
    images = pd.DataFrame(rows).drop(columns="boxes").assign(source="composite")
    photos = images[["photo", "pdq"]].drop_duplicates("photo").rename(columns={"photo": "digest"})
    group_of = photos.assign(group_id=near_pictures(photos, given.logo_data.max_hash_distance)).set_index("digest")["group_id"]
    images["group_id"] = images["photo"].map(group_of)
    marks = [(row["digest"], *box[:5]) for row in rows for box in row["boxes"]]
    boxes = pd.DataFrame(marks, columns=["digest", "brand", *logo_dataset.CORNERS])
    images["split"] = grouping.spread(images, boxes, {"val": given.logo_data.val_share, "test": 0.0}, f"{given.seed}/logo")
    return logo_dataset.assemble(out, brands, images.drop_duplicates("digest"), boxes, boxes.iloc[:0], synthetic)


def run(given: Params, seed: int, marks: Path, photos: str, out: Path, num: int, store: Path) -> Result:
    """Make `num` composites. Composite i depends on the seed, i, the marks, the photos and the params alone.

    So a run that was cut off goes on where it stopped, several at a time do not disturb each other, and who asks for more keeps the first.

    Args:
        given: sections `logo_compose` and `logo_data`.
        seed: other seeds give other composites.
        marks: folder of marks (`marks.load`).
        photos: folder of photos, folder of a logo dataset (its training photos, whose boxes are kept), or "ledger".
        out: folder to write; composites of other marks, photos, params or seeds there are replaced.
        num: how many, at least 1.
        store: holds the ledger.

    Returns:
        the dataset and its report.

    Raises:
        BadUse: `out` holds something else, or there is no photo or mark folder.
        FailedWork: no mark or no photo can be used.
    """
    logo_dataset.refuse_others_folder(out)
    loaded = load(marks)
    return compose(given, seed, loaded, backgrounds(photos, store, given.logo_data), out, num)


def compose(given: Params, seed: int, marks: tuple[list[Mark], list[Refusal]], found: Backgrounds, out: Path, num: int) -> Result:
    """As `run`, of marks and photos at hand; what was refused of either is in the report. `out` is a logo dataset, or not there yet."""
    brands, refused_marks = marks
    pictures = [[mark.brand, hashing.of_bytes(mark.rgba.tobytes())] for mark in brands]
    digest = hashing.of_json([pictures, [photo.digest for photo in found.photos], given.logo_compose.model_dump(), seed])
    provenance = digest[:16]
    write_json(out / "making.json", {"made_of": digest})
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        numbers = pool.map(lambda number: one(number, given, seed, brands, found.photos, out, provenance), range(num))
        rows = list(track(numbers, "composites", num))
    dataset = dataset_of(rows, {mark.brand for mark in brands} | set(found.brands), out, given, found.synthetic)
    refused = [vars(refusal) for refusal in [*refused_marks, *found.refused]]
    report = {
        "marks": {"used": len(brands), "refused": len(refused_marks)},
        "photos": {"used": len(found.photos), "refused": len(found.refused)},
        "refused": refused,
        "composites": num,
        "counts": logo_dataset.counts(dataset),
        "seed": seed,
    }
    write_json(out / "report.json", report)
    logo_dataset.write(dataset)
    for kind in ("images", "parts"):  # composites of other marks, photos, params or seeds, which no table names any more
        for folder in (out / kind).iterdir():
            if folder.name != provenance:
                shutil.rmtree(folder, ignore_errors=True)
    return Result(dataset, report)


@command("logo compose")
def main(
    photos: Annotated[str, typer.Option(help="Folder of photos or of a logo dataset, or `ledger`.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    num: Annotated[int, typer.Option(min=1, help="How many composites.")],
    marks: Annotated[Path, typer.Option(help="Folder of .svg or .png files named after their brands; without it fictitious ones.")] = OURS,
    seed: Annotated[int | None, typer.Option(min=0, help="Other seeds give other composites [seed].")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Paste brand marks onto photos: training data for a brand before any label of it exists."""
    given = params.load(*asked, store)
    report = run(given, given.seed if seed is None else seed, marks, photos, out, num, store).report

    def show() -> None:
        for refusal in report["refused"]:
            console().print(f"refused: {refusal['file']}: {refusal['detail']}", markup=False, soft_wrap=True)
        boxes = sum(report["counts"]["brands"].values())
        print(f"{num} composites with {boxes} marks of {len(report['counts']['brands'])} brands in {out}")

    return Output(report, show)
