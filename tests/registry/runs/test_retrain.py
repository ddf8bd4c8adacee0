"""What `upheld retrain` tells while it waits: in a pipe, the last line of the task at work, when it has changed and not too often."""

import subprocess
import sys

from upheld.registry.runs import retrain

RUN = """
import sys, time
from pathlib import Path
logs = Path(sys.argv[1]) / "logs"
logs.mkdir()
with (logs / "features.log").open("w", buffering=1) as log:
    for num in range(20):
        log.write(f"ocr: {num} of 20 contents\\n")
        time.sleep(0.1)
    time.sleep(1.5)
"""


def test_a_pipe_hears_now_and_then_what_the_task_last_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(retrain, "SAY_EVERY_S", 0.5)
    monkeypatch.setattr(retrain, "POLL_S", 0.02)
    with subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)]) as process:
        retrain._follow(process, tmp_path)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines() if "features" in line]
    assert len(lines) == len(set(lines))  # the silence at the end is no news
    assert 2 <= len(lines) <= 10
    assert lines[-1] == "features: ocr: 19 of 20 contents"
