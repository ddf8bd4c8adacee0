"""Does the image classifier learn from photographs? Two groups of brands in FlickrLogos-27, present or not, on held-out photos.

usage: python benchmarks/image_quality.py [--data ../shared/data/flickrlogos27] [--set image.epochs=4]

A third of the photos, chosen by the digest of their bytes, is held out; of the rest a sixth chooses the epoch. The yardstick is
a logistic regression on the same network's frozen features, trained on train and val together. Intervals: 2,000 bootstraps of
photos within class. The last line is `ratio N`: (1 - mean ROC-AUC of the yardstick) / (1 - mean ROC-AUC of ours).
"""

import argparse
import datetime
import platform
import subprocess
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from upheld.common.params import params as parameters
from upheld.feature_store.contracts import hashing
from upheld.feature_store.decoding.images import decode_square
from upheld.training.image.model import ImageModel, predict_image
from upheld.training.image.stage import fit_image, pictures, prepare

GROUPS = {
    "car_maker": ["BMW", "Citroen", "Ferrari", "Ford", "Mini", "Porsche"],
    "drink": ["Cocacola", "Heineken", "Pepsi", "RedBull", "Sprite", "Starbucks"],
}
NUM_BOOTSTRAPS = 2000


def main() -> None:
    """Train, score the held-out photos and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickrlogos27"))
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    params = parameters.load(args.params, [f"policies=[{', '.join(GROUPS)}]", *args.set])
    photos, contents = read_photos(args.data)
    train, val, test = (photos[photos["split"] == split].reset_index(drop=True) for split in ("train", "val", "test"))
    model = prepare(params)
    frozen = features(model, photos, contents)
    examples = photos.melt(id_vars="post_id", value_vars=list(GROUPS), var_name="category", value_name="label").assign(weight=1.0)
    with tempfile.TemporaryDirectory() as folder:
        shards = pictures(Path(folder), contents, params.image.size, lambda names: ((name, contents[name]) for name in names))
        record, samples_per_s = fit_image(model, train, val, examples, examples, params, shards, Path(folder) / "progress")
    ours = predict_image(model, test["image_digests"].tolist(), contents.__getitem__)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"image: {params.image.model_dump()}")
    print(f"{len(train)} train, {len(val)} val, {len(test)} held-out photos; epoch {record['best_epoch']} kept, ", end="")
    print(f"{samples_per_s or 0:.1f} samples/s\n")
    print(f"{'group':12}{'present':>9}{'ROC-AUC of ours (95 % interval)':>36}{'of frozen features':>24}")
    errors = np.zeros((len(GROUPS), 2))
    for column, group in enumerate(GROUPS):
        yardstick = scores_of_yardstick(frozen, photos, group)
        labels = test[group].to_numpy()
        areas = [interval(labels, scores) for scores in (ours[:, column], yardstick)]
        errors[column] = [1 - area[0] for area in areas]
        texts = [f"{area:.3f} [{low:.3f}, {high:.3f}]" for area, low, high in areas]
        print(f"{group:12}{int(labels.sum()):>5}/{len(labels)}{texts[0]:>36}{texts[1]:>24}")
    print(f"ratio {errors[:, 1].mean() / errors[:, 0].mean():.3f}")


def read_photos(folder: Path) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Photos with their split and a column 0/1 per group, and bytes by digest."""
    brands = pd.read_parquet(folder / "train_boxes.parquet").groupby("file")["brand"].agg(set)
    with zipfile.ZipFile(folder / "images.zip") as archive:
        contents = {name: archive.read(name) for name in sorted(archive.namelist())}
    rows = []
    for name, content in contents.items():
        key = hashing.of_bytes(content)
        place = int(key[:8], 16) % 18
        split = "test" if place < 6 else "val" if place < 8 else "train"
        present = {group: float(bool(brands[name] & set(members))) for group, members in GROUPS.items()}
        rows.append({"post_id": name, "image_digests": [key], "num_frames": 0, "split": split, **present})
    return pd.DataFrame(rows), {hashing.of_bytes(content): content for content in contents.values()}


def features(model: ImageModel, photos: pd.DataFrame, contents: dict[str, bytes]) -> NDArray[np.float32]:
    """Features of the untrained network, (photos, features)."""
    model.eval()
    with torch.inference_mode():
        parts = []
        for start in range(0, len(photos), 32):
            names = [digests[0] for digests in photos["image_digests"][start : start + 32]]
            batch = model.collate([[decode_square(contents[name], model.setup.size)] for name in names])
            parts.append(model.network(batch["pixels"].to(next(model.parameters()).device)).cpu().numpy())
    return np.concatenate(parts)


def scores_of_yardstick(frozen: NDArray[np.float32], photos: pd.DataFrame, group: str) -> NDArray[np.float64]:
    """Logistic regression on frozen features, scoring the held-out photos."""
    held_out = (photos["split"] == "test").to_numpy()
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    regression.fit(frozen[~held_out], photos[group].to_numpy()[~held_out])
    scores: NDArray[np.float64] = regression.decision_function(frozen[held_out])
    return scores


def interval(labels: NDArray[np.float64], scores: NDArray[np.floating]) -> tuple[float, float, float]:
    """ROC-AUC and the middle 95 % of its bootstraps within class."""
    random = np.random.default_rng(0)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    areas = []
    for _ in range(NUM_BOOTSTRAPS):
        rows = np.concatenate([random.choice(positive, len(positive)), random.choice(negative, len(negative))])
        areas.append(roc_auc_score(labels[rows], scores[rows]))
    low, high = np.quantile(areas, [0.025, 0.975])
    return float(roc_auc_score(labels, scores)), float(low), float(high)


if __name__ == "__main__":
    main()
