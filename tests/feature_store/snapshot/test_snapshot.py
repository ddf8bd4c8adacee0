"""The whole stage: on a small world, through a real ledger, and on the real stream where it is at hand."""

import hashlib
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.ledger.ledger import Ledger, writing
from upheld.feature_store.snapshot import stage as snapshot
from upheld.feature_store.snapshot.served import DECIDED, first_decisions
from upheld.feature_store.snapshot.tables import Tables, compose

ROOT = Path(__file__).resolve().parents[3]
AS_OF = pd.Timestamp("2026-10-26", tz="UTC")
NOBODY = pd.DataFrame({"post_id": [], "split": []}, dtype="str")


@pytest.fixture(scope="module")
def params() -> parameters.Params:
    return parameters.load(ROOT / "params.yaml", ["snapshot.frame_rows=30"])


def world(num_posts: int = 600, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Posts of eight weeks and outcomes of half of them; authors, contexts, shared pictures and repeated texts."""
    rng = np.random.default_rng(seed)

    def picture() -> list[dict]:
        return [{"kind": "image", "uri": "x.png", "digest": f"d{rng.integers(500)}"}] if rng.random() < 0.3 else []

    words = ["kaufen", "jetzt", "hello", "world", "votação", "你好", "สวัสดี", "free", "money", "maybe", "otter", "lake", "seven", "stone"]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(num_posts)]
    start = pd.Timestamp("2026-08-31", tz="UTC")
    posts = pd.DataFrame(
        {
            "post_id": [f"p{number:04}" for number in range(num_posts)],
            "created_at": start + pd.to_timedelta(np.sort(rng.integers(0, 55 * 86400, num_posts)), unit="s"),
            "language": rng.choice(["en", "de", "zh"], num_posts),
            "region": None,
            "text": [texts[number % 550] if rng.random() < 0.9 else None for number in range(num_posts)],
            "hashtags": [["tag"] if rng.random() < 0.2 else [] for _ in range(num_posts)],
            "media": [picture() for _ in range(num_posts)],
            "context_id": rng.choice(["board", None], num_posts),
            "author_id": [f"u{rng.integers(300)}" if rng.random() < 0.5 else None for _ in range(num_posts)],
            "author_group": None,
        }
    )
    rows = []
    for number in rng.choice(num_posts, num_posts * 2 // 3, replace=False):
        post = posts.iloc[number]
        for reviewer in range(rng.integers(1, 4) if number % 2 else 1):  # hate speech has several reviewers
            verdict = rng.choice(["confirm_removal", "restore", "escalate"], p=[0.45, 0.5, 0.05])
            source = rng.choice(["queue", "audit_passed", "appeal"], p=[0.6, 0.3, 0.1])
            reviewed = post["created_at"] + pd.Timedelta(hours=int(rng.integers(1, 100)))
            category = ["spam", "hate_speech"][number % 2]
            name = f"o{number}/{reviewer}"
            rows.append((name, 0, post["post_id"], category, verdict, f"r{rng.integers(12)}", reviewed, source, 0.5))
    columns = ["outcome_id", "revision", "post_id", "category", "verdict", "reviewer_id", "reviewed_at", "source", "inclusion_prob"]
    outcomes = pd.DataFrame(rows, columns=columns)
    return posts.assign(recorded_at=posts["created_at"]), outcomes.assign(recorded_at=outcomes["reviewed_at"])


def decisions(posts: pd.DataFrame) -> pd.DataFrame:
    """One decision on every post with an even number."""
    rows = posts[posts["post_id"].str[-1].isin(list("02468"))]
    return pd.DataFrame({"post_id": rows["post_id"], "category": "spam", "score": 0.25, "action": "none", "model_version": "old-1"})


def composed(
    posts: pd.DataFrame, outcomes: pd.DataFrame, params: parameters.Params, membership: pd.DataFrame = NOBODY, as_of: pd.Timestamp = AS_OF
) -> Tables:
    decided = decisions(posts)

    def decisions_of(wanted: pd.Series) -> pd.DataFrame:
        return decided[decided["post_id"].isin(wanted)]

    return compose(outcomes, posts, lambda wanted: posts[posts["post_id"].isin(wanted)], decisions_of, membership, as_of, params)


def frames(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame]:
    return tables.examples.to_pandas(), tables.posts.to_pandas()


def check(tables: Tables, outcomes: pd.DataFrame, as_of: pd.Timestamp = AS_OF) -> None:
    """Everything that must hold of any snapshot, by explicit loops over its rows."""
    examples, kept = frames(tables)
    labelled = set(outcomes.loc[outcomes["reviewed_at"] <= as_of, "post_id"])
    assert kept["post_id"].is_unique
    assert not examples.duplicated(["post_id", "category"]).any()
    split_of = dict(zip(kept["post_id"], kept["split"], strict=True))
    assert all(split_of[post] == split for post, split in zip(examples["post_id"], examples["split"], strict=True))
    excluded = sum(tables.account["excluded"]["labelled"].values())
    assert len(labelled) == sum(post in labelled for post in split_of) + excluded
    assert sum(tables.account["posts"]["labelled"].values()) == len(labelled) - excluded
    assert {split for post, split in split_of.items() if post not in labelled} <= {"calib", "test"}
    groups: dict[str, str] = {}
    assert all(groups.setdefault(row.group_id, row.split) == row.split for row in kept.itertuples())
    order = [kept.loc[kept["split"].isin(names), "created_at"] for names in (["train", "val", "fusion"], ["calib"], ["test"])]
    assert order[0].max() < order[1].min() <= order[1].max() < order[2].min()
    assert (examples["weight"] > 0).all()
    assert (examples["inclusion_prob"].isna() == (examples["evidence"] == "appeal")).all()
    total = sum(n for split in tables.account["counts"].values() for c in split.values() for cell in c.values() for n in cell.values())
    assert total == len(examples)


def test_a_small_world_is_split_without_leaks_and_accounted_for(params: parameters.Params) -> None:
    posts, outcomes = world()
    check(composed(posts, outcomes, params), outcomes)


@pytest.mark.parametrize("seed", range(3))
def test_same_content_in_any_order_gives_the_same_tables(params: parameters.Params, seed: int) -> None:
    posts, outcomes = world(seed=seed)
    shuffled = composed(posts.sample(frac=1, random_state=seed), outcomes.sample(frac=1, random_state=seed), params)
    plain = composed(posts, outcomes, params)
    assert plain.examples.equals(shuffled.examples)
    assert plain.posts.equals(shuffled.posts)
    assert plain.membership.equals(shuffled.membership)
    assert plain.account == shuffled.account


def test_what_becomes_known_later_changes_nothing_before(params: parameters.Params) -> None:
    """As of a time: rows recorded or reviewed after it might as well not be there."""
    posts, outcomes = world()
    as_of = pd.Timestamp("2026-10-12", tz="UTC")
    early_posts, early_outcomes = posts[posts["recorded_at"] <= as_of], outcomes[outcomes["reviewed_at"] <= as_of]
    assert len(early_outcomes) < len(outcomes)
    assert composed(posts, outcomes, params, as_of=as_of).posts.equals(composed(early_posts, early_outcomes, params, as_of=as_of).posts)


def test_membership_is_sticky_over_the_weeks(params: parameters.Params) -> None:
    """Week after week the champion's posts keep their split or stay out, and never calibrate or test."""
    posts, outcomes = world()
    membership = NOBODY
    for as_of in pd.date_range("2026-10-05", "2026-10-26", freq="7D", tz="UTC"):
        tables = composed(posts, outcomes, params, membership, as_of)
        check(tables, outcomes, as_of)
        now = dict(zip(*tables.posts.select(["post_id", "split"]).to_pydict().values(), strict=True))
        before = dict(zip(membership["post_id"], membership["split"], strict=True))
        assert all(now.get(post, split) == split for post, split in before.items())
        line = tables.membership.to_pandas()
        own = {post: split for post, split in now.items() if split in ("train", "val", "fusion")}
        assert dict(zip(line["post_id"], line["split"], strict=True)) == before | own
        membership = line


def test_a_membership_that_is_ignored_is_noticed(params: parameters.Params) -> None:
    posts, outcomes = world()
    champion = composed(posts, outcomes, params, as_of=pd.Timestamp("2026-10-05", tz="UTC")).posts.to_pandas()
    seen = champion[["post_id", "split"]].replace({"calib": "val", "test": "fusion"})  # a line that has learned from its later posts too
    aware = composed(posts, outcomes, params, seen).posts.to_pandas()
    later = ("calib", "test")
    assert not set(aware.loc[aware["split"].isin(later), "post_id"]) & set(seen["post_id"])
    blind = composed(posts, outcomes, params).posts.to_pandas()
    assert set(blind.loc[blind["split"].isin(later), "post_id"]) & set(seen["post_id"])


def test_unreviewed_posts_of_the_development_window_teach_unless_copies_are_kept_apart(params: parameters.Params) -> None:
    posts, outcomes = world()
    tables = composed(posts, outcomes, params)
    kept, unreviewed, served = (table.to_pandas() for table in (tables.posts, tables.unreviewed, tables.served))
    decided, known = set(decisions(posts)["post_id"]), set(outcomes["post_id"]) | set(kept["post_id"])
    assert set(served["post_id"]) == decided & (set(kept["post_id"]) | set(unreviewed["post_id"]))
    starts = pd.Timestamp(tables.account["windows"]["calib_from"])
    free = posts[~posts["post_id"].isin(known) & posts["post_id"].isin(decided) & (posts["created_at"] < starts)].set_index("post_id")
    assert set(unreviewed["post_id"]) < set(free.index)  # some are copies
    apart = posts[posts["post_id"].isin(kept.loc[kept["split"] != "train", "post_id"])]
    texts, pictures = set(apart["text"].dropna()), {medium["digest"] for media in apart["media"] for medium in media}
    copies = {name for name, row in free.iterrows() if row["text"] in texts or pictures & {medium["digest"] for medium in row["media"]}}
    assert copies
    assert not copies & set(unreviewed["post_id"])
    undecided = posts[~posts["post_id"].isin(known | decided) & (posts["created_at"] < starts)]
    counts = {"used": len(unreviewed), "copy_of_kept_apart": len(free) - len(unreviewed), "undecided": len(undecided)}
    assert tables.account["unreviewed"] == counts
    assert set(unreviewed["split"]) == {"train"}
    assert not set(unreviewed["post_id"]) & set(tables.membership.to_pandas()["post_id"])  # no label of theirs was learned
    fewer = parameters.load(ROOT / "params.yaml", ["snapshot.frame_rows=30", "snapshot.unreviewed_rows=20"])
    assert set(composed(posts, outcomes, fewer).unreviewed["post_id"].to_pylist()) < set(unreviewed["post_id"])


def test_the_first_decision_counts_as_of_the_snapshot() -> None:
    at = pd.Timestamp("2026-10-01", tz="UTC")
    columns = {name: pa.timestamp("us", "UTC") if name.endswith("_at") else pa.string() for name in DECIDED} | {"score": pa.float64()}
    days = [(3, 3), (1, 1), (0, 30), (2, 2)]  # decided, recorded
    rows = [
        ("p", "spam", 0.1 * n, "none", f"m{n}", f"d{n}", at + pd.Timedelta(days=a), at + pd.Timedelta(days=b))
        for n, (a, b) in enumerate(days)
    ]
    batch = pa.RecordBatch.from_pylist([dict(zip(DECIDED, row, strict=True)) for row in rows], pa.schema(columns))
    posts = pd.Series(["p"])
    assert first_decisions([batch], posts, at + pd.Timedelta(days=9))["model_version"].tolist() == ["m1"]  # m2 was not yet recorded
    assert first_decisions([batch.slice(2), batch.slice(0, 2)], posts, at + pd.Timedelta(days=40))["model_version"].tolist() == ["m2"]
    assert first_decisions([batch], pd.Series(["q"]), at + pd.Timedelta(days=9)).empty
    assert first_decisions([], posts, at).empty


def test_second_reviews_of_doubted_labels_teach_split_train_and_change_nothing_else(params: parameters.Params) -> None:
    posts, outcomes = world()
    plain = composed(posts, outcomes, params)
    before, kept = frames(plain)
    last = outcomes.groupby("post_id")["reviewed_at"].max()
    known = before[before["label"].notna()][::2]
    verdict = np.where(known["hard_label"] == 1, "restore", "confirm_removal")
    asked = pd.DataFrame({"outcome_id": "t/" + known["post_id"], "revision": 0, "post_id": known["post_id"], "category": known["category"]})
    asked = asked.assign(verdict=verdict, reviewer_id="second", reviewed_at=known["post_id"].map(last) + pd.Timedelta(hours=1))
    asked = asked.assign(source="targeted", inclusion_prob=1.0, recorded_at=asked["reviewed_at"])
    tables = composed(posts, pd.concat([outcomes, asked]), params)
    after, now = frames(tables)
    train = before["split"] == "train"
    assert 100 < train.sum() < len(before) - 100
    pd.testing.assert_frame_equal(after[~train], before[~train])  # val, fusion, calib and test
    history = ["prior_removals"]  # a fact about authors, which every verdict of the time belongs to
    pd.testing.assert_frame_equal(now.drop(columns=history), kept.drop(columns=history))
    assert tables.unreviewed.drop_columns(history).equals(plain.unreviewed.drop_columns(history))
    assert tables.membership.equals(plain.membership)
    drawn = ["post_id", "category", "split", "inclusion_prob", "zone", "evidence"]
    pd.testing.assert_frame_equal(after[drawn], before[drawn])
    spoken = train & before.index.isin(known.index)
    others = train & ~spoken  # but for weights, whose cap is on the verdicts of all
    pd.testing.assert_frame_equal(after[others].drop(columns="weight"), before[others].drop(columns="weight"))
    assert (after["label"] != before["label"])[spoken].mean() > 0.99
    assert (after["num_reviewers"][spoken] == before["num_reviewers"][spoken] + 1).all()
    assert (after["labelled_at"][spoken] > before["labelled_at"][spoken]).all()
    with pytest.raises(FailedWork, match="no review outcome"):
        composed(posts, asked, params)


def test_no_outcomes_and_no_labels_are_said(params: parameters.Params) -> None:
    posts, outcomes = world()
    with pytest.raises(FailedWork, match="no review outcome of a policy as of 2026-08-01"):
        composed(posts, outcomes, params, as_of=pd.Timestamp("2026-08-01", tz="UTC"))
    with pytest.raises(FailedWork, match="all are escalations"):
        composed(posts, outcomes.assign(verdict="escalate"), params)
    with pytest.raises(FailedWork, match=r"split .* has no post with a known label"):
        composed(posts, outcomes.head(3), params)


def in_ledger(rows: pd.DataFrame, table: str) -> pa.Table:
    """Rows with the ledger's own columns, filled with anything of their type."""
    filled = rows.drop(columns="recorded_at").to_dict("list")
    blank = {pa.string(): "x", pa.int64(): 0, contracts.TIMESTAMP: AS_OF.to_pydatetime()}
    for field in contracts.LEDGER[table]:
        if field.name not in filled:
            filled[field.name] = [None if field.nullable else blank[field.type]] * len(rows)
    filled["row_digest"] = [f"{number}" for number in range(len(rows))]
    columns = [pa.array(filled[field.name], field.type, from_pandas=True) for field in contracts.LEDGER[table]]
    return pa.Table.from_arrays(columns, schema=contracts.LEDGER[table])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    posts, outcomes = world()
    with writing(folder) as change:
        change.upsert("posts", in_ledger(posts, "posts"))
        change.upsert("decisions", in_ledger(decisions(posts).assign(recorded_at=AS_OF), "decisions"))
        change.upsert("review_outcomes", in_ledger(outcomes, "review_outcomes"))
        change.commit(as_of=AS_OF.isoformat(), synthetic=True)
    return folder


def write_inputs(path: Path, store: Path, **changes: object) -> Path:
    ledger = Ledger(store)
    content = {"tables": ledger.versions, "as_of": AS_OF.isoformat(), "ledger_digest": "d", "champion": None, "synthetic": True}
    path.write_text(json.dumps(content | changes))
    return path


def test_the_stage_writes_the_same_bytes_twice(store: Path, tmp_path: Path, params: parameters.Params) -> None:
    inputs = write_inputs(tmp_path / "inputs.json", store)
    first = snapshot.run(params, inputs, store, tmp_path / "one", tmp_path / "features.json")
    with_logos = write_inputs(tmp_path / "logos.json", store, logo_datasets={"sample": "d"}, logo_marks="m")  # nothing that it reads
    snapshot.run(params, with_logos, store, tmp_path / "two", tmp_path / "features.json")
    assert hashing.of_folder(tmp_path / "one") == hashing.of_folder(tmp_path / "two")
    folder = tmp_path / "one"
    files = {path.name for path in folder.iterdir()}
    assert files == {"examples.parquet", "posts.parquet", "unreviewed.parquet", "served.parquet", "membership.parquet", "manifest.json"}
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest == first
    assert manifest["synthetic"] is True
    assert manifest["champion"] is None
    assert manifest["unreviewed"]["used"] == len(pd.read_parquet(folder / "unreviewed.parquet")) > 50
    assert manifest["tables"] == Ledger(store).versions
    posts = pd.read_parquet(folder / "posts.parquet")
    assert posts["period"].str.fullmatch(r"2026-W\d\d").all()
    assert posts.loc[posts["created_at"] < "2026-09-07", "period"].unique().tolist() == ["2026-W36"]
    assert (posts["prior_removals"] > 0).any()
    assert (posts.loc[posts["post_id"].isin(set(posts["post_id"])), "text"].notna()).all()


def test_other_params_or_content_give_another_digest(store: Path, tmp_path: Path, params: parameters.Params) -> None:
    inputs = write_inputs(tmp_path / "inputs.json", store)
    plain = snapshot.run(params, inputs, store, tmp_path / "one", tmp_path / "features.json")["digest"]
    seeded = snapshot.run(params.model_copy(update={"seed": 1}), inputs, store, tmp_path / "two", tmp_path / "features.json")["digest"]
    later = write_inputs(tmp_path / "later.json", store, as_of="2026-10-26T00:00:01+00:00", ledger_digest="e")
    assert seeded != plain
    assert snapshot.run(params, later, store, tmp_path / "three", tmp_path / "features.json")["digest"] == plain


def test_the_champion_s_membership_comes_from_its_bundle(store: Path, tmp_path: Path, params: parameters.Params) -> None:
    inputs = write_inputs(tmp_path / "inputs.json", store)
    first, second = tmp_path / "one", tmp_path / "two"
    snapshot.run(params, inputs, store, first, tmp_path / "features.json")
    bundle = store / "bundles" / "abc"
    bundle.mkdir(parents=True)
    (bundle / "membership.parquet").write_bytes((first / "membership.parquet").read_bytes())
    again = write_inputs(tmp_path / "again.json", store, champion={"version": 1, "digest": "abc"})
    snapshot.run(params.model_copy(update={"seed": 1}), again, store, second, tmp_path / "features.json")
    before, after = (pq.read_table(folder / "membership.parquet").to_pandas().set_index("post_id")["split"] for folder in (first, second))
    assert after.loc[before.index].equals(before)
    missing = write_inputs(tmp_path / "missing.json", store, champion={"version": 2, "digest": "gone"})
    with pytest.raises(BadUse, match=r"gone/membership\.parquet: not readable"):
        snapshot.run(params, missing, store, tmp_path / "three", tmp_path / "features.json")
    assert not (tmp_path / "three").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"as_of": None}, "key as_of"),
        ({"as_of": "yesterday"}, "key as_of"),
        ({"as_of": "2026-10-26T00:00:00"}, "key as_of"),
        ({"tables": {"posts": 99, "decisions": 99, "review_outcomes": 99, "audit_draws": 99}}, "no version 99"),
        ({"tables": {}}, "key tables"),
        ({"as_of": "2020-01-01T00:00:00+00:00"}, "no review outcome"),
    ],
)
def test_bad_inputs_are_one_line(store: Path, tmp_path: Path, capsys, changes: dict, message: str) -> None:
    inputs = write_inputs(tmp_path / "inputs.json", store, **changes)
    out = tmp_path / "out"
    code = snapshot.main(["--inputs", str(inputs), "--store", str(store), "--params", str(ROOT / "params.yaml"), "--out", str(out)])
    complaint = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in complaint
    assert code == (1 if "2020" in str(changes) else 2)
    assert not out.exists()


def test_missing_inputs_are_one_line(tmp_path: Path, capsys) -> None:
    assert snapshot.main(["--inputs", str(tmp_path / "none.json"), "--params", str(ROOT / "params.yaml")]) == 2
    assert "none.json: cannot be read" in capsys.readouterr().err


def test_command_prints_one_screen(store: Path, tmp_path: Path, capsys) -> None:
    inputs = write_inputs(tmp_path / "inputs.json", store)
    arguments = ["--inputs", str(inputs), "--store", str(store), "--params", str(ROOT / "params.yaml"), "--out", str(tmp_path / "out")]
    assert snapshot.main(arguments) == 0
    text = capsys.readouterr().out
    assert "(synthetic)" in text
    assert len(text.splitlines()) < 24
    assert snapshot.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["synthetic"] is True


@pytest.fixture(scope="module")
def stream(shared_data: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    folder = shared_data / "stream"
    posts, outcomes = (
        pd.concat([pd.read_parquet(path) for path in sorted((folder / table).glob("*.parquet"))], ignore_index=True)
        for table in ("posts", "review_outcomes")
    )

    def with_digest(media: list[dict]) -> list[dict]:
        return [item | {"digest": hashlib.sha256((folder / item["uri"]).read_bytes()).hexdigest()} for item in media]

    return posts.assign(media=posts["media"].map(with_digest), recorded_at=AS_OF), outcomes.assign(recorded_at=AS_OF)


def test_the_real_stream_is_accounted_for(stream: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    posts, outcomes = stream
    params = parameters.load(ROOT / "params.yaml")
    start = time.process_time()
    tables = composed(posts, outcomes, params)
    assert time.process_time() - start < 80
    check(tables, outcomes)
    examples, kept = frames(tables)
    assert tables.account["outcomes"]["used"] == len(outcomes)
    assert sum(tables.account["excluded"]["labelled"].values()) < 0.02 * outcomes["post_id"].nunique()
    assert tables.account["posts"]["frame"].keys() == {"calib", "test"}
    # independent of the code under test: one verdict, known, drawn for review
    last = outcomes.sort_values("revision").drop_duplicates("outcome_id", keep="last")
    alone = last[~last.duplicated(["post_id", "category"], keep=False) & (last["verdict"] != "escalate")]
    found = alone.merge(examples, on=["post_id", "category"], suffixes=("_given", ""))
    assert len(found) > 3000
    assert (found["hard_label"] == (found["verdict"] == "confirm_removal")).all()
    sampled = found[found["source"] != "appeal"]
    assert (sampled["inclusion_prob"] == sampled["inclusion_prob_given"]).all()
    # strata: each language with a hundred posts has its share in val and fusion
    learned = kept[kept["split"].isin(["train", "val", "fusion"])]
    shares = pd.crosstab(learned["language"], learned["split"])
    big = shares[shares.sum(axis=1) >= 100]
    assert (big.div(big.sum(axis=1), axis=0)[["val", "fusion"]] - 0.15).abs().max(axis=None) < 0.04
    # the same translated message, or the same words, never on two sides
    assert kept[kept["context_id"].fillna("").str.startswith("sms:")].groupby("context_id")["split"].nunique().max() == 1
    assert kept[kept["text"] != ""].groupby("text")["split"].nunique().max() == 1


def test_verdicts_of_a_held_reviewer_are_no_labels_and_the_manifest_names_them(
    store: Path, tmp_path: Path, params: parameters.Params
) -> None:
    outcomes = Ledger(store).read("review_outcomes").to_pandas()
    busiest = outcomes["reviewer_id"].value_counts().index[0]
    hold = {
        "reviewer_id": busiest,
        "event": "hold",
        "since": "2026-01-01T00:00:00Z",
        "who": "Ana",
        "at": "2026-10-20T00:00:00Z",
        "reason": "x",
    }
    plain = snapshot.run(params, write_inputs(tmp_path / "inputs.json", store), store, tmp_path / "one", tmp_path / "features.json")
    held_inputs = write_inputs(tmp_path / "held.json", store, held=[hold])
    held = snapshot.run(params, held_inputs, store, tmp_path / "two", tmp_path / "features.json")
    assert (plain["held"], [one["reviewer_id"] for one in held["held"]]) == ([], [busiest])
    assert held["outcomes"]["known"] < plain["outcomes"]["known"]
    before, after = (pd.read_parquet(tmp_path / name / "examples.parquet").set_index(["post_id", "category"]) for name in ("one", "two"))
    theirs = outcomes[outcomes["reviewer_id"] == busiest]
    others = outcomes[outcomes["reviewer_id"] != busiest].set_index(["post_id", "category"]).index
    alone = theirs[~theirs.set_index(["post_id", "category"]).index.isin(others)].set_index(["post_id", "category"]).index
    assert before["label"].reindex(alone).notna().any()
    assert after["label"].reindex(alone).isna().all()
