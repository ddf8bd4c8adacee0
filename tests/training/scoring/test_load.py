"""Models that others load: `upheld.load`, MLflow's own loader and its server say what `upheld score` says of posts of text alone."""

import dataclasses
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from finished_workspaces import write_workspace

import upheld
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.dags.runner import workspace
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.posts.history import History
from upheld.registry import score
from upheld.registry.production import champion
from upheld.registry.runs import register
from upheld.registry.tracking import mlflow_store, wheel
from upheld.training.pipeline import bundle
from upheld.training.scoring import frame

ROOT = Path(__file__).resolve().parents[3]
PARAMS = str(ROOT / "params.yaml")
CHAMPION = "models:/upheld-moderation@champion"


@pytest.fixture(scope="module")
def store(tiny: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store whose champion, model 1, learned from the recognition of languages; nobody approved model 2, the challenger."""
    folder = tmp_path_factory.mktemp("store")
    learned = tiny.save_workspace(folder / "made")
    manifest = json.loads((learned / "data/snapshot/manifest.json").read_text())
    manifest["features"]["language"] = {"extractor_version": catalogue.make("language", params.load(Path(PARAMS))).version}
    (learned / "data/snapshot/manifest.json").write_text(json.dumps(manifest))
    fusion = json.loads((learned / "models/fusion/fusion.json").read_text())
    for learnt in fusion["policies"].values():
        learnt["coefficients"]["log1p_prior_removals"] = 0.3
    (learned / "models/fusion/fusion.json").write_text(json.dumps(fusion))
    made = bundle.assemble(learned, folder / "bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(bundle, "assemble", lambda workspace, out: shutil.copytree(made, out))
        for number in ("1", "2"):
            finished = write_workspace(folder / "runs" / number, lock=number, gate="promote")
            thresholds = json.loads((made / "thresholds.json").read_text())
            (finished / "data/calibration/thresholds.json").write_text(json.dumps(thresholds))
            register.run(finished, folder)
        registry = mlflow_store.connect(folder)
        of = {name: mlflow_store.resolve(registry, name, "1") for name in (mlflow_store.MODEL, mlflow_store.THRESHOLDS)}
        champion.move(folder, registry, "promote", *of.values(), champion.Answer("Ada Ames"))
        yield folder


@pytest.fixture(scope="module")
def model(store: Path) -> Path:
    """The folder of the champion as MLflow keeps it."""
    registry = mlflow_store.connect(store)
    return mlflow_store.bundle_path(registry, mlflow_store.resolve(registry, mlflow_store.MODEL, "1")).parents[1]


def some_posts() -> pd.DataFrame:
    """Posts of text alone, among them hidden spellings, a link, hashtags, no caption, and languages that are to be recognised."""
    rows = [
        ("a", "buy now", "en", None),
        ("b", "Kauf  jetzt bi\u200bllig, guten Morgen mein lieber Freund", None, ["cheap", "#now"]),
        ("c", "hello friend https://x.example #Cheap", "und", ["cheap"]),
        ("d", None, "de", ["now"]),
        ("e", "h a t e  t h e m", "de-AT", None),
        ("f", "h\u0430te\u0007 them now", "EN", None),  # an a of the Cyrillic alphabet, and a bell
    ]
    return pd.DataFrame(rows, columns=["post_id", "text", "language", "hashtags"])


def decided(posts: pd.DataFrame, store: Path, folder: Path) -> pd.DataFrame:
    """What `upheld score` says of posts, which it wants with a time and a language: probabilities by post_id and category."""
    whole = posts.assign(created_at=pd.Timestamp("2026-11-01", tz="UTC"), language=posts["language"].fillna("und"))
    whole.to_parquet(folder / "posts.parquet")
    files = ["--posts", str(folder / "posts.parquet"), "--out", str(folder / "out.parquet")]
    assert score.main([*files, "--store", str(store), "--params", PARAMS]) == 0
    return pd.read_parquet(folder / "out.parquet").pivot(index="post_id", columns="category", values="score")


def test_a_model_that_reads_the_score_of_another_says_once_that_it_has_none(store: Path, model: Path) -> None:
    alone = bundle.load(model / "artifacts/bundle")
    needy = dataclasses.replace(alone, fusion=alone.fusion.model_copy(update={"incumbent": "old-1"}))
    scorer = frame.FrameScorer(needy, params.load(Path(PARAMS)))
    posts = some_posts()
    with pytest.warns(UserWarning, match="reads the score of old-1 beside a post; `upheld score --incumbent` takes it"):
        probs = scorer.predict(posts)
    pd.testing.assert_frame_equal(scorer.predict(posts), probs)  # warnings are errors
    pd.testing.assert_frame_equal(probs, frame.FrameScorer(alone, params.load(Path(PARAMS))).predict(posts))


def test_three_doors_say_the_same(store: Path, model: Path, tmp_path: Path) -> None:
    posts = some_posts()
    expected = decided(posts, store, tmp_path)
    from mlflow.pyfunc import load_model

    for probs in (upheld.load(CHAMPION, store).predict(posts), load_model(str(model)).predict(posts)):
        assert list(probs) == ["post_id", "prob_hate_speech", "prob_spam"]
        assert probs["post_id"].tolist() == posts["post_id"].tolist()
        np.testing.assert_allclose(probs.set_index("post_id"), expected[["hate_speech", "spam"]], rtol=0, atol=1e-6)
        assert len(set(probs["prob_spam"].round(6))) == len(posts)  # not by saying the same of all posts


def test_the_author_s_removals_are_a_column_where_there_is_no_ledger(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    posts = some_posts()
    monkeypatch.setattr(score, "known_history", lambda store: History({"a1": 4}))
    expected = decided(posts.assign(author_id="a1"), store, tmp_path)
    loaded = upheld.load(CHAMPION, store)
    probs = loaded.predict(posts.assign(prior_removals=4))
    np.testing.assert_allclose(probs.set_index("post_id"), expected, rtol=0, atol=1e-6)
    assert (probs["prob_spam"] != loaded.predict(posts)["prob_spam"]).all()


def test_post_id_and_text_are_enough_and_nulls_are_absent(store: Path) -> None:
    loaded = upheld.load(store / "bundle", store)
    assert loaded.policies == ("hate_speech", "spam")
    bare = pd.DataFrame({"post_id": [7, 3], "text": ["buy now", "hello friend"]}, index=[5, 5])
    probs = loaded.predict(bare)
    assert probs["post_id"].tolist() == [7, 3]
    assert probs[["prob_hate_speech", "prob_spam"]].stack().between(0, 1).all()
    absent = bare.assign(language=None, hashtags=None, prior_removals=np.nan, media=[[], None], other=1, created_at="never")
    pd.testing.assert_frame_equal(loaded.predict(absent), probs)
    assert len(loaded.predict(bare.head(0))) == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, r"row 1: no text, no hashtag, no media \(empty_post\)"),
        ({"post_id": "a"}, "row 2: column post_id: 'a' comes twice"),
        ({"post_id": ["a", None]}, "row 2: column post_id is empty"),
        ({"text": ["x", 7]}, "row 2: column text"),
        ({"language": ["en", "english language"]}, "row 2: column language: expected a BCP-47 tag"),
        ({"hashtags": [["a"], "b"]}, "row 2: column hashtags"),
        ({"prior_removals": [0, -1]}, "row 2: column prior_removals: expected a whole number from 0 on, found -1"),
        ({"prior_removals": [0, np.inf]}, "row 2: column prior_removals"),
        ({"prior_removals": [True, 0]}, "row 1: column prior_removals"),
        ({"media": [[], [{"kind": "image", "uri": "a.png"}]]}, "column media: this door carries text alone.*`upheld score`"),
    ],
)
def test_what_cannot_be_scored_is_refused_with_its_place(store: Path, changes: dict[str, Any], message: str) -> None:
    posts = pd.DataFrame({"post_id": ["a", "b"], "text": ["buy now", "hello"]})
    loaded = upheld.load(store / "bundle", store)
    with pytest.raises(BadUse, match=message):
        loaded.predict(posts.assign(**changes))
    with pytest.raises(BadUse, match="column text is missing; expected post_id and text"):
        loaded.predict(posts[["post_id"]])


@pytest.mark.parametrize(
    "model",
    ["models:/other@champion", "models:/upheld-moderation/latest", "models:/upheld-moderation@9", "no/such"],
)
def test_what_names_no_model_is_bad_use(store: Path, model: str) -> None:
    with pytest.raises(BadUse, match=r"models:/upheld-moderation|no version or alias"):
        upheld.load(model, store)


def test_the_champion_is_what_a_person_approved(store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    (copy / "mlflow").mkdir(parents=True)
    shutil.copytree(store / "approvals", copy / "approvals")
    shutil.copy(store / "mlflow/mlflow.db", copy / "mlflow/mlflow.db")
    address = f"sqlite:///{copy}/mlflow/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    monkeypatch.setenv("UPHELD_STORE", str(copy))
    upheld.load(CHAMPION)
    registry = mlflow_store.connect(copy)
    mlflow_store.point_alias(registry, "champion", mlflow_store.resolve(registry, mlflow_store.MODEL, "2"))
    with pytest.raises(FailedWork, match=r"alias champion names model 2.*last approval"):
        upheld.load(CHAMPION)
    upheld.load("models:/upheld-moderation@challenger")
    upheld.load("models:/upheld-moderation/2")
    monkeypatch.setenv("UPHELD_STORE", str(tmp_path / "elsewhere"))  # a registry alone has no record to compare with
    upheld.load(CHAMPION)
    assert not (tmp_path / "elsewhere").exists()


def test_a_bundle_that_is_not_what_was_registered_is_not_loaded(store: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes a file writes its digest into pipeline.json, too; the version's own digest tells."""
    path = model / "artifacts/bundle/pipeline.json"
    before = path.read_bytes()
    path.write_bytes(before + b" ")
    try:
        with pytest.raises(FailedWork, match="not what was registered"):
            upheld.load(CHAMPION, store)
    finally:
        path.write_bytes(before)


def test_loading_runs_no_code_that_lies_with_the_model(store: Path, model: Path) -> None:
    script = model / "pyfunc_pipeline.py"
    before = script.read_text()
    script.write_text("raise SystemExit('ran')")
    try:
        upheld.load(CHAMPION, store)
    finally:
        script.write_text(before)


def test_importing_the_package_brings_nothing_heavy() -> None:
    told = "import sys, upheld; print(callable(upheld.load), sorted({'mlflow', 'numpy', 'pandas', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", told], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True []\n", done.stderr


def test_a_registered_model_says_what_it_takes_and_its_example_works(model: Path) -> None:
    from mlflow.pyfunc import load_model

    loaded = load_model(str(model))
    signature = loaded.metadata.signature
    assert {column.name: column.required for column in signature.inputs} == {
        "post_id": True, "text": True, "language": False, "hashtags": False, "prior_removals": False, "media": False
    }  # fmt: skip
    assert signature.outputs.input_names() == ["post_id", "prob_hate_speech", "prob_spam"]
    probs = loaded.predict(loaded.input_example)
    assert list(probs) == signature.outputs.input_names() and probs["prob_spam"].between(0, 1).all()
    for media in ("x.png", [{"kind": "image", "uri": "a.png"}]):
        with pytest.raises(BadUse, match="column media"):
            loaded.predict(loaded.input_example.assign(media=[media, None]))


def test_a_model_carries_its_code_and_pins_what_it_requires(model: Path) -> None:
    *required, own = (model / "requirements.txt").read_text().splitlines()
    assert [line for line in required if not re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", line)] == []
    names = {line.partition("==")[0].lower().replace("_", "-") for line in required}
    assert {f"{name}=={metadata.version(name)}" for name in ("numpy", "mlflow", "transformers", "pillow")} <= set(required)
    assert not names & {"facenet-pytorch", "ultralytics", "upheld"}
    conda, virtualenv = (yaml.safe_load((model / name).read_text()) for name in ("conda.yaml", "python_env.yaml"))
    assert sorted(conda["dependencies"][-1]["pip"]) == sorted([*required, own])
    assert virtualenv["dependencies"] == ["-r requirements.txt"]

    with zipfile.ZipFile(model / own) as archive:
        for path in ("training/scoring/frame.py", "registry/tracking/pyfunc_pipeline.py", "params.yaml"):
            assert archive.read(f"upheld/{path}") == (ROOT / path).read_bytes()
    wheel.built.cache_clear()
    assert wheel.built()[1] == (model / own).read_bytes()  # equal code, equal bytes


IMPORTED = """
import sys, warnings
warnings.simplefilter("ignore")
from importlib import metadata
import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
model.predict(model.input_example)
tops = {name.partition(".")[0] for name in sys.modules}
print(*sorted({package for top, packages in metadata.packages_distributions().items() if top in tops for package in packages}))
"""


@pytest.mark.slow
def test_a_model_requires_all_that_it_imports(model: Path, tmp_path: Path) -> None:
    *required, own = (model / "requirements.txt").read_text().splitlines()
    names = {line.partition("==")[0].lower().replace("_", "-") for line in required}
    with zipfile.ZipFile(model / own) as archive:
        archive.extractall(tmp_path / "code")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code")}
    done = subprocess.run([sys.executable, "-c", IMPORTED, str(model)], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    ours = {re.split(r"[^\w.-]", line)[0].lower().replace("_", "-") for name in ("pipeline", "ml", "weights") for line in extras[name]}
    imported = {name.lower().replace("_", "-") for name in done.stdout.split()}
    assert {"torch", "pandas", "upheld"} <= imported
    used_by_others = {"accelerate", "defusedxml", "psutil", "setuptools"}  # which libraries use where they are, and nothing here
    assert (imported & ours) - names <= used_by_others


def test_the_wheel_of_a_run_holds_the_parameters_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.create(ROOT, tmp_path / "store/runs/one", tmp_path / "store", {"snapshot.min_language_prob": 0.75}, {})
    monkeypatch.setattr(wheel, "ROOT", tmp_path / "store/runs/one")
    name, content = wheel.built.__wrapped__()
    (tmp_path / name).write_bytes(content)
    with zipfile.ZipFile(tmp_path / name) as archive:
        assert yaml.safe_load(archive.read("upheld/params.yaml"))["snapshot"]["min_language_prob"] == 0.75


@pytest.mark.slow
def test_mlflow_serves_it_over_http(store: Path, model: Path, tmp_path: Path) -> None:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        port = any_port.getsockname()[1]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where MLflow looks for uvicorn
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": path}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "--env-manager", "local", "--port", str(port)]
    expected = upheld.load(CHAMPION, store).predict(pd.read_json(model / "input_example.json", orient="split"))

    def post(body: bytes) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=60))

    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(240):
            assert server.poll() is None, (tmp_path / "log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        answer = pd.DataFrame(post((model / "serving_input_example.json").read_bytes())["predictions"])
        pd.testing.assert_frame_equal(answer, expected, check_dtype=False, rtol=0, atol=1e-6)
        shown = {"post_id": "p1", "text": "buy", "media": [{"kind": "image", "uri": "a.png"}]}
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(json.dumps({"dataframe_records": [shown]}).encode())
        assert refused.value.code == 400 and "carries text alone" in refused.value.read().decode()
    finally:
        server.terminate()  # which ends its worker, too
        server.wait(30)
