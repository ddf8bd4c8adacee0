"""Commands that read, in an empty folder: one line that says what is missing, and nothing is left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CLI = ("-m", "upheld.cli")
NOTHING_REGISTERED = "nothing is registered in store yet; `upheld retrain` makes the first version"
NO_LEDGER = "no ledger here; `upheld ingest DELIVERY --store store` makes one"
SUITE = "case_id,text,language,functionality,label,category\n1,x,en,plain,1,spam\n"
POST = '{"post_id": "p", "created_at": "2026-10-01T00:00:00Z", "text": "x"}'


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([*CLI, "runs"], 0, "no run yet"),
        ([*CLI, "rerun", "manual"], 2, "there is no run 'manual'"),
        ([*CLI, "diff", "1", "2"], 2, NOTHING_REGISTERED),
        ([*CLI, "promote", "--describe"], 2, NOTHING_REGISTERED),
        ([*CLI, "promote", "--model", "1", "--approver", "A"], 2, NOTHING_REGISTERED),
        ([*CLI, "rollback", "--approver", "A"], 2, NOTHING_REGISTERED),
        ([*CLI, "score", "--post", "{given}/post.json"], 2, NOTHING_REGISTERED),
        ([*CLI, "behave", "champion", "--suite", "{given}/suite.csv", "--out", "{given}/behaviour"], 2, NOTHING_REGISTERED),
        ([*CLI, "weekly", "--week", "2026-W41", "--out", "{given}/weekly"], 2, NO_LEDGER),
        ([*CLI, "features", "--explain", "p"], 2, NO_LEDGER),
        (
            [
                "-m",
                "upheld.registry.production.weekly",
                "in-force",
                "--week",
                "2026-W41",
                "--out",
                "{given}/in_force.json",
                "--champion",
                "{given}/champion.json",
            ],
            0,
            "nothing is registered yet",
        ),
        (["-m", "upheld.registry.production.weekly", "--report", "{given}"], 0, "nothing is registered yet"),
    ],
)
def test_who_reads_leaves_nothing_behind(tmp_path: Path, arguments: list[str], code: int, said: str) -> None:
    given, empty = tmp_path / "given", tmp_path / "empty"
    for folder in (given, empty):
        folder.mkdir()
    (given / "post.json").write_text(POST)
    (given / "suite.csv").write_text(SUITE)
    (given / "weekly.json").write_text('{"week": "2026-W41", "models": []}')
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("UPHELD", "MLFLOW"))}
    command = [sys.executable, *(argument.format(given=given) for argument in arguments)]
    done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True)
    lines = (done.stdout + done.stderr).splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done.stdout + done.stderr
    assert said in lines[0]
    assert list(empty.iterdir()) == []
