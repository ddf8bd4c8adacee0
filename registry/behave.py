"""Run a behaviour suite on a registered model: functional cases (HateCheck-style), translations, swapped identities.

usage: upheld behave champion --suite cases.parquet --out data/behaviour --columns category='hate_speech'
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import typer

from upheld.common import files, progress
from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.terminal import console
from upheld.evaluation import behaviour
from upheld.evaluation.cube.bins import bin_of, edges
from upheld.evaluation.metrics.rows import ALL
from upheld.evaluation.report.members import needs
from upheld.evaluation.report.render import plain
from upheld.evaluation.report.words import count, part, share
from upheld.evaluation.scores.table import Columns, parse_columns
from upheld.evaluation.thresholds.operating_point import operating_point
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.posts import post_features
from upheld.registry import score
from upheld.registry.approvals import verified
from upheld.registry.tracking import mlflow_store

if TYPE_CHECKING:
    from upheld.training.pipeline.bundle import Pipeline

CASE_COLUMNS = ["case_id", "category", "language", "functionality", "identity", "label", "prob", "flagged", "passed"]
MAX_LISTED = 20  # failures in behaviour.md; all of them are in metrics.parquet


@dataclass(frozen=True)
class Model:
    """A loaded pipeline, what the registry calls it and its thresholds, and these."""

    pipeline: "Pipeline"
    version: str
    thresholds_version: str
    thresholds: Thresholds


def load_model(store: Path, reference: str) -> Model:
    """Load a registered version with the thresholds pinned to it.

    The networks are imported once the registry has been asked: a mistake is said at once.

    Raises as `score.resolve`, `verified.bundle` and `pipeline.load`.
    """
    registry = mlflow_store.connect(store, create=False)
    version, thresholds = score.resolve(store, registry, reference)
    content = Thresholds.read(verified.thresholds(store, registry, thresholds))
    bundle = verified.bundle(store, registry, version)
    from upheld.training.pipeline import bundle as pipeline

    return Model(pipeline.load(bundle), version.label, thresholds.label, content)


def run(
    model: Model, suite: Path, out: Path, settings: params.Params, columns: Columns | None = None, violation: str | None = None
) -> dict[str, Any]:
    """Decide on every case, measure, and write metrics.parquet, cases.parquet (no texts), behaviour.json and behaviour.md.

    Args:
        model: what is tested; a case counts as flagged from its category's lowest threshold in force on (review, or removal).
        suite: cases, see `behaviour.read_suite`.
        out: folder for the four files.
        settings: all params; read are behave, thresholds.default_score, fairness.alpha.
        columns: other names of the suite's columns, and constants.
        violation: the word for a violation in `label`.

    Returns:
        what behaviour.json holds.

    Raises:
        BadUse: the suite breaks its contract, or a category is none of the model's; nothing is written then.
    """
    cases = behaviour.read_suite(suite, columns or Columns(), violation)
    unknown = sorted(set(cases["category"]) - set(model.pipeline.policies))
    if unknown:
        raise BadUse(f"{suite}: column category: {unknown[0]!r} is none of {model.version}'s: {', '.join(model.pipeline.policies)}")
    languages, default = sorted(set(cases["language"])), settings.thresholds.default_score
    points = {name: operating_point(model.thresholds, name, languages, default) for name in sorted(set(cases["category"]))}
    probs, parts = _predict(model.pipeline, cases), []
    for category, own in cases.groupby("category", sort=False):
        prob = own["case_id"].map(probs[f"prob_{category}"]).astype(float)
        parts.append(own.assign(prob=prob, flagged=bin_of(prob) >= points[str(category)].cuts[0]))
    judged = pd.concat(parts).sort_index()
    judged = judged.assign(passed=judged["flagged"] == (judged["label"] == 1))
    table = behaviour.measure(judged, settings.behave, settings.fairness.alpha)
    lost = cases["ref_case_id"][cases["ref_case_id"].notna() & ~cases["ref_case_id"].isin(cases["case_id"])]
    summary = {
        "model_version": model.version,
        "thresholds_version": model.thresholds_version,
        "synthetic": model.pipeline.synthetic,
        "suite": suite.name,
        "suite_digest": hashing.of_json(cases.where(cases.notna(), None).to_dict("records")),
        "cases": len(cases),
        "pairs": len(behaviour.paired(judged)),
        "unpaired": len(lost),
        "unpaired_example": None if lost.empty else lost.iloc[0],
        "flagged_from": {
            category: {"threshold": float(edges()[point.cuts[0]]) if point.cuts[0] < len(edges()) else None, "note": point.note or None}
            for category, point in points.items()
        },
        "verdicts": {str(name): int(number) for name, number in table["verdict"].value_counts().sort_index().items()},
    }
    needed = model.pipeline.fusion.incumbent
    summary |= {"incumbent": needed} if needed else {}
    files.write_parquet(out / "cases.parquet", judged[CASE_COLUMNS])
    files.write_text(out / "behaviour.md", markdown(table, summary))
    behaviour.write(out, table, summary)
    return summary


def _predict(model: "Pipeline", cases: pd.DataFrame) -> pd.DataFrame:
    """Probabilities of the cases as posts without picture and without history, by case_id."""
    from upheld.training.pipeline import stage1

    posts = pd.DataFrame({"post_id": cases["case_id"], "language": cases["language"]})
    posts["text"] = [post_features.merged_text(text, None) for text in cases["text"]]
    posts["num_hashtags"] = [post_features.num_hashtags(text, None) for text in cases["text"]]
    posts["has_link"] = [post_features.has_link(text) for text in cases["text"]]
    posts["image_digests"] = [[] for _ in range(len(cases))]
    posts["prior_removals"] = 0
    with progress.bars() as shown:
        probs = model.predict(posts, stage1.NO_MEDIA, progress.reporter(shown, "score", len(posts)))
    return probs.set_index("post_id")


def markdown(table: pd.DataFrame, summary: Mapping[str, Any]) -> str:
    """behaviour.md: pass rates per language, then what fails."""
    lines = [f"# Behaviour of {summary['model_version']} with {summary['thresholds_version']}", ""]
    lines += ["**Synthetic: this model was trained on generated posts.**", ""] if summary["synthetic"] else []
    lines += [f"{plain(needs(summary['incumbent']))} No case has such a score.", ""] if "incumbent" in summary else []
    lines += [f"{count(summary['cases'], 'case')} and {count(summary['pairs'], 'pair')} of {plain(summary['suite'])}; "
              f"{summary['unpaired']} variants whose original is not in the suite are not compared.", ""]  # fmt: skip
    pooled: Iterable[Any] = table[(table["group_column"] == ALL) & (table["metric"] == "pass_rate")].itertuples()
    lines += [
        "| category | language | cases passed | interval | cases | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {plain(row.category)} | {plain(row.language)} | {part(row.value)} | {share(row.ci_low)} to {share(row.ci_high)} | {row.n} "
            f"| {row.verdict} |"
            for row in pooled
        ),
        "",
    ]
    failed = table[(table["verdict"] == "FAIL") & (table["group_column"] != ALL)].sort_values("value", kind="stable")
    lines += [f"## What fails: {count(len(failed), 'slice')}", ""]
    for row in failed.head(MAX_LISTED).itertuples():
        where = f"{plain(row.group_value)} ({plain(row.category)}, {plain(row.language)})"
        lines.append(f"- {where}: {str(row.metric).replace('_', ' ')} {row.value:.3f}, {row.ci_low:.3f} to {row.ci_high:.3f}; {row.reason}")
    return "\n".join([*lines, *([f"- and {len(failed) - MAX_LISTED} more in metrics.parquet"] if len(failed) > MAX_LISTED else []), ""])


@command("behave")
def main(
    model: Annotated[str, typer.Argument(help="Version number or alias of upheld-moderation.")],
    suite: Annotated[Path, typer.Option(help="Parquet, CSV or JSONL: case_id, text, language, functionality, label, category.")],
    out: Annotated[Path, typer.Option(help="Folder for metrics, cases and summary.")],
    columns: Annotated[str, typer.Option(help="Other column names and constants: language=lang,category='hate_speech'.")] = "",
    violation: Annotated[str | None, typer.Option(help="Word for a violation in `label`, where labels are words.")] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Functional and paired suites on a registered model, per language."""
    settings = params.load(*asked, store)
    summary = run(load_model(store, model), suite, out, settings, parse_columns(columns), violation)
    behaviour.keep(store, out)  # for the reports on this version
    verdicts = ", ".join(f"{number} {name}" for name, number in summary["verdicts"].items())
    text = f"{summary['model_version']}: {summary['cases']} cases, {summary['pairs']} pairs: {verdicts}. {out}/behaviour.md"
    if summary["unpaired"]:
        text += f"\n{summary['unpaired']} rows have a ref_case_id that no case has, such as {summary['unpaired_example']!r}"
    return Output({"out": str(out), **summary}, lambda: console().print(text, markup=False, highlight=False, soft_wrap=True))
