"""Files that were made to stop an ingest: each is rejected or its rows are quarantined, and what lies beside it is taken."""

import io
import json
import os
import resource
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.feature_store.deliveries import AS_OF, ROOT, deliver, parameters, post, rows, take
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ingest.readers import READERS

pytestmark = pytest.mark.usefixtures("without_expectations")


def repeated(path, num_rows, text, hashtags=()):
    """A Parquet file of posts whose text is one dictionary entry: some kilobytes, whatever they spell out to."""
    again = pa.array(np.zeros(num_rows, np.int32))
    columns = {
        "post_id": pa.array([f"p{n}" for n in range(num_rows)]),
        "created_at": pa.array(["2026-10-26T10:00:00Z"] * num_rows),
        "language": pa.array(["en"] * num_rows),
        "text": pa.DictionaryArray.from_arrays(again, [text]),
    }
    if hashtags:
        columns["hashtags"] = pa.array([[]] * (num_rows - 1) + [hashtags], pa.list_(pa.string()))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, store_schema=False, compression="zstd")


def test_a_small_parquet_file_that_asks_for_20_gb_is_rejected_and_the_others_are_taken(tmp_path):
    delivery = deliver(tmp_path / "d", posts=[post("good")])
    repeated(tmp_path / "d" / "posts" / "bomb.parquet", 20_000, "x" * 1_000_000)
    assert (tmp_path / "d" / "posts" / "bomb.parquet").stat().st_size < 100_000
    command = [
        sys.executable,
        "-m",
        "upheld.feature_store.ingest.command",
        delivery,
        "--store",
        str(tmp_path / "store"),
        "--as-of",
        AS_OF.isoformat(),
    ]
    run = subprocess.run(
        [*command, "--summary", str(tmp_path / "s.json")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000)),
    )
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1), run.stderr
    files = {file["path"]: (file["status"], file["reason"]) for file in json.loads((tmp_path / "s.json").read_text())["files"]}
    assert files == {"posts/bomb.parquet": ("rejected", "file_too_large"), "posts/part.jsonl": ("accepted", None)}
    assert [row["post_id"] for row in rows(tmp_path / "store", "posts")] == ["good"]


def test_repeated_texts_are_taken_in_steps_and_rows_that_are_too_long_are_quarantined(tmp_path):
    repeated(tmp_path / "d" / "posts" / "a.parquet", 50, "x" * 5000, hashtags=["y" * 900] * 30)
    sizes = ("ingest.max_row_bytes=20000", "ingest.batch_bytes=40000")
    summary = take(str(tmp_path / "d"), tmp_path / "store", AS_OF, *sizes)
    assert summary["tables"]["posts"]["by_reason"] == {"row_too_long": 1}
    taken = rows(tmp_path / "store", "posts")
    assert sorted(row["row_number"] for row in taken) == list(range(49))
    assert {(row["text"], row["post_id"]) for row in taken} == {("x" * 5000, f"p{n}") for n in range(49)}
    assert [row["row_number"] for row in rows(tmp_path / "store", "quarantine")] == [49]


def test_a_file_for_which_there_is_no_memory_is_rejected(tmp_path, monkeypatch):
    def full(*_):
        raise pa.ArrowMemoryError("malloc of size 20000000000 failed")

    delivery = deliver(tmp_path / "d", posts=[post()])
    repeated(tmp_path / "d" / "posts" / "bomb.parquet", 10, "x")
    monkeypatch.setattr("upheld.feature_store.ingest.readers._sizes", full)
    summary = take(delivery, tmp_path / "store")
    assert [file["reason"] for file in summary["files"]] == ["file_too_large", None]
    assert summary["tables"]["posts"]["accepted"] == 1


def test_a_csv_row_that_is_too_long_is_quarantined_and_the_others_are_taken(tmp_path):
    """A line without an end as well: of what is behind the limit nothing is kept in memory."""
    lines = [f"p{n},2026-10-26T10:00:00Z,en,text {n}" for n in range(4)]
    lines[1] = lines[1] + "x" * 5000
    lines[2] = 'p2,2026-10-26T10:00:00Z,en,"two\nlines"'
    folder = tmp_path / "d" / "posts"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("\n".join(["post_id,created_at,language,text", *lines]) + "\n")
    (folder / "b.csv").write_text("post_id,created_at,language,text\n" + lines[0].replace("p0", "p9") + "\n" + "y" * 9000)
    (folder / "c.csv").write_text("z" * 9000 + "\n")
    (folder / "e.csv").write_text('post_id,created_at,language,text\np8,2026-10-26T10:00:00Z,en,"no end\n' + "y" * 9000 + "\n")
    summary = take(str(tmp_path / "d"), tmp_path / "store", AS_OF, "ingest.max_row_bytes=1000")
    assert summary["tables"]["posts"]["by_reason"] == {"row_too_long": 2}
    assert [file["reason"] for file in summary["files"]] == [None, None, "file_unreadable", "file_unreadable"]
    assert {row["post_id"]: row["row_number"] for row in rows(tmp_path / "store", "posts")} == {"p0": 0, "p2": 2, "p3": 3, "p9": 0}
    assert sorted(row["row_number"] for row in rows(tmp_path / "store", "quarantine")) == [1, 1]


def test_memory_does_not_grow_with_a_line_of_csv():
    """10 MB in one line where a row has 1 kB: a process that kept them would show it."""
    line = io.BytesIO(b"a,b\n" + b"x" * 10_000_000)
    sizes = dict.fromkeys(("batch_bytes", "max_row_bytes", "max_file_bytes"), 1000)
    bounds = parameters().ingest.model_copy(update={"batch_rows": 10, **sizes})
    tracemalloc.start()
    (batch,) = READERS[".csv"](line, bounds)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [row.reason for row in batch.broken] == ["row_too_long"]
    assert peak < 1_000_000


def hostile_names(folder):
    os.mkfifo(folder / "pipe.jsonl")
    (folder / "self.jsonl").symlink_to("self.jsonl")
    (folder / "nowhere.csv").symlink_to("nothing")
    (folder / "zero.jsonl").symlink_to("/dev/zero")
    (folder / "folder.parquet").symlink_to("..")
    with open(os.fsencode(folder) + b"/\xff\xfe.jsonl", "w") as file:
        file.write("{}\n")
    with socket.socket(socket.AF_UNIX) as place:
        place.bind(str(folder / "socket.csv"))


def test_what_is_no_ordinary_file_is_rejected_as_that_file(tmp_path, monkeypatch):
    delivery = deliver(tmp_path / "d", posts=[post()])
    monkeypatch.chdir(tmp_path / "d" / "posts")  # a socket's path must be short
    hostile_names(Path())
    command = [
        sys.executable,
        "-m",
        "upheld.feature_store.ingest.command",
        delivery,
        "--store",
        str(tmp_path / "store"),
        "--as-of",
        AS_OF.isoformat(),
    ]
    command += ["--params", str(ROOT / "params.yaml"), "--summary", str(tmp_path / "s.json")]
    run = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120)
    assert (run.returncode, len(run.stderr.splitlines())) == (1, 1), run.stderr
    summary = json.loads((tmp_path / "s.json").read_text())
    assert {file["path"].split("/")[1]: file["reason"] for file in summary["files"]} == {
        "part.jsonl": None,
        "pipe.jsonl": "not_a_file",
        "self.jsonl": "path_unsafe",
        "nowhere.csv": "not_a_file",
        "zero.jsonl": "path_unsafe",
        "folder.parquet": "not_a_file",
        "\\udcff\\udcfe.jsonl": "not_a_file",
        "socket.csv": "not_a_file",
    }
    assert summary["tables"]["posts"]["accepted"] == 1


def test_media_that_are_links_to_themselves_or_pipes_are_refused_as_that_post(tmp_path):
    media = {"loop": "media/self.png", "pipe": "media/pipe.png"}
    posts = [post(name, media=[{"kind": "image", "uri": uri}]) for name, uri in media.items()]
    delivery = deliver(tmp_path / "d", posts=[post(), *posts])
    (tmp_path / "d" / "media").mkdir()
    (tmp_path / "d" / media["loop"]).symlink_to("self.png")
    os.mkfifo(tmp_path / "d" / media["pipe"])
    summary = take(delivery, tmp_path / "store")
    assert summary["tables"]["posts"]["by_reason"] == {"media_missing": 1, "media_path_unsafe": 1}
    assert summary["tables"]["posts"]["accepted"] == 1


@pytest.mark.parametrize("place", ["zip::file:///etc/passwd", "tar::file:///etc/passwd", "simplecache::"])
def test_a_place_that_no_file_system_opens_is_one_line(tmp_path, capsys, place):
    assert ingest.main([place, "--store", str(tmp_path / "store")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a " in line
