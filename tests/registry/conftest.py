"""Workspaces to register, with a stand-in for assembling the model."""

from collections.abc import Callable
from pathlib import Path

import pytest
from finished_workspaces import assemble, write_workspace

from upheld.training.pipeline import bundle


@pytest.fixture
def make_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.setattr(bundle, "assemble", assemble)
    return lambda name, **content: write_workspace(tmp_path / "runs" / name, **content)
