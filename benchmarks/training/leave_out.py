"""Does fusion rank new posts worse where it leaves members out? Sample worlds with known truth, labels drawn anew many times.

usage: python benchmarks/training/leave_out.py [--world SEED] [--folds 5 7] [--draws N] [--set KEY=VALUE]

Stage 1 (n-grams and the head on the encoder) is trained once a fold, by incumbent.py, and judges the posts of the week after.
SHARE of these, drawn anew each time, are what fusion is fitted on: labels as the queue and the audit of the sample world draw them, some
times as often (BUDGETS). The others are the test, all with their truth. Besides the members as they are, three for pictures are made up:
none, one that says nothing (noise), and one that repeats the encoder (copy).
"""

import argparse
import datetime
import platform
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
from incumbent import made_world, run_fold
from scipy.special import expit, logit
from sklearn.metrics import roc_auc_score

from upheld.common.params import params as parameters
from upheld.common.params.data import SampleData
from upheld.training.fusion import model as fusion
from upheld.training.fusion.selection import select

SHARE, BUDGETS, MADE_UP = 0.6, (1, 3, 8), ("none", "noise", "copy")


def main() -> None:
    """Train what is not in the work folder yet, then print what leaving out changed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=int, default=7, metavar="SEED")
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 7])
    parser.add_argument("--draws", type=int, default=6, help="of the labels, with each budget")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, default=Path("store/benchmarks/leave_out"))
    args = parser.parse_args()
    params = parameters.load(args.params, args.set)
    world = made_world(params.sample_data, args.world, max(args.folds), params.sample_data.posts_per_week)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · sample world {args.world}, weeks {args.folds}")
    found = []
    for week in args.folds:
        work = args.work / f"world-{args.world}-week-{week}"
        if not (work / "judged.parquet").exists():
            run_fold(world, week, params, ["ngrams", "text"], work)
        judged = pd.read_parquet(work / "judged.parquet")
        for draw in range(args.draws):
            found += trials(judged, world, params, np.random.default_rng([args.world, week, draw]))
    report(pd.DataFrame(found))


def trials(judged: pd.DataFrame, world: dict[str, pd.DataFrame], params: parameters.Params, random: np.random.Generator) -> list[dict]:
    """One split of the posts: for each budget, made-up member and category what was left out and the change of ROC-AUC on the others."""
    order = random.permutation(len(judged))
    num, rows = int(SHARE * len(judged)), []
    for budget in BUDGETS:
        for made_up in MADE_UP:
            posts = judged.copy()
            for policy in params.policies:
                noise = expit(random.normal(-2, 1.2, len(posts)))
                copied = expit(logit(posts[f"prob_text_{policy}"].astype(float)) + random.normal(0, 0.3, len(posts)))
                posts[f"prob_image_{policy}"] = {"none": np.nan, "noise": noise, "copy": copied}[made_up]
            fitted, test = posts.iloc[order[:num]], posts.iloc[order[num:]]
            for policy in params.policies:
                truth, score = (
                    table[table["category"] == policy].set_index("post_id")[column]
                    for table, column in ((world["truth"], "label"), (world["decisions"], "score"))
                )
                prob = np.minimum(budget * drawn(fitted["post_id"].map(score).to_numpy(float), params.sample_data), 1.0)
                label = fitted["post_id"].map(truth).astype(float).where(random.random(num) < prob)
                labelled = fitted.assign(label=label, weight=1.0, inclusion_prob=prob)
                chosen, _ = select(labelled, policy, params.fusion.l2, params.fusion.min_labels)
                whole = fusion.fit(labelled, policy, params.fusion.l2, params.fusion.min_labels)
                areas = [
                    roc_auc_score(test["post_id"].map(truth), fusion.apply({policy: one}, test)[f"prob_{policy}"])
                    for one in (chosen, whole)
                ]
                about = {"made up": made_up, "budget": budget, "labels": int(label.notna().sum()), "change": areas[0] - areas[1]}
                rows.append(about | {name: name in chosen.left_out for name in ("text", "ngrams", "image")})
    return rows


def drawn(score: np.ndarray, settings: SampleData) -> np.ndarray:
    """The probability with which the sample world's people look at a post, by the incumbent's score of it."""
    conditions = [score >= settings.thr_auto_remove, score >= settings.thr_review, score >= 0.15, score >= 0.05]
    return np.select(
        conditions, [settings.prob_audit_removed, settings.prob_queue, *settings.prob_audit_passed[:0:-1]], settings.prob_audit_passed[0]
    )


def report(table: pd.DataFrame) -> None:
    """Print, by made-up member and budget, the share of cases that leave each member out, and the change of ROC-AUC where any is."""
    print(f"{'made up':10}{'budget':>7}{'labels':>8}{'cases':>7}{'text':>7}{'ngrams':>8}{'image':>7}   change of ROC-AUC where any goes")
    table = table.assign(any=table[["text", "ngrams", "image"]].any(axis=1))
    groups = [(*key, rows) for key, rows in table.groupby(["made up", "budget"], sort=False)]
    for made_up, budget, rows in [*groups, ("all", "", table)]:
        changes = rows.loc[rows["any"], "change"]
        error = changes.std() / max(len(changes), 1) ** 0.5
        shares = "".join(f"{rows[name].mean():>{width}.2f}" for name, width in (("text", 7), ("ngrams", 8), ("image", 7)))
        line = f"{made_up:10}{budget:>7}{rows['labels'].mean():>8.0f}{len(rows):>7}{shares}"
        print(line + (f"   {changes.mean():+.4f} ± {error:.4f}, least {changes.min():+.3f}, of {len(changes)}" if len(changes) > 1 else ""))


if __name__ == "__main__":
    main()
