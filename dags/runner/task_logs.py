"""The logs that Airflow's pages show of tasks, for a run in one process: `DAG.test` opens none, whatever a task prints.

A file of its own, because it imports Airflow: `run_now` first asks to die with its parent, and Airflow takes seconds to import.
"""

import io
import json
import sys
from contextlib import ExitStack, redirect_stdout
from datetime import UTC, datetime
from typing import Any, TextIO

from airflow.listeners import hookimpl
from airflow.sdk.log import init_log_file
from airflow.utils.helpers import log_filename_template_renderer


class TaskLogs:
    """A listener of Airflow's that copies what each task prints into the file which the task's page reads."""

    def __init__(self) -> None:
        self._open = ExitStack()

    @hookimpl
    def on_task_instance_running(self, task_instance: Any) -> None:
        """Start the log of this attempt."""
        path = init_log_file(log_filename_template_renderer()(ti=task_instance))
        log = self._open.enter_context(path.open("a", encoding="utf-8"))
        self._open.enter_context(redirect_stdout(_Copied(sys.stdout, log)))

    @hookimpl
    def on_task_instance_success(self) -> None:
        """End the log."""
        self._open.close()

    @hookimpl
    def on_task_instance_skipped(self) -> None:
        """End the log."""
        self._open.close()

    @hookimpl
    def on_task_instance_failed(self, error: BaseException | None) -> None:
        """End the log with the reason."""
        print(error, flush=True)
        self._open.close()


class _Copied(io.TextIOBase):
    """A stream whose lines also go to a log, in the form in which Airflow keeps them."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream, self._log, self._begun = stream, log, ""

    def write(self, text: str) -> int:
        """Pass the text on, and keep every line that it ends with its time."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            entry = {"timestamp": datetime.now(UTC).isoformat(), "level": "info", "logger": "task.stdout", "event": line}
            self._log.write(json.dumps(entry) + "\n")
        self._log.flush()
        return self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream; the log is flushed with every text."""
        self._stream.flush()
