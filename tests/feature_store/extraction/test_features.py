"""The extraction command: only what is missing, nothing stopped by one content, nothing lost but a batch, nothing kept of the forgotten."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from tests.feature_store.deliveries import ROOT, deliver, parameters, post, take
from tests.feature_store.ingest.test_ingest_media import picture
from tests.feature_store.toy_extractors import CATALOGUE
from upheld.common import progress
from upheld.common.errors import BadUse, FailedWork
from upheld.dags.runner import process
from upheld.feature_store.contracts import hashing
from upheld.feature_store.extraction import command as features
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.features.table import KEYS, FeatureStore
from upheld.feature_store.ledger import ledger

pytestmark = pytest.mark.usefixtures("without_expectations")
SMALL = (
    "features.batch_size={text: 4, image: 2, video: 2, audio: 2}",
    "features.model_batch={text: 2, image: 1, video: 1, audio: 1}",
    "features.skip=[]",  # the toys are not in it
)


@pytest.fixture(autouse=True)
def toys(monkeypatch):
    monkeypatch.setattr(catalogue, "EXTRACTORS", CATALOGUE)


def world(tmp_path, *posts, media=(), part="1"):
    """A store with these posts."""
    root = tmp_path / part
    for name, content in dict(media).items():
        path = root / "media" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    take(deliver(root, posts=posts), tmp_path / "store")
    return tmp_path / "store"


def run(store, *only, overrides=SMALL):
    return features.run(parameters(*overrides), store, only)


def lengths(store):
    rows = FeatureStore(store / "features").read("letters").to_pylist()
    return {row["digest"]: row["reason"] or row["length"] for row in rows}


def of(*texts):
    return {hashing.of_bytes(text.encode()): len(text) for text in texts}


def test_each_content_once_and_then_nothing(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    calls.mkdir()
    monkeypatch.setenv("TOY_CALLS", str(calls))
    store = world(tmp_path, post(text="one"), post("p2", text="one"), post("p3", text="three", hashtags=["four"]), post("p4", text=None))
    first = run(store, "letters")
    assert first["extractors"]["letters"] | {"took_s": 0} == {
        "version": "1-toy", "contents": 2, "known": 0, "computed": 2, "refused": {}, "took_s": 0,
    }  # fmt: skip
    assert lengths(store) == of("one", "three #four")
    before = FeatureStore(store / "features").versions
    num_calls = len(list(calls.iterdir()))
    again = run(store, "letters")["extractors"]["letters"]
    assert (again["known"], again["computed"]) == (2, 0)
    assert FeatureStore(store / "features").versions == before
    assert len(list(calls.iterdir())) == num_calls
    world(tmp_path, post("p5", text="later"), part="2")
    assert run(store, "letters")["extractors"]["letters"]["computed"] == 1
    assert lengths(store) == of("one", "three #four", "later")
    monkeypatch.setenv("TOY_VERSION", "2-toy")
    assert run(store, "letters")["extractors"]["letters"]["computed"] == 3
    assert FeatureStore(store / "features").read("letters", version="1-toy").num_rows == 3


BAD = {
    "undecodable": "toy_undecodable",
    "segfault": "decode_crashed",
    "poison": "extract_failed",
    "wrong type": "extract_failed",
    "wrong shape": "extract_failed",
    "not a number": "extract_failed",
    "refused": "toy_refused",
}


def test_one_bad_content_never_stops_the_others(tmp_path):
    good = [f"good {n}" for n in range(7)]
    store = world(tmp_path, *(post(text, text=text) for text in [*good, *BAD, "passing"]))
    ran = run(store, "letters")["extractors"]["letters"]
    assert ran["computed"] == len(good)
    assert ran["refused"] == {"toy_undecodable": 1, "decode_crashed": 1, "extract_failed": 4, "toy_refused": 1, "toy_passing": 1}
    assert lengths(store) == of(*good) | {hashing.of_bytes(text.encode()): reason for text, reason in BAD.items()}
    again = run(store, "letters")["extractors"]["letters"]
    assert (again["known"], again["refused"]) == (14, {"toy_passing": 1})  # what may pass is tried again; the others are not


def test_an_extractor_that_cannot_work_stops_the_run_with_its_own_words(tmp_path):
    store = world(tmp_path, post(text="no weights"))
    with pytest.raises(FailedWork, match="the weights are gone; install them"):
        run(store, "letters")


def test_pictures_videos_and_what_is_in_them(tmp_path):
    image, video, sound = picture(), b"video of bytes!!", b"sound"
    media = {"a.png": image, "b.mp4": video, "c.wav": sound}
    listed = [{"kind": kind, "uri": f"media/{name}"} for kind, name in zip(("image", "video", "audio"), media, strict=True)]
    store = world(tmp_path, post(media=listed), media=media)
    ran = run(store)
    assert ran["unavailable"] == {"absent": "no weights; name some in params absent.model"}
    assert {name: each["computed"] for name, each in ran["extractors"].items()} == {
        "letters": 1, "keyframes": 1, "brightness": 3, "loudness": 2,
    }  # fmt: skip
    tables = FeatureStore(store / "features")
    sizes = {row["digest"]: row["num_bytes"] for row in tables.read("brightness").to_pylist()}
    assert sizes == {hashing.of_bytes(content): len(content) for content in (image, video[:8], video[8:])}
    assert set(tables.digests("loudness").to_pylist()) == {hashing.of_bytes(video), hashing.of_bytes(sound)}


def test_what_cannot_run_is_an_error_only_where_it_is_named(tmp_path):
    store = world(tmp_path, post())
    with pytest.raises(FailedWork, match=r"absent is not available: no weights; name some in params absent\.model"):
        run(store, "absent")
    with pytest.raises(BadUse, match="no extractor 'nothing'; there are letters"):
        run(store, "nothing")
    with pytest.raises(BadUse, match="no ledger here"):
        run(tmp_path / "elsewhere")


def on_disk(folder):
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_the_forgotten_leave_the_feature_store(tmp_path):
    shared, own = b"shared 1shared 2", b"owned 1.owned 2."
    listed = [[{"kind": "video", "uri": f"media/{name}.mp4"}] for name in ("shared", "own")]
    posts = [post("stays", text="same", media=listed[0]), post("goes", text="same", media=[*listed[0], *listed[1]])]
    store = world(tmp_path, *posts, post("too", text="of the forgotten", author_id="a"), media={"shared.mp4": shared, "own.mp4": own})
    run(store)
    halves = {own[:8], own[8:]}
    assert all(half in on_disk(store / "features") for half in halves)
    gone = [{"post_id": "goes", "deleted_at": "2026-10-30T00:00:00Z"}, {"author_id": "a", "deleted_at": "2026-10-30T00:00:00Z"}]
    take(deliver(tmp_path / "2", tombstones=gone), store)
    assert run(store)["erased"] == {"letters": 1, "keyframes": 1, "brightness": 2, "loudness": 1}
    left = on_disk(store / "features")
    assert lengths(store) == of("same")
    for content in (own, *halves, b"of the forgotten"):
        assert content not in left
        assert hashing.of_bytes(content).encode() not in left
    assert shared[:8] in left
    assert run(store)["erased"] == {}


def test_keyframes_of_an_extractor_without_digests_are_looked_at_again(tmp_path):
    """A store that was filled before the column came."""
    store = world(tmp_path, post(media=[{"kind": "video", "uri": "media/a.mp4"}]), media={"a.mp4": b"picture 1picture 2"})
    run(store, "keyframes")
    table = FeatureStore(store / "features")
    older = table.read("keyframes", columns=[*KEYS.names, "frames"]).drop(["extractor_version"])
    shutil.rmtree(store / "features")
    table.write("keyframes", older.append_column("extractor_version", pa.array(["0-toy"])))
    assert run(store)["extractors"]["brightness"]["computed"] == 2


def test_what_no_model_reads_runs_only_when_it_is_named(tmp_path):
    store = world(tmp_path, post(text="one"))
    skipped = (*SMALL[:2], "features.skip=[letters]")
    assert "letters" not in run(store, overrides=skipped)["extractors"]
    assert run(store, "letters", overrides=skipped)["extractors"]["letters"]["computed"] == 1
    with pytest.raises(BadUse, match=r"features\.skip: no extractor lettres; there are letters"):
        run(store, overrides=(*SMALL[:2], "features.skip=[lettres]"))


SCRIPT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start without it
from pathlib import Path
from upheld.feature_store.extraction import command as features
from upheld.feature_store.extractors import catalogue
from tests.feature_store.toy_extractors import CATALOGUE
catalogue.EXTRACTORS.update(CATALOGUE)
sys.exit(features.main(sys.argv[1:]))
"""


def command(store, *arguments, script=SCRIPT, **environment):
    settings = [part for override in SMALL for part in ("--set", override)]
    line = [sys.executable, "-c", script, "--only", "letters", "--params", str(ROOT / "params.yaml"), "--store", str(store), *settings]
    around = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.Popen([*line, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=around)


# As a person runs it: `upheld features`, with nothing imported before.
BY_HAND = """
import importlib, sys
from types import SimpleNamespace
from upheld import cli

def with_toys(place):
    module = importlib.import_module(place)
    importlib.import_module("upheld.feature_store.extractors.catalogue").EXTRACTORS.update(
        importlib.import_module("tests.feature_store.toy_extractors").CATALOGUE
    )
    return module

cli.importlib = SimpleNamespace(import_module=with_toys)
sys.exit(cli.main(["features", *sys.argv[1:]]))
"""


@pytest.mark.parametrize(("script", "environment"), [(BY_HAND, {}), (SCRIPT, process.KEEP_MEMORY)], ids=["by hand", "as a task"])
def test_memory_that_an_extractor_had_once_costs_no_page_faults_again(tmp_path, monkeypatch, script, environment):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    store = world(tmp_path, post(text="tensors"))
    with command(store, script=script, **environment) as running:
        _, told = running.communicate()
        assert running.returncode == 0, told
    assert lengths(store)[hashing.of_bytes(b"tensors")] < 1000  # of 97,656 pages of 4 KiB that are written to


def test_killed_and_run_again_it_loses_one_batch_at_most(tmp_path):
    calls = tmp_path / "calls"
    calls.mkdir()
    texts = [f"text {n:02d}" for n in range(10)] + ["kill"] + [f"text {n:02d}" for n in range(11, 20)]
    store = world(tmp_path, *(post(text, text=text) for text in texts))
    with command(store, TOY_CALLS=str(calls)) as running:
        running.communicate()
        assert running.returncode == -signal.SIGKILL
    extracted = {line for call in calls.iterdir() for line in call.read_text().split("\n")}
    kept = lengths(store) if FeatureStore(store / "features").versions else {}
    lost = extracted - {text for text in extracted if hashing.of_bytes(text.encode()) in kept}
    assert len(lost) <= 4
    assert "kill" in lost
    take(deliver(tmp_path / "2", tombstones=[{"post_id": "kill", "deleted_at": "2026-10-30T00:00:00Z"}]), store)
    again = run(store, "letters")["extractors"]["letters"]
    assert (again["known"], again["computed"]) == (len(kept), 19 - len(kept))
    assert lengths(store) == of(*(text for text in texts if text != "kill"))


def test_a_log_tells_how_far_it_is_within_a_portion_too(tmp_path, monkeypatch, capsys):
    store = world(tmp_path, *(post(f"p{n}", text=f"pause {n}") for n in range(8)))
    monkeypatch.setattr(progress, "EVERY_S", 0.02)
    capsys.readouterr()
    run(store, "letters")
    told = re.findall(r"^letters: (\d+) of 8 contents after 0:\d\d min$", capsys.readouterr().err, re.MULTILINE)
    counts = [int(count) for count in told]
    assert counts == sorted(counts)
    assert {2, 6} <= set(counts)  # 4 are written at a time, 2 extracted


def test_ctrl_c_ends_it_cleanly(tmp_path):
    store = world(tmp_path, *(post(f"p{n}", text=f"slow {n}") for n in range(400)))
    calls = tmp_path / "calls"
    calls.mkdir()
    with command(store, TOY_CALLS=str(calls)) as running:
        while len(list(calls.iterdir())) < 4:
            assert running.poll() is None, running.communicate()
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=60)
    assert running.returncode == 130, (_, told)
    assert told == "upheld features: interrupted; run the same command again to go on\n"
    assert run(store, "letters")["extractors"]["letters"]["contents"] == 400
    assert len(lengths(store)) == 400


def test_only_one_run_at_a_time(tmp_path):
    store = world(tmp_path, post())
    import fcntl

    with (store / ".features.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FailedWork, match="another process is writing to this feature store"):
            run(store)


def test_explained_post(tmp_path, capsys):
    store = world(tmp_path, post(text="one", media=[{"kind": "image", "uri": "media/a.png"}]), media={"a.png": picture()})
    run(store, "letters")
    arguments = ["--explain", "p1", "--params", str(ROOT / "params.yaml"), "--store", str(store)]
    assert features.main([*arguments, "--json"]) == 0
    rows = {row["extractor"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["letters"]["values"] == {"length": 3, "vector": [3.0, 111.0]}
    assert (rows["letters"]["version"], rows["letters"]["kind"]) == ("1-toy", "text")
    assert rows["brightness"]["reason"] == "not_extracted"
    assert set(rows) == {"letters", "brightness", "absent"}
    assert features.main(arguments) == 0
    assert "length: 3" in capsys.readouterr().out
    assert features.main([*arguments[:1], "nobody", *arguments[2:]]) == 2
    assert "no accepted post of that name" in capsys.readouterr().err


def test_summary_for_people(tmp_path, capsys):
    store = world(tmp_path, post(text="one"), post("p2", text="refused"))
    assert features.main(["--params", str(ROOT / "params.yaml"), "--store", str(store), "--set", "features.skip=[]"]) == 0
    told = capsys.readouterr().out
    assert "toy_refused 1" in told
    assert "absent is not available: no weights" in told


@pytest.mark.slow
def test_on_ray_it_is_the_same(tmp_path):
    texts = [f"text {n:02d}" for n in range(20)] + ["poison", "undecodable"]
    store = world(tmp_path, *(post(text, text=text) for text in texts))
    with command(store, "--json", DAFT_RUNNER="ray", RAY_DISABLE_DOCKER_CPU_WARNING="1") as running:
        out, told = running.communicate(timeout=300)
    assert running.returncode == 0, told
    ran = json.loads(out[out.index("{") :])["extractors"]["letters"]
    assert (ran["computed"], ran["refused"]) == (20, {"extract_failed": 1, "toy_undecodable": 1})
    assert set(of(*texts[:20]).items()) <= set(lengths(store).items())


@pytest.mark.timed
@pytest.mark.slow
def test_a_second_run_over_100_000_posts_takes_seconds_and_not_the_half_minute_of_the_first(tmp_path, slowness):
    from upheld.feature_store.contracts import tables as contracts

    store = world(tmp_path, post())
    with ledger.writing(store) as change:
        known = change.ledger.read("posts").to_pylist()[0] | {"hashtags": ["tag", "more"]}
        words = "of as many words as others have #tag"
        many = [known | {"post_id": f"p{n}", "row_digest": f"{n:032x}", "text": f"post number {n} {words}"} for n in range(100_000)]
        change.upsert("posts", pa.Table.from_pylist(many, contracts.LEDGER["posts"]))
        change.commit()
    whole = ("features.skip=[]",)  # each batch as large as in production
    run(store, "letters", overrides=whole)
    started = time.monotonic()
    again = run(store, overrides=whole)
    took_s = time.monotonic() - started
    print(f"second run over 100,000 posts: {took_s:.2f} s")
    assert again["extractors"]["letters"]["computed"] == 0
    assert took_s < 8 * slowness()  # 2 s on two quiet cores; extracting takes 30
