"""How many of the labels that `upheld suspects` lists are wrong? In a sample world, whose truth is known.

usage: python benchmarks/training/suspects.py [--world SEED] [--weeks N] [--set KEY=VALUE]

The world and what served in it are those of incumbent.py: texts alone, scored by an n-gram regression that was fitted on the
true labels of the two weeks before. A snapshot of all its weeks is made as a retrain would, and its labels of split train are listed; a
label is wrong where it is not the truth. Beside the list, of the same length in each category: labels taken at random (their expectation),
and those farthest from the score of the model that served. Then the world's reviewers judge the list again: the mean squared error of its
labels before and after.
The last line is `ratio N`: the precision of the list over that of a random one.
"""

import argparse
import datetime
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from incumbent import NOBODY, made_world

from upheld.common.params import params as parameters
from upheld.common.params.params import Params
from upheld.feature_store.contracts import snapshot as contract
from upheld.feature_store.contracts.tables import TARGETED
from upheld.feature_store.sample_world.moderation import answer, staff
from upheld.feature_store.snapshot.tables import compose
from upheld.training import suspects
from upheld.training.ngrams.stage import with_text

ITEM = ["post_id", "category"]
Tables = dict[str, pd.DataFrame]


def main() -> None:
    """Make the world, list, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=5, metavar="SEED")
    parser.add_argument("--weeks", type=int, default=6)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    params = parameters.load(args.params, args.set)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · sample world {args.world}, {args.weeks} weeks")
    world = made_world(params.sample_data, args.world, args.weeks, params.sample_data.posts_per_week)
    as_of = world["posts"]["created_at"].max() + pd.Timedelta(weeks=1)
    outcomes = world["review_outcomes"][world["review_outcomes"]["reviewed_at"] <= as_of]
    data = snapshot(world, outcomes, params, as_of)
    began = time.perf_counter()
    weight = params.teacher.weights[0]
    found = suspects.find(data, params, weight, NOBODY.assign(category=""))
    print(f"{len(with_text(data.posts[data.posts['split'] == 'train']))} reviewed posts judged in {time.perf_counter() - began:.0f} s")
    truth = world["truth"][[*ITEM, "label"]].rename(columns={"label": "truth"})
    ratio = report(judged(data, truth), found)
    again = answers(found, world, args.world, params)
    later = snapshot(world, pd.concat([outcomes, again], ignore_index=True), params, again["reviewed_at"].max())
    errors = [squared_error(one, found, truth) for one in (data, later)]
    print(f"judged again by the world's reviewers: mean squared error of the listed labels {errors[0]:.3f} before, {errors[1]:.3f} after")
    print(f"ratio {ratio:.2f}")


def snapshot(world: Tables, outcomes: pd.DataFrame, params: Params, as_of: pd.Timestamp) -> contract.Snapshot:
    """The snapshot of a world as of a time, whose windows are those of all its weeks."""

    def decisions_of(wanted: "pd.Series[str]") -> pd.DataFrame:
        """First decisions on posts, as the snapshot wants them."""
        return world["decisions"].loc[world["decisions"]["post_id"].isin(wanted), contract.SERVED.names]

    posts = world["posts"].drop(columns="week")
    tables = compose(outcomes, posts, lambda wanted: posts[posts["post_id"].isin(wanted)], decisions_of, NOBODY, as_of, params)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("posts", "examples", "unreviewed", "served"):
            pq.write_table(getattr(tables, name), Path(folder) / f"{name}.parquet")
        (Path(folder) / contract.MANIFEST_FILE).write_text("{}")
        return contract.read_snapshot(Path(folder))


def judged(data: contract.Snapshot, truth: pd.DataFrame) -> pd.DataFrame:
    """What could be listed: post_id, category, wrong (bool), far (distance of the label from the score of the model that served)."""
    texts = with_text(data.posts[data.posts["split"] == "train"])["post_id"]
    known = data.examples[data.examples["hard_label"].notna() & data.examples["post_id"].isin(texts)]
    rows = known.merge(truth, on=ITEM, validate="1:1").merge(data.served[[*ITEM, "score"]], on=ITEM, validate="1:1")
    return rows.assign(wrong=rows["hard_label"] != rows["truth"], far=(rows["score"] - rows["hard_label"]).abs())[[*ITEM, "wrong", "far"]]


def report(rows: pd.DataFrame, found: pd.DataFrame) -> float:
    """Print precision and share of wrong labels found, per category; return precision over that of a random list of the same lengths."""
    rows = rows.assign(listed=pd.MultiIndex.from_frame(rows[ITEM]).isin(pd.MultiIndex.from_frame(found[ITEM])))
    print(f"{'':20}{'labels':>8}{'wrong':>7}{'listed':>8}   precision: list, by score, random   found: list, by score, random")
    sums = np.zeros(6)
    for category, own in rows.groupby("category"):
        length, far = int(own["listed"].sum()), own.sort_values("far", ascending=False, kind="stable")
        hits = own.loc[own["listed"], "wrong"].sum(), far["wrong"].head(length).sum(), length * own["wrong"].mean()
        line(str(category), counts := np.array([len(own), own["wrong"].sum(), length, *hits], float))
        sums += counts
    line("all", sums)
    return float(sums[3] / sums[5])


def line(name: str, counts: np.ndarray) -> None:
    """Print a row: labels, wrong ones, listed ones, and the wrong ones in the list, in that by the score, and in a random one."""
    labels, wrong, listed, *hits = counts
    shares = ["".join(f"{hit / max(of, 1):9.2f}" for hit in hits) for of in (listed, wrong)]
    print(f"{name:20}{labels:8.0f}{wrong:7.0f}{listed:8.0f}   {shares[0]:34}{shares[1]}")


def answers(found: pd.DataFrame, world: Tables, seed: int, params: Params) -> pd.DataFrame:
    """What the world's reviewers say of the list, a week after it was made, as the ledger keeps it."""
    plan = found[ITEM].assign(draw_id=found["post_id"] + found["category"], zone=TARGETED, inclusion_prob=np.nan)
    plan["drawn_at"] = world["posts"]["created_at"].max() + pd.Timedelta(weeks=1)
    said = answer(plan, world["truth"], staff(seed, params.sample_data.num_reviewers), seed).drop(columns="draw_id")
    return said.assign(
        reviewed_at=pd.to_datetime(said["reviewed_at"], utc=True).astype("datetime64[us, UTC]"), recorded_at=said["reviewed_at"]
    )


def squared_error(data: contract.Snapshot, found: pd.DataFrame, truth: pd.DataFrame) -> float:
    """Mean squared distance of the known labels of the listed items from the truth."""
    rows = found[ITEM].merge(data.examples[[*ITEM, "label"]], on=ITEM, validate="1:1").merge(truth, on=ITEM, validate="1:1")
    return float(((rows["label"] - rows["truth"]) ** 2).mean())


if __name__ == "__main__":
    main()
