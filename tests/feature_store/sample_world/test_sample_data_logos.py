"""Marks on the sample world's pictures, and what its reviewers say of them: recounted from the files; and the demo's world of logos."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.feature_store.deliveries import ROOT, parameters, take
from tests.feature_store.sample_world.test_sample_data import contents, read
from upheld.common.params import params
from upheld.feature_store.logos.composites.marks import OURS
from upheld.feature_store.logos.dataset import dataset
from upheld.feature_store.logos.dataset.boxes import overlaps
from upheld.feature_store.logos.sources import outcomes
from upheld.feature_store.sample_world import command as sample_data
from upheld.feature_store.sample_world import logos

CORNERS = ["x1", "y1", "x2", "y2"]
BRANDS = {path.stem for path in OURS.iterdir()}


def make(out: Path, **changed: float) -> Path:
    settings = params.load(ROOT / "params.yaml").sample_data.model_copy(update=changed)
    sample_data.run(settings, 11, out, sample_data.calendar(settings, 11, "2026-W36", 3), 400)
    return out


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("logos") / "world", share_images=0.3)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same world without a mark, and nobody who looks for any."""
    return make(tmp_path_factory.mktemp("logos") / "bare", share_images=0.3, share_logos=0.0, prob_logo_review=0.0)


@pytest.fixture(scope="module")
def pictures(world: Path) -> pd.DataFrame:
    return pd.concat([pd.read_csv(file) for file in sorted((world / "truth" / "logos").glob("week=*.csv"))])


def test_only_pictures_with_a_mark_differ_from_a_world_without(world: Path, bare: Path, pictures: pd.DataFrame) -> None:
    with_marks, without = contents(world), contents(bare)
    assert with_marks.keys() == without.keys()
    other = {path for path in with_marks if with_marks[path] != without[path]}
    media = {path for path in other if path.startswith("media/")}
    assert media == set(pictures.loc[pictures["brand"].notna(), "media_uri"])
    assert {path.rpartition("/")[0] for path in other - media} == {"truth/logos", "logo_outcomes"}
    assert read(bare, "logo_outcomes").empty


def test_what_changed_on_a_picture_is_where_its_mark_is(world: Path, bare: Path, pictures: pd.DataFrame) -> None:
    marked = pictures[pictures["brand"].notna()]
    for row in marked.to_dict("records"):
        one, other = (
            np.asarray(Image.open(io.BytesIO((folder / row["media_uri"]).read_bytes())).convert("L"), float) for folder in (world, bare)
        )
        assert one.shape == (row["height"], row["width"]) == other.shape
        x1, y1, x2, y2 = (row[corner] for corner in CORNERS)
        assert 0 <= x1 < x2 <= row["width"] and 0 <= y1 < y2 <= row["height"]
        inside = np.zeros(one.shape, dtype=bool)
        inside[int(y1) : int(np.ceil(y2)), int(x1) : int(np.ceil(x2))] = True
        exposure = np.polyfit(other[~inside], one[~inside], 1)  # of the whole picture
        changed = np.abs(one - np.polyval(exposure, other))
        assert changed[inside].mean() > 2 * np.median(changed[~inside])


def test_shares_and_brands(pictures: pd.DataFrame) -> None:
    assert 0.2 < pictures["brand"].notna().mean() < 0.55
    seen = pictures["brand"].value_counts()
    assert set(seen.index) <= BRANDS and len(seen) >= 5 and seen.iloc[0] >= 2 * seen.iloc[-1]


def test_the_same_picture_has_the_same_mark_wherever_it_is_posted(world: Path, pictures: pd.DataFrame) -> None:
    copies = pictures.assign(content=[(world / uri).read_bytes() for uri in pictures["media_uri"]])
    of_content = copies.groupby("content")
    assert of_content.size().max() > 1
    assert (of_content["brand"].nunique(dropna=False) == 1).all() and (of_content["x1"].nunique(dropna=False) == 1).all()


def test_reviewers_speak_of_marks_that_are_there_and_sometimes_err(world: Path, pictures: pd.DataFrame) -> None:
    said = read(world, "logo_outcomes").sort_values("revision").drop_duplicates("outcome_id", keep="last")
    assert set(said["verdict"]) == {"confirmed", "missed", "wrong"} and said["post_id"].nunique() > 40
    rows = said.merge(pictures, on=["post_id", "media_uri"], suffixes=("", "_true"), validate="many_to_one")
    assert len(rows) == len(said)
    assert (rows[["x1", "y1"]] >= 0).all(axis=None) and (rows["x2"] <= rows["width"]).all() and (rows["y2"] <= rows["height"]).all()
    true = rows["brand"] == rows["brand_true"]
    assert true[rows["verdict"] == "missed"].all()
    assert 0.85 < true[rows["verdict"] == "confirmed"].mean() <= 1
    assert 0.85 < (~true)[rows["verdict"] == "wrong"].mean() <= 1
    boxes = rows[true]
    pairs = zip(boxes[CORNERS].to_numpy().tolist(), boxes[[f"{corner}_true" for corner in CORNERS]].to_numpy().tolist(), strict=True)
    assert np.median([overlaps([one], [other]) for one, other in pairs]) > 0.8


def test_outcomes_come_in_their_week(world: Path) -> None:
    for file in sorted((world / "logo_outcomes").iterdir()):
        week = int(file.stem[5:])
        monday = pd.Timestamp("2026-08-31", tz="UTC") + pd.Timedelta(weeks=week - 1)
        times = pd.read_parquet(file)["reviewed_at"]
        assert len(times) and times.between(monday, monday + pd.Timedelta(weeks=1), inclusive="left").all()


@pytest.mark.usefixtures("without_expectations")
def test_ingest_takes_them_and_they_become_training_data(world: Path, tmp_path: Path) -> None:
    summary = take(str(world), tmp_path / "store", datetime(2026, 9, 21, tzinfo=UTC))
    counts = summary["tables"]["logo_outcomes"]
    assert counts["accepted"] == counts["rows"] == len(read(world, "logo_outcomes"))
    given = parameters()
    made = outcomes.run(given.logo_data, given.seed, tmp_path / "store", tmp_path / "out")
    assert made.report["quarantined"] == made.report["by_reason"].get("reviewers_disagree", 0)
    assert made.report["merged"] > 0 and made.report["superseded"] > 0
    assert made.dataset.synthetic and set(made.dataset.brands) <= BRANDS


def test_the_world_is_the_same_for_a_seed_and_says_that_it_is_synthetic(tmp_path):
    one = logos.make_dataset(tmp_path / "a", 24, parameters(), 5)
    assert dataset.read(tmp_path / "a").digest == one.digest == logos.make_dataset(tmp_path / "b", 24, parameters(), 5).digest
    assert one.synthetic and len(one.brands) == 8 and not one.images["composite"].any()
    assert set(one.images["split"]) == {"train", "val", "test"}
    assert one.images[["width", "height"]].max(axis=1).eq(logos.SIDE_PX).all()
    assert 24 <= len(one.boxes) <= 72
    sizes = one.boxes.merge(one.images, on="digest")
    assert (sizes["x2"] <= sizes["width"]).all() and (sizes["y2"] <= sizes["height"]).all()
    assert dict(dataset.contents(one, one.images["digest"])).keys() == set(one.images["digest"])
