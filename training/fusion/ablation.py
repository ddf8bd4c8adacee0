"""What the fusion layer would say of test posts without one of its sources: whether each earns its place is judged from this."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from upheld.feature_store.contracts.tables import ABLATIONS
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.model import PolicyFusion

# Sources beside the modalities, and the columns of each; a name that ends in _ stands for a column of each brand.
OTHERS: Final = {
    "author": ("prior_removals",),
    "hashtags_and_links": ("num_hashtags", "has_link"),
    "context": ("context_excess",),
    "marks": tuple(f"{name}_" for name in fusion_model.LOGO),
}


def ablated(rows: pd.DataFrame, labels: pd.DataFrame, policies: Mapping[str, PolicyFusion]) -> pd.DataFrame:
    """Score labelled posts with and without each source.

    A modality is left out as if the posts had none of it; of other sources the posts change places (Breiman 2001, Random forests, Machine
    Learning 45, section 10), for there is no value that stands for none. The order of the places is fixed.

    Args:
        rows: post_id, and what `fusion_model.evidence` reads.
        labels: post_id, policy, label (bool), weight (1 / inclusion_prob): of posts among `rows`.
        policies: policy -> what fusion learnt.

    Returns:
        columns of ABLATIONS; a source that a policy does not hear is absent, and so is one that no post shows.
    """
    parts = [ABLATIONS.empty_table().to_pandas()]
    for policy, learnt in policies.items():
        own = labels[labels["policy"] == policy]
        posts = rows.merge(own[["post_id", "label", "weight"]], on="post_id", validate="1:1").sort_values("post_id", ignore_index=True)
        if posts.empty:
            continue
        places = np.random.default_rng(0).permutation(len(posts))
        columns = {source: _columns(posts, names) for source, names in OTHERS.items()}
        changed = {source: posts.assign(**{name: posts[name].to_numpy()[places] for name in names}) for source, names in columns.items()}
        for modality, members in fusion_model.heard(posts, policy, learnt.left_out).items():
            changed[modality] = posts.assign(**{f"prob_{member}_{policy}": np.nan for member in members})
        whole = fusion_model.apply({policy: learnt}, posts)[f"prob_{policy}"]
        for source, other in changed.items():
            without = fusion_model.apply({policy: learnt}, other)[f"prob_{policy}"]
            if not without.equals(whole):
                of_posts = posts[["post_id", "label", "weight"]]
                parts.append(of_posts.assign(policy=policy, source=source, prob=whole, prob_without=without))
    found: pd.DataFrame = pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)[ABLATIONS.names]
    return found


def _columns(posts: pd.DataFrame, names: tuple[str, ...]) -> list[str]:
    return [
        column
        for column in posts.columns.astype(str)
        for name in names
        if column == name or (name.endswith("_") and column.startswith(name))
    ]
