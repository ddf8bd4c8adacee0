"""What is pinned of the feature store: the tables, and the version that each extractor has under the run's parameters."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import logo_world
from tests.feature_store.deliveries import deliver, post, take
from upheld.common.errors import FailedWork
from upheld.common.params import params
from upheld.feature_store.contracts.workspace import FeaturePins, LogoPins, read_inputs
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Extractor
from upheld.feature_store.features.table import KEYS, FeatureStore
from upheld.feature_store.ingest import expectations
from upheld.feature_store.logos import store as logo_store
from upheld.registry.runs import pin

PARAMS = params.load(Path(__file__).resolve().parents[3] / "params.yaml")


class Words(Extractor):
    """Its version is that of the run's seed."""

    name, kind, columns = "words", "text", pa.schema([("word", pa.string())])

    @property
    def version(self) -> str:
        return f"1-{self.params.seed}"

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        return [{"word": ""} for _ in batch]


class Weightless(Words):
    name = "weightless"

    def unavailable(self) -> str | None:
        return "no weights"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(catalogue, "EXTRACTORS", {"words": f"{__name__}:Words", "weightless": f"{__name__}:Weightless"})
    monkeypatch.setattr(catalogue, "load_class", lambda path: {"Words": Words, "Weightless": Weightless}[path.rpartition(":")[2]])
    for name in ("words", "weightless", "forgotten"):
        write(tmp_path, name)
    return tmp_path


def write(store: Path, name: str, digest: str = "a") -> None:
    row = {"digest": digest, "extractor_version": "1-7", "extracted_at": datetime(2026, 11, 1, tzinfo=UTC), "word": "w"}
    FeatureStore(store / "features").write(name, pa.Table.from_pylist([row], pa.schema([*KEYS, ("word", pa.string())])))


def test_tables_of_extractors_that_can_run_are_pinned_at_the_run_s_version(store: Path) -> None:
    found = pin.pinned_features(store, PARAMS.model_copy(update={"seed": 7}))
    assert list(found.features) == ["words"]
    words = found.features["words"]
    assert (words.extractor_version, words.kind) == ("1-7", "text")
    assert words.lance_version == FeatureStore(store / "features").versions["words"]
    assert pin.pinned_features(store, PARAMS.model_copy(update={"seed": 8})).features["words"].extractor_version == "1-8"


def test_nothing_new_pins_the_same_and_something_new_does_not(store: Path) -> None:
    first = pin.pinned_features(store, PARAMS)
    assert pin.pinned_features(store, PARAMS) == first
    write(store, "words", "b")
    assert pin.pinned_features(store, PARAMS) != first


def test_nothing_extracted_pins_nothing(tmp_path: Path) -> None:
    found = pin.pinned_features(tmp_path, PARAMS)
    assert found.features == {}
    assert FeaturePins.model_validate(json.loads(found.model_dump_json())) == found
    assert found.location(tmp_path) == tmp_path / "features"
    assert list(tmp_path.iterdir()) == []


def test_logo_datasets_and_marks_are_pinned_by_what_they_say(tmp_path: Path) -> None:
    assert logo_store.pins(tmp_path) == LogoPins() == LogoPins(logo_datasets={}, logo_marks=None)
    squares = logo_world.make(tmp_path / "logos" / "squares", 4)
    (tmp_path / "marks").mkdir()
    (tmp_path / "logos" / "README.md").write_text("where they come from")
    assert logo_store.pins(tmp_path) == LogoPins(logo_datasets={"squares": squares.digest}, logo_marks=None)
    (tmp_path / "marks" / "ant.svg").write_text("<svg/>")
    first = logo_store.pins(tmp_path)
    assert first.logo_marks and logo_store.pins(tmp_path) == first
    (tmp_path / "marks" / "ant.svg").write_text("<svg />")
    assert logo_store.pins(tmp_path).logo_marks != first.logo_marks
    logo_world.make(tmp_path / "logos" / "later", 8)
    assert list(logo_store.pins(tmp_path).logo_datasets) == ["later", "squares"]


def test_a_logo_dataset_that_is_not_finished_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "logos" / "half").mkdir(parents=True)
    (tmp_path / "logos" / "half" / "making.json").write_text("{}")
    with pytest.raises(FailedWork, match=r"half.*finish this one or take it out"):
        logo_store.pins(tmp_path)


def test_inputs_say_what_is_learned_from_and_older_ones_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expectations, "judge", lambda *_: {"success": True, "checks": []})
    take(deliver(tmp_path / "d", posts=[post()]), tmp_path / "store")
    squares = logo_world.make(tmp_path / "store" / "logos" / "squares", 4)
    written = pin.run(tmp_path / "store", tmp_path / "inputs.json", PARAMS)
    assert written["logo_datasets"] == {"squares": squares.digest} and written["logo_marks"] is None
    assert read_inputs(tmp_path / "inputs.json").logo_datasets == written["logo_datasets"]
    older = {name: value for name, value in written.items() if not name.startswith("logo_")}
    (tmp_path / "older.json").write_text(json.dumps(older))
    assert (read_inputs(tmp_path / "older.json").logo_datasets, read_inputs(tmp_path / "older.json").logo_marks) == ({}, None)
