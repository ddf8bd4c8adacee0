"""What the detector learns from: every source alone and together, what changed since it was pinned, and equal bytes for equal content."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from tests import logo_world
from tests.feature_store.deliveries import ROOT, deliver, parameters, post, take
from tests.feature_store.logo_folders import jpeg, picture, put
from upheld.common.errors import FailedWork
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.logos import stage as logo_data
from upheld.feature_store.logos import store as logo_store
from upheld.feature_store.logos.composites.backgrounds import Background
from upheld.feature_store.logos.composites.marks import OURS
from upheld.feature_store.logos.dataset import dataset

pytestmark = pytest.mark.usefixtures("without_expectations")
NUM = 6
PARAMS = parameters(f"logo_data.num_composites={NUM}", "logo_compose.max_side_px=160")


def said(outcome_id: str, uri: str, verdict: str = "confirmed", box: tuple[int, ...] = (10, 10, 40, 40)) -> dict[str, Any]:
    row = {"outcome_id": outcome_id, "revision": 0, "post_id": "p1", "media_uri": uri, "brand": "ant", "verdict": verdict}
    corners = dict(zip(("x1", "y1", "x2", "y2"), map(float, box), strict=True))
    return row | corners | {"reviewer_id": "r1", "reviewed_at": "2026-10-27T10:00:00Z"}


def ledger(folder: Path, num_photos: int = 4, outcomes: list[dict[str, Any]] | None = None, **values: Any) -> Path:
    """A store whose ledger has one post with photos 0.jpg, 1.jpg …, and what reviewers said of them."""
    uris = [f"media/{number}.jpg" for number in range(num_photos)]
    for number, uri in enumerate(uris):
        put(folder / "delivery" / uri, jpeg(picture(number, (160, 120))))
    tables = {"logo_outcomes": outcomes} if outcomes else {}
    media = [{"kind": "image", "uri": uri} for uri in uris]
    take(deliver(folder / "delivery", posts=[post(media=media, **values)], **tables), folder / "store")
    return folder / "store"


def add_marks(store: Path, *brands: str) -> None:
    for brand in brands or ("tamsik", "okkano"):
        put(store / "marks" / f"{brand}.svg", (OURS / f"{brand}.svg").read_bytes())


def pin(store: Path, path: Path, **changed: int) -> Path:
    known = Ledger(store)
    inputs = {"tables": known.versions | changed, **logo_store.pins(store).model_dump(), "as_of": "2026-11-02T00:00:00Z"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(inputs | {"ledger_digest": "d", "champion": None, "synthetic": False}))
    return path


def run(store: Path, workspace: Path, params: Any = PARAMS, inputs: Path | None = None) -> logo_data.Result:
    given = inputs or pin(store, workspace / "inputs.json")
    return logo_data.run(params, given, store, workspace / "data" / "logo", workspace / "data" / "logo_data")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_nothing_to_learn_from_is_an_empty_dataset(tmp_path: Path) -> None:
    result = run(ledger(tmp_path), tmp_path / "w")
    found = dataset.read(tmp_path / "w" / "data" / "logo")
    assert (found.brands, len(found.images), len(found.boxes), len(found.negatives), found.synthetic) == ((), 0, 0, 0, False)
    assert found.digest == result.dataset.digest == dataset.read(result.dataset.folder).digest
    assert list(dataset.contents(found, [])) == []
    assert contents(tmp_path / "w" / "data" / "logo").keys() == {"images.parquet", "boxes.parquet", "negatives.parquet", "dataset.json"}
    assert result.report["outcomes"] == {"rows": 0}
    assert json.loads((tmp_path / "w" / "data" / "logo_data" / "report.json").read_text()) == result.report


def test_outcomes_alone(tmp_path: Path) -> None:
    outcomes = [said("1", "media/0.jpg"), said("2", "media/1.jpg", "wrong"), said("3", "media/none.jpg")]
    store = ledger(tmp_path, outcomes=outcomes)
    result = run(store, tmp_path / "w")
    found = dataset.read(tmp_path / "w" / "data" / "logo")
    assert found.boxes[["brand", "x1", "y2", "source"]].to_numpy().tolist() == [["ant", 10, 40, "outcome"]]
    assert found.negatives["brand"].tolist() == ["ant"] and found.images["file"].isna().all()
    assert dict(dataset.contents(found, found.images["digest"], store)).keys() == set(found.images["digest"])
    assert result.report["outcomes"]["by_reason"] == {"media_unknown": 1}
    refused = pd.read_parquet(tmp_path / "w" / "data" / "logo_data" / "quarantine.parquet")
    assert refused["outcome_id"].tolist() == ["3"]


def test_outcomes_of_which_none_can_be_used_are_told_and_no_failure(tmp_path: Path) -> None:
    result = run(ledger(tmp_path, outcomes=[said("1", "media/none.jpg")]), tmp_path / "w")
    assert result.dataset.images.empty
    assert "'media_unknown': 1" in result.report["outcomes"]["reason"]


def test_a_photo_that_is_refused_is_named_with_its_reason(tmp_path: Path) -> None:
    store = ledger(tmp_path, outcomes=[said("1", "media/0.jpg"), said("2", "media/large.jpg")])
    put(tmp_path / "more" / "media" / "large.jpg", jpeg(picture(9, (400, 300))))
    more = [{"kind": "image", "uri": "media/large.jpg"}]
    take(
        deliver(tmp_path / "more", posts=[post("p2", media=more)], logo_outcomes=[said("9", "media/large.jpg") | {"post_id": "p2"}]), store
    )
    strict = parameters("logo_data.max_pixels=20000", f"logo_data.num_composites={NUM}")
    add_marks(store)
    report = run(store, tmp_path / "w", strict).report
    refused = pd.read_parquet(tmp_path / "w" / "data" / "logo_data" / "quarantine.parquet").set_index("outcome_id")["reason"]
    assert refused.to_dict() == {"2": "media_unknown", "9": "image_too_large"}
    assert [(refusal["reason"], refusal["file"][:7]) for refusal in report["composites"]["refused"]] == [("image_too_large", "ledger:")]


def test_datasets_of_the_store_are_merged(tmp_path: Path) -> None:
    store = ledger(tmp_path, outcomes=[said("1", "media/0.jpg")])
    squares = logo_world.make(store / "logos" / "squares", 12)
    result = run(store, tmp_path / "w")
    assert set(result.dataset.brands) == {"ant", "bluesquare", "redsquare"}
    assert len(result.dataset.images) == 13 and result.dataset.synthetic
    assert result.report["datasets"] == {"squares": squares.digest}
    found = dataset.read(tmp_path / "w" / "data" / "logo")
    assert dict(dataset.contents(found, found.images["digest"], store)).keys() == set(found.images["digest"])


def test_marks_alone_are_pasted_onto_photos_of_the_ledger(tmp_path: Path) -> None:
    store = ledger(tmp_path)
    add_marks(store)
    put(store / "marks" / "broken.svg", b"<svg")
    result = run(store, tmp_path / "w")
    found = dataset.read(tmp_path / "w" / "data" / "logo")
    assert found.images["composite"].all() and set(found.brands) == {"tamsik", "okkano"} and len(found.images) == NUM
    assert set(found.images["split"]) <= {"train", "val"}
    assert [refusal["file"] for refusal in result.report["composites"]["refused"]] == [str(store / "marks" / "broken.svg")]
    files = [f"composites/{name}.jpg" for name in found.images["digest"]]
    assert found.images["file"].tolist() == files
    assert {path for path in contents(found.folder) if path.startswith("composites")} == set(files)
    assert dict(dataset.contents(found, found.images["digest"])).keys() == set(found.images["digest"])
    assert list((store / "checkpoints").iterdir()) == []


def test_photos_of_the_ledger_only_fill_up_labelled_ones(tmp_path: Path) -> None:
    store = ledger(tmp_path)
    squares = logo_world.make(store / "logos" / "squares", 8)
    add_marks(store)
    num_train = int((squares.images["split"] == "train").sum())
    few, many = parameters(f"logo_data.num_composites={num_train}"), parameters(f"logo_data.num_composites={num_train + 3}")
    assert run(store, tmp_path / "a", few).report["composites"]["photos"]["used"] == num_train
    assert run(store, tmp_path / "b", many).report["composites"]["photos"]["used"] == num_train + 3
    found = dataset.read(tmp_path / "a" / "data" / "logo")
    of_composites = found.boxes[found.boxes["source"] == "composite"]
    assert {"redsquare", "bluesquare"} & set(of_composites["brand"])  # marks that were on the photo are kept
    held_out = set(squares.images.loc[squares.images["split"] != "train", "group_id"])
    assert not held_out & set(found.images.loc[found.images["composite"], "group_id"])


def test_marks_without_a_photo_are_told_and_no_failure(tmp_path: Path) -> None:
    store = ledger(tmp_path, num_photos=0)
    add_marks(store)
    result = run(store, tmp_path / "w")
    assert result.dataset.images.empty and result.report["composites"]["reason"] == "there is no photo to paste marks onto"
    assert run(store, tmp_path / "none", parameters("logo_data.num_composites=0")).report["composites"] is None


def test_marks_of_which_none_can_be_used_fail_by_name(tmp_path: Path) -> None:
    store = ledger(tmp_path)
    put(store / "marks" / "broken.svg", b"<svg")
    with pytest.raises(FailedWork, match=r"broken\.svg"):
        run(store, tmp_path / "w")
    assert not (tmp_path / "w" / "data" / "logo").exists()


def test_what_changed_after_the_pin_fails_by_name_and_what_was_added_waits(tmp_path: Path) -> None:
    store = ledger(tmp_path)
    logo_world.make(store / "logos" / "squares", 8)
    add_marks(store)
    inputs = pin(store, tmp_path / "inputs.json")
    logo_world.make(store / "logos" / "later", 4)
    assert list(run(store, tmp_path / "w", inputs=inputs).report["datasets"]) == ["squares"]
    put(store / "marks" / "new.svg", (OURS / "vuxora.svg").read_bytes())
    with pytest.raises(FailedWork, match=r"store/marks: changed since"):
        run(store, tmp_path / "w", inputs=inputs)
    (store / "marks" / "new.svg").unlink()
    shutil.rmtree(store / "logos" / "squares")
    with pytest.raises(FailedWork, match=r"logos/squares"):
        run(store, tmp_path / "w", inputs=inputs)
    logo_world.make(store / "logos" / "squares", 12)
    with pytest.raises(FailedWork, match=r"store/logos/squares: changed since"):
        run(store, tmp_path / "w", inputs=inputs)


def test_a_photo_that_is_no_longer_what_it_was_fails_by_name(tmp_path: Path) -> None:
    store = ledger(tmp_path)
    squares = logo_world.make(store / "logos" / "squares", 8)
    add_marks(store)
    file = squares.images.loc[squares.images["split"] == "train", "file"].iloc[0]
    put(store / "logos" / "squares" / file, b"torn")
    with pytest.raises(FailedWork, match=f"{file}: is not the photo"):
        run(store, tmp_path / "w")


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    store = ledger(tmp_path, outcomes=[said("1", "media/0.jpg")])
    logo_world.make(store / "logos" / "squares", 8)
    add_marks(store)
    run(store, tmp_path / "a")
    # new posts without photos and new decisions: the ledger is another one, and nothing of it is about logos
    take(deliver(tmp_path / "more", posts=[post("p2"), post("p3")]), store)
    inputs = pin(store, tmp_path / "b" / "inputs.json")
    assert inputs.read_text() != (tmp_path / "a" / "inputs.json").read_text()
    run(store, tmp_path / "b", inputs=inputs)
    assert contents(tmp_path / "a" / "data" / "logo") == contents(tmp_path / "b" / "data" / "logo")
    take(deliver(tmp_path / "new", logo_outcomes=[said("2", "media/1.jpg")]), store)
    run(store, tmp_path / "c")
    assert contents(tmp_path / "c" / "data" / "logo")["dataset.json"] != contents(tmp_path / "a" / "data" / "logo")["dataset.json"]


def test_a_run_reads_the_ledger_as_it_was_pinned(tmp_path: Path) -> None:
    store = ledger(tmp_path, outcomes=[said("1", "media/0.jpg")])
    inputs = pin(store, tmp_path / "inputs.json")
    before = run(store, tmp_path / "a", inputs=inputs).dataset.digest
    take(deliver(tmp_path / "new", logo_outcomes=[said("2", "media/1.jpg")]), store)
    assert run(store, tmp_path / "b", inputs=inputs).dataset.digest == before
    assert run(store, tmp_path / "c").dataset.digest != before


def test_a_run_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ledger(tmp_path)
    add_marks(store)
    whole = run(store, tmp_path / "whole")
    done: list[int] = []
    opened = Background.open

    def tired(photo: Background, max_pixels: int) -> Image.Image:
        if len(done) >= 2:
            raise OSError(28, "No space left on device", "disk")
        done.append(0)
        return opened(photo, max_pixels)

    def counted(photo: Background, max_pixels: int) -> Image.Image:
        done.append(1)
        return opened(photo, max_pixels)

    monkeypatch.setattr(Background, "open", tired)
    with pytest.raises(OSError, match="No space"):
        run(store, tmp_path / "w")
    assert not (tmp_path / "w" / "data" / "logo").exists()
    num_before = len(list((store / "checkpoints").glob("*/made/parts/*/*.json")))
    monkeypatch.setattr(Background, "open", counted)
    assert run(store, tmp_path / "again").dataset.digest == whole.dataset.digest
    assert 0 < num_before < NUM and done.count(1) == NUM - num_before
    assert contents(tmp_path / "again" / "data" / "logo") == contents(tmp_path / "whole" / "data" / "logo")


def test_the_entry_point(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = ledger(tmp_path, outcomes=[said("1", "media/0.jpg")])
    inputs = pin(store, tmp_path / "inputs.json")
    command = ["--inputs", str(inputs), "--out", str(tmp_path / "logo"), "--about", str(tmp_path / "about"), "--store", str(store)]
    assert logo_data.main([*command, "--params", str(ROOT / "params.yaml")]) == 0
    assert "1 brands" in capsys.readouterr().out
    assert logo_data.main([*command, "--params", str(ROOT / "params.yaml"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"]["brands"] == {"ant": 1}
    (store / "logos" / "half").mkdir(parents=True)
    inputs.write_text(inputs.read_text().replace('"logo_datasets": {}', '"logo_datasets": {"half": "d"}'))
    assert logo_data.main([*command, "--params", str(ROOT / "params.yaml")]) == 1
    assert "logos/half" in capsys.readouterr().err
