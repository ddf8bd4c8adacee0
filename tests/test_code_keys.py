"""Keys that name the code that something was made by: they change with every file that they should, and name all that is imported."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_closure import PLUMBING, REPOSITORY, closure, source

from upheld.feature_store.contracts import hashing as digest
from upheld.feature_store.logos.composites import retrain as logo_run_composites
from upheld.training.audio import stage as audio
from upheld.training.image import stage as image
from upheld.training.logos import stage as logo
from upheld.training.loop import classifier as stage
from upheld.training.text import stage as text

# module -> names that its key is made of, and the prefixes of paths within which it must name whatever is imported
KEYS = {
    **{
        module.__name__: ((*stage.CODE, *module.CODE), ("training/", "feature_store/backbones/", "feature_store/extractors/image_"))
        for module in (audio, image, logo, text)
    },
    logo_run_composites.__name__: (logo_run_composites.CODE, ("feature_store/logo_",)),
}


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
    before = digest.of_code(names)
    (package / "inner" / "notes.txt").write_text("no code")
    assert digest.of_code(names[::-1]) == before
    (package / "inner" / "deep" / "part.py").write_text("VALUE = 2\n")
    assert digest.of_code(names) != before


def test_a_file_that_comes_or_goes_changes_the_key_and_one_outside_does_not(package: Path) -> None:
    before = digest.of_code(["keyed.inner"])
    (package / "part.py").write_text("VALUE = 2\n")
    assert digest.of_code(["keyed.inner"]) == before
    (package / "inner" / "more.py").write_text("")
    more = digest.of_code(["keyed.inner"])
    (package / "inner" / "more.py").rename(package / "inner" / "deep" / "more.py")
    assert len({before, more, digest.of_code(["keyed.inner"])}) == 3


def test_a_name_without_code_is_no_key(package: Path) -> None:
    (package / "empty").mkdir()
    for name in ("keyed.gone", "keyed.empty"):
        with pytest.raises(ModuleNotFoundError, match=name):
            digest.of_code([name])


@pytest.mark.parametrize("module", KEYS)
def test_a_key_names_all_that_is_imported(module: str) -> None:
    """Oracle: the import closure, read off the syntax trees."""
    names, prefixes = KEYS[module]
    named = {source(name) for name in names} | {file for name in names for file in source(name).with_suffix("").rglob("*.py")}
    imported = {file for file in closure(source(module)) if file.relative_to(REPOSITORY).as_posix().startswith(prefixes)}
    assert sorted(file.name for file in imported - named if file.relative_to(REPOSITORY).as_posix() not in PLUMBING) == []
