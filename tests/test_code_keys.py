"""Keys that name the code that something was made by: they change with every file that they should, and name all that is imported."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from import_closure import REPOSITORY

from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.composites import retrain
from upheld.training.audio import stage as audio
from upheld.training.image import stage as image
from upheld.training.logos import stage as logo
from upheld.training.text import stage as text

STAGES = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
KEYS = {"audio": audio.CODE, "image": image.CODE, "logo": logo.CODE, "logo_data": retrain.CODE, "text": text.CODE}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "keyed"
    (folder / "inner" / "deep").mkdir(parents=True)
    for place in (folder, folder / "inner", folder / "inner" / "deep"):
        (place / "__init__.py").write_text("")
        (place / "part.py").write_text("VALUE = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == folder.name]:
        del sys.modules[name]


@pytest.mark.parametrize("names", [["keyed"], ["keyed.inner"], ["keyed.inner.deep.part"], ["keyed.part", "keyed.inner"]])
def test_a_changed_line_in_a_nested_file_changes_the_key(package: Path, names: list[str]) -> None:
    before = hashing.of_code(names)
    (package / "inner" / "notes.txt").write_text("no code")
    assert hashing.of_code(names[::-1]) == before
    (package / "inner" / "deep" / "part.py").write_text("VALUE = 2\n")
    assert hashing.of_code(names) != before


def test_a_file_that_comes_or_goes_changes_the_key_and_one_outside_does_not(package: Path) -> None:
    before = hashing.of_code(["keyed.inner"])
    (package / "part.py").write_text("VALUE = 2\n")
    assert hashing.of_code(["keyed.inner"]) == before
    (package / "inner" / "more.py").write_text("")
    more = hashing.of_code(["keyed.inner"])
    (package / "inner" / "more.py").rename(package / "inner" / "deep" / "more.py")
    assert len({before, more, hashing.of_code(["keyed.inner"])}) == 3


def test_a_name_without_code_is_no_key(package: Path) -> None:
    (package / "empty").mkdir()
    for name in ("keyed.gone", "keyed.empty"):
        with pytest.raises(ModuleNotFoundError, match=name):
            hashing.of_code([name])


@pytest.mark.parametrize("stage", KEYS)
def test_a_key_names_the_packages_that_its_stage_depends_on(stage: str) -> None:
    code = [dep for dep in STAGES[stage]["deps"] if not dep.startswith(("data/", "models/"))]
    assert list(KEYS[stage]) == [f"upheld.{dep.removesuffix('.py').replace('/', '.')}" for dep in code]
