"""Composites of a retrain: marks of the store on photos whose marks are known, and where these are few, on photos of the ledger."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from upheld.common.params.params import Params
from upheld.common.progress import track
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.logos.composites import command
from upheld.feature_store.logos.composites.backgrounds import of_dataset
from upheld.feature_store.logos.composites.marks import load
from upheld.feature_store.logos.dataset import dataset
from upheld.feature_store.logos.dataset.dataset import Dataset
from upheld.feature_store.logos.dataset.photos import pdq, upright
from upheld.feature_store.logos.sources.source import Refusal

FOLDER: Final = "composites"  # of the dataset that they are published in
# What the checkpoint depends on: the packages of the stage in dvc.yaml, all that lies in them.
CODE: Final = (
    "upheld.feature_store.contracts",
    "upheld.feature_store.decoding",
    "upheld.feature_store.ledger",
    "upheld.feature_store.logos.composites",
    "upheld.feature_store.logos.dataset",
    "upheld.feature_store.logos.sources",
    "upheld.feature_store.logos.stage",
    "upheld.feature_store.logos.store",
    "upheld.feature_store.sandbox",
    "upheld.feature_store.splits",
)


@dataclass(frozen=True)
class LedgerPhotos:
    """Where photos to paste marks onto come from: the store's ledger, with its media as they were pinned."""

    store: Path
    media_version: int
    synthetic: bool


def compose(params: Params, real: Dataset, marks: Path, ledger_photos: LedgerPhotos) -> tuple[Dataset | None, dict[str, Any]]:
    """Make `logo_data.num_composites` composites in the store's checkpoints: a run that was killed goes on there.

    Args:
        params: sections `logo_data` and `logo_compose`, and the seed.
        real: labelled photos. Those of split train are pasted onto and keep their boxes; the others are left alone.
        marks: folder of marks.
        ledger_photos: these fill up the labelled ones until there are as many as composites, drawn by a hash of their digest.

    Returns:
        the composites, None where there is no photo to paste marks onto; and what was refused on the way.

    Raises:
        FailedWork: no mark can be used, or a labelled photo is gone or no longer the one that it was.
    """
    photos, refused = _photos(params, real, ledger_photos)
    refusals = [vars(refusal) for refusal in refused]
    if photos.images.empty:
        return None, {"reason": "there is no photo to paste marks onto", "refused": refusals}
    # the checkpoint is named after everything that composites depend on, however many of them are asked for
    settings = [params.logo_compose.model_dump(), params.logo_data.model_dump(exclude={"num_composites"}), params.seed]
    key = hashing.of_json(["logo_data", hashing.of_code(CODE), hashing.of_folder(marks), photos.digest, settings])
    folder, backgrounds = ledger_photos.store / "checkpoints" / key / "made", of_dataset(photos, ledger_photos.store)
    result = command.compose(params, params.seed, load(marks), backgrounds, folder, params.logo_data.num_composites)
    return result.dataset, result.report | {"refused": [*refusals, *result.report["refused"]]}


def located(made: Dataset, folder: Path) -> Dataset:
    """The composites as they will be named once they are published in `folder`."""
    return replace(made, folder=folder, images=made.images.assign(file=[f"{FOLDER}/{name}.jpg" for name in made.images["digest"]]))


def publish(made: Dataset, wanted: "pd.Series[str]", folder: Path) -> None:
    """Write the pictures of some composites, by digest, to where `located` names them."""
    (folder / FOLDER).mkdir()
    for name, content in dataset.contents(made, wanted):
        (folder / FOLDER / f"{name}.jpg").write_bytes(content)


def _photos(params: Params, real: Dataset, ledger_photos: LedgerPhotos) -> tuple[Dataset, list[Refusal]]:
    """Photos as a dataset, all of split train, and photos of the ledger that do not decode."""
    known = real.images[(real.images["split"] == "train") & ~real.images["composite"]]
    names = known["digest"]
    for _ in track(dataset.contents(real, names, ledger_photos.store), "photos", len(names)):
        pass  # each is still the photo that its boxes were drawn on, or this says which is not
    rows: list[dict[str, Any]] = []
    refused: list[Refusal] = []
    num = params.logo_data.num_composites - len(names)
    if num > 0:  # photos of the ledger fill up
        ledger, version = Ledger(ledger_photos.store), ledger_photos.media_version
        images = ledger.read("media", ["digest"], "kind = 'image'", version)["digest"].to_pylist()
        others = sorted(set(images) - set(real.images["digest"]))
        drawn = sorted(others[place] for place in np.argsort(uniform(f"{params.seed}/logo/ground", others))[:num])
        contents = ledger.media_bytes(drawn, version)
        for name, content in track(contents, "photos of the ledger", len(drawn)):
            try:
                image = upright(content, params.logo_data.max_pixels)
            except Undecodable as error:
                refused.append(Refusal("photo", f"ledger:{name}", f"ledger:{name}", error.refused.reason, error.refused.detail))
                continue
            rows.append({"digest": name, "file": None, "width": image.width, "height": image.height, "pdq": pdq(image)})
    filled = pd.DataFrame(rows, columns=["digest", "file", "width", "height", "pdq"])
    filled = filled.assign(split="train", source="import", group_id=filled["digest"])
    pictures = pd.concat([known[filled.columns], filled], ignore_index=True) if rows else known
    boxes = real.boxes[real.boxes["digest"].isin(names)]
    synthetic = real.synthetic or (bool(rows) and ledger_photos.synthetic)
    return dataset.assemble(real.folder, real.brands, pictures, boxes, boxes.iloc[:0], synthetic), refused
