"""A store's own parameters: under what somebody asks for, over the repository's, in the form and in every run."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = "seed: 11\nlogo: {epochs: 4}\n"
FORM = (
    "import json, sys; from pathlib import Path; from upheld.dags.runner.tasks import form; "
    "print(json.dumps({key: param.value for key, param in form(Path('.').absolute()).items()}))"
)


def params_of(folder: Path) -> tuple[int, int, int]:
    """seed, logo.epochs, text.epochs."""
    content = yaml.safe_load((folder / "params.yaml").read_text())
    return content["seed"], content["logo"]["epochs"], content["text"]["epochs"]


def test_a_run_has_the_repository_s_params_then_the_store_s_then_what_was_asked(toy: Any) -> None:
    seed, epochs, text = params_of(toy.root)
    assert (seed, epochs) != (11, 4)
    (toy.store / "params.yaml").write_text(OWN)
    untouched = {"seed": 11, "logo.epochs": 4, "text.epochs": text}  # a form that nobody changed
    for name, given, expected in (
        ("form", untouched, (11, 4, text)),
        ("nothing", {}, (11, 4, text)),
        ("asked", untouched | {"text.epochs": 9, "seed": 7}, (7, 4, 9)),
        ("back", untouched | {"seed": seed, "logo.epochs": epochs}, (seed, epochs, text)),
    ):
        assert toy.prepare(name, given)[0] == 0
        assert params_of(toy.workspace(name)) == expected, name


def test_a_rerun_keeps_what_the_earlier_run_was_given(toy: Any) -> None:
    seed, epochs, text = params_of(toy.root)
    toy.prepare("before")
    (toy.store / "params.yaml").write_text(OWN)
    toy.prepare("asked", {"seed": 7, "logo.epochs": 4})
    untouched = {"seed": 11, "logo.epochs": 4}
    toy.prepare("before-again", untouched, rerun_of="before")
    toy.prepare("asked-again", untouched | {"text.epochs": 9}, rerun_of="asked")
    assert params_of(toy.workspace("before-again")) == (seed, epochs, text)
    assert params_of(toy.workspace("asked-again")) == (7, 4, 9)


@pytest.mark.parametrize(("own", "named"), [("sed: 1\n", "sed"), ("seed: many\n", "seed"), ("logo: {epoch: 4}\n", "logo.epoch")])
def test_a_wrong_own_param_is_bad_use_that_names_the_file_and_leaves_nothing(toy: Any, own: str, named: str) -> None:
    (toy.store / "params.yaml").write_text(own)
    code, result = toy.prepare("one")
    assert code == 2
    assert f"{toy.store}/params.yaml: " in result["error"] and named in result["error"]
    assert list((toy.store / "runs").iterdir()) == []


def test_the_form_starts_from_the_store_s_own(tmp_path: Path) -> None:
    def defaults() -> dict[str, Any]:
        environment = os.environ | {"UPHELD_STORE": str(tmp_path), "AIRFLOW_HOME": str(tmp_path / "airflow")}
        done = subprocess.run([sys.executable, "-c", FORM], cwd=REPOSITORY, env=environment, check=True, capture_output=True, text=True)
        form: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return form

    without = defaults()
    (tmp_path / "params.yaml").write_text(OWN)
    assert defaults() == without | {"seed": 11, "logo.epochs": 4} != without
