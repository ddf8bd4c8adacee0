"""Decodes foreign bytes in worker processes: what is hostile kills a worker, never the run."""

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import TypeVar

from upheld.common.errors import FailedWork
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.sandbox.channel import Channel, Settings, WorkerDied, WorkerLate

_AHEAD = 2  # contents sent to a worker: while it decodes one, the next is on its way
Name = TypeVar("Name")
_CLOSED = "the decoders have been stopped"


def num_cpus() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


@dataclass
class _Task:
    """A content, and what is promised of it; `tried` once it may have felled a worker that had seen others before."""

    content: bytes
    future: "Future[Arrays | Refused]" = field(default_factory=Future)
    tried: bool = False


class DecodePool:
    """Worker processes with one decoder each; a context manager. They start with the first content.

    Args:
        decoder: `module:Class` of what is made with the parameters and has `decode(content) -> Arrays`.
        params: handed to the decoder; their `decode_memory_bytes` bounds a worker's memory.
        timeout_s: time allowed for one content.
        num_workers: of processes.
        fits: whether arrays are such as the decoder gives; others are `decode_crashed`, and their worker is replaced.
    """

    def __init__(
        self, decoder: str, params: Settings, timeout_s: float, num_workers: int, fits: Callable[[Arrays], bool] | None = None
    ) -> None:
        self._decoder = decoder
        self._params = params
        self._timeout_s = timeout_s
        self._num_workers = num_workers
        self._fits = fits
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lanes: list[threading.Thread] = []
        self._channels: dict[threading.Thread, Channel] = {}
        self._closed = False

    def __enter__(self) -> "DecodePool":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def decode(self, contents: Iterable[bytes], ahead: int) -> Iterator[Arrays | Refused]:
        """As `decode_named`, of contents without names."""
        return (answer for _, answer in self.decode_named(((None, content) for content in contents), ahead))

    def decode_named(self, contents: Iterable[tuple[Name, bytes | Refused]], ahead: int) -> Iterator[tuple[Name, Arrays | Refused]]:
        """Decode contents, further ones being decoded while the caller works on what it got.

        Args:
            contents: what the caller calls a content, and its bytes or why there are none; taken as they are needed.
            ahead: how many may be waiting, decoded or not; what is held in memory.

        Yields:
            each name, in order, with its arrays or why there are none: the reason that came with it, that the decoder gave, or
            `decode_timeout`, `decode_memory`, `decode_crashed`, `decode_failed`.

        Raises:
            FailedWork: no worker can be started.
        """
        waiting: deque[tuple[Name, Future[Arrays | Refused]]] = deque()
        for name, content in contents:
            waiting.append((name, self._submit(content)))
            if len(waiting) >= max(ahead, _AHEAD * self._num_workers):
                oldest, answer = waiting.popleft()
                yield oldest, answer.result()
        yield from ((name, answer.result()) for name, answer in waiting)

    def close(self) -> None:
        """Kill the workers; what was not decoded by now will not be."""
        self._closed = True
        for _ in self._lanes:
            self._tasks.put(None)
        for channel in list(self._channels.values()):
            channel.stop()
        for lane in self._lanes:
            lane.join()
        with suppress(queue.Empty):
            while True:
                self._give_up([self._tasks.get_nowait()])

    def _submit(self, content: bytes | Refused) -> "Future[Arrays | Refused]":
        if isinstance(content, Refused):
            answered: Future[Arrays | Refused] = Future()
            answered.set_result(content)
            return answered
        if self._closed:
            raise FailedWork(_CLOSED)
        if len(self._lanes) < self._num_workers:
            self._lanes.append(threading.Thread(target=self._lane, daemon=True))
            self._lanes[-1].start()
        task = _Task(content)
        self._tasks.put(task)
        return task.future

    def _lane(self) -> None:
        """Feed one worker at a time until the pool is closed."""
        channel: Channel | None = None
        pending: deque[_Task] = deque()
        try:
            while self._take(pending):
                channel = channel or self._start()
                channel = self._advance(channel, pending)
        except BaseException as error:  # whatever it is, nobody may wait for ever
            self._give_up(pending, error)
            while not self._closed:
                self._give_up([self._tasks.get()], error)
        finally:
            self._give_up(pending)
            if channel is not None:
                channel.kill()

    def _start(self) -> Channel:
        channel = Channel(self._decoder, self._params, self._timeout_s, self._fits)
        self._channels[threading.current_thread()] = channel
        if self._closed:  # meanwhile
            channel.stop()
        return channel

    def _take(self, pending: deque[_Task]) -> bool:
        """Wait for something to do, and take what lies ready. False once the pool is closed."""
        while len(pending) < _AHEAD:
            try:
                task = self._tasks.get(block=not pending)
            except queue.Empty:
                break
            if task is None:
                return False
            pending.append(task)
        return not self._closed

    def _advance(self, channel: Channel, pending: deque[_Task]) -> Channel | None:
        """Send what was not sent, and settle the first content. Returns the channel, or None if its worker is no more."""
        first = pending[0]
        try:
            channel.send([task.content for task in pending])
            answer: Arrays | Refused = channel.receive()
        except WorkerLate:
            answer = Refused("decode_timeout", f"not decoded in {self._timeout_s:g} s")
        except WorkerDied as error:
            answer = Refused("decode_crashed", f"the decoder {error}")
        felled = channel.ended or (isinstance(answer, Refused) and answer.reason in ("decode_timeout", "decode_crashed"))
        if felled:
            channel.kill()
        # A worker that ran out of memory or crashed after others may have done so for their sake: once more, in a fresh one.
        if felled and channel.num_done and not first.tried and isinstance(answer, Refused) and answer.reason != "decode_timeout":
            first.tried = True
            return None
        pending.popleft().future.set_result(answer)
        return None if felled else channel

    def _give_up(self, tasks: Iterable[_Task | None], error: BaseException | None = None) -> None:
        for task in tasks:
            if task is not None and not task.future.done():
                task.future.set_exception(error or FailedWork(_CLOSED))
