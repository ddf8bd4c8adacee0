"""`upheld calibrate` and `upheld evaluate` as a user meets them: files, exit codes, real tables."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from score_worlds import PARAMS, settings, table, thresholds

from upheld.evaluation import calibrate, evaluate

OUTPUTS = {"metrics.parquet", "metrics.json", "report.json", "report.html", "report.md", "first_screen.md", "gate.json"}
CELL = ["category", "language", "group_column", "group_value"]
COLUMNS = [*CELL, "metric", "value", "ci_low", "ci_high", "n", "n_eff", "verdict", "need_n", "reason"]
SPLITS = {True: "calib", False: "test"}


WITH_LANGUAGES = '{"categories": {"spam": {"review": {"threshold": 0.5}, "auto_remove": {"threshold": 0.9, "languages": %s}}}}'


@pytest.fixture(scope="module")
def score_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    rows = table()
    rows.assign(split=(rows.item_id.str[1:].astype(int) % 2 == 0).map(SPLITS)).to_parquet(path)
    return path


def command(main, *arguments) -> int:
    return main(["--params", str(PARAMS), *map(str, arguments)])


def test_calibrate_then_evaluate(tmp_path, score_file, capsys) -> None:
    assert command(calibrate.main, "--scores", score_file, "--out", tmp_path / "layer") == 0
    certified = json.loads((tmp_path / "layer" / "thresholds.json").read_text())
    assert set(certified["categories"]) == {"spam", "hate_speech"}
    assert {"data_digest", "seed", "calibration_digest"} <= certified.keys()
    layer = ["--thresholds", tmp_path / "layer/thresholds.json", "--calibration", tmp_path / "layer/calibration.json"]
    assert command(evaluate.main, "--scores", score_file, "--out", tmp_path / "out", *layer, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {path.name for path in (tmp_path / "out").iterdir()} == OUTPUTS
    assert list(pd.read_parquet(tmp_path / "out" / "metrics.parquet")) == COLUMNS
    gate = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert gate["decision"] == told["decision"] in ("promote", "hold")
    assert {tuple(sorted(check)) for check in gate["checks"]} == {("bound", "name", "reason", "scope", "status", "value")}
    story = json.loads((tmp_path / "out" / "report.json").read_text())
    assert story["data"]["splits_used"] == ["test"]
    assert story["data"]["splits_left_out"] == {"calib": 3000}


def test_the_same_files_give_the_same_bytes(tmp_path, score_file) -> None:
    for name in ("a", "b"):
        calibrate.run(settings(), score_file, tmp_path / name)
        inputs = evaluate.Inputs(score_file, tmp_path / name / "thresholds.json", tmp_path / name / "calibration.json")
        evaluate.run(settings(), inputs, tmp_path / name, groups=["region"])
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_labels_that_calibrate_do_not_certify(tmp_path, score_file) -> None:
    result = calibrate.run(settings(), score_file, tmp_path)
    rows = pd.read_parquet(score_file)
    labelled = rows[(rows.split == "calib") & rows.label.notna()]
    assert result.calibration["num_labels"] + result.thresholds.num_labels == len(labelled)
    assert 0.35 < result.calibration["num_labels"] / len(labelled) < 0.65
    assert result.thresholds.categories["spam"].review.n <= result.thresholds.num_labels


def test_a_champion_is_compared_on_the_same_rows(tmp_path, score_file) -> None:
    rows = pd.read_parquet(score_file)
    champion = rows.assign(score=(rows.score * 0.9 + 0.05 * (rows.item_id.str[-1].astype(int) % 2)))
    champion.sample(frac=1, random_state=0).to_parquet(tmp_path / "champion.parquet")
    result = evaluate.run(settings(), evaluate.Inputs(score_file, comparator_scores=tmp_path / "champion.parquet"), tmp_path / "out")
    change = result.metrics[(result.metrics.metric == "roc_auc_change") & (result.metrics.language == "all")]
    areas = result.metrics[(result.metrics.metric == "roc_auc") & (result.metrics.language == "all")]
    own = evaluate.run(settings(), evaluate.Inputs(tmp_path / "champion.parquet"), tmp_path / "own").metrics
    other = own[(own.metric == "roc_auc") & (own.language == "all")]
    for category in ("spam", "hate_speech"):
        difference = areas.set_index("category").value[category] - other.set_index("category").value[category]
        assert change.set_index("category").value[category] == pytest.approx(difference, abs=2e-3)  # bins of the areas
    assert not any(check["status"] == "not_applicable" and check["name"] == "roc_auc_change" for check in result.gate["checks"])


def test_an_empty_champion_table_is_no_champion(tmp_path, score_file) -> None:
    pd.read_parquet(score_file).iloc[:0].to_parquet(tmp_path / "champion.parquet")
    result = evaluate.run(settings(), evaluate.Inputs(score_file, comparator_scores=tmp_path / "champion.parquet"), tmp_path / "out")
    assert result.report["comparison"] == {"kind": "nothing", "names": (), "rows": []}


@pytest.mark.parametrize("main", [calibrate.main, evaluate.main])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--scores", "missing.parquet"], "missing.parquet: no such file"),
        (["--scores", "{file}", "--columns", "score=nowhere"], "no column 'nowhere' for score"),
        (["--scores", "{file}", "--columns", "score"], "--columns score: expected name=column"),
        (["--scores", "{file}", "--columns", "label=score"], "column label"),
        (["--scores", "{file}", "--columns", "split='train'"], "row 1, column split: found 'train'"),
        (["--scores", "{file}", "--set", "thresholds.nothing=1"], "thresholds"),
        (["--scores", "{file}", "--thresholds", "{file}"], "scores.parquet"),
        (["--scores", "{file}", "--thresholds", "missing.json"], "missing.json"),
        (["--scores", "{file}", "--champion-scores", "missing.parquet"], "missing.parquet"),
        (["--nonsense"], "--nonsense"),
        (["--scores", "{file}", "--set", "seed=!!python/object/apply:os.system [id]"], "--set seed=!!python"),
        (["--scores", "{file}", "--set", "seed=" + "[" * 100_000], "--set seed=[[["),
    ],
)
def test_bad_use_is_one_line_and_leaves_nothing(tmp_path, score_file, capsys, main, arguments, expected) -> None:
    given = [argument.format(file=score_file) for argument in arguments]
    assert command(main, "--out", tmp_path / "out", *given) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert expected in said
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("thresholds", "{", "not valid JSON"),
        ("thresholds", "[]", "key categories"),
        (
            "thresholds",
            '{"categories": {"spam": {"review": {"threshold": 2}, "auto_remove": {"threshold": null}}}}',
            "categories.spam.review",
        ),
        ("thresholds", '{"categories": {"spam": {}}}', "categories.spam.review"),
        ("thresholds", '{"categories": {"spam": {"review": [], "auto_remove": {"threshold": null}}}}', "categories.spam.review"),
        ("thresholds", WITH_LANGUAGES % '["en"]', "spam.auto_remove.languages"),
        ("thresholds", WITH_LANGUAGES % '{"en": "review"}', "spam.auto_remove.languages"),
        ("thresholds", WITH_LANGUAGES % '{"en": {}}', "spam.auto_remove.languages"),
        ("thresholds", "[" * 100_000, "not valid JSON"),
        ("calibration", "[" * 100_000, "not a calibration"),
        ("calibration", "{", "calibration"),
        ("calibration", '{"categories": {"spam": {"isotonic": 1}}}', "spam"),
    ],
)
def test_malformed_inputs_are_named(tmp_path, score_file, capsys, name, content, expected) -> None:
    (tmp_path / "bad.json").write_text(content)
    assert command(evaluate.main, "--scores", score_file, "--out", tmp_path / "out", f"--{name}", tmp_path / "bad.json") == 2
    assert expected in capsys.readouterr().err


def at_fault(main, path, tmp_path, capsys) -> str:
    """The one line that refuses a table; nothing was written."""
    assert command(main, "--scores", path, "--out", tmp_path / "out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not (tmp_path / "out").exists()
    return line


@pytest.mark.parametrize("main", [calibrate.main, evaluate.main])
@pytest.mark.parametrize("prob", [1e-300, 1e-7, 0.0])
def test_a_probability_that_makes_one_label_outweigh_all_is_named(tmp_path, score_file, capsys, main, prob) -> None:
    table = pd.read_parquet(score_file).assign(inclusion_prob=0.5)
    table.loc[table.index[6], "inclusion_prob"] = prob
    table.to_parquet(tmp_path / "scores.parquet")
    line = at_fault(main, tmp_path / "scores.parquet", tmp_path, capsys)
    assert "scores.parquet: row 7, column inclusion_prob" in line and "from 1e-06 to 1" in line


@pytest.mark.parametrize("deep", ["[" * 200_000 + "]" * 200_000, '{"a":' * 20_000 + "1" + "}" * 20_000], ids=["lists", "objects"])
def test_json_nested_too_deep_is_named(tmp_path, deep) -> None:
    """In a process of its own: Arrow's reader would end it."""
    row = '{"item_id": %s, "category": "spam", "language": "en", "score": 0.5, "label": 1}\n'
    brackets = '"' + "[{" * 300 + '\\" ]"'  # text, however it looks
    (tmp_path / "scores.jsonl").write_text(row % brackets + row % deep)
    arguments = ["--scores", str(tmp_path / "scores.jsonl"), "--out", str(tmp_path / "out"), "--params", str(PARAMS)]
    done = subprocess.run([sys.executable, "-m", "upheld.evaluation.evaluate", *arguments], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr[-300:]
    (line,) = done.stderr.splitlines()
    assert "scores.jsonl: row 2: nested" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("group", ["score", "category", "item_id", "language", "label", "inclusion_prob", "zone", "region*score"])
def test_a_group_column_with_a_meaning_of_its_own_is_refused(tmp_path, score_file, capsys, group) -> None:
    table = pd.read_parquet(score_file).assign(region="DE", inclusion_prob=1.0, zone="none")
    table.to_parquet(tmp_path / "scores.parquet")
    assert command(evaluate.main, "--scores", tmp_path / "scores.parquet", "--out", tmp_path / "out", "--group", group) == 2
    assert f"--group {group}: expected a column that divides" in capsys.readouterr().err


def test_an_unknown_group_column_is_named(tmp_path, score_file, capsys) -> None:
    assert command(evaluate.main, "--scores", score_file, "--out", tmp_path / "out", "--group", "shoe_size") == 2
    assert "no column 'shoe_size'" in capsys.readouterr().err


def test_no_rows_is_bad_use(tmp_path, capsys) -> None:
    table(10).iloc[:0].to_parquet(tmp_path / "none.parquet")
    assert command(evaluate.main, "--scores", tmp_path / "none.parquet", "--out", tmp_path / "out") == 2
    assert "no row" in capsys.readouterr().err


def test_unlabelled_rows_alone_are_reported_as_missing_evidence(tmp_path) -> None:
    table(50).assign(label=None).to_parquet(tmp_path / "scores.parquet")
    result = evaluate.run(settings(), evaluate.Inputs(tmp_path / "scores.parquet"), tmp_path / "out")
    assert result.gate["decision"] == "hold"
    rates = result.metrics[result.metrics.metric.isin(["precision", "recall", "roc_auc", "brier", "base_rate"])]
    assert rates.value.isna().all()
    assert rates.reason.notna().all()


def test_a_threshold_that_abstained_removes_nothing(tmp_path, score_file) -> None:
    (tmp_path / "t.json").write_text(json.dumps(thresholds(spam=(None, None, ()), hate_speech=(0.4, None, ()))))
    result = evaluate.run(settings(), evaluate.Inputs(score_file, tmp_path / "t.json"), tmp_path / "out")
    rows = result.metrics[(result.metrics.metric == "auto_remove_share") & (result.metrics.language == "all")]
    assert (rows.value == 0).all()
    assert any("at the default score" in item["text"] for item in result.report["attention"])


# Real tables.


def test_census_groups_tiny_ones_are_insufficient(tmp_path, shared_data) -> None:
    columns = "item_id=id,score=predicted_probability,label=employed,category='employment',language='en'"
    scores = shared_data / "acs_ma_scores" / "employment_scores.parquet"
    assert command(evaluate.main, "--scores", scores, "--out", tmp_path, "--group", "RAC1P", "--columns", columns) == 0
    metrics = pd.read_parquet(tmp_path / "metrics.parquet")
    rows = pd.read_parquet(scores)
    mine = rows[(rows.RAC1P == 8) & (rows.employed == 0)]
    fpr = metrics[(metrics.group_value == "8") & (metrics.metric == "fpr")].value.item()
    assert fpr == pytest.approx((mine.predicted_probability >= 0.5).mean(), abs=1e-12)
    tiny = metrics[(metrics.group_value == "4") & metrics.metric.isin(["fpr_gap", "fnr_gap"])]
    assert set(tiny.verdict) == {"INSUFFICIENT"}
    assert (tiny.need_n > 5).all()


def test_covid_training_rows_are_refused_and_the_rest_is_read(tmp_path, shared_data, capsys) -> None:
    columns = "item_id=id,score=model1_Class1,label=y,category='misinformation',language=lang"
    scores = shared_data / "covid_fakenews_scores_en" / "posts_with_model_scores.parquet"
    assert command(evaluate.main, "--scores", scores, "--out", tmp_path / "a", "--columns", columns) == 2
    assert "row 1, column split: found 'train'" in capsys.readouterr().err
    pd.read_parquet(scores).query("split == 'val'").to_csv(tmp_path / "val.csv", index=False)
    assert command(evaluate.main, "--scores", tmp_path / "val.csv", "--out", tmp_path / "b", "--columns", columns) == 0
    metrics = pd.read_parquet(tmp_path / "b" / "metrics.parquet")
    assert metrics[metrics.metric == "roc_auc"].value.min() > 0.95


def test_cifar_melted(tmp_path, shared_data) -> None:
    wide = pd.read_parquet(shared_data / "cifar10_scores" / "wideresnet-16-4-cifar-10.parquet")
    melted = wide.reset_index(names="item_id").melt(["item_id", "label"], var_name="class", value_name="prob")
    melted["hit"] = (melted.label.astype(str) == melted["class"].str[1:]).astype(int)
    melted.to_parquet(tmp_path / "melted.parquet")
    columns = "category=class,score=prob,label=hit,language='en'"
    assert command(evaluate.main, "--scores", tmp_path / "melted.parquet", "--out", tmp_path / "out", "--columns", columns) == 0
    metrics = pd.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert set(metrics.category) == {f"c{k}" for k in range(10)}
