"""A first look without any data: make synthetic score tables, calibrate and certify on them, evaluate, show the report.

usage: python -m upheld.evaluation.quickstart --out data/quickstart
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from upheld.common import files
from upheld.common.command import command
from upheld.common.errors import FailedWork
from upheld.evaluation import calibrate, evaluate

NUM_POSTS, SEED = 30_000, 7
# Category: share of violations, and how far their scores lie above the others' (logits).
CATEGORIES = {"spam": (0.1, 5.2), "hate_speech": (0.06, 4.2), "misinformation": (0.04, 3.0)}
# Language: share of the posts, and by how much the model overrates harmless posts there (logits). One is served worse.
LANGUAGES = {
    "en": (0.42, 0.0),
    "es": (0.2, 0.0),
    "de": (0.14, -0.2),
    "pt": (0.12, 0.9),
    "hi": (0.08, 0.2),
    "sw": (0.03, 0.4),
    "und": (0.01, 0.0),
}
ZONES = (("auto_remove", 2.5, 0.7), ("review", -0.5, 0.9), ("none", -np.inf, 0.1))  # from this logit on; share that people see
CHAMPION_NOISE = 1.2  # what the model in force adds to the challenger's logits


def sample_scores(num_posts: int, seed: int, noise: float = 0.3) -> pd.DataFrame:
    """Scores of a world that does not exist, in the scores contract, with labels where an audit looked.

    Args:
        num_posts: posts; each has a row for every category.
        seed: of the world; tables of one seed hold the same posts, labels and draws.
        noise: standard deviation, in logits, of what this model adds to the world's best score.

    Returns:
        rows of the splits calib (the first six tenths) and test, all marked synthetic; label is null where nobody looked.
    """
    world, own = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    shares = np.array([share for share, _ in LANGUAGES.values()])
    language = world.choice(list(LANGUAGES), size=num_posts, p=shares / shares.sum())
    tilt = np.array([LANGUAGES[code][1] for code in language])
    tables = []
    for name, (share, distance) in CATEGORIES.items():
        violation = world.random(num_posts) < share
        logit = world.normal(-3.0 + np.where(violation, distance, tilt), 1.0)
        reached = [logit >= start for _, start, _ in ZONES]
        inclusion = np.select(reached, [seen for _, _, seen in ZONES], 0.0)
        looked = world.random(num_posts) < inclusion
        columns = {
            "item_id": [f"post-{number:06d}" for number in range(num_posts)],
            "category": name,
            "language": language,
            "score": 1 / (1 + np.exp(-1.4 * (logit + own.normal(0.0, noise, num_posts)))),
            "label": np.where(looked, violation.astype(float), np.nan),
            "inclusion_prob": inclusion,
            "zone": np.select(reached, [zone for zone, _, _ in ZONES], ""),
            "split": np.where(np.arange(num_posts) < 0.6 * num_posts, "calib", "test"),
            "synthetic": True,
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


@command("quickstart")
def main(out: Annotated[Path, typer.Option(help="Folder for the tables and everything made from them.")] = Path("data/quickstart")) -> None:
    """Show what calibrate and evaluate do, on synthetic scores."""
    for name, noise in (("scores", 0.3), ("champion_scores", CHAMPION_NOISE)):
        files.write_parquet(out / f"{name}.parquet", sample_scores(NUM_POSTS, SEED, noise))
    table, layer = ["--scores", str(out / "scores.parquet")], out / "calibration"
    thresholds = ["--thresholds", str(layer / "thresholds.json"), "--calibration", str(layer / "calibration.json")]
    champion = ["--champion-scores", str(out / "champion_scores.parquet")]
    _step("calibrate", calibrate.main, [*table, "--out", str(layer)])
    _step("evaluate", evaluate.main, [*table, *thresholds, *champion, "--out", str(out)])
    print((out / "report.md").read_text(encoding="utf-8"))
    print(f"The whole report, to open in a browser: {(out / 'report.html').resolve()}")


def _step(name: str, command: Callable[[Sequence[str]], int], arguments: list[str]) -> None:
    print("$ upheld", name, *arguments, flush=True)
    if command(arguments):
        raise FailedWork(f"upheld {name} failed; what it said stands above")


if __name__ == "__main__":
    sys.exit(main())
