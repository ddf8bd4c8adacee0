"""Score posts with a registered model and the thresholds pinned to it: one post to JSON, many to a table of decisions.

usage: upheld score --post post.json; upheld score --posts posts.parquet --out decisions.parquet
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from upheld.common.command import PARAM_OPTIONS, STORE_FOLDER, Output, ParamOptions, StoreFolder, command
from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.common.terminal import console, visible
from upheld.feature_store.decisions import freezes, holds
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.ledger.ledger import Ledger
from upheld.feature_store.ledger.verdicts import ITEM, weighed, without_held
from upheld.feature_store.posts import history
from upheld.registry.approvals import verified
from upheld.registry.approvals.log import Pair
from upheld.registry.production import champion
from upheld.registry.tracking import mlflow_store
from upheld.registry.tracking.mlflow_store import Registry, Version

if TYPE_CHECKING:
    from upheld.training.scoring.score import Judge


def resolve(store: Path, registry: Registry, reference: str | None) -> tuple[Version, Version]:
    """The model that `reference` names and the thresholds in force for it.

    Args:
        store: folder with the record of approvals.
        reference: version number or alias; None takes the champion, and the challenger while there is no champion. The champion is
            taken only where a person's approval explains it; who names another version has chosen it themselves.

    Returns:
        (model, thresholds) as `champion.thresholds_of` finds them.

    Raises:
        BadUse: there is no such version, or none of the thresholds belongs to it.
        FailedWork: alias champion names what nobody approved.
    """
    in_production = champion.in_production(store, registry) if reference in (None, champion.ALIAS) else Pair()
    if in_production.model is None:
        model = mlflow_store.resolve(registry, mlflow_store.MODEL, reference or champion.CHALLENGER)
    else:
        model = mlflow_store.resolve(registry, mlflow_store.MODEL, str(in_production.model))
    return model, champion.thresholds_of(store, registry, model)


def load_model(store: Path, reference: str | None) -> "Judge":
    """Load the model that `reference` names, from the registry of `store`, with the categories that are frozen there.

    The networks are imported once the registry has been asked: a mistake is said at once.

    Raises as `resolve`, `verified.bundle`, `freezes.frozen` and `score.load_model` do.
    """
    registry = mlflow_store.connect(store, create=False)
    model, thresholds = resolve(store, registry, reference)
    content = Thresholds.read(verified.thresholds(store, registry, thresholds))
    frozen = sorted(set(freezes.frozen(store)) & set(content.categories))  # a model removes nothing of what it does not predict
    bundle = verified.bundle(store, registry, model)
    from upheld.training.scoring import score

    return score.load_model(bundle, content, model.label, thresholds.label, frozen)


def known_history(store: Path) -> history.History:
    """What the ledger knows of authors and contexts, as the snapshot counts it; empty where the registry stands without a ledger."""
    if not (store / "ledger").exists():
        return history.History()
    ledger = Ledger(store)
    posts = ledger.read("posts", ["post_id", "author_id", "context_id"]).to_pandas().set_index("post_id")
    columns = [
        "outcome_id",
        "revision",
        "post_id",
        "category",
        "verdict",
        "reviewer_id",
        "reviewed_at",
        "source",
        "inclusion_prob",
        "draw_id",
    ]
    outcomes = without_held(ledger.read("review_outcomes", columns).to_pandas(), holds.held(store).values())
    draws = ledger.read("audit_draws", ["draw_id", *ITEM]).to_pandas()
    return history.current(weighed(outcomes, draws), posts["author_id"], posts["context_id"])


@command("score")
def main(
    post: Annotated[Path | None, typer.Option(help="JSON file with one post; the answer goes to standard output.")] = None,
    posts: Annotated[Path | None, typer.Option(help="Parquet, JSONL or CSV file of posts.")] = None,
    out: Annotated[Path | None, typer.Option(help="Parquet of decisions to write, with --posts.")] = None,
    model: Annotated[str | None, typer.Option(help="Version or alias [champion, else challenger].")] = None,
    incumbent: Annotated[
        Path | None, typer.Option(help="Decisions of the model whose score is an input (fusion.use_incumbent), in the decisions contract.")
    ] = None,
    asked: ParamOptions = PARAM_OPTIONS,
    store: StoreFolder = STORE_FOLDER,
) -> Output:
    """Decide on one post or many with a registered model and its thresholds."""
    if (post is None) == (posts is None) or (posts is None) != (out is None):
        raise BadUse("expected either --post FILE, or --posts FILE with --out FILE")
    settings = params.load(*asked, store)
    judge = load_model(store, model)
    console().print(f"model {judge.model_version}, thresholds {judge.thresholds_version}", highlight=False)
    if judge.frozen:
        console().print(f"frozen, so not removed automatically: {', '.join(sorted(judge.frozen))}", markup=False, highlight=False)
    known = known_history(store)
    from upheld.training.scoring import score

    if post is not None:
        answer, notes = score.one(judge, post, settings, known, incumbent)
        output = Output(answer, json.dumps(answer, indent=2))
    else:
        assert posts is not None and out is not None
        result = score.run(judge, posts, out, settings, known, datetime.now(UTC), incumbent)
        notes = result.notes
        content = {"out": str(out), "posts": result.num_posts, "actions": result.actions}
        content |= {} if result.without_incumbent is None else {"without_incumbent": result.without_incumbent}
        output = Output(content, json.dumps(content))
    for note in notes:
        console().print(visible(note), markup=False, highlight=False)
    return output
