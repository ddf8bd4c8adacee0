"""Is a retrained model better than the one that served? Rolling origin over a delivery with decisions, paired on the same labelled posts.

usage: python benchmarks/training/incumbent.py [--data FOLDER | --world SEED [--biased LANGUAGE]] [--folds 5 6 7 8] [--members ngrams text]
           [--teacher off on] [--set KEY=VALUE]

For each week k: snapshot, members of stage 1 and fusion layer are made as a retrain would on the Monday of week k, from what was known
then. The sampled labels of week k's posts are the test, each with the score of the decision that was made when the post came: that is
the incumbent. Once with the model in production as a teacher (`teacher.weights` of the params), once without.
Differences of ROC-AUC are paired (DeLong), weighted by 1/π: these decide. Unweighted ones are shown as well; they are biased against the
incumbent, by whose score posts were drawn for review. Folds are pooled with the inverse of their variances as weights: scores of two folds
come from two models and are not compared with each other.
With --world the posts come from the sample world, whose truth is known: all posts of week k are the test, each with weight 1, and the
incumbent is an n-gram regression fitted on the true labels of the two weeks before. Texts alone: pictures and sounds are left out.
With --biased the incumbent's logits of that language are raised by BIAS, as if it had been unfair to it; then the false-positive rate of
its clean posts, over that of all others', says whether the bias was taught on: 1 is fair.
With `--set fusion.use_incumbent=true` its score is an input of ours, too (name a --work of its own: finished folds are not made again).
The last line is `ratio N`: (1 - ROC-AUC of the incumbent) / (1 - ROC-AUC of ours), pooled over categories; above 1 ours errs less.
"""

import argparse
import datetime
import platform
import subprocess
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.special import expit
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from upheld.common.params import params as parameters
from upheld.common.params.data import SampleData
from upheld.evaluation.metrics.paired import Areas, Change, paired_auc
from upheld.feature_store.contracts import snapshot as contract
from upheld.feature_store.contracts.hashing import of_file
from upheld.feature_store.sample_world.command import calendar
from upheld.feature_store.sample_world.moderation import answer, appeal, draw, staff
from upheld.feature_store.sample_world.posts import write
from upheld.feature_store.snapshot import label_aggregation
from upheld.feature_store.snapshot.tables import compose
from upheld.training.fusion import incumbent
from upheld.training.fusion import model as fusion
from upheld.training.fusion.stage import fit as fit_fusion
from upheld.training.ngrams import stage as ngrams_stage
from upheld.training.ngrams.model import load_ngrams
from upheld.training.pipeline import stage1
from upheld.training.text import stage as text_stage
from upheld.training.text.model import load_text

ALPHA = 0.05
WEEKS_BEFORE = 2  # of a sample world, that its incumbent learns from
BIAS = 1.5  # logits; sample worlds' scores have a standard deviation of about half of it
FALSE_POSITIVE_RATE = 0.1  # of all clean posts, at which languages are compared
NOBODY = pd.DataFrame({"post_id": [], "split": []}, dtype="str")


def main() -> None:
    """Train and score what is not in the work folder yet, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/stream"), help="delivery folder with decisions")
    parser.add_argument("--world", type=int, metavar="SEED", help="a sample world instead, its truth known")
    parser.add_argument("--biased", metavar="LANGUAGE", help="of a sample world: which language its incumbent is unfair to")
    parser.add_argument("--folds", type=int, nargs="+", default=[5, 6, 7, 8], help="weeks to test on, 1 being the first")
    parser.add_argument("--members", nargs="+", choices=["ngrams", "text"], default=["ngrams", "text"])
    parser.add_argument("--teacher", nargs="+", choices=["off", "on"], default=["off", "on"], help="what the model in production teaches")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--work", type=Path, default=Path("store/benchmarks/incumbent"), help="scores of finished folds")
    args = parser.parse_args()
    if args.world is None:
        name_of_data, world = args.data.name, read_delivery(args.data)
    else:
        settings = parameters.load(args.params, args.set).sample_data
        name_of_data = f"sample world {args.world}" + (f" biased against {args.biased}" if args.biased else "")
        world = made_world(settings, args.world, max(args.folds), settings.posts_per_week, args.biased)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()} · commit {commit} · {name_of_data} · members {' '.join(args.members)}")
    ratio = 1.0
    sides = {"off": ("without a teacher", ["teacher.weights=[0.0]"]), "on": ("taught by the incumbent", [])}
    for name, overrides in (sides[asked] for asked in args.teacher):
        params = parameters.load(args.params, [*args.set, *overrides])
        folds = []
        for week in args.folds:
            path = args.work / name_of_data / "-".join(args.members) / name.replace(" ", "-") / f"week-{week}.parquet"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                run_fold(world, week, params, args.members, path.with_suffix("")).to_parquet(path)
            folds.append(pd.read_parquet(path))
        table = pd.concat(folds, ignore_index=True)
        ratio = report(name, table)
        if args.biased:
            report_bias(table, args.biased)
    print(f"ratio {ratio:.3f}")


def read_delivery(folder: Path) -> dict[str, pd.DataFrame]:
    """The tables as a ledger gives them: media with digests, every row known as soon as it was true; posts with their week."""
    tables = {name: pq.ParquetDataset(folder / name).read().to_pandas() for name in ("posts", "decisions", "review_outcomes")}
    posts, decisions, outcomes = tables.values()
    posts["media"] = [
        [medium | {"digest": of_file(folder / medium["uri"])} for medium in (media if media is not None else [])]
        for media in posts["media"]
    ]
    monday = posts["created_at"].min().normalize()
    monday -= pd.Timedelta(days=monday.weekday())
    posts["week"] = (posts["created_at"] - monday).dt.days // 7 + 1
    posts["recorded_at"], outcomes["recorded_at"] = posts["created_at"], outcomes["reviewed_at"]
    first = decisions.sort_values(["decided_at", "decision_id"]).drop_duplicates(["post_id", "category"])
    return {"posts": posts, "decisions": first, "review_outcomes": outcomes}


def made_world(settings: SampleData, seed: int, num_weeks: int, posts_per_week: int, biased: str | None = None) -> dict[str, pd.DataFrame]:
    """The tables as a ledger gives them, and `truth`: post_id, category, label of every post.

    Args:
        settings: section `sample_data` of the params; says how much is drawn for review and from which score on posts are removed.
        seed: of the world.
        num_weeks: of the stream, after the weeks that the incumbent learns from.
        posts_per_week: in each.
        biased: the language whose logits the incumbent raises by BIAS.
    """
    weeks = calendar(settings, seed, settings.origin_week, WEEKS_BEFORE + num_weeks)
    made = [write(week, settings, posts_per_week) for week in weeks]
    past = pd.concat([one.posts for one in made[:WEEKS_BEFORE]], ignore_index=True)
    vectoriser = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), min_df=2, sublinear_tf=True)
    features = vectoriser.fit_transform(past["text"].fillna(""))
    known = pd.concat([one.truth for one in made[:WEEKS_BEFORE]]).pivot(index="post_id", columns="category", values="label")
    labels = known.loc[past["post_id"]]
    incumbent = {name: LogisticRegression(C=2.0, max_iter=1000).fit(features, labels[name]) for name in labels}
    reviewers = staff(seed, settings.num_reviewers)
    tables: dict[str, list[pd.DataFrame]] = {"posts": [], "decisions": [], "review_outcomes": [], "truth": []}
    for number, (week, one) in enumerate(zip(weeks[WEEKS_BEFORE:], made[WEEKS_BEFORE:], strict=True), 1):
        posts = one.posts.assign(media=[[] for _ in range(len(one.posts))], week=number)
        seen = vectoriser.transform(posts["text"].fillna(""))
        raised = BIAS * (posts["language"] == biased).to_numpy(float)
        scores = {name: expit(model.decision_function(seen) + raised) for name, model in incumbent.items()}
        decided = _decided(posts, scores, settings)
        answers = answer(draw(week, settings, decided), one.truth, reviewers, seed)
        removed = decided[decided["action"] == "auto_remove"].merge(one.truth, on=["post_id", "category"], validate="one_to_one")
        outcomes = pd.concat([answers, appeal(removed, reviewers, seed)], ignore_index=True)
        for name, table in (("posts", posts), ("decisions", decided), ("review_outcomes", outcomes), ("truth", one.truth)):
            tables[name].append(table)
    whole = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for table, column in (("posts", "created_at"), ("decisions", "decided_at"), ("review_outcomes", "reviewed_at")):
        whole[table][column] = pd.to_datetime(whole[table][column], utc=True).astype("datetime64[us, UTC]")
    whole["posts"]["recorded_at"] = whole["posts"]["created_at"]
    whole["review_outcomes"]["recorded_at"] = whole["review_outcomes"]["reviewed_at"]
    whole["review_outcomes"] = whole["review_outcomes"].drop(columns="draw_id")
    return whole


def _decided(posts: pd.DataFrame, scores: dict[str, np.ndarray], settings: SampleData) -> pd.DataFrame:
    """Decisions in the delivery contract; a post's own moment and name make each unique."""
    parts = []
    for category, score in scores.items():
        action = np.select([score >= settings.thr_auto_remove, score >= settings.thr_review], ["auto_remove", "review"], "none")
        part = pd.DataFrame({"decision_id": category + "/" + posts["post_id"], "post_id": posts["post_id"], "category": category})
        parts.append(part.assign(score=score, action=action, decided_at=posts["created_at"] + timedelta(seconds=1)))
    return pd.concat(parts, ignore_index=True).assign(model_version="ngram-regression-1")


def run_fold(world: dict[str, pd.DataFrame], week: int, params: parameters.Params, members: list[str], work: Path) -> pd.DataFrame:
    """Scores on the sampled labels of one week: fold, post_id, category, language, label, inclusion_prob, ours, incumbent."""
    began = time.perf_counter()
    posts, outcomes = world["posts"], world["review_outcomes"]
    monday = posts.loc[posts["week"] == week, "created_at"].min().normalize()
    folder = work / "snapshot"
    folder.mkdir(parents=True, exist_ok=True)

    def rows_of(table: str) -> Callable[["pd.Series[str]"], pd.DataFrame]:
        """Reader of a table's rows about posts."""
        return lambda wanted: world[table][world[table]["post_id"].isin(wanted)]

    def decisions_of(wanted: "pd.Series[str]") -> pd.DataFrame:
        """First decisions on posts, as the snapshot wants them."""
        return rows_of("decisions")(wanted)[contract.SERVED.names]

    tables = compose(outcomes, posts.drop(columns="week"), rows_of("posts"), decisions_of, NOBODY, monday, params)
    for name in ("posts", "examples", "unreviewed", "served"):
        pq.write_table(getattr(tables, name), folder / f"{name}.parquet")
    (folder / contract.MANIFEST_FILE).write_text('{"synthetic": false, "features": {}, "digest": "", "champion": null}')
    data = contract.read_snapshot(folder)
    learned = ngrams_stage.run(params, folder, work / "ngrams")
    if "text" in members:
        text_stage.run(params, folder, work / "ngrams", work / "text", work / "store")
    models = [load_ngrams(work / "ngrams"), load_text(work / "text") if "text" in members else None]

    def judged(rows: pd.DataFrame) -> pd.DataFrame:
        """What stage 1 says of posts; a member that is not asked for is missing."""
        table = rows[["post_id", "prior_removals", "num_hashtags", "has_link"]].reset_index(drop=True)
        texts = rows["text"].fillna("").tolist()
        for name, model in zip(("ngrams", "text"), models, strict=True):
            probs = np.full((len(texts), len(params.policies)), np.nan)
            known = np.array([bool(text.strip()) for text in texts], bool)
            if model is not None and known.any():
                said = [text for text in texts if text.strip()]
                of_model = stage1.predict_ngrams(model, said) if name == "ngrams" else stage1.predict_text(model, said)
                places = [params.policies.index(policy) for policy in model.setup.policies]
                probs[np.ix_(np.flatnonzero(known), places)] = of_model
            table = table.assign(**{f"prob_{name}_{policy}": probs[:, c] for c, policy in enumerate(params.policies)})
        return table.assign(**{f"prob_{name}_{policy}": np.nan for name in ("image", "audio") for policy in params.policies})

    version = incumbent.version_of(data.served, data.posts) if params.fusion.use_incumbent else None

    def with_incumbent(rows: pd.DataFrame) -> pd.DataFrame:
        """The posts with the incumbent's scores, where they are an input."""
        return rows if version is None else incumbent.beside(rows, world["decisions"], version, params.policies)

    of_fusion = data.posts[data.posts["split"] == "fusion"]
    learnt, _ = fit_fusion(params, with_incumbent(judged(of_fusion)), data.examples, version)
    test = posts[posts["week"] == week]
    plain = test.assign(prior_removals=0, num_hashtags=[len(tags) if tags is not None else 0 for tags in test["hashtags"]])
    plain["has_link"] = plain["text"].fillna("").str.contains("http")
    of_test = judged(plain)
    of_test.to_parquet(work / "judged.parquet")
    fused = fusion.apply(learnt.policies, with_incumbent(of_test)).melt("post_id", var_name="category", value_name="ours")
    fused["category"] = fused["category"].str.removeprefix("prob_")
    languages = posts.set_index("post_id")["language"]
    served = world["decisions"][["post_id", "category", "score", "model_version"]].rename(columns={"score": "incumbent"})
    if "truth" in world:
        items = world["truth"][["post_id", "category", "label"]].rename(columns={"label": "hard_label"}).assign(inclusion_prob=1.0)
    else:
        items = sampled(world, languages, params)
    rows = items[items["post_id"].isin(test["post_id"])].merge(fused, on=["post_id", "category"]).merge(served, on=["post_id", "category"])
    spent = time.perf_counter() - began
    print(
        f"week {week}: {learned.num_reviewed} reviewed, {learned.num_unreviewed} not, teacher {learned.teacher_weight:g}, {spent:.0f} s",
        flush=True,
    )
    rows = rows.assign(fold=week, language=rows["post_id"].map(languages), label=rows["hard_label"].astype(int))
    return rows[["fold", "post_id", "category", "language", "label", "inclusion_prob", "ours", "incumbent", "model_version"]]


def sampled(world: dict[str, pd.DataFrame], languages: "pd.Series[str]", params: parameters.Params) -> pd.DataFrame:
    """The labels of posts that a draw chose, as known at the end: post_id, category, hard_label, inclusion_prob."""
    outcomes = world["review_outcomes"]
    items = label_aggregation.label(outcomes, languages, outcomes["reviewed_at"].max(), params.labels).items
    return items.loc[(items["evidence"] == "sample") & items["hard_label"].notna(), ["post_id", "category", "hard_label", "inclusion_prob"]]


def areas_of(part: pd.DataFrame, weighted: bool) -> Areas:
    """Both ROC-AUC of one fold, in which one model of ours stands against whatever decided then."""
    weight = 1 / part["inclusion_prob"].to_numpy(float) if weighted else np.ones(len(part))
    columns = (part[name].to_numpy(float) for name in ("ours", "incumbent"))
    return paired_auc(part["label"].to_numpy(float), weight, *columns, part["model_version"].to_numpy(str), ALPHA)


def pooled(rows: pd.DataFrame, weighted: bool) -> Change | None:
    """Difference of ROC-AUC, ours minus the incumbent's: that of each fold, averaged with inverse variances."""
    changes = [areas_of(part, weighted).change for _, part in rows.groupby("fold")]
    found = [change for change in changes if change.reason is None and change.ci_high > change.ci_low]
    if not found:
        return None
    precision = np.array([(change.ci_high - change.ci_low) ** -2 for change in found])
    value = float(precision @ [change.value for change in found] / precision.sum())
    half = 0.5 / np.sqrt(precision.sum())
    return Change(value, value - half, value + half, None)


def report(name: str, table: pd.DataFrame) -> float:
    """Print every category, and its languages, with the weighted and the unweighted difference; return the ratio of errors."""
    print(f"\n{name}: ROC-AUC, ours minus the incumbent's")
    print(f"{'cell':26}{'labels':>8}  {'weighted by 1/π (decides)':28}  unweighted (biased against the incumbent)")
    ours, theirs, sizes = [], [], []
    for category, of_category in table.groupby("category"):
        for cell, rows in [(category, of_category), *((f"  {language}", part) for language, part in of_category.groupby("language"))]:
            both = [pooled(rows, weighted) for weighted in (True, False)]
            if both[0] is None or both[1] is None:
                if cell == category:
                    print(f"{cell:26}{len(rows):>8}  too few labels of a class in every week")
                continue
            texts = [f"{change.value:+.3f} [{change.ci_low:+.3f}, {change.ci_high:+.3f}]" for change in both if change]
            print(f"{cell:26}{len(rows):>8}  {texts[0]:28}  {texts[1]}")
            if cell == category:
                both_areas = mean_areas(rows)
                ours.append(both_areas[0])
                theirs.append(both_areas[1])
                sizes.append(len(rows))
    weights = np.array(sizes) / max(sum(sizes), 1)
    return float((1 - weights @ theirs) / (1 - weights @ ours))


def report_bias(table: pd.DataFrame, language: str) -> None:
    """Print, of each category, how many times as often a clean post of the language is above the score that FALSE_POSITIVE_RATE of all
    clean posts reach, compared with clean posts of other languages: of the incumbent and of ours, the mean over the weeks."""
    print(f"\nfalse positives of {language} over those of other languages (1 is fair)")
    for category, of_category in table.groupby("category"):
        rates: dict[str, list[float]] = {"incumbent": [], "ours": []}
        for _, fold in of_category.groupby("fold"):
            clean = fold[fold["label"] == 0]
            own = clean["language"] == language
            for name, found in rates.items():
                above = clean[name] > clean[name].quantile(1 - FALSE_POSITIVE_RATE)
                found.append(float(above[own].mean() / above[~own].mean()))
        print(f"{category:26}incumbent {np.mean(rates['incumbent']):5.2f}   ours {np.mean(rates['ours']):5.2f}")


def mean_areas(rows: pd.DataFrame) -> tuple[float, float]:
    """Weighted ROC-AUC of ours and of the incumbent over the folds, by their labels."""
    folds = [(areas_of(part, True), len(part)) for _, part in rows.groupby("fold")]
    known = [(areas, num) for areas, num in folds if areas.change.reason is None]
    sizes = [num for _, num in known]
    ours, theirs = (float(np.average([getattr(areas, name) for areas, _ in known], weights=sizes)) for name in ("challenger", "comparator"))
    return ours, theirs


if __name__ == "__main__":
    main()
