"""Fixtures that every package's tests may use."""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data beside the repository; a test that needs it is skipped, visibly, where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder
