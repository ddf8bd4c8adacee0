"""Probabilities per post, joined with what reviewers said, in the scores contract that evaluation reads."""

import pandas as pd
import pyarrow as pa

from upheld.feature_store.contracts import language_tags
from upheld.feature_store.ledger import tables as contracts

SCORES = pa.schema([*contracts.SCORES, pa.field("synthetic", pa.bool_(), nullable=False)])
KEY = ["item_id", "category"]


def build(probs: pd.DataFrame, posts: pd.DataFrame, examples: pd.DataFrame, synthetic: bool) -> tuple[pa.Table, int]:
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
        table with the schema SCORES, ordered by item and category.
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
        language=language_tags.nameable(rows["language"]),
        author_group=rows["author_group"].mask(rows["author_group"] == contracts.POOLED, f"({contracts.POOLED})"),
    )
    rows = rows.sort_values(KEY, ignore_index=True)[SCORES.names]
    return pa.Table.from_pandas(rows, schema=SCORES, preserve_index=False).replace_schema_metadata(None), int(appeal_only.sum())
