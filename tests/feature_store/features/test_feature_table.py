"""The feature store's tables: keyed reads, added columns, the past, and deletes that leave nothing on disk."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts.workspace import PinnedTable
from upheld.feature_store.features.table import KEYS, NO_FEATURES, FeatureStore, PinnedFeatures
from upheld.feature_store.ledger.lance import connect

MONDAY = datetime(2026, 11, 2, tzinfo=UTC)
TUESDAY = MONDAY + timedelta(days=1)
FEATURES = {"word": pa.string()}


def table(digests, version="1-a", at=MONDAY, features=FEATURES, reason=None, **values):
    fixed = {"digest": list(digests), "extractor_version": version, "extracted_at": at, "reason": reason, "detail": reason} | values
    schema = pa.schema([*KEYS, *(pa.field(name, kind) for name, kind in features.items())])
    rows = [{name: value[n] if isinstance(value, list) else value for name, value in fixed.items()} for n in range(len(fixed["digest"]))]
    return pa.Table.from_pylist(rows, schema)


def words(store, **how):
    return {row["digest"]: row["word"] for row in store.read("x", columns=["word"], **how).to_pylist()}


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "features")


def test_vectors_are_those_of_the_pinned_version_and_of_contents_that_were_not_refused(store):
    embedding = {"embedding": pa.list_(pa.float32(), 2)}
    made = table(["a", "b", "c"], features=embedding, embedding=[[1.0, 2.0], None, [3.0, 4.0]], reason=[None, "too long", None])
    store.write("x", made)
    pinned = PinnedFeatures(store.location, {"x": PinnedTable(lance_version=store.versions["x"], extractor_version="1-a", kind="text")})
    store.write("x", table(["d"], features=embedding, embedding=[[5.0, 6.0]]))
    found = pinned.vectors("x", "1-a", ["a", "b", "c", "d", "none"])
    assert {name: vector.tolist() for name, vector in found.items()} == {"a": [1, 2], "c": [3, 4]}  # d came later
    assert found["a"].dtype == np.float32
    assert pinned.vectors("x", "1-a", ["b"]) == pinned.vectors("x", "1-a", []) == {}
    assert pinned.vectors("x", "2-b", ["a"]) == NO_FEATURES.vectors("x", "1-a", ["a"]) == {}


def test_reading_makes_nothing(tmp_path, store):
    assert store.versions == {}
    assert store.missing("x", "1-a", ["b", "a", "b"]) == ["b", "a"]
    assert store.erase(["a"]) == {}
    with pytest.raises(BadUse, match="no table 'x'"):
        store.read("x")
    assert list(tmp_path.iterdir()) == []


def test_one_row_a_content_the_last_one_and_by_version_or_time(store):
    store.write("x", table(["a", "b", "it's"], word="old"))
    store.write("x", table(["a", "c"], "1-b", TUESDAY, word="new"))
    assert words(store) == {"a": "new", "b": "old", "it's": "old", "c": "new"}
    assert words(store, version="1-a") == {"a": "old", "b": "old", "it's": "old"}
    assert words(store, as_of=MONDAY) == {"a": "old", "b": "old", "it's": "old"}
    assert words(store, as_of=TUESDAY, version="1-b") == {"a": "new", "c": "new"}
    assert words(store, as_of=MONDAY - timedelta(seconds=1)) == {}
    assert words(store, digests=["a", "it's", "none"]) == {"a": "new", "it's": "old"}
    assert words(store, digests=[]) == {}
    assert store.read("x").column_names == [*KEYS.names, "word"]
    assert sorted(store.digests("x").to_pylist()) == ["a", "b", "c", "it's"]


def test_an_as_of_in_another_zone_is_the_same_moment(store):
    store.write("x", table(["a"], at=datetime(2026, 11, 2, 12, tzinfo=UTC), word="noon"))
    moment = datetime(2026, 11, 2, 17, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert words(store, as_of=moment) == {"a": "noon"}
    assert words(store, as_of=moment - timedelta(microseconds=1)) == {}


def test_many_digests_are_found_as_few_are(store, monkeypatch):
    store.write("x", table(["a", "b", "c"], word=["1", "2", "3"]))
    few = words(store, digests=["a", "c"], version="1-a")
    monkeypatch.setattr("upheld.feature_store.features.table._FEW_DIGESTS", 1)
    assert words(store, digests=["a", "c"], version="1-a") == few == {"a": "1", "c": "3"}


def test_writing_again_replaces(store):
    store.write("x", table(["a", "b"], word="first"))
    store.write("x", table(["b", "c"], word="second"))
    assert words(store) == {"a": "first", "b": "second", "c": "second"}
    assert len(store.read("x")) == 3


def test_what_is_missing_counts_refused_rows_as_done(store):
    store.write("x", table(["a"], word="w"))
    store.write("x", table(["b"], reason="image_truncated", word=None))
    store.write("x", table(["c"], "1-b", word="w"))
    assert store.missing("x", "1-a", ["d", "c", "b", "a"]) == ["d", "c"]
    refused = store.read("x", ["b"]).to_pylist()[0]
    assert (refused["reason"], refused["word"]) == ("image_truncated", None)


def test_a_lance_version_is_the_table_as_it_was(store):
    store.write("x", table(["a"], word="old"))
    pinned = store.versions["x"]
    store.write("x", table(["a", "b"], word="new"))
    assert words(store, at=pinned) == {"a": "old"}
    store.compact("x", timedelta(days=30))
    assert words(store, at=pinned) == {"a": "old"}
    assert words(store) == {"a": "new", "b": "new"}
    with pytest.raises(BadUse, match="no version 99"):
        store.read("x", at=99)


def data_files(store):
    return {path: path.read_bytes() for path in Path(store.location).rglob("data/*") if path.is_file()}


def test_a_further_column_leaves_the_files_of_the_others_as_they_are(store):
    store.write("x", table(["a", "b"], word="w"))
    before = data_files(store)
    store.write("x", table(["c"], "2-a", features=FEATURES | {"length": pa.int32()}, word="w", length=1))
    after = data_files(store)
    assert before.items() <= after.items()
    assert len(after) == len(before) + 1
    lengths = {row["digest"]: row["length"] for row in store.read("x").to_pylist()}
    assert lengths == {"a": None, "b": None, "c": 1}
    store.write("x", table(["d"], word="w"))  # by an older extractor, which does not know the column
    assert {row["digest"]: row["length"] for row in store.read("x").to_pylist()} == lengths | {"d": None}


def test_a_column_never_changes_its_type(store):
    store.write("x", table(["a"], word="w"))
    with pytest.raises(FailedWork, match="column word is string in the store and int32 now"):
        store.write("x", table(["b"], features={"word": pa.int32()}, word=1))
    with pytest.raises(BadUse, match="no column 'length'; it has digest"):
        store.read("x", columns=["length"])


def bytes_on_disk(store):
    return b"".join(path.read_bytes() for path in Path(store.location).rglob("*") if path.is_file())


def test_erased_means_gone_from_disk_and_from_the_past(store):
    store.write("x", table(["a" * 64, "b" * 64], word=["a-secret-of-a", "kept-of-b"]))
    store.write("x", table(["a" * 64], "1-b", TUESDAY, word="later-secret-of-a"))
    store.write("y", table(["a" * 64], word="other-secret-of-a"))
    store.write("z", table(["b" * 64], word="w"))
    pinned = store.versions
    assert b"secret-of-a" in bytes_on_disk(store)
    assert store.erase(["a" * 64, "e" * 64]) == {"x": 1, "y": 1}
    left = bytes_on_disk(store)
    assert b"secret-of-a" not in left
    assert b"a" * 64 not in left
    assert b"kept-of-b" in left
    assert words(store) == {"b" * 64: "kept-of-b"}
    assert store.versions["z"] == pinned["z"]
    with pytest.raises(BadUse, match="no version"):
        store.read("x", at=pinned["x"])
    assert store.erase(["a" * 64]) == {}


def test_an_erasure_waits_for_a_run_that_holds_the_version(store):
    store.write("x", table(["a", "b"], word=["a-secret", "kept"]))
    handle = connect(store.location).open_table("x")
    handle.tags.create("run-1", handle.version)
    with pytest.raises(FailedWork, match="a run still holds an older version"):
        store.erase(["a"])
    assert words(store) == {"b": "kept"}
    handle.tags.delete("run-1")
    assert store.erase([]) == {}
    assert b"a-secret" not in bytes_on_disk(store)


KILLED = """
import os, signal, sys
from upheld.feature_store.ledger import lance
from upheld.feature_store.features.table import FeatureStore
from tests.feature_store.features.test_feature_table import table
step, folder = sys.argv[1:]
setattr(lance, step, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
store = FeatureStore(folder)
store.write("x", table(["c"], word="w")) if step == "upsert" else store.erase(["a"])
"""


@pytest.mark.parametrize("step", ["delete", "forget_versions"])
def test_a_killed_erasure_is_finished_by_the_next(store, step):
    store.write("x", table(["a", "b"], word=["a-secret", "kept"]))
    done = subprocess.run([sys.executable, "-c", KILLED, step, str(store.location)], env=os.environ | {"PYTHONPATH": os.getcwd()})
    assert done.returncode == -signal.SIGKILL
    store.erase(["a"] if step == "delete" else [])
    assert words(store) == {"b": "kept"}
    assert b"a-secret" not in bytes_on_disk(store)


@pytest.fixture
def bucket(monkeypatch):
    """A bucket of moto's S3 server on loopback."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT": f"http://{host}:{port}",
        "AWS_ALLOW_HTTP": "true",
        "no_proxy": "*",
    }.items():
        monkeypatch.setenv(name, value)
    import boto3

    client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"])
    client.create_bucket(Bucket="features")
    yield client
    server.stop()


def in_bucket(client):
    found = client.list_objects_v2(Bucket="features").get("Contents", [])
    return b"".join(client.get_object(Bucket="features", Key=item["Key"])["Body"].read() for item in found)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_object_store_is_no_different(bucket):
    store = FeatureStore("s3://features/of/us")
    assert store.versions == {}
    store.write("x", table(["a", "b"], word=["a-secret", "kept"]))
    pinned = store.versions["x"]
    store.write("x", table(["a"], "1-b", TUESDAY, word="later-a-secret"))
    assert words(store) == {"a": "later-a-secret", "b": "kept"}
    assert words(store, at=pinned) == words(store, as_of=MONDAY) == {"a": "a-secret", "b": "kept"}
    assert store.missing("x", "1-b", ["a", "b"]) == ["b"]
    store.write("x", table(["c"], "2-a", features=FEATURES | {"length": pa.int32()}, word="w", length=1))
    store.compact("x", timedelta(days=30))
    assert b"a-secret" in in_bucket(bucket)
    assert store.erase(["a"]) == {"x": 1}
    assert words(store) == {"b": "kept", "c": "w"}
    assert b"a-secret" not in in_bucket(bucket)


@pytest.mark.timed
@pytest.mark.slow
def test_a_training_snapshot_of_100_000_embeddings_is_read_in_three_seconds(store, slowness):
    generator = np.random.default_rng(1)
    kind = pa.list_(pa.float32(), 384)
    for part in range(20):
        digests = [f"{part * 5_000 + n:064x}" for n in range(5_000)]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(generator.random(5_000 * 384, np.float32)), 384)
        rows = table(digests, at=MONDAY if part < 19 else TUESDAY, features={})
        store.write("x", rows.append_column(pa.field("embedding", kind), vectors))
    wanted = [f"{n:064x}" for n in range(100_000)]
    started = datetime.now(UTC)
    rows = store.read("x", wanted, ["embedding"], version="1-a", as_of=MONDAY)
    took_s = (datetime.now(UTC) - started).total_seconds()
    assert len(rows) == 95_000
    print(f"point-in-time read of 95,000 of 100,000 embeddings: {took_s:.2f} s")
    assert took_s < 3 * slowness()
