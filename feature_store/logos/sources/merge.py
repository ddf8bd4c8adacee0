"""Several logo datasets as one: real photos, outcomes of reviews and composites, with no copy on both sides of a split."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from upheld.common.errors import BadUse
from upheld.feature_store.logos.dataset.dataset import CORNERS, Dataset, assemble
from upheld.feature_store.logos.sources import grouping


def merge(datasets: Sequence[Dataset], folder: Path, max_hash_distance: int) -> tuple[Dataset, dict[str, int]]:
    """Put datasets together.

    A photo in several of them is taken once: what a reviewer said of it counts before what was imported. Near-duplicates are found anew
    among all; a group of them is in the most held-out split that any of its real photos has. Composites whose background belongs to a
    held-out group of real photos are left out: as training they would give it away, as test they would be no evidence.

    Args:
        datasets: at least one.
        folder: relative names of the result's photos count from it; it is not written.
        max_hash_distance: of near-duplicates, in bits of 256.

    Returns:
        the dataset, and how many photos are `duplicate`, `moved` to another split and `background_held_out`.

    Raises:
        BadUse: there is no dataset.
    """
    if not datasets:
        raise BadUse("no logo dataset given; `upheld logo import` and `upheld logo compose` make some")
    every = pd.concat([_located(dataset, number) for number, dataset in enumerate(datasets)], ignore_index=True)
    every["rank"] = every["source"].map({"outcome": 0, "import": 1, "composite": 2})
    images = every.sort_values(["rank", "number", "digest"]).drop_duplicates("digest").reset_index(drop=True)
    images["group_id"] = grouping.groups(images, max_hash_distance)
    before = images["split"]
    images["split"] = _splits(images)
    given_away = images["composite"] & (images["split"] != "train") & images["group_id"].isin(images.loc[~images["composite"], "group_id"])
    account = {
        "duplicate": len(every) - len(images),
        "moved": int((~given_away & (images["split"] != before)).sum()),
        "background_held_out": int(given_away.sum()),
    }
    images = images[~given_away]
    tables = {name: _of(images, [getattr(dataset, name) for dataset in datasets]) for name in ("boxes", "negatives")}
    brands = {brand for dataset in datasets for brand in dataset.brands}
    return assemble(folder, brands, images, **tables, synthetic=any(dataset.synthetic for dataset in datasets)), account


def _splits(images: pd.DataFrame) -> "pd.Series[str]":
    """Split of each photo: that of its group's real photos, where there are some, or of its composites."""
    parts = [grouping.held_out_first(part) for _, part in images.groupby("composite")]
    own = pd.concat(parts).reindex(images.index)
    real = ~images["composite"]
    of_real = pd.Series(own[real].to_numpy(), index=images.loc[real, "group_id"]).groupby(level=0).first()
    return images["group_id"].map(of_real).astype(object).fillna(own)


def _located(dataset: Dataset, number: int) -> pd.DataFrame:
    """Photos with their files' absolute names and the dataset's number."""
    files = [None if pd.isna(file) else str((dataset.folder / file).resolve()) for file in dataset.images["file"]]
    return dataset.images.assign(file=pd.Series(files, index=dataset.images.index, dtype=object), number=number)


def _of(images: pd.DataFrame, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Rows of each photo, from the dataset that the photo was taken from."""
    rows = pd.concat([table.assign(number=number) for number, table in enumerate(tables)], ignore_index=True)
    return rows.merge(images[["digest", "number"]], on=["digest", "number"])[["digest", "brand", *CORNERS]]
