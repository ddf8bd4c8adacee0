"""Curves of a training while it runs: the loop writes a line now and then, and whoever shows them reads what is new.

The file is a log and no output of a stage: when a line is written depends on the clock, and nothing that is made depends on the file.
Lines are JSON: {"time", "step", "figures": {name: number}}, or {"time", "step", "epoch": {what the loop records of the epoch}}; time is in
milliseconds since 1970, step the number of batches done.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from upheld.common.files import replacing

PLACE = "UPHELD_CURVES"  # environment variable that names the file; dags/runner/run_stage.py sets it for each stage
EVERY_S = 0.5  # at most so often, and, so that days of training give a few thousand lines and not a million,
MOST_PER_AGE = 1000  # not before this share of the time since the start has passed, too


class Totals(NamedTuple):
    """What has been done so far: rows and seconds since the start, summed loss and its weight since the epoch's start."""

    rows: int
    seconds: float
    loss: float
    weight: float


def place() -> Path | None:
    """The file that this stage is to write, if any."""
    name = os.environ.get(PLACE)
    return Path(name) if name else None


class Curves:
    """One network's curves, written as it trains.

    Args:
        path: file to write; None writes nothing.
        step: batches done already, in a run that goes on from a checkpoint; lines of later ones, which will be done again, are cut off.
        loss, weight: of the epoch so far, likewise.

    A file that cannot be written is given up, since no training is to fail for its curves.
    """

    def __init__(self, path: Path | None, step: int, loss: float, weight: float) -> None:
        self._path = path
        self._last = Totals(0, 0.0, loss, weight)
        self._began = self._written = time.monotonic()
        if path is not None:
            try:
                lines = _lines(path.read_bytes()) if step and path.exists() else []
                kept = [line for line, told in lines if told.get("step", step + 1) <= step]
                with replacing(path) as partial:
                    partial.write_bytes(b"".join(kept))
            except OSError:
                self._path = None

    def due(self) -> bool:
        """Whether the last line is old enough for another."""
        now = time.monotonic()
        return now - self._written >= max(EVERY_S, (now - self._began) / MOST_PER_AGE)

    def write_steps(self, step: int, done: Totals, norms: Sequence[float], figures: Mapping[str, float]) -> None:
        """Write a line about the batches since the last one: mean loss, rows a second, mean norm of the gradient, and further figures.

        Args:
            step: batches done.
            done: in this process's lifetime.
            norms: of the gradient before it is clipped, in each of these batches, at least one.
            figures: by name, as they are after the last of them.
        """
        rows, seconds, loss, weight = (now - before for now, before in zip(done, self._last, strict=True))
        means = {"loss": loss / max(weight, 1e-9), "samples_per_s": rows / max(seconds, 1e-9), "gradient_norm": sum(norms) / len(norms)}
        self._last, self._written = done, time.monotonic()
        self._append({"step": step, "figures": means | dict(figures)})

    def write_epoch(self, step: int, record: Mapping[str, Any]) -> None:
        """Write what is recorded of an epoch, after which loss and weight are summed anew."""
        self._last = self._last._replace(loss=0.0, weight=0.0)
        self._append({"step": step, "epoch": dict(record)})

    def _append(self, content: Mapping[str, Any]) -> None:
        if self._path is None:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"time": int(time.time() * 1000), **content}) + "\n")
        except OSError:
            self._path = None


def read(path: Path, start: int) -> tuple[list[dict[str, Any]], int]:
    """What has been written from byte `start` on, or all of it where the file has been cut since; none where there is no file.

    Returns:
        the lines that are whole, and the byte after the last of them.
    """
    content = path.read_bytes() if path.exists() else b""
    if len(content) < start:
        start = 0
    found = _lines(content[start:])
    return [told for _, told in found if told], start + sum(len(written) for written, _ in found)


def _lines(content: bytes) -> list[tuple[bytes, dict[str, Any]]]:
    """The whole lines, as they are and as JSON; a process that was killed leaves a part of one at the end.

    A line that is no JSON object, as a disk that was full for a while leaves one, counts as one in which nothing is told.
    """
    found = []
    for line in content[: content.rfind(b"\n") + 1].splitlines(keepends=True):
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        found.append((line, told if isinstance(told, dict) else {}))
    return found
