"""Servers on loopback: started in process groups of their own, asked whether they answer, stopped as a whole."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from upheld.common.errors import FailedWork
from upheld.dags.runner.process import die_with_parent

HOST = "127.0.0.1"
STOP_TIMEOUT_S = 20.0
POLL_S = 0.2


@dataclass(frozen=True)
class Server:
    """A server's first process, which leads its process group, and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


@contextmanager
def running(name: str, argv: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path) -> Iterator[Server]:
    """Start a server, and stop it with everything it started: politely, then not.

    Args:
        name: how messages call it.
        folder: its working folder.
        environment: its variables.
        log: file that takes its output, overwritten.

    Yields:
        the server, started and probably not ready yet.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  (no thread here)
        )
        try:
            yield Server(name, process, log)
        finally:
            deadline = time.monotonic() + STOP_TIMEOUT_S
            stop = int(signal.SIGTERM)
            with suppress(ProcessLookupError):  # the whole group has ended
                while True:
                    os.killpg(process.pid, stop)
                    process.poll()  # reaps the leader, which otherwise stays in its group for ever
                    time.sleep(POLL_S)
                    stop = 0 if time.monotonic() < deadline else signal.SIGKILL  # 0 only asks whether anybody is left


def refuse_ended(servers: Sequence[Server]) -> None:
    """Notice a server that has ended by itself.

    Raises:
        FailedWork: naming the server, its exit code and its log.
    """
    for server in servers:
        if server.process.poll() is not None:
            raise FailedWork(f"{server.name} ended with exit code {server.process.returncode}; see {server.log}")


def refuse_taken(name: str, port: int) -> None:
    """Notice before the start that something else listens on a port.

    Raises:
        FailedWork: naming the port and the option that chooses another.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise FailedWork(f"port {port} for {name} is in use; stop what uses it or name another with --{name}-port") from error


def ask(port: int, method: str, path: str, headers: Mapping[str, str] | None = None, body: str | None = None) -> bytes | None:
    """Ask a server on loopback.

    Returns:
        the answer's body, or None as long as the server does not answer well.
    """
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.read() if answer.status < 300 else None
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
