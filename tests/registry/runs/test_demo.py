"""The demo keeps its parameters with its store, lays logo data there, and mixes no real data with the synthetic world."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from weeks import deliver, tables

from upheld.common.errors import BadUse
from upheld.feature_store.backbones import devices
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.logos import store as logo_store
from upheld.feature_store.logos.dataset import dataset
from upheld.feature_store.sample_world import command as sample_data
from upheld.registry.runs import demo, retrain

PARAMS = Path(__file__).resolve().parents[3] / "params.yaml"


@pytest.fixture
def retrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Logo datasets that each retrain would have pinned, and the form that it was given; nothing else of the demo is run."""
    found: list[tuple[dict[str, str], dict[str, Any]]] = []

    def run(store: Path, conf: dict[str, Any]) -> SimpleNamespace:
        found.append((logo_store.pins(store).logo_datasets, conf))
        return SimpleNamespace(name="r", workspace="w", tasks={"register": {}})

    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: False)
    for module in (sample_data, ingest):
        monkeypatch.setattr(module, "main", lambda _: 0)
    monkeypatch.setattr(retrain, "run", run)
    return found


def test_the_sample_world_comes_with_a_logo_dataset_and_again_with_the_same(tmp_path: Path, retrained: list[Any]) -> None:
    for _ in range(2):
        demo.run(None, tmp_path, quick=True, params_file=PARAMS, overrides=[])
    (first, _), (again, _) = retrained
    assert first == again and list(first) == ["sample"]
    made = dataset.read(tmp_path / "logos" / "sample")
    assert made.synthetic and len(made.images) == demo.QUICK_LOGO_PHOTOS < demo.NUM_LOGO_PHOTOS


def test_a_delivery_of_one_s_own_is_taken_as_it_is(tmp_path: Path, retrained: list[Any]) -> None:
    demo.run(tmp_path / "delivery", tmp_path / "store", quick=False, params_file=PARAMS, overrides=[])
    assert retrained == [({}, {})]
    assert not (tmp_path / "store" / "params.yaml").exists()  # freshness is not switched off for good where data is real


def test_a_retrain_after_the_demo_is_given_what_the_demo_s_was(tmp_path: Path, retrained: list[Any]) -> None:
    demo.run(None, tmp_path, quick=True, params_file=PARAMS, overrides=["text.epochs=3"])
    kept = {
        "expectations.max_age_days": 36500.0,
        "text.mode": "head",
        "image.mode": "head",
        "logo.epochs": 1,
        "snapshot.frame_rows": 200,
        "teacher.posts.text": 200,
        "teacher.posts.image": 50,
        "teacher.posts.audio": 50,
        "attacks.posts.text": 2,
        "attacks.posts.search": 0,
        "attacks.posts.image": 1,
        "attacks.pgd_steps": 2,
        "ocr.min_side": 256,
        "sample_data.origin_week": "2026-W38",
        "sample_data.weeks": 4,
        "sample_data.posts_per_week": 450,
    }
    assert retrained[0][1] == kept | {"text.epochs": 3}
    assert retrain.changed(PARAMS, [], tmp_path) == kept
    (tmp_path / "params.yaml").write_text("logo: {epochs: 3}\n")  # whoever edits it decides
    demo.run(None, tmp_path, quick=True, params_file=PARAMS, overrides=[])
    assert retrained[1][1] == {"logo.epochs": 3}


def test_texts_are_embedded_and_scored_in_bfloat16_where_the_hardware_has_it(
    tmp_path: Path, retrained: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda device: True)
    demo.run(None, tmp_path, quick=True, params_file=PARAMS, overrides=[])
    given = retrained[0][1]
    assert given["text_embedding.lane"] == "bf16" and given["text.scoring_lane"] == "fastest" and given["text.mode"] == "head"
    demo.run(tmp_path / "delivery", tmp_path / "own", quick=False, params_file=PARAMS, overrides=[])
    assert retrained[1][1] == {}  # of real data nothing is asked for


def test_both_sizes_of_the_world_end_in_the_same_week() -> None:
    whole = yaml.safe_load(PARAMS.read_text())["sample_data"]
    quick = whole | demo.QUICK_WORLD["sample_data"]
    ends = [sample_data.monday_of(size["origin_week"]).toordinal() + 7 * size["weeks"] for size in (whole, quick)]
    assert ends[0] == ends[1]


def test_real_data_and_the_synthetic_world_never_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrain, "run", lambda *_: pytest.fail("refused before any work"))
    real = deliver(tmp_path / "real", tables())
    world = deliver(tmp_path / "world", tables())
    (world / "SYNTHETIC.json").write_text("{}")
    settings = ["--params", str(PARAMS), "--as-of", "2026-10-30T00:00:00Z"]
    for name, delivery in (("holds_real", real), ("holds_world", world)):
        assert ingest.main([str(delivery), "--store", str(tmp_path / name), *settings]) == 0
    for store, data in (("holds_real", None), ("holds_real", world), ("holds_world", real)):
        before = sorted((tmp_path / store).rglob("*"))
        with pytest.raises(BadUse, match=rf"{store}: holds .* UPHELD_STORE or --store"):
            demo.run(data, tmp_path / store, quick=False, params_file=PARAMS, overrides=[])
        assert sorted((tmp_path / store).rglob("*")) == before
    with monkeypatch.context() as patch:
        patch.setattr(retrain, "run", lambda *_: SimpleNamespace(name="r", workspace="w", tasks={"register": {}}))
        demo.run(world, tmp_path / "holds_world", quick=False, params_file=PARAMS, overrides=[])
        demo.run(real, tmp_path / "holds_real", quick=False, params_file=PARAMS, overrides=[])


def test_the_next_commands_name_the_store_only_where_they_must() -> None:
    assert retrain.named(Path("store")) == ""
    assert retrain.named(Path("/srv/my store")) == " --store '/srv/my store'"
