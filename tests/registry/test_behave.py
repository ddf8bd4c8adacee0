"""`upheld behave` on a registered version: a stub for the network, everything else as it runs."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from upheld.evaluation import behaviour
from upheld.registry import behave
from upheld.registry.runs import register
from upheld.training.pipeline import bundle as pipeline

PARAMS = str(Path(__file__).resolve().parents[2] / "params.yaml")


class Keywords:
    """Says spam where the text says buy; German half as loudly."""

    policies = ("spam",)
    synthetic = True
    fusion = SimpleNamespace(incumbent=None)

    def predict(self, posts, media, report):
        assert media.images(["x"]) == media.sounds(["x"]) == {}
        assert {"post_id", "language", "text", "image_digests", "num_hashtags", "has_link", "prior_removals"} == set(posts)
        report(len(posts))
        loud = np.where(posts["language"] == "de", 0.3, 0.9)
        prob = np.where(posts["text"].str.contains("buy"), loud, 0.05)
        return pd.DataFrame({"post_id": posts["post_id"], "prob_spam": prob}).iloc[::-1]  # joined by key, whatever the order


def cases(folder: Path) -> Path:
    rows = [
        {"case_id": f"{language}-{kind}-{k}", "lang": language, "functionality": kind, "text": f"{text} {k}", "label": label}
        for language in ("en", "de")
        for kind, text, label in (("offer", "buy this", 1), ("greeting", "hello <b>friend</b>", 0))
        for k in range(30)
    ]
    frame = pd.DataFrame(rows)
    frame["pair_id"] = frame["functionality"] + frame["text"]
    frame["ref_case_id"] = None
    frame.loc[0, "ref_case_id"] = "not here"
    frame.to_parquet(folder / "cases.parquet")
    return folder / "cases.parquet"


@pytest.fixture
def store(tmp_path: Path, make_workspace: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    register.run(make_workspace("run-1"), tmp_path)
    monkeypatch.setattr(pipeline, "load", lambda bundle: Keywords() if (bundle / "pipeline.json").exists() else None)
    return tmp_path


def test_a_registered_version_is_measured(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["challenger", "--suite", str(cases(tmp_path)), "--out", str(out), "--store", str(store), "--params", PARAMS]
    assert behave.main([*arguments, "--columns", "language=lang,category='spam'", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["model_version"] == "upheld-moderation/1"
    assert told["thresholds_version"] == "upheld-thresholds/1"
    (kept,) = behaviour.load(behaviour.folder_of(store, "upheld-moderation/1"))  # for the reports on this version
    assert (kept["suite"], kept["cases"]) == ("cases.parquet", told["cases"])
    assert (told["cases"], told["pairs"], told["unpaired"]) == (120, 120, 1)
    assert told["flagged_from"]["spam"]["threshold"] == pytest.approx(0.4, abs=0.002)  # the review threshold of the workspace
    assert {path.name for path in out.iterdir()} == {"metrics.parquet", "cases.parquet", "behaviour.json", "behaviour.md"}
    table = pd.read_parquet(out / "metrics.parquet").set_index(["metric", "language", "group_value"])
    assert table.loc[("pass_rate", "en", "offer"), "value"] == 1
    assert table.loc[("pass_rate", "de", "offer"), ["value", "verdict"]].tolist() == [0, "FAIL"]
    assert table.loc[("score_shift", "de", "offer"), "value"] == pytest.approx(-0.6)
    assert table.loc[("flip_rate", "de", "offer"), ["value", "verdict"]].tolist() == [1, "FAIL"]
    assert table.loc[("score_shift", "de", "greeting"), "verdict"] == "PASS"
    each = pd.read_parquet(out / "cases.parquet")
    assert "text" not in each
    assert each.set_index("case_id").loc["de-offer-3", ["prob", "flagged", "passed"]].tolist() == [0.3, False, False]
    page = (out / "behaviour.md").read_text()
    assert "Synthetic" in page
    assert "offer (spam, de): pass rate 0.000" in page


def test_a_model_that_needs_anothers_score_says_that_no_case_has_one(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["1", "--suite", str(cases(tmp_path)), "--out", str(tmp_path / "out"), "--store", str(store), "--params", PARAMS]
    for needed in (None, "old_1"):
        monkeypatch.setattr(Keywords, "fusion", SimpleNamespace(incumbent=needed))
        assert behave.main([*arguments, "--columns", "language=lang,category='spam'", "--json"]) == 0
        assert json.loads(capsys.readouterr().out).get("incumbent") == needed
        page = (tmp_path / "out/behaviour.md").read_text()
        assert ("This model needs the score of old\\_1" in page and "No case has such a score." in page) == (needed is not None)


def test_a_category_that_the_model_lacks_is_refused(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["1", "--suite", str(cases(tmp_path)), "--out", str(tmp_path / "out"), "--store", str(store), "--params", PARAMS]
    assert behave.main([*arguments, "--columns", "language=lang,category='hate_speech'"]) == 2
    assert "'hate_speech' is none of upheld-moderation/1's: spam" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_version_is_refused(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["7", "--suite", str(cases(tmp_path)), "--out", str(tmp_path / "out"), "--store", str(store), "--params", PARAMS]
    assert behave.main(arguments) == 2
    assert "versions here: 1" in capsys.readouterr().err


def test_lost_references_are_told(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["1", "--suite", str(cases(tmp_path)), "--out", str(tmp_path / "out"), "--store", str(store), "--params", PARAMS]
    assert behave.main([*arguments, "--columns", "language=lang,category='spam'"]) == 0
    assert "such as 'not here'" in capsys.readouterr().err
