"""The demo's world of logos."""

from tests.feature_store.deliveries import parameters
from upheld.feature_store.logos.dataset import dataset
from upheld.feature_store.sample_world import logo_dataset as logo_sample


def test_the_world_is_the_same_for_a_seed_and_says_that_it_is_synthetic(tmp_path):
    one = logo_sample.sample(tmp_path / "a", 24, parameters(), 5)
    assert dataset.read(tmp_path / "a").digest == one.digest == logo_sample.sample(tmp_path / "b", 24, parameters(), 5).digest
    assert one.synthetic and len(one.brands) == 8 and not one.images["composite"].any()
    assert set(one.images["split"]) == {"train", "val", "test"}
    assert one.images[["width", "height"]].max(axis=1).eq(logo_sample.SIDE_PX).all()
    assert 24 <= len(one.boxes) <= 72
    sizes = one.boxes.merge(one.images, on="digest")
    assert (sizes["x2"] <= sizes["width"]).all() and (sizes["y2"] <= sizes["height"]).all()
    assert dict(dataset.contents(one, one.images["digest"])).keys() == set(one.images["digest"])
