"""The tables of a snapshot, composed from what the ledger knows: a pure function of its arguments, whatever the order of their rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from upheld.common.errors import FailedWork
from upheld.common.params.data import Labels, Snapshot
from upheld.common.params.params import Params
from upheld.feature_store.contracts.hashing import uniform
from upheld.feature_store.contracts.snapshot import EXAMPLES, MEMBERSHIP, POSTS, SERVED
from upheld.feature_store.contracts.tables import SPLITS, TIMESTAMP, week_of
from upheld.feature_store.features.table import NO_FEATURES, PinnedFeatures
from upheld.feature_store.ledger.verdicts import for_estimates
from upheld.feature_store.posts import post_features
from upheld.feature_store.posts.copies import copies_of
from upheld.feature_store.posts.enrichment import captions, enriched
from upheld.feature_store.posts.history import context_excess, prior_removals
from upheld.feature_store.snapshot.label_aggregation import Labelled, label, weights
from upheld.feature_store.snapshot.monitoring import coverage, drift
from upheld.feature_store.snapshot.served import candidates, may_teach
from upheld.feature_store.splits.assignment import LEARNED, assign, boundaries, windows
from upheld.feature_store.splits.groups import group


@dataclass(frozen=True)
class Tables:
    """The tables of a snapshot, what the manifest says of how they came about, and what the report says of features."""

    examples: pa.Table
    posts: pa.Table
    unreviewed: pa.Table
    served: pa.Table
    membership: pa.Table
    account: dict[str, Any]
    features: dict[str, Any]


def compose(
    outcomes: pd.DataFrame,
    about: pd.DataFrame,
    contents_of: Callable[["pd.Series[str]"], pd.DataFrame],
    decisions_of: Callable[["pd.Series[str]"], pd.DataFrame],
    membership: pd.DataFrame,
    as_of: pd.Timestamp,
    params: Params,
    features: PinnedFeatures = NO_FEATURES,
) -> Tables:
    """Make the tables of a snapshot.

    Args:
        outcomes: review_outcomes of the ledger, all revisions.
        about: post_id, created_at, language, author_id, context_id, recorded_at of every post of the ledger.
        contents_of: gives the ledger's rows of the posts named to it.
        decisions_of: gives the first decisions on the posts named to it, in the columns of SERVED.
        membership: post_id, split of the champion; empty if there is none.
        as_of: what was recorded or reviewed later is unknown.
        params: sections labels, splits, snapshot; policies; seed.
        features: what the feature store knew.

    Returns:
        tables in order of their keys, and the account: what went where, what was left out and why.

    Raises:
        FailedWork: there is no outcome, or a split has no post with a known label.
    """
    outcomes = outcomes[(outcomes["recorded_at"] <= as_of) & (outcomes["reviewed_at"] <= as_of)]
    about = about[about["recorded_at"] <= as_of].sort_values("post_id", ignore_index=True)
    usable = outcomes[outcomes["category"].isin(params.policies) & outcomes["post_id"].isin(about["post_id"])]
    drawn = for_estimates(usable)
    if drawn.empty:
        raise FailedWork(f"snapshot: the ledger holds no review outcome of a policy as of {as_of.isoformat()}; ingest a delivery with some")
    # In the ledger's languages, `und` among them: by these the posts were given to reviewers, whose errors are estimated here.
    languages = about.set_index("post_id")["language"]
    labelled = label(drawn, languages, as_of, params.labels)
    taught = label(usable, languages, as_of, params.labels) if len(drawn) < len(usable) else labelled
    chosen, free, starts = _choose(about, labelled.items, membership, params)
    posts = _featured(contents_of(chosen["post_id"]), usable, about, features, params.snapshot)
    chosen["language"] = chosen["post_id"].map(posts.set_index("post_id")["language"])
    grouped = group(posts, params.splits, copies_of(posts, features, params.splits, params.audio_fingerprint))
    chosen = chosen.merge(grouped.posts, on="post_id", validate="1:1")
    # A stratum is language and what is known of the post in each category, such as `en spam=1`; unlabelled posts have their language.
    says = labelled.items["category"] + "=" + labelled.items["hard_label"].astype("string").fillna("?").astype(str)
    known = says.groupby(labelled.items["post_id"]).agg(" ".join)
    chosen["stratum"] = chosen["language"] + " " + chosen["post_id"].map(known).fillna("")
    places = assign(chosen, params.splits, f"splits/{params.seed}")
    examples, unmet = _examples(labelled, taught, places, params.labels)
    posts = posts.merge(chosen[["post_id", "group_id", "is_labelled"]], on="post_id", validate="1:1").merge(places, on="post_id")
    account = {
        "counts": _counts(examples.merge(posts[["post_id", "language"]], on="post_id", validate="m:1")),
        "posts": _tally(posts, "split"),
        "excluded": _tally(posts, "reason"),
        "outcomes": {"known": len(outcomes), "used": len(usable), "other_category_or_post": len(outcomes) - len(usable)},
        "windows": {"calib_from": starts[0].isoformat(), "test_from": starts[1].isoformat()},
        "spanning_keys": grouped.spanning,
        "reviewer_cap_unmet": unmet,
    }
    posts = posts[posts["split"].notna()]
    served = decisions_of(pd.concat([posts["post_id"], free], ignore_index=True))
    scored = contents_of(free[free.isin(served["post_id"])])
    unreviewed = _unreviewed(_featured(scored, usable, about, features, params.snapshot), posts, features, params)
    served = served[served["post_id"].isin(posts["post_id"]) | served["post_id"].isin(unreviewed["post_id"])]
    left_out = {"undecided": len(free) - len(scored), "copy_of_kept_apart": len(scored) - len(unreviewed)}
    account["unreviewed"] = {"used": len(unreviewed), **left_out}
    _demand_labels(examples)
    # What the model line has learned from: the champion's membership and this snapshot's own train, val and fusion posts.
    own = posts.loc[posts["split"].isin(LEARNED), ["post_id", "split"]]
    line = pd.concat([membership[["post_id", "split"]], own]).drop_duplicates("post_id")
    monitored = {"coverage": coverage(posts, features), "drift": drift(about, contents_of, features, params.seed, params.snapshot)}
    return Tables(
        examples=_table(examples, EXAMPLES),
        posts=_table(posts, POSTS),
        unreviewed=_table(unreviewed, POSTS),
        served=_table(served, SERVED),
        membership=_table(line, MEMBERSHIP),
        account=account,
        features=monitored,
    )


def _examples(labelled: Labelled, taught: Labelled, places: pd.DataFrame, section: Labels) -> tuple[pd.DataFrame, list[dict[str, object]]]:
    """Labels and weights of the posts that have a split, and the reviewers' shares that could not be capped.

    Split train learns from `taught`, with second reviews of labels that a model doubted; nothing is chosen, fused or measured by those.
    """
    kept = places.loc[places["split"].notna(), ["post_id", "split"]]
    parts = [(labelled, kept[kept["split"] != "train"]), (taught, kept[kept["split"] == "train"])]
    examples = pd.concat([said.items.merge(posts_of, on="post_id", validate="m:1") for said, posts_of in parts], ignore_index=True)
    votes = pd.concat([said.votes[said.votes["post_id"].isin(posts_of["post_id"])] for said, posts_of in parts])
    weighted, unmet = weights(examples, votes, section.max_reviewer_share)
    return examples.merge(weighted, on=["post_id", "category"], validate="1:1"), unmet


def _demand_labels(examples: pd.DataFrame) -> None:
    """Refuse examples of which a split has no known label."""
    num_labelled = examples[examples["label"].notna()].drop_duplicates("post_id")["split"].value_counts()
    have = {split: int(num_labelled.get(split, 0)) for split in SPLITS}
    empty = next((split for split, size in have.items() if size == 0), None)
    if empty:
        found = ", ".join(f"{name} {number}" for name, number in have.items())
        raise FailedWork(f"snapshot: split {empty} has no post with a known label ({found}); ingest more reviews, or change `splits`")


def _choose(
    about: pd.DataFrame, items: pd.DataFrame, membership: pd.DataFrame, params: Params
) -> tuple[pd.DataFrame, "pd.Series[str]", tuple[pd.Timestamp, pd.Timestamp]]:
    """The posts to look at: labelled ones, those of the champion's membership, and a hash sample of the others in calib and test; and which
    others of the development window may be learned from without a label."""
    rows = about.assign(is_labelled=about["post_id"].isin(items["post_id"]))
    rows["learned_as"] = rows["post_id"].map(membership.set_index("post_id")["split"])
    known = rows["post_id"].isin(items.loc[items["label"].notna(), "post_id"])
    if not known.any():
        raise FailedWork("snapshot: no outcome has a verdict, all are escalations that nobody has resolved; ingest later reviews")
    starts = boundaries(rows.loc[known, "created_at"], params.splits)
    rows["window"] = windows(rows["created_at"], starts)
    needed = rows["is_labelled"] | rows["learned_as"].notna()
    others = rows[~needed & (rows["window"] != "development")]
    others = others.assign(draw=uniform(f"frame/{params.seed}", others["post_id"])).sort_values("draw")
    frame = others.groupby("window").head(params.snapshot.frame_rows)
    chosen = pd.concat([rows[needed], frame[rows.columns]]).sort_values("post_id", ignore_index=True)
    free = candidates(rows, params.snapshot.unreviewed_rows, params.seed)
    return chosen[["post_id", "window", "language", "is_labelled", "learned_as"]], free, starts


def _featured(
    contents: pd.DataFrame, outcomes: pd.DataFrame, about: pd.DataFrame, features: PinnedFeatures, settings: Snapshot
) -> pd.DataFrame:
    """Posts with the columns that models and reports read; `text` is the merged one."""
    posts = contents.sort_values("post_id", ignore_index=True)
    known = about.set_index("post_id")
    removals = prior_removals(posts, outcomes, known["author_id"])
    excess = context_excess(posts, outcomes, known["context_id"])
    pairs = captions(posts)
    plain = posts.assign(
        caption=[post_features.merged_text(*pair) for pair in pairs],
        num_hashtags=[post_features.num_hashtags(*pair) for pair in pairs],
        has_link=[post_features.has_link(caption) for caption, _ in pairs],
        period=week_of(posts["created_at"]),
        prior_removals=posts["post_id"].map(removals),
        context_excess=pd.Series([sorted(of_post.items()) for of_post in excess], index=posts.index, dtype=object),
    )
    return enriched(plain, features, settings)


def _unreviewed(scored: pd.DataFrame, posts: pd.DataFrame, features: PinnedFeatures, params: Params) -> pd.DataFrame:
    """The candidates that are no copies of what is kept apart from training, as posts of split train; each is a group of its own copies."""
    both = pd.concat([posts[scored.columns], scored], ignore_index=True)
    content = group(both, params.splits, copies_of(both, features, params.splits, params.audio_fingerprint)).posts
    usable = content.loc[may_teach(posts, content), ["post_id", "content_id"]].rename(columns={"content_id": "group_id"})
    return scored.merge(usable, on="post_id", validate="1:1").assign(split="train")


def _counts(examples: pd.DataFrame) -> dict[str, dict[str, dict[str, dict[str, int]]]]:
    """split → category → language → {"0", "1", "null"} → number of examples."""
    names = examples["hard_label"].astype("string").fillna("null").astype(str)
    sizes = examples.groupby(["split", "category", "language", names]).size().reset_index(name="size")
    counts: dict[str, Any] = {split: {} for split in SPLITS}
    for split, category, language, name, size in sizes.itertuples(index=False, name=None):
        cell = counts[split].setdefault(category, {}).setdefault(language, {"0": 0, "1": 0, "null": 0})
        cell[name] = size
    return counts


def _tally(posts: pd.DataFrame, column: str) -> dict[str, dict[str, int]]:
    """Posts by the values of a column, labelled posts and those of the unlabelled frame apart."""
    counts = posts.groupby(["is_labelled", column]).size().reset_index(name="size")
    tally: dict[str, dict[str, int]] = {"labelled": {}, "frame": {}}
    for is_labelled, name, size in counts.itertuples(index=False, name=None):
        tally["labelled" if is_labelled else "frame"][name] = size
    return tally


def _table(rows: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    keys = [name for name in ("post_id", "category") if name in schema.names]
    ordered = rows.sort_values(keys)[schema.names]
    times = [field.name for field in schema if field.type == TIMESTAMP]
    # pyarrow 25 takes times with a zone in a way that pandas 3.1 warns of; without one they are UTC, as the schema says
    ordered = ordered.assign(**{name: ordered[name].dt.tz_convert(None) for name in times})
    return pa.Table.from_pandas(ordered, schema=schema, preserve_index=False).replace_schema_metadata(None)
