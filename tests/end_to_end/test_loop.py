"""The loop closes: six weeks of score, draw, respond and ingest on the sample world, a retrain every third week, by command line."""

import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import yaml

from upheld import cli
from upheld.registry.tracking import mlflow_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[2]
# Weeks 1 and 2 come with reviews of the world's own system: something to train the first model on.
FIRST_WEEK, NUM_WEEKS, RETRAINED_EVERY = 3, 6, 3
POSTS_PER_WEEK, BUDGET = 250, 200
SECRET = "only for this test, 32 characters"


class Turn(NamedTuple):
    """What one turn of the loop left behind."""

    week: int
    decisions: pd.DataFrame
    plan: pd.DataFrame
    answers: pd.DataFrame
    ingested: list[dict[str, Any]]
    retrained: dict[str, Any] | None


class Upheld:
    """The command line, on one store and with settings that make everything small.

    Called, it runs in this process, which has imported by then what every command imports; `alone` gives it a process of its own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first: dict[str, Any] = {}
        self.world = folder / "world"
        self.params = folder / "params.yaml"
        content = yaml.safe_load((ROOT / "params.yaml").read_text())
        content["text"] |= {"backbone": str(tiny_encoder(folder / "encoder")), "epochs": 1, "max_tokens": 32, "batch_size": 32}
        content["text_embedding"] |= {"backbone": str(tiny_encoder(folder / "embedder", width=384)), "max_tokens": 32}
        content["ocr"] |= {"max_side": 320, "min_side": 240}
        content["image"] |= {"size": 64, "epochs": 1}
        content["logo"] |= {"size": 64, "epochs": 1}
        content["snapshot"]["frame_rows"] = 200
        content["teacher"]["posts"] = {"text": 200, "image": 50, "audio": 50}
        content["expectations"]["max_age_days"] = 36500.0  # the world's weeks lie in the past
        self.params.write_text(yaml.safe_dump(content))

    def __call__(self, *arguments: object) -> dict[str, Any]:
        told = io.StringIO()
        with warnings.catch_warnings(), redirect_stdout(told):
            warnings.simplefilter("default")  # those of libraries are errors in tests alone
            code = cli.main(self.full(arguments))
        assert code == 0, f"{arguments}: exit code {code}\n{told.getvalue()}"
        answer: dict[str, Any] = json.loads(told.getvalue())
        return answer

    def alone(self, *arguments: object) -> dict[str, Any]:
        command = [sys.executable, "-m", "upheld.cli", *self.full(arguments)]
        environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.folder), "UPHELD_AUDIT_SECRET": SECRET, "OMP_NUM_THREADS": "2"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def full(self, arguments: Sequence[object]) -> list[str]:
        place = [] if "respond" in arguments else ["--params", str(self.params), "--store", str(self.folder / "store")]
        return [*map(str, arguments), *place, "--json"]

    def deliver(self, name: str, weeks: Sequence[int], tables: Sequence[str]) -> Path:
        """A delivery of some tables of some weeks of the world."""
        out = self.folder / "deliveries" / name
        for week in weeks:
            for table in tables:
                (out / table).mkdir(parents=True, exist_ok=True)
                shutil.copy(self.world / table / f"week={week:02d}.parquet", out / table)
            shutil.copytree(self.world / "media" / f"week={week:02d}", out / "media" / f"week={week:02d}")
        shutil.copy(self.world / "SYNTHETIC.json", out)
        return out


def tiny_encoder(folder: Path, width: int = 32) -> Path:
    """A Hugging Face encoder of two small layers with random weights, and a tokenizer of characters' bytes."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["[PAD]", "[UNK]", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def turn(upheld: Upheld, week: int) -> Turn:
    """One week: its posts arrive, are scored and drawn from, people answer, all is ingested; in some the models are trained again."""
    posts = upheld.deliver(f"posts-{week}", [week], ["posts"])
    ingested = [upheld("ingest", posts)]
    scoring = upheld.folder / "scoring" / str(week)
    shutil.copytree(posts / "media", scoring / "media")
    shutil.copy(posts / "posts" / f"week={week:02d}.parquet", scoring / "posts.parquet")
    scored, plan = scoring / "scored.parquet", scoring / "plan.parquet"
    upheld("score", "--posts", scoring / "posts.parquet", "--out", scored)
    upheld("audit-sample", "--decisions", scored, "--budget", BUDGET, "--out", plan)
    answered = upheld.folder / "deliveries" / f"answers-{week}"
    responded = upheld("sample-data", "respond", "--plan", plan, "--world", upheld.world, "--out", answered)
    (answered / "decisions").mkdir()
    shutil.copy(scored, answered / "decisions")
    ingested.append(upheld("ingest", answered, "--as-of", responded["as_of"]))
    answers = pd.read_parquet(answered / "review_outcomes" / "answers.parquet")
    retrained = upheld("retrain") if (week - FIRST_WEEK) % RETRAINED_EVERY == RETRAINED_EVERY - 1 else None
    return Turn(week, pd.read_parquet(scored), pd.read_parquet(plan), answers, ingested, retrained)


@pytest.fixture(scope="module")
def upheld(tmp_path_factory) -> Iterator[Upheld]:
    command = Upheld(tmp_path_factory.mktemp("loop"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(command.folder)
        for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MLFLOW", "UPHELD"))]:
            patch.delenv(name)
        for name, value in (("HOME", str(command.folder)), ("UPHELD_AUDIT_SECRET", SECRET), ("OMP_NUM_THREADS", "2")):
            patch.setenv(name, value)
        yield begun(command)


def begun(command: Upheld) -> Upheld:
    """The same once the world is made, its first weeks are ingested and the first model is trained."""
    last = FIRST_WEEK + NUM_WEEKS - 1
    command("sample-data", "--out", command.world, "--weeks", last, "--posts-per-week", POSTS_PER_WEEK)
    before = range(1, FIRST_WEEK)
    command("ingest", command.deliver("history", before, ["posts", "decisions", "review_outcomes"]))
    command.first = command("retrain")
    return command


@pytest.fixture(scope="module")
def turns(upheld) -> list[Turn]:
    return [turn(upheld, FIRST_WEEK + number) for number in range(NUM_WEEKS)]


def test_every_row_of_every_delivery_is_accepted(turns) -> None:
    for one in turns:
        for summary in one.ingested:
            for table, counts in summary["tables"].items():
                assert counts["accepted"] == counts["rows"], (one.week, table, counts)
        accepted = [(table, counts["accepted"]) for summary in one.ingested for table, counts in summary["tables"].items()]
        assert sorted(accepted) == [("decisions", len(one.decisions)), ("posts", POSTS_PER_WEEK), ("review_outcomes", len(one.answers))]


def test_each_week_is_scored_by_the_model_that_was_trained_last(turns) -> None:
    trained = [one.retrained["registered"]["model"] for one in turns if one.retrained]
    assert trained == ["upheld-moderation/2", "upheld-moderation/3"]
    assert [one.decisions.model_version.unique().tolist() for one in turns] == [
        [f"upheld-moderation/{1 + number // RETRAINED_EVERY}"] for number in range(NUM_WEEKS)
    ]


def test_each_retrain_makes_one_mlflow_run_with_the_figures_of_its_logo_detector(upheld, turns) -> None:
    registry = mlflow_store.connect(upheld.folder / "store")
    runs = registry.client.search_runs([registry.experiment_id])
    assert sorted(run.info.run_id for run in runs) == sorted(
        version.run_id for version in mlflow_store.versions(registry, mlflow_store.MODEL)
    )
    retrained = [one.retrained for one in turns if one.retrained]
    assert len(runs) == 1 + len(retrained)
    for done in retrained:
        logged = registry.client.get_run(done["registered"]["run_id"]).data.metrics
        cells = pd.read_parquet(Path(done["workspace"]) / "data/logo_evaluation/metrics.parquet")
        found = cells[(cells.metric == "map_50") & (cells.group_column == "all")].value.dropna().tolist()
        assert [value for name, value in logged.items() if name == "map_50/logo/all"] == found
        assert len([name for name in logged if not name.startswith(("training/", "system/"))]) <= 30


def test_every_draw_is_answered_and_keeps_its_probability(turns) -> None:
    for one in turns:
        assert one.plan.draw_id.is_unique and set(one.answers.draw_id) == set(one.plan.draw_id)
        joined = one.answers.merge(one.plan, on="draw_id", validate="many_to_one", suffixes=("", "_drawn"))
        assert (joined.inclusion_prob == joined.inclusion_prob_drawn).all()
    drawn = pd.concat([one.plan for one in turns])
    assert drawn.draw_id.is_unique and not drawn.duplicated(["post_id", "category"]).any()
    expected, sd = BUDGET * len(turns), np.sqrt(BUDGET * len(turns))
    assert abs(len(drawn) - expected) < 4 * sd


def test_weighting_by_the_draw_finds_the_true_prevalence(turns, upheld) -> None:
    truth = pd.concat([pd.read_parquet(file) for file in (upheld.world / "truth").glob("week=*.parquet")])
    drawn = pd.concat([one.plan for one in turns]).merge(truth, on=["post_id", "category"], validate="one_to_one")
    scored = pd.concat([one.decisions for one in turns]).merge(truth, on=["post_id", "category"], validate="one_to_one")
    share = (drawn.label / drawn.inclusion_prob).sum() / len(scored)
    variance = (drawn.label * (1 - drawn.inclusion_prob) / drawn.inclusion_prob**2).sum() / len(scored) ** 2
    assert abs(share - scored.label.mean()) < 4 * np.sqrt(variance)


def test_labels_grow_by_what_was_answered_and_everything_says_synthetic(upheld, turns) -> None:
    known = []
    for retrained in (upheld.first, *(one.retrained for one in turns if one.retrained)):
        workspace = Path(retrained["workspace"])
        manifest = json.loads((workspace / "data" / "snapshot" / "manifest.json").read_text())
        assert manifest["synthetic"] is True
        assert "synthetic" in (workspace / "data" / "evaluation" / "report.html").read_text().lower()
        known.append(manifest["outcomes"]["known"])
    answered = np.array([len(one.answers) for one in turns]).reshape(-1, RETRAINED_EVERY).sum(axis=1)
    assert np.diff(known).tolist() == answered.tolist()


def test_nothing_new_changes_nothing(upheld, turns) -> None:
    again = upheld.alone("retrain")
    statuses = {name: task["status"] for name, task in again["tasks"].items()}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert {statuses[name] for name in stages} <= {"restored", "unchanged"}
