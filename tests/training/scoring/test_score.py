"""Scoring from files: one post, many posts, and everything that can be wrong with them."""

import json
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import pyarrow.parquet as pq
import pytest

from upheld.common.errors import BadUse, FailedWork
from upheld.common.params import params
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.decisions.thresholds import Thresholds
from upheld.feature_store.posts.history import History
from upheld.training.pipeline import bundle as pipeline
from upheld.training.pipeline.stage1 import NO_MEDIA
from upheld.training.scoring import score

NOW = datetime(2026, 11, 2, 8, tzinfo=UTC)
POST = {
    "post_id": "p1",
    "created_at": "2026-11-01T12:00:00Z",
    "language": "en",
    "text": "buy now",
    "hashtags": ["cheap"],
    "author_id": "a1",
}
PARAMS = params.load(score.Path(__file__).parents[3] / "params.yaml")


@pytest.fixture
def bundle(workspace, tmp_path):
    return pipeline.assemble(workspace, tmp_path / "bundle")


@pytest.fixture
def thresholds(bundle):
    return json.loads((bundle / "thresholds.json").read_text())


@pytest.fixture
def judge(bundle, thresholds):
    return score.load_model(bundle, Thresholds.parse(thresholds), "upheld-moderation/3", "upheld-thresholds/5")


def written(path, content) -> score.Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def bounded(limits) -> params.Params:
    return PARAMS.model_copy(update={"ingest": PARAMS.ingest.model_copy(update=limits)})


def many(judge, path, out, **settings):
    return score.run(judge, path, out, settings.get("params", PARAMS), History(), NOW)


def test_one_post_has_the_shape_of_the_contract(judge, tmp_path) -> None:
    answer, notes = score.one(judge, written(tmp_path / "post.json", POST), PARAMS, History())
    assert notes == ()
    assert list(answer) == ["post_id", "model_version", "thresholds_version", "action", "categories"]
    assert (answer["post_id"], answer["model_version"], answer["thresholds_version"]) == (
        "p1",
        "upheld-moderation/3",
        "upheld-thresholds/5",
    )
    assert set(answer["categories"]) == {"hate_speech", "spam"}
    for entry in answer["categories"].values():
        assert set(entry) == {"prob", "action"}
        assert entry["action"] == ("auto_remove" if entry["prob"] >= 0.55 else "review" if entry["prob"] >= 0.45 else "none")
    strength = ["none", "review", "auto_remove"]
    assert answer["action"] == max((entry["action"] for entry in answer["categories"].values()), key=strength.index)
    assert json.loads(json.dumps(answer)) == answer


def test_one_post_is_seen_as_the_model_sees_it(judge, bundle, tmp_path) -> None:
    """The same post by hand: hashtags merged into the text, the link found, the author's removals looked up."""
    post = POST | {"text": "hello\u0007 friend https://x.example #Cheap", "hashtags": ["cheap", "now"]}
    answer, _ = score.one(judge, written(tmp_path / "post.json", post), PARAMS, History({"a1": 4}))
    row = {"post_id": "p1", "language": "en", "text": "hello friend https://x.example #Cheap #now"}
    by_hand = pd.DataFrame([row | {"image_digests": [], "num_hashtags": 2, "has_link": True, "prior_removals": 4}])
    probs = pipeline.load(bundle).predict(by_hand, NO_MEDIA)
    assert answer["categories"]["spam"]["prob"] == probs.prob_spam.item()


def test_images_count_and_unusable_ones_are_missing_with_a_note(judge, tiny, tmp_path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "outside.png").write_bytes(tiny.picture("red"))
    folder = tmp_path / "sub"
    (folder / "good.png").write_bytes(tiny.picture("blue"))
    (folder / "broken.png").write_bytes(tiny.picture("blue")[:40])
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    plain, _ = score.one(judge, written(folder / "post.json", POST), PARAMS, History())
    uris = ["good.png", "broken.png", "no.png", "../outside.png", "link.png", "/etc/hostname", "https://example.org/x.png"]
    media = [{"kind": "image", "uri": uri} for uri in uris]
    shown, notes = score.one(judge, written(folder / "post.json", POST | {"media": media}), PARAMS, History())
    alone, none = score.one(judge, written(folder / "post.json", POST | {"media": media[:1]}), PARAMS, History())
    unusable, all_notes = score.one(judge, written(folder / "post.json", POST | {"media": media[1:]}), PARAMS, History())
    assert shown == alone != plain == unusable
    assert none == () and notes == all_notes
    reasons = ["media_corrupt", "media_missing", *["media_path_unsafe"] * 4]
    assert [note.rsplit("(", 1)[1].rstrip(")") for note in notes] == reasons
    assert all(note.startswith("post p1: image counted as missing: ") for note in notes)


def test_an_image_past_the_limits_is_missing(judge, tiny, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(tiny.picture("red"))
    post = written(tmp_path / "post.json", POST | {"media": [{"kind": "image", "uri": "a.png"}]})
    for limit in ({"max_media_bytes": 20}, {"max_media_pixels": 100}):
        _, (note,) = score.one(judge, post, bounded(limit), History())
        assert "media_too_large" in note


def test_frozen_categories_never_remove(bundle, thresholds, tmp_path) -> None:
    for rule in thresholds["categories"].values():
        rule["auto_remove"]["threshold"] = 0.0
    post = written(tmp_path / "post.json", POST)
    actions = {}
    for frozen in ((), ("spam",)):
        answer, _ = score.one(score.load_model(bundle, Thresholds.parse(thresholds), "m/1", "t/1", frozen), post, PARAMS, History())
        actions[frozen] = [answer["categories"][name]["action"] for name in ("hate_speech", "spam")]
    assert actions == {(): ["auto_remove", "auto_remove"], ("spam",): ["auto_remove", "review"]}


def test_unknown_frozen_category_and_foreign_thresholds_are_refused(bundle, thresholds) -> None:
    with pytest.raises(BadUse, match="frozen category 'spma': m/1 predicts hate_speech, spam"):
        score.load_model(bundle, Thresholds.parse(thresholds), "m/1", "t/1", ["spma"])
    del thresholds["categories"]["spam"]
    with pytest.raises(BadUse, match="t/1: no thresholds for spam"):
        score.load_model(bundle, Thresholds.parse(thresholds), "m/1", "t/1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"post_id": "p1",\n "text": }', "line 2 column 10: not valid JSON"),
        ("", "line 1 column 1: not valid JSON"),
        ("[]", "expected a JSON object, one post, found list"),
        ({**POST, "post_id": ""}, "row 1: column post_id is empty"),
        ({key: POST[key] for key in POST if key != "post_id"}, "row 1: column post_id is empty"),
        ({key: POST[key] for key in POST if key != "created_at"}, "row 1: column created_at is empty"),
        ({**POST, "created_at": "2026-11-01T12:00:00"}, "created_at"),
        ({**POST, "language": "English!"}, "row 1: column language: expected a BCP-47 tag"),
        ({**POST, "media": [{"kind": "smell", "uri": "a"}]}, "row 1: media: expected kind"),
        ({**POST, "text": "", "hashtags": []}, "row 1: no text, no hashtag, no media"),
        ({**POST, "text": 7}, "row 1: column text"),
    ],
)
def test_one_bad_post_is_refused_by_place(judge, tmp_path, content, message: str) -> None:
    path = written(tmp_path / "post.json", content)
    with pytest.raises(BadUse, match=r"post\.json") as caught:
        score.one(judge, path, PARAMS, History())
    assert message in str(caught.value)


def test_a_post_file_that_is_not_there(judge, tmp_path) -> None:
    with pytest.raises(BadUse, match=r"no\.json: no such file"):
        score.one(judge, tmp_path / "no.json", PARAMS, History())
    with pytest.raises(BadUse, match=r"no\.parquet: no such file"):
        many(judge, tmp_path / "no.parquet", tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def posts_table(num: int, tiny, folder) -> list[dict]:
    for colour in ("red", "blue"):
        (folder / f"{colour}.png").write_bytes(tiny.picture(colour))
    words = ["buy now", "hello friend", "hate them cheap", "now"]
    rows = []
    for n in range(num):
        media = [{"kind": "image", "uri": f"{('red', 'blue')[n % 2]}.png"}] if n % 3 == 0 else None
        rows.append(POST | {"post_id": f"p{n:03d}", "text": words[n % 4], "language": ("en", "de", "tr")[n % 3], "media": media})
    return rows


def test_many_posts_become_decisions_and_agree_with_one_by_one(judge, tiny, tmp_path) -> None:
    rows = posts_table(40, tiny, tmp_path)
    source = written(tmp_path / "posts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    result = many(judge, source, tmp_path / "decisions.parquet")
    table = pq.read_table(tmp_path / "decisions.parquet")
    assert table.schema.equals(contracts.DECISIONS)
    decisions = table.to_pandas()
    assert len(decisions) == 80
    assert decisions.decision_id.is_unique
    assert (decisions.decided_at == pd.Timestamp(NOW)).all()
    assert decisions.post_id.drop_duplicates().tolist() == [row["post_id"] for row in rows]
    answers = [score.one(judge, written(tmp_path / "post.json", row), PARAMS, History())[0] for row in rows]
    for answer in answers:
        mine = decisions[decisions.post_id == answer["post_id"]].set_index("category")
        for category, entry in answer["categories"].items():
            # bfloat16 rounds a row's products differently beside other rows; the decision may not flip beyond that
            assert mine.loc[category, "score"] == pytest.approx(entry["prob"], abs=0.02)
    assert result.num_posts == 40 == sum(result.actions.values())
    strength = ["none", "review", "auto_remove"]
    strongest = decisions.groupby("post_id").action.agg(lambda actions: max(actions, key=strength.index))
    assert {action: n for action, n in result.actions.items() if n} == strongest.value_counts().to_dict()


def test_formats_and_batches_do_not_matter_to_ids_and_order(judge, tiny, tmp_path, monkeypatch) -> None:
    rows = posts_table(30, tiny, tmp_path)
    written(tmp_path / "posts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    frame = pd.DataFrame(rows).assign(created_at=lambda t: pd.to_datetime(t.created_at))
    frame.to_parquet(tmp_path / "posts.parquet")
    outputs = []
    for name in ("posts.jsonl", "posts.parquet"):
        many(judge, tmp_path / name, tmp_path / f"{name}.out")
        outputs.append((tmp_path / f"{name}.out").read_bytes())
    assert outputs[0] == outputs[1]
    monkeypatch.setattr("upheld.training.scoring.posts.POSTS_AT_ONCE", 7)
    many(judge, tmp_path / "posts.parquet", tmp_path / "small.out")
    small, whole = (pd.read_parquet(tmp_path / name) for name in ("small.out", "posts.parquet.out"))
    pd.testing.assert_frame_equal(small.drop(columns="action"), whole.drop(columns="action"), atol=0.02)


def test_decision_ids_depend_on_everything_that_decides() -> None:
    base = ("p1", "spam", "m/1", "t/1")
    others = [("p2", *base[1:]), ("p1", "hate_speech", *base[2:]), ("p1", "spam", "m/2", "t/1"), ("p1", "spam", "m/1", "t/2")]
    assert score.decision_id(*base) == score.decision_id(*base)
    assert len({score.decision_id(*key) for key in [base, *others]}) == 5


@pytest.fixture
def hears(workspace, thresholds, tmp_path):
    """A judge whose model takes the score of `old-1` of spam, and leaves pictures out of every category."""
    path = workspace / "models/fusion/fusion.json"
    layer = json.loads(path.read_text()) | {"incumbent": "old-1"}
    for policy, learnt in layer["policies"].items():
        learnt["left_out"] = ["image", *([] if policy == "spam" else ["incumbent"])]
    layer["policies"]["spam"]["coefficients"] |= {"incumbent_logit": 1.0, "incumbent_missing": 0.0}
    path.write_text(json.dumps(layer))
    bundle = pipeline.assemble(workspace, tmp_path / "hearing")
    return score.load_model(bundle, Thresholds.parse(thresholds), "upheld-moderation/4", "upheld-thresholds/5")


def decided(post: str, prob: float, **other) -> dict:
    row = {"decision_id": f"{post}/{prob}", "post_id": post, "decided_at": "2026-11-01T12:00:01Z", "category": "spam", "score": prob}
    return row | {"action": "none", "model_version": "old-1"} | other


def lines_of(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


NOT_RUN = "not run, because fusion leaves it out of every category: image"


def test_the_incumbents_scores_come_in_a_file_of_decisions_and_lacking_ones_are_counted(hears, tmp_path) -> None:
    posts = written(tmp_path / "posts.jsonl", lines_of(POST | {"post_id": name} for name in ("p1", "p2", "p3", "p4")))
    given = [
        decided("p1", 0.9),
        decided("p1", 0.1, decided_at="2026-11-01T13:00:00Z"),  # later: it counts no more
        decided("p2", 0.9, model_version="old-2", decided_at="2026-11-01T11:00:00Z"),  # earlier, and of another scale
        decided("p2", 0.1),
        decided("p3", 0.9, model_version="old-2"),
        decided("p4", 0.9, category="misinformation"),  # which this model does not predict
    ]
    result = score.run(hears, posts, tmp_path / "with.parquet", PARAMS, History(), NOW, written(tmp_path / "said.jsonl", lines_of(given)))
    alone = score.run(hears, posts, tmp_path / "alone.parquet", PARAMS, History(), NOW)
    said = "{} of 4 posts scored without old-1, whose score did not come with them (--incumbent FILE)"
    assert (result.without_incumbent, result.notes) == (2, (NOT_RUN, said.format(2)))
    assert (alone.without_incumbent, alone.notes) == (4, (NOT_RUN, said.format(4)))
    tables = [pd.read_parquet(tmp_path / f"{name}.parquet").set_index(["category", "post_id"]) for name in ("with", "alone")]
    heard, silent = (table.score.loc["spam"] for table in tables)
    assert heard["p1"] > silent["p1"] == silent["p2"] > heard["p2"]
    assert heard[["p3", "p4"]].tolist() == silent[["p3", "p4"]].tolist()
    assert tables[0].score.loc["hate_speech"].equals(tables[1].score.loc["hate_speech"])
    ids = [set(table.decision_id.loc["spam"]) for table in tables]
    assert len(ids[0] & ids[1]) == 2  # another decision where the score was heard
    one = score.one(hears, written(tmp_path / "post.json", POST), PARAMS, History(), tmp_path / "said.jsonl")
    assert one[0]["categories"]["spam"]["prob"] == pytest.approx(heard["p1"], abs=0.02)
    assert one[1] == (NOT_RUN,)
    assert score.one(hears, tmp_path / "post.json", PARAMS, History())[1][1].startswith("1 of 1 posts scored without old-1")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines_of([decided("p1", 0.5), decided("p2", 1.5)]), "row 2: column score: expected 0 to 1"),
        (lines_of([decided("p1", 0.5, category="nonsense")]), "row 1: column category"),
        ("{", "row 1: no JSON"),
        (None, "no such file"),
    ],
)
def test_a_bad_file_of_decisions_is_refused_before_anything_is_scored(hears, tmp_path, content, message: str) -> None:
    path = tmp_path / "said.jsonl" if content is None else written(tmp_path / "said.jsonl", content)
    posts = written(tmp_path / "posts.jsonl", lines_of([POST]))
    with pytest.raises(BadUse, match=r"said\.jsonl") as caught:
        score.run(hears, posts, tmp_path / "out.parquet", PARAMS, History(), NOW, path)
    assert message in str(caught.value)
    assert not (tmp_path / "out.parquet").exists()


def test_a_model_that_hears_no_other_says_that_the_file_was_not_read(judge, tmp_path) -> None:
    post = written(tmp_path / "post.json", POST)
    plain, given = (score.one(judge, post, PARAMS, History(), path) for path in (None, tmp_path / "no.jsonl"))
    assert given[0] == plain[0] and plain[1] == ()
    assert given[1] == (f"{tmp_path / 'no.jsonl'}: not read; upheld-moderation/3 takes no score of another model",)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["{}", "{"], "row 1: column post_id is empty"),
        ([json.dumps(POST), "{"], "row 2: no JSON"),
        ([json.dumps(POST), "[1]"], "row 2: expected a JSON object"),
        ([json.dumps(POST), json.dumps(POST)], "row 2: column post_id: 'p1' comes twice"),
        ([json.dumps(POST), json.dumps(POST | {"post_id": "p2", "language": "??"})], "row 2: column language"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(judge, tmp_path, lines, message: str) -> None:
    source = written(tmp_path / "posts.jsonl", "\n".join(lines) + "\n")
    with pytest.raises(BadUse, match=r"posts\.jsonl") as caught:
        many(judge, source, tmp_path / "out.parquet")
    assert message in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir() if "out" in path.name) == []


def test_bad_files_are_named(judge, tmp_path) -> None:
    pd.DataFrame([POST]).drop(columns="post_id").to_parquet(tmp_path / "posts.parquet")
    with pytest.raises(BadUse, match=r"posts.parquet: expected the columns post_id \(missing_column\)"):
        many(judge, tmp_path / "posts.parquet", tmp_path / "out.parquet")
    (tmp_path / "posts.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(BadUse, match=r"posts.parquet: "):
        many(judge, tmp_path / "posts.parquet", tmp_path / "out.parquet")
    with pytest.raises(BadUse, match=r"posts.txt: expected .parquet, .jsonl, .csv"):
        many(judge, written(tmp_path / "posts.txt", "x"), tmp_path / "out.parquet")


def test_no_posts_make_an_empty_table(judge, tmp_path) -> None:
    result = many(judge, written(tmp_path / "posts.jsonl", ""), tmp_path / "out.parquet")
    assert (result.num_posts, result.actions) == (0, {"auto_remove": 0, "review": 0, "none": 0})
    assert pq.read_table(tmp_path / "out.parquet").schema.equals(contracts.DECISIONS)


def test_an_image_that_changes_meanwhile_stops_the_work(judge, tiny, tmp_path) -> None:
    (tmp_path / "a.png").write_bytes(tiny.picture("red"))
    post = written(tmp_path / "post.json", POST | {"media": [{"kind": "image", "uri": "a.png"}]})
    tools = score.Tools(PARAMS, {})
    with score.image_decoders(PARAMS) as decoders:
        batch = score.read_one(post, score.Rules(judge.model.policies, PARAMS.ingest), History(), tools, decoders)
        (tmp_path / "a.png").write_bytes(tiny.picture("blue"))
        with pytest.raises(FailedWork, match=r"a.png: changed while it was being scored"):
            score.decide(judge, batch)


def test_decisions_name_the_lane_and_say_when_it_is_not_the_calibrated_one(judge, tmp_path) -> None:
    text = judge.model.models.text
    text.setup = replace(text.setup, lane="bf16")
    result = many(judge, written(tmp_path / "posts.jsonl", json.dumps(POST)), tmp_path / "decisions.parquet")
    assert pq.read_schema(tmp_path / "decisions.parquet").metadata == {b"lane_text": b"fp32"}
    assert result.notes == ("texts scored in fp32: this machine has no fast bf16, in which the model was calibrated",)
