"""Photos that show the same, the splits that such groups go to, and several logo datasets as one, with no copy on both sides of a split."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from upheld.common.errors import BadUse
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.logos.dataset.dataset import CORNERS, SPLITS, Dataset, assemble
from upheld.feature_store.splits import assignment
from upheld.feature_store.splits.near_pictures import near_pictures


def held_out_first(images: pd.DataFrame) -> "pd.Series[str]":
    """Split of each photo once its whole group is in the most held-out split that any of it was given.

    So what a dataset holds out stays complete, and comparable with what others measured on it; training loses the copies.

    Args:
        images: group_id, split (train, val or test).
    """
    rank = images["split"].map({split: place for place, split in enumerate(SPLITS)})
    return rank.groupby(images["group_id"]).transform("max").map(dict(enumerate(SPLITS)))


def spread(images: pd.DataFrame, boxes: pd.DataFrame, shares: dict[str, float], key: str) -> "pd.Series[str]":
    """Spread groups over the splits, seeded; of each brand every split gets its share, as nearly as whole groups allow.

    Args:
        images: digest, group_id.
        boxes: digest, brand. A group belongs to the rarest of its brands; photos without logos are a stratum too.
        shares: of the splits val and test, together below 1.
        key: other keys give independent splits.

    Returns:
        split by the index of `images`.
    """
    num_photos = boxes.drop_duplicates(["digest", "brand"])["brand"].value_counts()
    rarest = boxes.assign(num=boxes["brand"].map(num_photos)).sort_values(["num", "brand"]).drop_duplicates("digest")
    stratum = images["digest"].map(rarest.set_index("digest")["brand"]).fillna("")
    rows = pd.DataFrame({"group_id": images["group_id"], "stratum": stratum, "num": stratum.map(num_photos).fillna(np.inf)})
    sets = rows.sort_values(["num", "stratum"]).groupby("group_id").agg(stratum=("stratum", "first"), size=("stratum", "size"))
    sets["rank"] = uniform(f"{key}/rank", sets.index)
    return images["group_id"].map(assignment.spread(sets, {name: shares[name] for name in ("test", "val")}, key))


def by_hash(images: pd.DataFrame, shares: dict[str, float], key: str) -> "pd.Series[str]":
    """Split of each photo by a hash of its group alone, so that it stays where it is while other photos come and go.

    Args:
        images: group_id.
        shares: of the splits val and test, together below 1; they hold on average.
        key: other keys give independent splits.

    Returns:
        split by the index of `images`.
    """
    place = uniform(f"{key}/stay", images["group_id"])
    split = np.select([place < shares["test"], place < shares["test"] + shares["val"]], ["test", "val"], "train")
    return pd.Series(split, index=images.index, dtype=object)


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
    parts = []
    for number, dataset in enumerate(datasets):
        files = [None if pd.isna(file) else str((dataset.folder / file).resolve()) for file in dataset.images["file"]]
        parts.append(dataset.images.assign(file=pd.Series(files, index=dataset.images.index, dtype=object), number=number))
    every = pd.concat(parts, ignore_index=True)
    every["rank"] = every["source"].map({"outcome": 0, "import": 1, "composite": 2})
    images = every.sort_values(["rank", "number", "digest"]).drop_duplicates("digest").reset_index(drop=True)
    images["group_id"] = near_pictures(images, max_hash_distance)
    before = images["split"]
    # a photo's split is that of its group's real photos, where there are some, or of its composites
    own = pd.concat([held_out_first(part) for _, part in images.groupby("composite")]).reindex(images.index)
    real = ~images["composite"]
    of_real = pd.Series(own[real].to_numpy(), index=images.loc[real, "group_id"]).groupby(level=0).first()
    images["split"] = images["group_id"].map(of_real).astype(object).fillna(own)
    given_away = ~real & (images["split"] != "train") & images["group_id"].isin(images.loc[real, "group_id"])
    account = {
        "duplicate": len(every) - len(images),
        "moved": int((~given_away & (images["split"] != before)).sum()),
        "background_held_out": int(given_away.sum()),
    }
    images = images[~given_away]
    tables = {}
    for name in ("boxes", "negatives"):  # those of the dataset that each photo was taken from
        rows = pd.concat([getattr(dataset, name).assign(number=number) for number, dataset in enumerate(datasets)], ignore_index=True)
        tables[name] = rows.merge(images[["digest", "number"]], on=["digest", "number"])[["digest", "brand", *CORNERS]]
    brands = {brand for dataset in datasets for brand in dataset.brands}
    return assemble(folder, brands, images, **tables, synthetic=any(dataset.synthetic for dataset in datasets)), account
