"""Foreign bytes are decoded in processes that may be killed; the others go on."""

import ctypes
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.feature_store.deliveries import ROOT, parameters
from tests.feature_store.hostile_decoders import MALFORMED
from upheld.common.errors import FailedWork
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.sandbox.channel import Channel
from upheld.feature_store.sandbox.confinement import FORBIDDEN, OPENING, SECCOMP, SIGNALLING
from upheld.feature_store.sandbox.pool import DecodePool

HOSTILE = "tests.feature_store.hostile_decoders:Hostile"
PARAMS = parameters("features.decode_memory_bytes=268435456")
LANDLOCK = ctypes.CDLL(None).syscall(444, None, 0, 1) > 0  # its version. Source: landlock_create_ruleset(2)
HEADERS = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")


@pytest.fixture(scope="module")
def pool():
    with DecodePool(HOSTILE, PARAMS, timeout_s=3, num_workers=1) as pool:
        yield pool


def decode(pool, *contents):
    return list(pool.decode(contents, ahead=4))


def test_arrays_come_back_as_they_were_and_in_order():
    contents = [bytes([n]) * (n * 5_000) for n in range(100)]
    with DecodePool(HOSTILE, PARAMS, 30, 2) as pool:
        found = decode(pool, *contents)
    assert [arrays["bytes"].tobytes() for arrays in found] == contents
    assert [int(arrays["sum"]) for arrays in found] == [sum(content) for content in contents]
    assert {(arrays["empty"].shape, arrays["empty"].dtype.str) for arrays in found} == {((0, 3), "<f4")}
    assert len({int(arrays["pid"]) for arrays in found}) == 2
    assert os.getpid() not in {int(arrays["pid"]) for arrays in found}


@pytest.mark.parametrize(
    ("deed", "reason", "told"),
    [
        ("endless", "decode_timeout", "not decoded in 3 s"),
        ("hog", "decode_memory", "decode_memory_bytes"),
        ("leak", "decode_memory", "decode_memory_bytes"),
        ("segfault", "decode_crashed", "killed by signal 11"),
        ("exit", "decode_crashed", "exit code 3"),
        ("wrong", "decode_failed", "KeyError: 1"),
        ("undecodable", "image_truncated", "ends in the middle"),
        ("network", "decode_failed", "PermissionError"),
        ("program", "decode_failed", "PermissionError"),
        ("file", "decode_failed", "PermissionError"),
        ("signals", "decode_failed", "PermissionError"),
        ("abort", "decode_crashed", "killed by signal 6"),
        ("nonsense", "decode_crashed", "spoke nonsense"),
    ],
)
def test_a_hostile_content_is_refused_and_the_others_are_decoded(pool, deed, reason, told):
    before, found, after = decode(pool, b"before", deed.encode(), b"after")
    assert isinstance(found, Refused)
    assert found.reason == reason
    assert told in found.detail
    assert before["bytes"].tobytes() == b"before"
    assert after["bytes"].tobytes() == b"after"


def test_system_calls_that_decoding_does_not_need_are_refused(pool):
    (found,) = decode(pool, b"refused_calls")
    assert found["let_through"].tobytes().decode() == ""
    assert not found["allowed"]


def test_a_worker_sees_no_keys(monkeypatch):
    monkeypatch.setenv("UPHELD_VISION_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("LC_TIME", "C")
    with DecodePool(HOSTILE, PARAMS, 30, 1) as pool:
        (found,) = decode(pool, b"environment")
    environment = json.loads(found["names"].tobytes())
    assert "secret" not in environment.values()
    assert (environment["LC_TIME"], environment["OMP_NUM_THREADS"]) == ("C", "1")


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
@pytest.mark.parametrize(("deed", "path"), [("parent", "environ"), ("reads", "/..")])
def test_a_worker_can_read_neither_its_owner_nor_foreign_files(pool, deed, path):
    (found,) = decode(pool, deed.encode())
    assert isinstance(found, Refused)
    assert "PermissionError" in found.detail
    assert path in found.detail


@pytest.mark.skipif(not HEADERS.exists(), reason="no kernel headers here")
def test_the_numbers_of_system_calls_are_the_kernels():
    numbers = dict(re.findall(r"#define __NR_(\w+) (\d+)", HEADERS.read_text()))
    ours = FORBIDDEN | SIGNALLING | {name: call for name, (call, _) in OPENING.items()} | {"seccomp": SECCOMP}
    assert {name: int(numbers[name]) for name in ours if name in numbers} == {name: ours[name].x86_64 for name in ours if name in numbers}


def test_the_last_answer_of_a_worker_counts_though_it_has_ended():
    channel = Channel(HOSTILE, PARAMS, 30)
    channel.send([b"hog"])
    time.sleep(1)  # by now it has answered and is gone
    channel.send([b"hog", b"after"])
    answer = channel.receive()
    channel.kill()
    assert isinstance(answer, Refused)
    assert answer.reason == "decode_memory"


def test_what_a_library_prints_disturbs_nobody(pool):
    assert decode(pool, b"prints")[0]["n"] == 1


def test_no_weights_in_a_worker(pool):
    assert not decode(pool, b"torch")[0]["loaded"]


def test_what_is_no_plain_number_never_crosses(pool):
    found, after = decode(pool, b"text", b"after")
    assert isinstance(found, Refused)
    assert found.reason == "decode_failed"
    assert "array text holds <U1" in found.detail
    assert after["bytes"].tobytes() == b"after"


@pytest.mark.parametrize("malformed", MALFORMED)
def test_a_malformed_answer_is_that_contents_fault_and_its_worker_is_replaced(pool, malformed):
    before, found, after = decode(pool, b"before", malformed.encode(), b"after")
    assert isinstance(found, Refused)
    assert found.reason == "decode_crashed"
    assert "spoke nonsense" in found.detail
    assert len(found.detail) < 600
    assert after["bytes"].tobytes() == b"after"
    assert int(after["pid"]) != int(before["pid"])


def test_nobody_is_answered_for_in_advance(pool):
    found, after = decode(pool, b"twice", b"after")
    assert int(found["sum"]) == 666  # its own answer it may choose
    assert int(after["sum"]) == sum(b"after")


def test_an_answer_too_many_is_not_taken_for_that_of_the_next_content(pool):
    found, after, last = decode(pool, b"slips", b"after", b"last")
    assert "sum" not in found
    assert (int(after["sum"]), int(last["sum"])) == (sum(b"after"), sum(b"last"))


@pytest.mark.skipif(not LANDLOCK, reason="this kernel has no Landlock")
def test_a_worker_reads_neither_project_nor_store_nor_accounts(tmp_path):
    project = tmp_path / "project"
    secret = project / "store/airflow/passwords.json"
    secret.parent.mkdir(parents=True)
    secret.write_text("canary")
    for name in ("params.yaml", "dvc.yaml"):
        (project / name).write_text("canary")
    for package in ("common", "feature_store", "upheld"):  # as a run's workspace has them
        shutil.copytree(ROOT / package, project / package, symlinks=True)
    (project / "tests").symlink_to(ROOT / "tests")
    paths = ["store/airflow/passwords.json", "params.yaml", ".", "..", "store", "/etc/passwd", "/etc/shadow", "/etc", str(Path.home()), "/"]
    paths += [
        str(secret),
        str(project),
        str(project / "params.yaml"),
        str(ROOT),
        str(ROOT / "params.yaml"),
        str(ROOT / "tests"),
        str(tmp_path),
    ]
    script = f"""
import json, sys
import upheld.feature_store
from upheld.feature_store.sandbox.pool import DecodePool
from tests.feature_store.deliveries import parameters
with DecodePool({HOSTILE!r}, parameters(), 30, 1) as pool:
    found = list(pool.decode([b"look " + path.encode() for path in json.loads(sys.argv[1])], 4))
print(upheld.feature_store.__file__)
print(json.dumps([getattr(one, "detail", None) or one["found"].tobytes().decode() for one in found]))
"""
    code = str(project / "feature_store/sandbox/confinement.py")
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps([*paths, code])], capture_output=True, text=True, cwd=project, check=True
    )
    ran, found = done.stdout.splitlines()
    assert ran == str(project / "upheld/feature_store/__init__.py")
    *refused, read = json.loads(found)
    # where it works there is nothing: relative paths lead nowhere, and nothing may be listed
    assert set(refused) == {"PermissionError", "FileNotFoundError"}
    assert [path for path, told in zip(paths, refused, strict=True) if told == "FileNotFoundError"] == [*paths[:2], "store"]
    assert read == Path(code).read_text()  # the worker runs the code of the workspace


@pytest.mark.parametrize(
    ("decoder", "told"),
    [("tests.feature_store.hostile_decoders:Broken", "no library"), ("feature_store.none:Nothing", "No module named")],
)
def test_a_decoder_that_cannot_be_made_stops_the_run(decoder, told):
    with DecodePool(decoder, PARAMS, 30, 2) as pool, pytest.raises(FailedWork, match=told):
        decode(pool, b"a", b"b", b"c")


def test_further_contents_are_decoded_while_the_caller_works(pool):
    decode(pool, b"warm")
    started = time.monotonic()
    for _ in pool.decode([b"ten_ms"] * 60, ahead=8):
        time.sleep(0.01)
    assert time.monotonic() - started < 0.9 * 60 * 0.02  # one after the other would be 1.2 s


def test_closing_does_not_wait_for_a_decoder():
    with DecodePool(HOSTILE, PARAMS, 300, 1) as pool:
        results = pool.decode([b"first", b"endless", b"never"], ahead=1)
        next(results)
        started = time.monotonic()
    assert time.monotonic() - started < 5


def test_workers_die_with_their_owner():
    script = f"""
import os, signal
from upheld.feature_store.sandbox.channel import Channel
from upheld.feature_store.sandbox.pool import DecodePool
from tests.feature_store.deliveries import parameters
pool = DecodePool({HOSTILE!r}, parameters(), 300, 1)
results = pool.decode([b"a", b"endless", b"b"], ahead=1)
print(int(next(results)["pid"]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, env=environment)
    state = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 10
    while state.exists() and " Z " not in state.read_text():
        assert time.monotonic() < deadline, "the worker outlived its owner"
        time.sleep(0.05)


def test_a_picture_crosses_in_well_below_a_millisecond(pool):
    picture = np.zeros(224 * 224 * 3, np.uint8).tobytes()
    decode(pool, picture)
    started = time.process_time()
    decode(pool, *[picture] * 400)
    assert (time.process_time() - started) / 400 < 0.001  # processor time of the owner
