"""Groups, splits and merging: no copy of a held-out photo is trained on."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feature_store.deliveries import parameters
from tests.feature_store.logo_folders import jpeg, picture
from upheld.common.errors import BadUse
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.dataset import photos as logo_image
from upheld.feature_store.logos.sources import grouping
from upheld.feature_store.splits.near_pictures import near_pictures


def named(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def photos(**columns) -> pd.DataFrame:
    rows = pd.DataFrame(columns)
    defaults = {"file": None, "width": 10, "height": 10, "split": "train", "pdq": None, "source": "import", "group_id": rows["digest"]}
    return rows.assign(**{name: value for name, value in defaults.items() if name not in rows})


def bits(*places: int) -> str:
    flags = np.zeros(256, dtype=np.uint8)
    flags[list(places)] = 1
    return np.packbits(flags).tobytes().hex()


@settings(deadline=None)
@given(st.lists(st.binary(min_size=2, max_size=2), min_size=1, max_size=25), st.integers(0, 12))
def test_groups_are_the_components_of_the_distance_graph(prefixes, max_distance):
    images = pd.DataFrame({"digest": [named(n) for n in range(len(prefixes))], "pdq": [(prefix + bytes(30)).hex() for prefix in prefixes]})
    found = near_pictures(images, max_distance)
    group = list(range(len(prefixes)))
    for _ in prefixes:  # the oracle: spread the smallest name until nothing changes
        for one, a in enumerate(prefixes):
            for other, b in enumerate(prefixes):
                if (int.from_bytes(a) ^ int.from_bytes(b)).bit_count() <= max_distance:
                    group[one] = group[other] = min(group[one], group[other])
    assert pd.factorize(found)[0].tolist() == pd.factorize(pd.Series(group))[0].tolist()
    assert (found <= images["digest"]).all()


def test_a_photo_without_a_hash_is_alone():
    images = pd.DataFrame({"digest": [named(n) for n in range(3)], "pdq": [None, None, bits()]})
    assert near_pictures(images, 256).tolist() == images["digest"].tolist()


def test_a_resized_recompressed_photo_is_a_near_duplicate_and_another_one_is_not():
    again = logo_image.upright(jpeg(picture(1).resize((300, 200)), 40), 10**6)
    images = pd.DataFrame({"digest": ["a", "b", "c"], "pdq": [logo_image.pdq(image) for image in (picture(1), again, picture(2))]})
    assert near_pictures(images, parameters().logo_data.max_hash_distance).tolist() == ["a", "a", "c"]


def test_a_flat_picture_has_no_hash():
    assert logo_image.pdq(picture(1).point(lambda _: 200)) is None


@settings(max_examples=40, deadline=None)  # a busy machine is no error
@given(st.integers(1, 60), st.integers(0, 5))
def test_spread_keeps_groups_whole_and_brands_near_their_shares(num_groups, seed):
    names = [named(n) for n in range(3 * num_groups)]
    images = pd.DataFrame({"digest": names, "group_id": [names[n - n % 3] for n in range(len(names))]})
    boxes = pd.DataFrame({"digest": names, "brand": [f"b{n // 3 % 2}" for n in range(len(names))]})
    split = grouping.spread(images, boxes, {"val": 0.2, "test": 0.3}, str(seed))
    assert split.groupby(images["group_id"]).nunique().max() == 1
    assert split.tolist() == grouping.spread(images, boxes, {"val": 0.2, "test": 0.3}, str(seed)).tolist()
    for _, members in boxes.groupby("brand"):
        assert abs((split[members.index] == "test").sum() - 0.3 * len(members)) <= 3 + 1e-9
        assert abs((split[members.index] == "val").sum() - 0.2 * len(members)) <= 3 + 1e-9


def test_a_split_by_hash_stays_when_photos_come():
    images = pd.DataFrame({"group_id": [named(n) for n in range(2000)]})
    whole = grouping.by_hash(images, {"val": 0.15, "test": 0.2}, "k")
    part = grouping.by_hash(images.iloc[::7], {"val": 0.15, "test": 0.2}, "k")
    assert part.equals(whole.iloc[::7])
    assert whole.value_counts(normalize=True)["test"] == pytest.approx(0.2, abs=0.03)


def dataset(images: pd.DataFrame, marks: dict[str, str], folder: Path = Path("x"), synthetic: bool = False) -> logo_dataset.Dataset:
    boxes = pd.DataFrame(
        [(name, brand, 1.0, 1.0, 5.0, 5.0) for name, brand in marks.items()], columns=["digest", "brand", *logo_dataset.CORNERS]
    )
    return logo_dataset.assemble(folder, marks.values(), images, boxes, boxes.iloc[:0], synthetic)


def test_merging_holds_out_whole_groups_and_drops_composites_on_held_out_photos():
    test, near, train, fake, free = (named(n) for n in range(5))
    real = dataset(photos(digest=[test, train], split=["test", "train"], pdq=[bits(), bits(*range(200))]), {test: "ant", train: "bee"})
    later = dataset(photos(digest=[near], pdq=[bits(0)], file=["near.jpg"], source="outcome"), {near: "ant"}, Path("later"))
    pasted = photos(digest=[fake, free], pdq=[bits(1), bits(*range(200))], source="composite", split=["train", "val"])
    composites = dataset(pasted, {fake: "cat", free: "cat"}, synthetic=True)
    merged, account = grouping.merge([real, later, composites], Path("y"), 10)
    assert account == {"duplicate": 0, "moved": 2, "background_held_out": 1}
    images = merged.images.set_index("digest")
    assert images["split"].to_dict() == {test: "test", near: "test", train: "train", free: "train"}
    assert merged.brands == ("ant", "bee", "cat") and merged.synthetic
    assert images.loc[near, "file"] == str(Path("later/near.jpg").resolve())
    assert set(merged.boxes["digest"]) == set(images.index)
    assert merged.boxes.set_index("digest").loc[near, ["split", "group_id"]].tolist() == images.loc[near, ["split", "group_id"]].tolist()


def test_what_a_reviewer_said_of_a_photo_counts_before_what_was_imported():
    name = named(1)
    imported = dataset(photos(digest=[name]), {name: "ant"})
    reviewed = dataset(photos(digest=[name], source="outcome"), {name: "bee"})
    merged, account = grouping.merge([imported, reviewed], Path("y"), 10)
    assert merged.boxes["brand"].tolist() == ["bee"] and account["duplicate"] == 1


def test_merging_nothing_is_bad_use():
    with pytest.raises(BadUse, match="no logo dataset"):
        grouping.merge([], Path("y"), 10)
