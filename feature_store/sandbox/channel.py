"""One worker process as its owner sees it: contents go out, answers come in, and whoever is late is killed."""

import json
import os
import re
import secrets
import select
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from fcntl import fcntl
from pathlib import Path
from typing import Any, Final, Protocol

from upheld import ROOT
from upheld.common.errors import FailedWork
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.sandbox.protocol import LENGTHS, MAX_HEADER_BYTES, BadFrame, pack, unpack_arrays

_F_SETPIPE_SZ: Final = 1031  # Source: linux/fcntl.h
_PIPE_BYTES: Final = 1 << 20  # as much as a process may ask for: a picture's pixels cross in one go
_START_S: Final = 120.0  # a worker imports its libraries in a second or two where nobody else is at work
_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1")
# What a worker inherits: what Python and its libraries need to start. Keys of services and clouds are not among it.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "PYTHONHOME", "VIRTUAL_ENV")
_INHERITED_PREFIXES: Final = ("LC_", "MALLOC_")
_REASON: Final = re.compile(r"[a-z][a-z0-9_]{0,40}")
_MAX_DETAIL_CHARS: Final = 500


class Settings(Protocol):
    """What a decoder is made with: a model of parameters that says how much memory its worker may take beyond its own, in bytes."""

    @property
    def decode_memory_bytes(self) -> int:
        """Of a worker, beyond what it takes by itself."""

    def model_dump_json(self) -> str:
        """As pydantic writes it."""


class WorkerDied(Exception):
    """The worker is no more, or speaks no sense."""


class WorkerLate(Exception):
    """The worker took longer than it may."""


class Channel:
    """Starts one worker.

    Args:
        decoder: `module:Class` in it.
        params: what the decoder is made with; also bounds the worker's memory.
        timeout_s: for one content.
        fits: whether an answer is one that the decoder gives; None takes any arrays.

    Attributes:
        num_done: contents that it answered for.
        ended: True once it can take no more.

    Raises:
        FailedWork: it does not start.
    """

    def __init__(self, decoder: str, params: Settings, timeout_s: float, fits: Callable[[Arrays], bool] | None = None) -> None:
        self.num_done = 0
        self.ended = False
        self._timeout_s = timeout_s
        self._max_bytes = params.decode_memory_bytes
        self._fits = fits
        self._sent: deque[int] = deque()  # numbers of the contents that wait for an answer; nobody can answer before he is asked
        self._folder = tempfile.TemporaryDirectory(prefix="upheld-decoder-")  # nothing to be found where it works
        kept = {name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)}
        path = [str(ROOT), *(str(Path(entry).absolute()) for entry in sys.path if entry)]
        environment = kept | _ONE_THREAD | {"PYTHONPATH": os.pathsep.join(path)}
        command = [sys.executable, "-P", "-c", "from upheld.feature_store.sandbox.worker import main; main()"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=self._folder.name, bufsize=0
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._requests, self._answers = self._process.stdin.fileno(), self._process.stdout.fileno()
        for pipe in (self._requests, self._answers):
            os.set_blocking(pipe, False)
            with suppress(OSError):
                fcntl(pipe, _F_SETPIPE_SZ, _PIPE_BYTES)
        self._begin(decoder, params)

    def send(self, contents: Sequence[bytes]) -> None:
        """Send those contents that were not sent yet; `contents` are all that wait for an answer, the oldest first.

        Raises:
            WorkerDied, WorkerLate: instead.
        """
        if not self._sent:
            self._deadline = time.monotonic() + self._timeout_s
        for content in contents[len(self._sent) :]:
            number = secrets.randbits(32)
            try:
                self._write(pack({"number": number}, [content]))
            except WorkerDied:
                if self._sent:  # it may have answered before it ended, which `receive` finds out
                    return
                raise
            self._sent.append(number)

    def receive(self) -> Arrays | Refused:
        """The answer for the oldest content.

        Raises:
            WorkerDied: instead; also of an answer that makes no sense: a content may have taken the worker over.
            WorkerLate: instead.
        """
        header, payload = self._frame()
        self._deadline = time.monotonic() + self._timeout_s
        number = self._sent.popleft()
        try:
            if header["number"] != number:
                raise BadFrame("answers another request")
            last = header.get("last") is True
            answer: Arrays | Refused
            if "refused" in header:
                reason, detail = header["refused"]
                if not _REASON.fullmatch(reason):
                    raise BadFrame("a reason that is none")
                answer = Refused(reason, str(detail)[:_MAX_DETAIL_CHARS])
            else:
                answer = unpack_arrays(header["arrays"], payload)
            if self._fits is not None and not isinstance(answer, Refused) and not self._fits(answer):
                raise BadFrame("no such answer is expected")
        except Exception as error:
            raise WorkerDied(_nonsense(error)) from error
        self.ended = last
        self.num_done += not last
        return answer

    def stop(self) -> None:
        """End the worker now; whoever waits for its answer is told that it died. May be called from another thread."""
        self._process.kill()

    def kill(self) -> None:
        """End the worker, and let go of it."""
        self.ended = True
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._folder.cleanup()

    def _begin(self, decoder: str, params: Settings) -> None:
        model = f"{type(params).__module__}:{type(params).__qualname__}"
        first = {"decoder": decoder, "model": model, "params": params.model_dump_json(), "memory_bytes": self._max_bytes}
        self._deadline = time.monotonic() + _START_S
        try:
            self._write(pack(first))
            header, _ = self._frame()
        except (WorkerDied, WorkerLate) as error:
            self.kill()
            raise FailedWork(f"decoder {decoder}: its worker did not start ({error}); `{' '.join(sys.orig_argv[:1])}` must run") from error
        if "broken" in header:
            self.kill()
            raise FailedWork(f"decoder {decoder}: {header['broken']}")

    def _write(self, frame: Sequence[memoryview]) -> None:
        for part in frame:
            left = part
            while left:
                self._wait(self._requests, select.POLLOUT)
                try:
                    left = left[os.write(self._requests, left) :]
                except BrokenPipeError as error:
                    raise WorkerDied(self._ending()) from error

    def _frame(self) -> tuple[dict[str, Any], bytearray]:
        header_bytes, payload_bytes = LENGTHS.unpack(self._read(LENGTHS.size))
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > self._max_bytes:
            raise WorkerDied("spoke nonsense: more than its memory holds")
        text, payload = self._read(header_bytes), self._read(payload_bytes)
        try:
            return dict(json.loads(text)), payload
        except Exception as error:  # RecursionError is one of them
            raise WorkerDied(_nonsense(error)) from error

    def _read(self, num_bytes: int) -> bytearray:
        try:
            found = bytearray(num_bytes)
        except MemoryError as error:
            raise WorkerDied(_nonsense(error)) from error
        left = memoryview(found)
        while left:
            self._wait(self._answers, select.POLLIN)
            count = os.readv(self._answers, [left])
            if count == 0:
                raise WorkerDied(self._ending())
            left = left[count:]
        return found

    def _wait(self, pipe: int, event: int) -> None:
        poll = select.poll()
        poll.register(pipe, event)
        if not poll.poll(max(0.0, self._deadline - time.monotonic()) * 1000):
            raise WorkerLate("took too long")

    def _ending(self) -> str:
        code = self._process.wait()
        return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _nonsense(error: Exception) -> str:
    return f"spoke nonsense: {type(error).__name__}: {error}"[:_MAX_DETAIL_CHARS]
