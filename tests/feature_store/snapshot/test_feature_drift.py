"""Distance of two samples against a double loop; its test against its own level; and small cells, which are told nothing."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from upheld.common.params import params
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts.workspace import PinnedTable
from upheld.feature_store.features.table import KEYS, NO_FEATURES, FeatureStore, PinnedFeatures
from upheld.feature_store.snapshot.monitoring import drift, mmd2

SETTINGS = params.load(Path(__file__).resolve().parents[3] / "params.yaml", ["snapshot.drift_posts=60", "snapshot.drift_min_posts=40"])


def by_hand(x: np.ndarray, y: np.ndarray) -> float:
    """Equation 3 of the source, pair by pair."""
    both = [*x, *y]
    width = np.median([((a - b) ** 2).sum() for i, a in enumerate(both) for b in both[i + 1 :]])

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a - b) ** 2).sum() / width))

    within = [sum(kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j) / (len(z) * (len(z) - 1)) for z in (x, y)]
    return sum(within) - 2 * sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))


def test_the_distance_is_that_of_the_definition() -> None:
    random = np.random.default_rng(0)
    for n, m, shift in ((5, 9, 0.0), (12, 7, 1.0)):
        x, y = random.normal(size=(n, 3)), random.normal(size=(m, 3)) + shift
        assert mmd2(x, y, 9, 0)[0] == pytest.approx(by_hand(x, y), abs=1e-12)


def test_the_test_keeps_its_level_and_sees_a_shift() -> None:
    random = np.random.default_rng(1)
    same = [mmd2(*random.normal(size=(2, 40, 5)), 99, seed)[1] for seed in range(200)]
    assert 0.01 <= np.mean(np.array(same) <= 0.05) <= 0.10  # binomial(200, .05) lies there with probability .998
    assert mmd2(random.normal(size=(60, 5)), random.normal(size=(60, 5)) + 0.6, 199, 0)[1] == pytest.approx(1 / 200)
    assert mmd2(random.normal(size=(80, 5)), 1.7 * random.normal(size=(80, 5)), 199, 0)[1] < 0.05  # the mean alone has not moved


@pytest.fixture
def world(tmp_path: Path) -> tuple[pd.DataFrame, PinnedFeatures]:
    """Three weeks; in the last one German has moved, and Welsh is rare."""
    random = np.random.default_rng(2)
    languages = ["en"] * 60 + ["de"] * 60 + ["cy"] * 5
    posts = pd.DataFrame({"language": languages * 3, "week": np.repeat([0, 1, 2], len(languages))})
    posts["post_id"] = [f"p{number:03}" for number in range(len(posts))]
    posts["created_at"] = pd.Timestamp("2026-10-05", tz="UTC") + pd.to_timedelta(posts["week"] * 7, unit="D")
    posts["text"], posts["hashtags"] = "text of " + posts["post_id"], [[] for _ in range(len(posts))]
    vectors = random.normal(size=(len(posts), 4)) + 2.0 * ((posts["language"] == "de") & (posts["week"] == 2)).to_numpy()[:, None]
    schema = pa.schema([*KEYS, ("embedding", pa.list_(pa.float32(), 4))])
    keys = {"extractor_version": "1-a", "extracted_at": datetime(2026, 11, 1, tzinfo=UTC), "reason": None, "detail": None}
    rows = [keys | {"digest": hashing.of_bytes(t.encode()), "embedding": v.tolist()} for t, v in zip(posts["text"], vectors, strict=True)]
    FeatureStore(tmp_path).write("text_embedding", pa.Table.from_pylist(rows, schema))
    version = FeatureStore(tmp_path).versions["text_embedding"]
    return posts, PinnedFeatures(tmp_path, {"text_embedding": PinnedTable(lance_version=version, extractor_version="1-a", kind="text")})


def test_a_language_that_moves_is_named_and_a_rare_one_is_not_judged(world: tuple[pd.DataFrame, PinnedFeatures]) -> None:
    posts, features = world

    def found(about: pd.DataFrame) -> list[dict]:
        return drift(about, lambda wanted: posts[posts["post_id"].isin(wanted)], features, 7, SETTINGS.snapshot)

    cells = {(row["period"], row["language"]): row for row in found(posts)}
    assert sorted(cells) == [(week, language) for week in ("2026-W42", "2026-W43") for language in ("all", "cy", "de", "en")]
    verdicts = {key: row["verdict"] for key, row in cells.items()}
    assert verdicts["2026-W43", "de"] == verdicts["2026-W43", "all"] == "moved"
    assert {verdicts[week, "cy"] for week in ("2026-W42", "2026-W43")} == {"insufficient"}
    assert {verdicts["2026-W42", name] for name in ("all", "de", "en")} | {verdicts["2026-W43", "en"]} == {"steady"}
    assert (cells["2026-W43", "cy"]["n"], cells["2026-W43", "cy"]["mmd2"], cells["2026-W43", "cy"]["p"]) == (5, None, None)
    assert found(posts.sample(frac=1, random_state=0)) == found(posts)


def test_nothing_extracted_nothing_said(world: tuple[pd.DataFrame, PinnedFeatures]) -> None:
    assert drift(world[0], lambda wanted: world[0], NO_FEATURES, 7, SETTINGS.snapshot) == []
