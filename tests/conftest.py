"""Fixtures that every package's tests may use."""

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fixed", derandomize=True)  # the same examples everywhere, so that red means broken
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data beside the repository; a test that needs it is skipped, visibly, where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}")
    return folder
