"""The demo lays logo data into the store before it retrains, and into nobody's store who brings data."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from feature_store import ingest, logo_dataset, logo_store, sample_data
from registry import demo, retrain

PARAMS = Path(__file__).resolve().parents[2] / "params.yaml"


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Logo datasets that each retrain would have pinned; nothing else of the demo is run."""
    found: list[dict[str, str]] = []

    def run(store: Path, conf: dict[str, Any]) -> SimpleNamespace:
        found.append(logo_store.pins(store).logo_datasets)
        return SimpleNamespace(name="r", workspace="w", tasks={"register": {}})

    for module in (sample_data, ingest):
        monkeypatch.setattr(module, "main", lambda _: 0)
    monkeypatch.setattr(retrain, "run", run)
    return found


def test_the_sample_world_comes_with_a_logo_dataset_and_again_with_the_same(tmp_path: Path, pinned: list[dict[str, str]]) -> None:
    for _ in range(2):
        demo.run(None, tmp_path, quick=True, params_file=PARAMS, overrides=[])
    assert len(pinned) == 2 and pinned[0] == pinned[1] and list(pinned[0]) == ["sample"]
    made = logo_dataset.read(tmp_path / "logos" / "sample")
    assert made.synthetic and len(made.images) == demo.QUICK_LOGO_PHOTOS < demo.NUM_LOGO_PHOTOS


def test_a_delivery_of_one_s_own_is_taken_as_it_is(tmp_path: Path, pinned: list[dict[str, str]]) -> None:
    demo.run(tmp_path / "delivery", tmp_path / "store", quick=True, params_file=PARAMS, overrides=[])
    assert pinned == [{}]
