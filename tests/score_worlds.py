"""Score tables for the tests, and the params they are evaluated with."""

from pathlib import Path

import numpy as np
import pandas as pd

from upheld.common.params import params

PARAMS = Path(__file__).resolve().parents[1] / "params.yaml"


def settings(*overrides: str) -> params.Params:
    return params.load(PARAMS, list(overrides))


def table(num_rows: int = 3000, seed: int = 0, *, weighted: bool = True, languages=("en", "de", "sw")) -> pd.DataFrame:
    """Two categories, each item in both; labels from a draw whose probability depends on the score."""
    rng = np.random.default_rng(seed)
    parts = []
    for category, prevalence in (("spam", 0.3), ("hate_speech", 0.1)):
        label = rng.random(num_rows) < prevalence
        score = 1 / (1 + np.exp(-rng.normal(np.where(label, 1.5, -2.5), 1.3)))
        prob = np.select([score > 0.9, score > 0.5], [0.5, 0.9], 0.2) if weighted else np.ones(num_rows)
        parts.append(
            pd.DataFrame(
                {
                    "item_id": [f"i{number}" for number in range(num_rows)],
                    "category": category,
                    "language": rng.choice(languages, num_rows, p=[0.6, 0.35, 0.05][: len(languages)]),
                    "region": rng.choice(["US", "DE", "KE"], num_rows),
                    "score": score,
                    "label": np.where(rng.random(num_rows) < prob, label.astype(float), np.nan),
                    "inclusion_prob": prob,
                    "zone": np.select([score > 0.9, score > 0.5], ["auto_remove", "review"], "none"),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def thresholds(**by_category) -> dict:
    """Content of thresholds.json: category=(review, auto_remove, languages that are off)."""
    categories = {}
    for category, (review, removal, off) in by_category.items():
        common = {"target": 0.9, "delta": 0.1, "n": 100, "n_eff": 90.0, "need_n": None, "incumbent": None, "path": [], "reason": None}
        categories[category] = {
            "review": {**common, "threshold": review, "outcome": "insufficient" if review is None else "certified", "bound": 0.9},
            "auto_remove": {
                **common,
                "threshold": removal,
                "outcome": "abstained" if removal is None else "certified",
                "bound": None if removal is None else 0.96,
                "languages": {name: {"action": "review" if name in off else "auto_remove"} for name in ("en", "de", "sw")},
            },
        }
    return {"categories": categories}


SHIFTS = {"swap": 1.5, "homoglyphs": 0.2, "zero_width": 0.0, "spacing": 0.7, "leetspeak": 0.5, "transliteration": 0.0, "repeat": 0.4,
          "drop": 0.6, "search": 4.0, "fgsm": 1.0, "pgd": 3.0, "pixels": 0.5, "jpeg": 0.1}  # fmt: skip
PICTURES = ("fgsm", "pgd", "pixels", "jpeg")
MEMBERS = {"text": 1.2, "ngrams": 0.8, "image": 1.2, "ensemble": 0.7}  # by how much each falls for an attack


def attacks(rows: pd.DataFrame, seed: int = 0, names=tuple(SHIFTS)) -> pd.DataFrame:
    """Content of data/attacks.parquet: the labelled violations of a score table with every attack on texts, a third of its labelled posts
    with every attack on pictures; an attack takes the logit of each by chance between nothing and its shift to the wrong side."""
    rng = np.random.default_rng(seed)
    known = rows[rows.label.notna()]
    shown = known.item_id.str[1:].astype(int) % 3 == 0
    parts = []
    for member, weakness in MEMBERS.items():
        clean = np.log(known.score / (1 - known.score)) + (member != "ensemble") * rng.normal(0, 0.3, len(known))
        for name in names:
            pictures = name in PICTURES
            own = (shown if pictures else known.label == 1) & (
                member in (("image", "ensemble") if pictures else ("text", "ngrams", "ensemble"))
            )
            attacked = clean - SHIFTS[name] * weakness * rng.random(len(known)) * np.where(known.label == 1, 1, -1)
            about = {"policy": known.category, "modality": "image" if pictures else "text", "attack": name, "member": member}
            probs = {
                f"{kind}_prob": (1 / (1 + np.exp(-logit))).astype("float32") for kind, logit in (("clean", clean), ("attacked", attacked))
            }
            part = pd.DataFrame({"post_id": known.item_id, "language": known.language, **about, "label": known.label == 1,
                                 "weight": 1 / known.inclusion_prob, **probs, "edits": np.int32(0 if pictures else 3)})  # fmt: skip
            parts.append(part[own])
    return pd.concat(parts, ignore_index=True)
