"""The main job from nothing to a registered challenger: deliver, ingest, retrain through Airflow, tell what happened.

usage: upheld demo [--data DELIVERY] [--quick] [--store FOLDER]
"""

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
import yaml
from rich.table import Table

from upheld.common import files
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.feature_store.contracts.snapshot import read_manifest
from upheld.feature_store.contracts.tables import SYNTHETIC_MARK
from upheld.feature_store.contracts.workspace import EVALUATION, METRICS, SNAPSHOT, THRESHOLDS
from upheld.feature_store.decisions.thresholds import Certificate, Thresholds
from upheld.registry.runs import retrain

# Parameters of a demo, written into its store, so that every later command there goes on with them.
Settings = dict[str, dict[str, Any]]
OLD_DATA: Settings = {"expectations": {"max_age_days": 36500.0}}  # a demo's data may be as old as it likes; a deployment's may not
# The sample world's marks are learned in half the time that real ones take, its texts are alike, and nobody waits for fine-tuning here.
HEADS: Settings = {"text": {"mode": "head"}, "image": {"mode": "head"}}
# The sample world's pictures, of some 130 pixels, are read as well as at 480, in half the time.
SMALL_PICTURES: Settings = {"ocr": {"min_side": 256}}
DEMO_TRAINING: Settings = {
    **HEADS,
    **SMALL_PICTURES,
    "logo": {"epochs": 3},
    "teacher": {"posts": {"text": 600, "image": 200, "audio": 100}},
    "attacks": {"posts": {"text": 2, "search": 1, "image": 1}, "search_edits": 3, "pgd_steps": 4},
}
# Where the hardware has it: vectors and scores of texts then differ a little from those of another machine's demo.
FAST_BFLOAT16: Settings = {"text_embedding": {"lane": "bf16"}, "text": HEADS["text"] | {"scoring_lane": "fastest"}}
# The quick size is for continuous integration: the same job, less of everything. Both worlds end in the same week.
QUICK_WORLD: Settings = SMALL_PICTURES | {"sample_data": {"origin_week": "2026-W38", "weeks": 4, "posts_per_week": 450}}
QUICK_TRAINING: Settings = HEADS | {
    "logo": {"epochs": 1},
    "snapshot": {"frame_rows": 200},
    "teacher": {"posts": {"text": 200, "image": 50, "audio": 50}},
    "attacks": {"posts": {"text": 2, "search": 0, "image": 1}, "pgd_steps": 2},
}
NUM_LOGO_PHOTOS, QUICK_LOGO_PHOTOS = 120, 80


def run(data: Path | None, store: Path, quick: bool, params_file: Path, overrides: list[str]) -> dict[str, Any]:
    """Run the main job.

    Args:
        data: a delivery folder; None makes the synthetic sample world and takes that.
        store: folder for ledger, registry, runs and caches; an existing one goes on from what it holds.
        quick: a smaller world and shorter training; a store that has its own parameters keeps these.
        overrides: `section.key=value`, for this retrain alone.

    Returns:
        {"run", "workspace", "registered", "tasks"} of the retrain.

    Raises:
        BadUse: the store would mix the synthetic world with real data; or as the step that failed says.
        FailedWork: as the step that failed says.
    """
    from upheld.feature_store.backbones.devices import best_device, has_fast_bfloat16
    from upheld.feature_store.ingest import command as ingest
    from upheld.feature_store.ledger.ledger import MARKER, Ledger
    from upheld.feature_store.sample_world import command as sample_data
    from upheld.feature_store.sample_world import logos

    synthetic = data is None or (data / SYNTHETIC_MARK).is_file()
    held = Ledger(store).read("deliveries", ["synthetic"])["synthetic"].to_pylist() if (store / "ledger" / MARKER).exists() else []
    if (not synthetic) in held:
        holds, new = ("real data", "the synthetic world") if synthetic else ("the synthetic world", "real data")
        raise BadUse(f"{store}: holds {holds}, which {new} must not be mixed with; name another store with UPHELD_STORE or --store")
    kept = (OLD_DATA if data is None else {}) | (QUICK_TRAINING if quick else DEMO_TRAINING if data is None else {})
    kept |= QUICK_WORLD if quick and data is None else {}
    if kept and has_fast_bfloat16(best_device()):
        kept |= FAST_BFLOAT16
    if kept and not params.own_file(store).exists():  # a store that has its own goes on with it
        head = "# Parameters that hold in this store instead of those of params.yaml; `upheld demo` wrote them. Options of a command win.\n"
        files.write_text(params.own_file(store), head + yaml.safe_dump(kept, sort_keys=False))
    retrain.say_kept(store)
    settings = [f"--params={params_file}", f"--store={store}"]
    if data is None:
        data = store / "world"
        _say(f"1/3 No data given: making a synthetic world in {data}. Every figure from it is about that world, not about yours.")
        _must(sample_data.main(["--out", str(data), *settings]), "sample-data")
        photos = store / "logos" / "sample"  # the world's own posts show few logos: larger pictures stand in for labelled photos
        if not (photos / "dataset.json").exists():
            given = params.load(params_file, overrides, store)
            logos.make_dataset(photos, QUICK_LOGO_PHOTOS if quick else NUM_LOGO_PHOTOS, given, given.seed)
    else:
        _say(f"1/3 Data: {data}")
    _say("2/3 Ingest: every row accepted, duplicate, pending or quarantined")
    old_data = f"--set=expectations.max_age_days={OLD_DATA['expectations']['max_age_days']}"
    _must(ingest.main([str(data), "--summary", str(store / "ingest.json"), old_data, *settings]), "ingest")
    _say("3/3 Retrain through Airflow: labels, models, fusion, calibration, thresholds, gate, registration")
    finished = retrain.run(store, retrain.changed(params_file, overrides, store))
    return {"run": finished.name, "workspace": finished.workspace, "registered": finished.tasks["register"], "tasks": finished.tasks}


def _say(line: str) -> None:
    console().print(line, style="bold", highlight=False)


def _must(code: int, step: str) -> None:
    """The step has already said what was wrong."""
    if code == 2:
        raise BadUse(f"{step} refused its input; its message is above")
    if code:
        raise FailedWork(f"{step} failed; its message is above")


def tell(store: Path, outcome: dict[str, Any]) -> None:
    """Print what happened: rows, stages, evidence, thresholds, and the commands that come next."""
    out = console(stderr=False, soft_wrap=True, highlight=False)
    workspace = Path(outcome["workspace"])
    out.print(_rows(store / "ingest.json"))
    stages = Table("task", "what happened", "seconds", title="Airflow tasks", title_justify="left")
    for name, result in outcome["tasks"].items():
        stages.add_row(name, result["status"], f"{result['duration_s']:.1f}")
    out.print(stages)
    out.print(_thresholds(workspace))
    registered = outcome["registered"]
    synthetic = read_manifest(workspace / SNAPSHOT)["synthetic"]
    out.print(f"Registered {registered['model']} and {registered['thresholds']} at alias challenger; the gate says {registered['gate']}.")
    out.print("All figures are synthetic: they come from the sample world.\n" if synthetic else "", markup=False)
    out.print(f"Report    {workspace / EVALUATION / 'report.html'}", markup=False)
    there = retrain.named(store)
    out.print(f"Score     .venv/bin/upheld score --post POST.json{there}", markup=False)
    out.print(f"Runs      .venv/bin/upheld runs{there}", markup=False)
    out.print(f"Airflow   .venv/bin/upheld up{there}", markup=False)


def _rows(summary: Path) -> Table:
    table = Table("table", "rows", "accepted", "duplicate", "pending", "quarantined", title="Delivered rows", title_justify="left")
    for name, counts in json.loads(summary.read_text(encoding="utf-8"))["tables"].items():
        table.add_row(name, *(str(counts[key]) for key in ("rows", "accepted", "duplicate", "pending", "quarantined")))
    return table


def _thresholds(workspace: Path) -> Table:
    """Per category: ranking quality on the test rows, and what the evidence allows."""
    metrics = pd.read_parquet(workspace / METRICS)
    pooled = metrics[(metrics.metric == "roc_auc") & (metrics.language == "all") & (metrics.group_column == "all")].set_index("category")
    certified = Thresholds.read(workspace / THRESHOLDS)
    table = Table("category", "test ROC-AUC (interval)", "automatic removal", "review", title="Evidence", title_justify="left")
    for category, bounds in certified.categories.items():
        cell = pooled.loc[category] if category in pooled.index else None
        undefined = cell is None or pd.isna(cell.value)
        interval = "undefined" if undefined else f"{cell.value:.3f} ({cell.ci_low:.3f}–{cell.ci_high:.3f})"
        table.add_row(category, interval, _bound(bounds.auto_remove), _bound(bounds.review))
    return table


def _bound(bound: Certificate) -> str:
    threshold = "" if bound.threshold is None else f" at {bound.threshold:.3f}"
    need = f", needs {bound.need_n} labels" if bound.need_n else ""
    return f"{bound.outcome}{threshold}{need}"


@command("demo")
def main(
    data: Annotated[Path | None, typer.Option(help="Delivery folder; without it, a synthetic world is made.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A smaller world and shorter training.")] = False,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """The main job on given data, or on a synthetic world: ingest to registered challenger."""
    outcome = run(data, store, quick, *asked)
    return Output(outcome, lambda: tell(store, outcome))
