"""Parameters: what is wrong is named by file and key, and overrides mean what a person types."""

from pathlib import Path

import pytest
import yaml

from feature_store import params
from feature_store.errors import BadUse

FILE = Path(__file__).parents[2] / "params.yaml"


def changed(folder: Path, section: str, key: str, value: object) -> Path:
    content = yaml.safe_load(FILE.read_text())
    content[section][key] = value
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rat", 0.1), ("epochs", "three"), ("epochs", 2.5), ("epochs", -1), ("dropout", 1.5)],
)
def test_a_wrong_parameter_is_named_with_its_file(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(BadUse, match=rf"changed\.yaml: key text\.{key}"):
        params.load(changed(tmp_path, "text", key, value))


@pytest.mark.parametrize(("override", "key"), [("text.epoch=1", "text.epoch"), ("txt.epochs=1", "txt"), ("text.epochs", "text.epochs")])
def test_an_override_of_nothing_known_is_refused(override: str, key: str) -> None:
    with pytest.raises(BadUse, match=key):
        params.load(FILE, [override])


def test_overrides_replace_what_the_file_says() -> None:
    loaded = params.load(FILE, ["text.epochs=1", "text.learning_rate=1e-4", "policies=[spam]"])
    assert (loaded.text.epochs, loaded.text.learning_rate, loaded.policies) == (1, 0.0001, ("spam",))


def test_a_missing_or_broken_file_is_bad_use(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("text: [")
    for path in (tmp_path / "none.yaml", broken):
        with pytest.raises(BadUse, match=path.name):
            params.load(path)
