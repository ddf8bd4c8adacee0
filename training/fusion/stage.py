"""Stage `fusion`: one probability per post and policy out of the stage-1 probabilities and the post's context.

usage: python -m upheld.training.fusion.stage     in a workspace that holds data/snapshot and data/stage1.parquet
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from upheld.common.command import PARAM_OPTIONS, Output, ParamOptions, command
from upheld.common.errors import FailedWork
from upheld.common.files import replacing, write_json
from upheld.common.params import params as parameters
from upheld.common.terminal import console, visible
from upheld.feature_store.contracts import tables
from upheld.feature_store.contracts.snapshot import SERVED_FILE, read_snapshot
from upheld.feature_store.contracts.workspace import ABLATIONS, FUSION, FUSION_ACCOUNT, SCORES, SNAPSHOT, STAGE1
from upheld.training.fusion import ablation, incumbent, selection
from upheld.training.fusion import model as fusion_model

POST = ["post_id", "split", "language", "region", "author_group", "period"]
CONTEXT = [*POST, "prior_removals", "num_hashtags", "has_link", "context_excess"]
SCORE_SCHEMA = pa.schema([*tables.SCORES, pa.field("synthetic", pa.bool_(), nullable=False)])


@dataclass(frozen=True)
class Result:
    """What the stage did: labels fitted on per policy, why a policy was passed through, the brands whose marks each policy heeds, the
    members that it leaves out, and the size of the score table. `incumbent`: the model version whose scores are an input, if one is, and
    posts of the score table without one."""

    num_labels: dict[str, int]
    passed_through: dict[str, str]
    brands: dict[str, list[str]]
    left_out: dict[str, list[str]]
    incumbent: str | None
    num_without_incumbent: int
    num_scores: int
    num_labelled_scores: int
    num_appeal_only_left_out: int


def run(params: parameters.Params, snapshot: Path, stage1: Path, model: Path, scores: Path, ablations: Path) -> Result:
    """Fit the fusion layer on the fusion split and score the calibration and test posts with it.

    Args:
        params: `fusion` and `policies` are read.
        snapshot: folder of posts.parquet, examples.parquet and manifest.json.
        stage1: stage-1 probabilities and brand marks of the posts of the splits fusion, calib and test.
        model: fusion.json to write; beside it metadata.json says which members are left out and why, and of which model version the
            scores are an input.
        scores: score table to write, uncalibrated, in the scores contract.
        ablations: table to write, in the contract `tables.ABLATIONS`: of the labelled test posts.

    Raises:
        FailedWork: the snapshot or the stage-1 probabilities are missing or unreadable, or the model in production is to be an input and
            has decided on none of the posts.
    """
    data = read_snapshot(snapshot)
    posts = data.posts[CONTEXT]
    try:
        probs_of_stage1 = pd.read_parquet(stage1)
        lanes = {key: value for key, value in (pq.read_schema(stage1).metadata or {}).items() if key.startswith(b"lane_")}
    except (OSError, pa.ArrowException) as error:
        raise FailedWork(f"{stage1}: not readable ({error}); run the stage predict again") from error
    rows = probs_of_stage1.drop(columns="split").merge(posts, on="post_id", validate="1:1")
    version = None
    if params.fusion.use_incumbent:
        version = incumbent.version_of(data.served, data.posts)
        if version is None:
            expected = "expected decisions on the snapshot's posts, for fusion.use_incumbent is on; ingest them or switch it off"
            raise FailedWork(f"{snapshot / SERVED_FILE}: no decision of a model in production; {expected}")
        rows = incumbent.beside(rows, data.served, version, params.policies)
    fusion, verdicts, layers = fit(params, rows[rows["split"] == "fusion"], data.examples, version)
    held_out = rows[rows["split"] != "fusion"]
    probs = fusion_model.apply(fusion.policies, held_out)
    table, num_appeal_only = score_table(probs, posts, data.examples, bool(data.manifest["synthetic"]))
    write_json(model, fusion.model_dump(exclude_defaults=True))
    members = {policy: {name: asdict(verdict) for name, verdict in own.items()} for policy, own in verdicts.items()}
    hidden = {policy: asdict(verdict) for policy, verdict in layers.items()}
    account = {"incumbent": fusion.incumbent, "members": members, "hidden": hidden, "unheard": sorted(fusion.unheard())}
    write_json(model.with_name(FUSION_ACCOUNT.name), account)
    labels = table.filter((pc.field("split") == "test") & pc.field("label").is_valid()).to_pandas()
    labels = labels.rename(columns={"item_id": "post_id", "category": "policy"}).assign(
        label=labels["label"] == 1, weight=1 / labels["inclusion_prob"]
    )
    without = pa.Table.from_pandas(ablation.ablated(held_out, labels, fusion.policies), schema=tables.ABLATIONS, preserve_index=False)
    for path, content in ((scores, table.replace_schema_metadata(lanes)), (ablations, without)):
        with replacing(path) as partial:
            pq.write_table(content, partial, compression="zstd")
    return Result(
        num_labels={policy: learnt.num_positive + learnt.num_negative for policy, learnt in fusion.policies.items()},
        passed_through={policy: learnt.reason for policy, learnt in fusion.policies.items() if learnt.reason},
        brands={policy: fusion_model.brands_of(learnt) for policy, learnt in fusion.policies.items()},
        left_out={policy: list(learnt.left_out) for policy, learnt in fusion.policies.items()},
        incumbent=fusion.incumbent,
        num_without_incumbent=int(incumbent.lacking(fusion, held_out).any(axis=1).sum()),
        num_scores=table.num_rows,
        num_labelled_scores=table.num_rows - table["label"].null_count,
        num_appeal_only_left_out=num_appeal_only,
    )


def fit(
    params: parameters.Params, rows: pd.DataFrame, examples: pd.DataFrame, version: str | None = None
) -> tuple[fusion_model.Fusion, dict[str, dict[str, selection.Verdict]], dict[str, selection.Verdict]]:
    """Fit every policy on the reviewed posts of the fusion split.

    Args:
        params: `fusion` and `policies` are read.
        rows: posts of the fusion split with their stage-1 probabilities, brand marks and context, and the scores of `version`, if any.
        examples: the snapshot's examples; of a post without one for a policy only what stage 1 says on average is learnt.
        version: the model in production whose scores are an input.

    Returns:
        the fusion layer; per policy what each member was found to bring; and what a hidden layer was, where there were labels enough.
    """
    learnt, verdicts = {}, {}
    layers: dict[str, selection.Verdict] = {}
    settings = (params.fusion.l2, params.fusion.min_labels)
    for policy in params.policies:
        labels = examples.loc[examples["category"] == policy, ["post_id", "label", "weight", "inclusion_prob"]]
        labelled = rows.merge(labels, on="post_id", how="left", validate="1:1").sort_values("post_id")
        chosen, verdicts[policy] = selection.select(labelled, policy, *settings)
        learnt[policy], verdict = selection.with_hidden(labelled, policy, *settings, chosen)
        layers |= {} if verdict is None else {policy: verdict}
    needed = any(fusion_model.INCUMBENT not in one.left_out for one in learnt.values())
    return fusion_model.Fusion(l2=params.fusion.l2, policies=learnt, incumbent=version if needed else None), verdicts, layers


def score_table(probs: pd.DataFrame, posts: pd.DataFrame, examples: pd.DataFrame, synthetic: bool) -> tuple[pa.Table, int]:
    """Lay out the probabilities of calibration and test posts as the scores contract.

    A row whose label was drawn by the audit carries its label and probability of inclusion. A row nobody reviewed stays,
    without label, because certificates need the whole frame. A row known from appeals alone is left out: it is neither
    a draw nor free of having been looked at for cause.

    Args:
        probs: post_id and prob_{category} (float in [0, 1]) columns.
        posts: the snapshot's posts; those of splits calib and test that `probs` holds are taken.
        examples: the snapshot's examples, one row per post and category with an outcome.
        synthetic: whether the posts came out of a generator.

    Returns:
        table with the schema SCORE_SCHEMA, ordered by item and category.
        number of rows left out because they are known from appeals alone.
    """
    about = posts.loc[posts["split"].isin(["calib", "test"]), ["post_id", "language", "region", "author_group", "period", "split"]]
    scores = probs.melt("post_id", var_name="category", value_name="score")
    scores["category"] = scores["category"].str.removeprefix("prob_")
    outcomes = examples[["post_id", "category", "hard_label", "inclusion_prob", "zone", "evidence"]]
    rows = scores.merge(about, on="post_id", validate="m:1").merge(outcomes, on=["post_id", "category"], how="left", validate="1:1")
    appeal_only = rows["evidence"] == "appeal"
    rows = rows[~appeal_only].rename(columns={"post_id": "item_id", "hard_label": "label"}).assign(synthetic=synthetic)
    rows = rows.assign(
        language=tables.nameable(rows["language"]),
        author_group=rows["author_group"].mask(rows["author_group"] == tables.POOLED, f"({tables.POOLED})"),
    )
    rows = rows.sort_values(["item_id", "category"], ignore_index=True)[SCORE_SCHEMA.names]
    return pa.Table.from_pandas(rows, schema=SCORE_SCHEMA, preserve_index=False).replace_schema_metadata(None), int(appeal_only.sum())


@command("fusion")
def main(asked: ParamOptions = PARAM_OPTIONS) -> Output:
    """Fit the fusion layer and score the calibration and test posts."""
    result = run(parameters.load(*asked), SNAPSHOT, STAGE1, FUSION, SCORES, ABLATIONS)

    def show() -> None:
        for policy, num in result.num_labels.items():
            marks = f", with the marks of {', '.join(result.brands[policy])}" if result.brands[policy] else ""
            without = f", without {', '.join(result.left_out[policy])}" if result.left_out[policy] else ""
            console().print(f"{policy}: {num} labels; {result.passed_through.get(policy, 'fitted')}{without}{marks}", markup=False)
        if result.incumbent:
            missing = f"{result.num_without_incumbent} posts to score have none"
            console().print(f"the score of {visible(result.incumbent)} is an input; {missing}", markup=False, highlight=False)
        left_out = f"{result.num_appeal_only_left_out} known from appeals alone left out"
        console().print(f"{result.num_scores} scores, {result.num_labelled_scores} labelled; {left_out}")

    return Output(asdict(result), show)


if __name__ == "__main__":
    sys.exit(main())
