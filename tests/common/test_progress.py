"""Progress where nobody can see a bar: plain lines now and then, none of a short job, none after the end."""

import re
import time

from upheld.common import progress


def test_lines_say_how_far_it_is_also_while_nothing_moves(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    with progress.shown(unit="contents") as bars:
        task = bars.add_task("ocr [2]", total=26_000)
        bars.advance(task, 1_200)
        time.sleep(0.5)
        bars.add_task("rows of posts", total=None, completed=7)
        bars.update(task, completed=26_000)
        time.sleep(0.5)
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("ocr [2]: 1,200 of 26,000 contents after 0:00 min") > 1
    assert "rows of posts: 7 contents after 0:00 min" in lines
    assert not any("26,000 of 26,000" in line for line in lines)
    time.sleep(0.2)
    assert capsys.readouterr().err == ""


def test_a_short_job_says_nothing(capsys):
    with progress.shown(unit="contents") as bars:
        bars.advance(bars.add_task("ocr", total=2), 1)
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_bars(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY_S", 0.05)
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, any stream is a terminal
    with progress.shown("{task.description}", unit="contents") as bars:
        bars.add_task("ocr", total=2)
        time.sleep(0.2)
    told = capsys.readouterr().err
    assert "ocr" in told
    assert not re.search(r"of 2 contents", told)
