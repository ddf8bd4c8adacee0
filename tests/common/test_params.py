"""Parameters: what is wrong is named by file and key, and overrides mean what a person types."""

from pathlib import Path

import pytest
import yaml

from upheld.common.errors import BadUse
from upheld.common.params import params

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


def test_a_store_s_own_params_lie_between_the_file_and_the_overrides(tmp_path: Path) -> None:
    content = yaml.safe_load(FILE.read_text())
    (tmp_path / "params.yaml").write_text("# of a demo\ntext: {epochs: 7, learning_rate: 1e-4}\nseed: 5\n")
    loaded = params.load(FILE, ["seed=6"], tmp_path)
    assert (loaded.text.epochs, loaded.text.learning_rate, loaded.seed) == (7, 0.0001, 6)
    assert loaded.text.dropout == content["text"]["dropout"]
    assert params.load(FILE, None, tmp_path / "none") == params.load(FILE)


@pytest.mark.parametrize(
    ("own", "named"),
    [
        ("text: {epoch: 1}", "text.epoch"),
        ("txt: {epochs: 1}", "txt"),
        ("text: {epochs: many}", "text.epochs"),
        ("text: [", "YAML"),
        ("- text", "mapping"),
    ],
)
def test_what_is_wrong_in_a_store_s_own_params_is_named_with_that_file(tmp_path: Path, own: str, named: str) -> None:
    (tmp_path / "params.yaml").write_text(own)
    with pytest.raises(BadUse, match=rf"^{tmp_path}/params\.yaml: .*{named}"):
        params.load(FILE, ["text.epochs=1"], tmp_path)


def test_the_params_of_a_run_s_workspace_hold_as_they_are(tmp_path: Path) -> None:
    workspace = tmp_path / "runs" / "one"
    workspace.mkdir(parents=True)
    (workspace / "params.yaml").write_text(FILE.read_text())
    (workspace / "run.json").touch()
    (tmp_path / "params.yaml").write_text("seed: 5\n")
    assert params.load(workspace / "params.yaml", None, tmp_path) == params.load(FILE)


def test_in_a_folder_without_params_the_repository_s_own_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert params.load(Path("params.yaml")) == params.load(FILE)
    Path("params.yaml").write_text("text: {}")
    with pytest.raises(BadUse, match=r"^params\.yaml: "):
        params.load(Path("params.yaml"))
