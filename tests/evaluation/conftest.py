"""Small score tables whose every number can be recomputed by masks."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

CHROMIUM = Path("/usr/bin/chromium")
ZONES = ["auto_remove", "review", "none"]
ZONE_PROB = np.array([0.3, 0.6, 0.05])


def _score_table(num_rows: int, seed: int, categories: tuple[str, ...] = ("hate_speech", "spam"), regions: bool = False) -> pd.DataFrame:
    """Rows of the scores contract: labelled with the zone's probability, unlabelled ones with a null label."""
    rng = np.random.default_rng(seed)
    violation = rng.random(num_rows) < 0.1
    score = np.where(violation, rng.beta(6, 1.2, num_rows), rng.beta(0.6, 12, num_rows))
    zone = np.where(score > 0.85, 0, np.where(score > 0.4, 1, 2))
    prob = ZONE_PROB[zone]
    label = np.where(rng.random(num_rows) < prob, violation.astype(float), np.nan)
    rows = pd.DataFrame(
        {
            "item_id": [f"i{seed}-{k}" for k in range(num_rows)],
            "category": rng.choice(categories, num_rows),
            "language": rng.choice(["de", "en", "hi", "zh"], num_rows, p=[0.3, 0.5, 0.15, 0.05]),
            "score": score,
            "label": label,
            "inclusion_prob": prob,
            "zone": np.array(ZONES)[zone],
        }
    )
    return rows.assign(region=rng.choice(["DE", "IN", "US"], num_rows)) if regions else rows


@pytest.fixture(scope="session")
def score_table() -> Callable[..., pd.DataFrame]:
    """The function that makes one: score_table(num_rows, seed, categories, regions)."""
    return _score_table


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; the test is skipped, visibly, where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()
