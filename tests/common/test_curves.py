"""Curves: few lines however long a training is, read as they come, whatever a kill or a full disk left."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from upheld.common import curves
from upheld.common.curves import Curves, Totals


def test_what_is_new_is_read_and_half_a_line_waits_for_its_end(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "text.jsonl"
    assert curves.read(path, 0) == ([], 0)
    written = Curves(path, 0, 0.0, 0.0)
    written.write_steps(4, Totals(32, 2.0, 6.0, 3.0), [1.0, 3.0], {"learning_rate": 0.5})
    lines, stop = curves.read(path, 0)
    (line,) = lines
    assert (line["step"], line["figures"]) == (4, {"loss": 2.0, "samples_per_s": 16.0, "gradient_norm": 2.0, "learning_rate": 0.5})
    with path.open("a") as file:
        file.write('{"step": 5, "ti')
    assert curves.read(path, stop) == ([], stop)
    with path.open("a") as file:
        file.write('me": 7}\n')
    assert curves.read(path, stop)[0] == [{"step": 5, "time": 7}]


def test_a_line_tells_of_what_came_since_the_last_and_an_epoch_sums_anew(tmp_path: Path) -> None:
    written = Curves(tmp_path / "x", 10, 100.0, 10.0)
    written.write_steps(11, Totals(8, 1.0, 103.0, 11.0), [1.0], {})
    written.write_steps(12, Totals(24, 2.0, 104.0, 13.0), [1.0], {})
    written.write_epoch(12, {"epoch": 1})
    written.write_steps(13, Totals(32, 4.0, 5.0, 1.0), [1.0], {})
    figures = [line["figures"] for line in curves.read(tmp_path / "x", 0)[0] if "figures" in line]
    assert [line["loss"] for line in figures] == [3.0, 0.5, 5.0]
    assert [line["samples_per_s"] for line in figures] == [8.0, 16.0, 4.0]


def test_what_cannot_be_read_is_left_out_and_a_cut_file_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text('{"step": 1}\n{"step": 2}{"ste\n[3]\n\xff\n{"step": 4}\n', encoding="latin-1")
    lines, stop = curves.read(path, 0)
    assert [line["step"] for line in lines] == [1, 4]
    assert stop == path.stat().st_size
    path.write_text('{"step": 1}\n')
    assert curves.read(path, stop) == ([{"step": 1}], 12)


def test_a_run_that_goes_on_keeps_what_it_has_done(tmp_path: Path) -> None:
    path = tmp_path / "x"
    before = "".join(json.dumps({"step": step}) + "\n" for step in (0, 2, 4, 6))
    for step, kept in ((4, [0, 2, 4]), (6, [0, 2, 4, 6]), (0, [])):
        path.write_text(before + "broken\n" + '{"step": 5')
        Curves(path, step, 0.0, 0.0)
        assert [line["step"] for line in curves.read(path, 0)[0]] == kept
        assert path.read_text().count("\n") == len(kept)


def test_days_of_training_give_some_thousand_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(curves.time, "monotonic", lambda: now)
    written, lines = Curves(None, 0, 0.0, 0.0), []
    for second in range(3 * 86400):
        now = float(second)
        if written.due():
            lines.append(now)
            written.write_steps(second, Totals(second, now, 0.0, 1.0), [1.0], {})
    assert lines[:3] == [1.0, 2.0, 3.0]
    assert len(lines) < 8000
    assert max(later - earlier for earlier, later in pairwise(lines)) < 300


def test_no_place_is_named_unless_the_runner_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(curves.PLACE, raising=False)
    assert curves.place() is None
    monkeypatch.setenv(curves.PLACE, str(tmp_path / "x"))
    assert curves.place() == tmp_path / "x"
