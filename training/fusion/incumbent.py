"""The model in production as an input of fusion (`fusion.use_incumbent`): which version of it, and its scores beside posts."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from upheld.training.fusion.model import INCUMBENT, Fusion


def version_of(served: pd.DataFrame, posts: pd.DataFrame) -> str | None:
    """The model version that decided on the latest post: the one that a deployment keeps running. Another version has another scale.

    Args:
        served: post_id, model_version, as in the snapshot.
        posts: post_id, created_at.

    Returns:
        None without a decision.
    """
    dated = served.merge(posts[["post_id", "created_at"]], on="post_id", validate="m:1")
    latest = dated.sort_values(["created_at", "post_id", "model_version"])["model_version"]
    return None if latest.empty else str(latest.iloc[-1])


def beside(posts: pd.DataFrame, decisions: pd.DataFrame, version: str, policies: Sequence[str]) -> pd.DataFrame:
    """Add what one model version said of posts when it decided on them, which was before anybody reviewed them.

    Args:
        posts: with a column post_id.
        decisions: post_id, category, score (float in [0, 1]), model_version; at most one of a version for each post and category.
        version: the model version wanted; what others said is left.
        policies: categories wanted.

    Returns:
        `posts` with a column prob_incumbent_{policy} for each policy, float64, NaN where the version did not decide.
    """
    said = decisions[decisions["model_version"] == version].pivot(index="post_id", columns="category", values="score")
    wide = said.reindex(index=posts["post_id"], columns=list(policies)).to_numpy(np.float64)
    return posts.assign(**{f"prob_{INCUMBENT}_{policy}": wide[:, column] for column, policy in enumerate(policies)})


def lacking(fusion: Fusion, rows: pd.DataFrame) -> pd.DataFrame:
    """Which posts of `rows`, as `beside` gives them, are scored without a score that the fusion layer hears: bool, a column a policy."""
    hears = {policy: fusion.incumbent is not None and INCUMBENT not in learnt.left_out for policy, learnt in fusion.policies.items()}
    return pd.DataFrame({name: rows[f"prob_{INCUMBENT}_{name}"].isna() if heard else False for name, heard in hears.items()}, rows.index)
