"""Fixtures that every package's tests may use."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)  # the same examples everywhere, so that red means broken
settings.load_profile("fixed")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files whose tests may take longest come first, so that at the end no worker is busy alone; within a file nothing moves."""
    allowed_s = defaultdict(lambda: float(config.getini("timeout")))
    for item in items:
        if limit := item.get_closest_marker("timeout"):
            allowed_s[item.path] = max(allowed_s[item.path], limit.args[0])
    items.sort(key=lambda item: -allowed_s[item.path])


@pytest.fixture(autouse=True, scope="session")
def one_processor_each() -> Iterator[None]:
    """Beside other tests a pool of decoders has one process instead of one per processor: each begins with 0.7 s of imports."""
    with pytest.MonkeyPatch.context() as patch:
        if "PYTEST_XDIST_WORKER" in os.environ:
            patch.setattr(os, "sched_getaffinity", lambda pid: {0})
        yield


@pytest.fixture
def slowness() -> Callable[[], float]:
    """How much slower than a quiet machine this one is now, at least 1.

    A test that bounds seconds multiplies its bound by it: processors that others use at the same time, or that are older, need up
    to six times as many seconds for the same work. Sorting and a loop stand for the work; two quiet cores need .6 to 1 s of them.
    """

    def measured() -> float:
        start = time.process_time()
        np.argsort(np.random.default_rng(0).random(4_000_000), kind="stable")
        sum(n % 7 for n in range(4_000_000))
        return max(1.0, time.process_time() - start)

    return measured


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data beside the repository; a test that needs it is skipped, visibly, where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder
