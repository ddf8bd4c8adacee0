"""The sample world's deliveries: the contract is written out here again, from the design and not from the code under test."""

import io
import json
import re
from pathlib import Path

import av
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from upheld import cli
from upheld.common.params import params
from upheld.feature_store.sample_world import command as sample_data

ROOT = Path(__file__).parents[3]
STAMP = pa.timestamp("us", tz="UTC")
COLUMNS = {
    "posts": {
        "post_id": pa.string(),
        "created_at": STAMP,
        "language": pa.string(),
        "region": pa.string(),
        "text": pa.string(),
        "hashtags": pa.list_(pa.string()),
        "media": pa.list_(pa.struct([("kind", pa.string()), ("uri", pa.string())])),
        "context_id": pa.string(),
        "author_id": pa.string(),
        "author_group": pa.string(),
    },
    "decisions": {
        "decision_id": pa.string(),
        "post_id": pa.string(),
        "decided_at": STAMP,
        "category": pa.string(),
        "score": pa.float64(),
        "action": pa.string(),
        "model_version": pa.string(),
    },
    "review_outcomes": {
        "outcome_id": pa.string(),
        "revision": pa.int64(),
        "post_id": pa.string(),
        "category": pa.string(),
        "verdict": pa.string(),
        "reviewer_id": pa.string(),
        "reviewed_at": STAMP,
        "source": pa.string(),
        "inclusion_prob": pa.float64(),
    },
    "logo_outcomes": {
        "outcome_id": pa.string(),
        "revision": pa.int64(),
        "post_id": pa.string(),
        "media_uri": pa.string(),
        "brand": pa.string(),
        "x1": pa.float64(),
        "y1": pa.float64(),
        "x2": pa.float64(),
        "y2": pa.float64(),
        "verdict": pa.string(),
        "reviewer_id": pa.string(),
        "reviewed_at": STAMP,
    },
}
POLICIES = {"hate_speech", "spam", "misinformation", "dangerous_content", "graphic_violence"}


def make(out: Path, first_week: str = "2026-W36", num_weeks: int = 3, posts_per_week: int = 250, seed: int = 11) -> Path:
    settings = params.load(ROOT / "params.yaml").sample_data
    sample_data.run(settings, seed, out, sample_data.calendar(settings, seed, first_week, num_weeks), posts_per_week)
    return out


def read(world: Path, table: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file).assign(week=int(file.stem[5:])) for file in (world / table).glob("week=*.parquet")])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("sample") / "world", num_weeks=4, posts_per_week=500)


@pytest.mark.parametrize("table", COLUMNS)
def test_files_have_the_columns_of_the_contract(world, table) -> None:
    files = sorted((world / table).iterdir())
    assert [file.name for file in files] == [f"week=0{week}.parquet" for week in (1, 2, 3, 4)]
    for file in files:
        schema = pq.read_schema(file)
        assert schema.names == list(COLUMNS[table])
        for name, kind in COLUMNS[table].items():
            assert plain(schema.field(name).type) == plain(kind)


def plain(kind: pa.DataType) -> object:
    """A type without what files may differ in: the name of a list's item, and whether null is allowed."""
    if pa.types.is_list(kind):
        return ["list", plain(kind.value_type)]
    return {field.name: plain(field.type) for field in kind} if pa.types.is_struct(kind) else kind


def test_values_keep_to_the_enumerations_and_refer_to_posts(world) -> None:
    posts, decisions, outcomes = (read(world, table) for table in ("posts", "decisions", "review_outcomes"))
    assert posts.post_id.is_unique and decisions.decision_id.is_unique
    assert not outcomes.duplicated(["outcome_id", "revision"]).any()
    assert set(decisions.category) == set(outcomes.category) == POLICIES
    assert set(decisions.action) == {"auto_remove", "review", "none"}
    assert set(outcomes.verdict) == {"confirm_removal", "restore", "escalate"}
    assert set(outcomes.source) == {"queue", "audit_removed", "audit_passed", "appeal"}
    assert decisions.score.between(0, 1).all() and (outcomes.inclusion_prob > 0).all() and (outcomes.inclusion_prob <= 1).all()
    assert set(decisions.post_id) == set(posts.post_id) and set(outcomes.post_id) <= set(posts.post_id)
    assert (decisions.groupby("post_id").category.nunique() == len(POLICIES)).all()
    assert posts.author_group.isna().all() and (posts.region.dropna().str.fullmatch("[A-Z]{2}")).all()
    assert posts.text.str.strip().str.len().gt(0).all()


def test_times_lie_in_the_file_s_week_and_follow_each_other(world) -> None:
    posts, decisions, outcomes = (read(world, table) for table in ("posts", "decisions", "review_outcomes"))
    assert (posts.created_at.dt.isocalendar().week == posts.week + 35).all()
    assert (outcomes.reviewed_at.dt.isocalendar().week == outcomes.week + 35).all()
    born = posts.set_index("post_id").created_at
    assert (decisions.decided_at >= decisions.post_id.map(born)).all()
    assert (outcomes.reviewed_at > outcomes.post_id.map(born)).all()


def test_media_are_small_pictures_inside_the_delivery_without_metadata(world) -> None:
    posts = read(world, "posts")
    uris = [item["uri"] for media in posts.media for item in media]
    assert len(set(uris)) == len(uris) > 50
    assert {path.relative_to(world).as_posix() for path in world.glob("media/*/*")} == set(uris)
    kinds = {item["uri"]: item["kind"] for media in posts.media for item in media}
    assert set(kinds.values()) == {"image", "video", "audio"}
    for uri in (uri for uri, kind in kinds.items() if kind == "image"):
        image = Image.open(io.BytesIO((world / uri).read_bytes()))
        image.load()
        assert max(image.size) <= 160 and "exif" not in image.info and "comment" not in image.info
    for uri in (uri for uri, kind in kinds.items() if kind != "image"):
        assert (world / uri).stat().st_size < 200_000
        with av.open(str(world / uri)) as container:
            kind = {stream.type for stream in container.streams}
            seconds = container.duration / av.time_base
        assert kind == ({"video", "audio"} if uri.endswith(".mp4") else {"audio"}) and 1.5 < seconds < 4.5


def test_every_language_and_policy_is_there_with_breaches(world) -> None:
    truth = read(world, "truth")
    breaches = truth[truth.label == 1].groupby(["language", "category"]).size().unstack()
    assert set(breaches.columns) == POLICIES and len(breaches) >= 6
    assert breaches.notna().all(axis=None)
    assert truth.groupby("category").label.mean().between(0.02, 0.2).all()


def test_thousands_of_sentences_hardly_repeat(world) -> None:
    texts = read(world, "posts").text
    assert texts.nunique() / len(texts) > 0.93


def test_words_and_languages_drift(world) -> None:
    posts = read(world, "posts")
    new = posts.text.str.contains("glorp|ग्लॉर्प", case=False)
    assert not new[posts.week < 3].any() and new[posts.week >= 3].any()
    shares = (posts.language == "id").groupby(posts.week).mean()
    assert shares[4] > shares[1] + 0.03


def test_authors_come_back_and_some_offend_again(world) -> None:
    truth = read(world, "truth").groupby("post_id").label.max().rename("breach")
    posts = read(world, "posts").merge(truth, left_on="post_id", right_index=True, validate="one_to_one")
    by_author = posts.groupby("author_id").breach.agg(["sum", "size"])
    assert (by_author["sum"] >= 3).sum() >= 5 and (by_author["size"] == 1).sum() > 100
    contexts = posts.context_id.value_counts(normalize=True)
    assert (contexts > 0.01).sum() >= 3 and (contexts < 0.01).sum() > 50


def test_truth_stays_out_of_the_delivery(world) -> None:
    delivered = {path: content for path, content in contents(world).items() if not path.startswith("truth/")}
    assert json.loads(delivered.pop("SYNTHETIC.json")).keys() == {"synthetic", "made_by", "seed", "as_of"}
    assert {path.split("/")[0] for path in delivered} == {"posts", "decisions", "review_outcomes", "logo_outcomes", "media"}
    told = re.compile("label|truth|stance|hard|gore|banner|sensitiv|specific|senior|always", re.I)
    assert not [path for path in delivered if told.search(path)]
    for frame in (read(world, table) for table in COLUMNS):
        for column in frame.select_dtypes("str").columns.difference(["text"]):
            assert not frame[column].dropna().str.contains(told).any()


def test_no_score_gives_the_truth_away(world) -> None:
    rows = read(world, "decisions").merge(read(world, "truth"), on=["post_id", "category"], validate="one_to_one")
    for _, cell in rows.groupby("category"):
        clean, broken = cell.score[cell.label == 0], cell.score[cell.label == 1]
        assert clean.max() > broken.quantile(0.5) and broken.min() < clean.quantile(0.9)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_world(tmp_path) -> None:
    first, again = contents(make(tmp_path / "a", posts_per_week=40)), contents(make(tmp_path / "b", posts_per_week=40))
    assert first == again
    assert contents(make(tmp_path / "c", posts_per_week=40, seed=12))["posts/week=01.parquet"] != first["posts/week=01.parquet"]


def test_a_week_s_files_do_not_depend_on_the_weeks_made_with_it(tmp_path) -> None:
    three = contents(make(tmp_path / "three", num_weeks=3, posts_per_week=40))
    four = contents(make(tmp_path / "four", num_weeks=4, posts_per_week=40))
    third = contents(make(tmp_path / "third", first_week="2026-W38", num_weeks=1, posts_per_week=40))
    three.pop("SYNTHETIC.json"), third.pop("SYNTHETIC.json")
    assert three.items() <= four.items() and third.items() <= four.items()
    assert {"posts/week=03.parquet", "review_outcomes/week=03.parquet", "logo_outcomes/week=03.parquet"} <= third.keys()


def test_command_writes_a_world_and_replaces_only_its_own(tmp_path, capsys) -> None:
    out = tmp_path / "world"
    arguments = ["sample-data", "--out", str(out), "--weeks", "1", "--posts-per-week", "20", "--params", str(ROOT / "params.yaml")]
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["synthetic"] is True and told["rows"]["posts"] == 20 and told["as_of"] == "2026-09-07T00:00:00Z"
    assert cli.main(arguments) == 0
    (out / "SYNTHETIC.json").unlink()
    assert cli.main(arguments) == 2
    assert "no SYNTHETIC.json in it" in capsys.readouterr().err
    assert (out / "posts" / "week=01.parquet").exists()


@pytest.mark.parametrize("week", ["2026-W35", "2026-W99", "soon"])
def test_a_week_that_is_none_or_before_the_world_is_bad_use(tmp_path, capsys, week) -> None:
    arguments = ["sample-data", "--out", str(tmp_path / "w"), "--first-week", week, "--params", str(ROOT / "params.yaml")]
    assert cli.main(arguments) == 2
    assert f"--first-week {week}" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_every_language_s_grammar_has_the_same_shape() -> None:
    def shape(node: object) -> object:
        return {key: shape(value) for key, value in node.items()} if isinstance(node, dict) else len(node)  # type: ignore[arg-type]

    grammars = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "feature_store" / "sample_texts").glob("*.yaml"))]
    shapes = [shape({name: grammar[name] for name in grammar if name not in ("slots", "later")}) for grammar in grammars]
    assert len(grammars) >= 6 and all(other == shapes[0] for other in shapes)
    sentences = [text for grammar in grammars for texts in grammar["policies"].values() for stance in texts for text in texts[stance]]
    assert len(set(sentences)) > 0.98 * len(sentences)
