"""What reviewers said of logos, as training data: the last word counts, disagreement says nothing, nothing vanishes."""

import json

import pandas as pd
import pytest

from tests.feature_store.deliveries import ROOT, deliver, parameters, post, take
from tests.feature_store.logo_folders import jpeg, picture, put
from upheld import cli
from upheld.common.errors import FailedWork
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.sources import outcomes as logo_outcomes
from upheld.feature_store.logos.sources.verdicts import agreed

pytestmark = pytest.mark.usefixtures("without_expectations")
PHOTOS = {f"media/{name}.jpg": jpeg(picture(number)) for number, name in enumerate("abc")}


def said(outcome_id: str, verdict: str = "confirmed", uri: str = "media/a.jpg", brand: str = "ant", box=(10, 10, 30, 30), **values) -> dict:
    corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
    row = {"outcome_id": outcome_id, "revision": 0, "post_id": "p1", "media_uri": uri, "brand": brand, "verdict": verdict}
    return row | corners | {"reviewer_id": "r1", "reviewed_at": "2026-10-27T10:00:00Z"} | values


def ledger_of(tmp_path, outcomes: list[dict], kind: str = "image"):
    folder = tmp_path / "d"
    for uri, content in PHOTOS.items():
        put(folder / uri, content)
    put(folder / "media" / "film.mp4", b"film")
    media = [{"kind": kind, "uri": uri} for uri in PHOTOS] + [{"kind": "video", "uri": "media/film.mp4"}]
    take(deliver(folder, posts=[post(media=media)], logo_outcomes=outcomes), tmp_path / "store")
    return tmp_path / "store"


def make(tmp_path, outcomes: list[dict]) -> logo_outcomes.Result:
    given = parameters()
    return logo_outcomes.run(given.logo_data, given.seed, ledger_of(tmp_path, outcomes), tmp_path / "out")


def test_verdicts_become_boxes_and_hard_negatives(tmp_path):
    outcomes = [
        said("1"),
        said("2", "missed", box=(40, 5, 60, 25), brand="bee"),
        said("3", "wrong", "media/b.jpg"),
        said("4", "wrong", "media/c.jpg"),
        said("4", "confirmed", "media/c.jpg", revision=1),
    ]
    result = make(tmp_path, outcomes)
    a, b, c = (hashing.of_bytes(content) for content in PHOTOS.values())
    dataset = logo_dataset.read(tmp_path / "out")
    assert set(zip(dataset.boxes["digest"], dataset.boxes["brand"], strict=True)) == {(a, "ant"), (a, "bee"), (c, "ant")}
    assert dataset.negatives[["digest", "brand", "x1", "y2"]].to_numpy().tolist() == [[b, "ant", 10, 30]]
    assert set(dataset.images["source"]) == {"outcome"} and dataset.images["file"].isna().all()
    assert dict(logo_dataset.contents(dataset, [a, b], tmp_path / "store")) == {a: PHOTOS["media/a.jpg"], b: PHOTOS["media/b.jpg"]}
    assert {key: result.report[key] for key in ("rows", "regions", "merged", "superseded", "quarantined")} == {
        "rows": 5,
        "regions": 4,
        "merged": 0,
        "superseded": 1,
        "quarantined": 0,
    }


def test_what_cannot_be_used_is_named(tmp_path):
    outcomes = [
        said("1"),
        said("2", uri="media/none.jpg"),
        said("3", uri="media/film.mp4"),
        said("4", box=(60, 10, 200, 30)),
        said("5", box=(5, 5, 20, 20), brand="bee"),
        said("6", "wrong", box=(5, 5, 20, 21), brand="bee", reviewer_id="r2"),
    ]
    report = make(tmp_path, outcomes).report
    assert report["by_reason"] == {"box_outside": 1, "media_unknown": 2, "reviewers_disagree": 2}
    assert report["rows"] == report["regions"] + report["merged"] + report["superseded"] + report["quarantined"] == 6
    kept = pd.read_parquet(tmp_path / "out" / "quarantine.parquet")
    assert kept["outcome_id"].tolist() == ["2", "3", "4"]


def test_no_usable_outcome_is_failed_work(tmp_path):
    with pytest.raises(FailedWork, match="none can be used"):
        make(tmp_path, [said("1", uri="media/none.jpg")])


def test_the_majority_of_those_who_looked_at_one_region_counts():
    rows = pd.DataFrame(
        [
            said("1", box=(0, 0, 10, 10)),
            said("2", "missed", box=(0, 0, 10, 12)),
            said("3", "wrong", box=(0, 1, 10, 11)),
            said("4", "wrong", box=(50, 50, 60, 60)),
            said("5", "wrong", box=(0, 0, 10, 10), brand="bee"),
        ]
    ).assign(digest="d")
    regions = agreed(rows)
    assert regions[["brand", "is_mark", "num_outcomes"]].to_numpy().tolist() == [["ant", True, 3], ["ant", False, 1], ["bee", False, 1]]
    assert regions.loc[0, ["x1", "y1", "x2", "y2"]].tolist() == [0, 0, 10, 11]  # medians of the two who saw it


def test_a_photo_keeps_its_split_when_outcomes_come(tmp_path):
    before = make(tmp_path / "one", [said("1"), said("2", uri="media/b.jpg")]).dataset.images.set_index("digest")["split"]
    after = make(tmp_path / "two", [said("1"), said("2", uri="media/b.jpg"), said("3", uri="media/c.jpg")]).dataset.images
    assert after.set_index("digest")["split"][before.index].equals(before)


def test_the_command(tmp_path, capsys):
    store = ledger_of(tmp_path, [said("1")])
    command = ["logo", "outcomes", "--out", str(tmp_path / "out"), "--store", str(store), "--params", str(ROOT / "params.yaml")]
    assert cli.main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["regions"] == 1
    assert cli.main(command) == 0
    assert "1 outcomes = 1 regions" in capsys.readouterr().out
    assert cli.main([*command[:-4], "--store", str(tmp_path / "none"), *command[-2:]]) == 2
