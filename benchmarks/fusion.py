"""What does fusion bring over its best single input, and what does it bring to know the board that a post stands on?

usage: python benchmarks/fusion.py --store STORE      a store in which `upheld demo` has run; its sample world knows the truth
       sed 's/share_planted: 0.03/share_planted: 0.2/; s/posts_per_week: 700/posts_per_week: 1200/' params.yaml > /tmp/planted.yaml
       UPHELD_STORE=/tmp/planted upheld demo --params /tmp/planted.yaml       makes one with many planted posts

Judged by the world's truth on the posts of splits calib and test, which no classifier and no fusion layer has learned from:
1. posts with a picture and a text: average precision of fusion less that of its best single input, the input chosen on the same posts (in
   its favour), for each category with 10 violations among them; intervals by paired bootstrap over posts;
2. planted pictures on two boards that judge them differently: ROC-AUC with the board's history less that without it, by DeLong;
3. for comparison the same over all posts.
The last line is `ratio N`: the mean average precision of fusion over that of the best single input, of 1.
"""

import argparse
import datetime
import platform
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from upheld.evaluation.metrics.paired import paired_auc
from upheld.feature_store.contracts import workspace as paths
from upheld.feature_store.contracts.snapshot import read_snapshot
from upheld.feature_store.sample_world.planted import BOARD_POLICY, BOARDS
from upheld.training.fusion import model as fusion_model
from upheld.training.fusion.stage import CONTEXT

REPLICATES = 1000
ALPHA = 0.10
MIN_VIOLATIONS = 10


def main() -> None:
    """Compare on the latest run of the store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="store of a demo on the sample world")
    store: Path = parser.parse_args().store
    workspace = max((store / "runs").iterdir())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · {workspace.name}")
    fusion = fusion_model.Fusion.model_validate_json((workspace / paths.FUSION).read_text())
    posts = read_snapshot(workspace / paths.SNAPSHOT).posts[[*CONTEXT, "context_id"]]
    rows = pd.read_parquet(workspace / paths.STAGE1).drop(columns="split").merge(posts, on="post_id")
    rows = rows[rows["split"] != "fusion"]
    truth = pd.concat([pd.read_parquet(file) for file in sorted((store / "world/truth").glob("week=*.parquet"))])
    ratios = []
    for policy, learnt in fusion.policies.items():
        told = rows.merge(truth.loc[truth["category"] == policy, ["post_id", "label"]], on="post_id")
        told["fused"] = fusion_model.apply({policy: learnt}, told)[f"prob_{policy}"]
        both = told[told["has_text"] & told["has_image"]]
        inputs = {name: both[f"prob_{name}_{policy}"] for of in fusion_model.heard(both, policy, ()).values() for name in of}
        inputs = {name: probs for name, probs in inputs.items() if probs.notna().mean() > 0.9}
        label = both["label"].to_numpy()
        if label.sum() >= MIN_VIOLATIONS:
            single = {name: average_precision_score(label, probs.fillna(0)) for name, probs in inputs.items()}
            best = max(single, key=lambda name: single[name])
            ours = average_precision_score(label, both["fused"])
            low, high = _bootstrap(label, both["fused"].to_numpy(), inputs[best].fillna(0).to_numpy())
            ratios.append(ours / single[best])
            figures = f"average precision {ours:.3f}, {best} alone {single[best]:.3f}: {ours - single[best]:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"{policy:20} text and picture, {len(both)} posts, {label.sum()} violations: {figures}")
        if policy == BOARD_POLICY:
            boards = told[told["context_id"].isin(list(BOARDS)) & told["has_image"]]
            for name, some in (("pictures on the two boards", boards), ("all posts", told)):
                blind = fusion_model.apply({policy: learnt}, some.assign(context_excess=None))[f"prob_{policy}"]
                one = np.ones(len(some))
                areas = paired_auc(some["label"].to_numpy(), one, some["fused"].to_numpy(), blind.to_numpy(), one.astype(str), ALPHA)
                change = areas.change
                figures = f"ROC-AUC {areas.challenger:.3f} with the board's history, {areas.comparator:.3f} without"
                print(f"{policy:20} {name}, {len(some)}: {figures}: {change.value:+.3f} [{change.ci_low:+.3f}, {change.ci_high:+.3f}]")
    print(f"ratio {np.mean(ratios) if ratios else 0:.2f}")


def _bootstrap(label: np.ndarray, one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Interval of the difference in average precision, over draws of the same posts for both."""
    random = np.random.default_rng(0)
    found = []
    while len(found) < REPLICATES:
        drawn = random.integers(0, len(label), len(label))
        if label[drawn].any():
            found.append(average_precision_score(label[drawn], one[drawn]) - average_precision_score(label[drawn], other[drawn]))
    low, high = np.quantile(found, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


if __name__ == "__main__":
    main()
