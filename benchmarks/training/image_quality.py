"""Does the image classifier learn from photographs, and in which mode? Two groups of brands in FlickrLogos-27, present or not.

usage: python benchmarks/training/image_quality.py [--data ../shared/data/flickrlogos27] [--modes head head-then-full full] [--seeds 1 2 3]
                                          [--set image.epochs=4]

A third of the photos, chosen by the digest of their bytes, is held out; of the rest a sixth chooses the epoch, and is what modes are to be
chosen by. The yardstick is a logistic regression on the same network's frozen features, trained on train and val together; it has no
seed. Differences are paired, their intervals 2,000 bootstraps of photos within class.
The last line is `ratio N`: (1 - mean ROC-AUC of the yardstick) / (1 - mean ROC-AUC of the last mode named), over groups and seeds.
"""

import argparse
import datetime
import itertools
import platform
import subprocess
import tempfile
import time
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
    """Train in each mode and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickrlogos27"))
    parser.add_argument("--modes", nargs="+", default=["head", "head-then-full"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    asked = [f"policies=[{', '.join(GROUPS)}]", *args.set]
    params = parameters.load(args.params, asked)
    photos, contents = read_photos(args.data)
    train, val, test = (photos[photos["split"] == split].reset_index(drop=True) for split in ("train", "val", "test"))
    frozen = features(prepare(params), photos, contents)
    yardstick = np.stack([scores_of_yardstick(frozen, photos, group) for group in GROUPS], axis=1)
    examples = photos.melt(id_vars="post_id", value_vars=list(GROUPS), var_name="category", value_name="label").assign(weight=1.0)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"image: {params.image.model_dump()}")
    print(f"{len(train)} train, {len(val)} val, {len(test)} held-out photos")
    print(f"{'mode':16}{'seed':>5}{'epoch':>6}{'seconds':>8}  {'group':12}{'val':>6}{'held out':>9}{'frozen + LR':>12}{'difference':>11}")
    errors: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        shards = pictures(Path(folder), contents, params.image.size, lambda names: ((name, contents[name]) for name in names))
        for mode, seed in itertools.product(args.modes, args.seeds):
            own = parameters.load(args.params, [*asked, f"image.mode={mode}", f"seed={seed}"])
            start, model = time.monotonic(), prepare(own)
            record, _ = fit_image(model, train, val, examples, examples, own, shards, Path(folder) / f"{mode}-{seed}")
            took_s = time.monotonic() - start
            ours, of_val = (predict_image(model, some["image_digests"].tolist(), contents.__getitem__) for some in (test, val))
            for column, group in enumerate(GROUPS):
                area, other, difference = compared(test[group].to_numpy(), ours[:, column], yardstick[:, column])
                errors.setdefault(mode, []).append([1 - other, 1 - area])
                about = f"{mode:16}{seed:>5}{record['best_epoch']:>6}{took_s:>8.0f}  {group:12}"
                print(f"{about}{roc_auc_score(val[group], of_val[:, column]):>6.3f}{area:>9.3f}{other:>12.3f}  {difference}", flush=True)
    peer, mine = np.mean(errors[args.modes[-1]], axis=0)
    print(f"ratio {peer / mine:.3f}")


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


def compared(labels: NDArray[np.float64], ours: NDArray[np.floating], theirs: NDArray[np.floating]) -> tuple[float, float, str]:
    """ROC-AUC of both, and ours minus theirs with the middle 95 % of its bootstraps."""
    random = np.random.default_rng(0)
    positive, negative = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    gaps = []
    for _ in range(NUM_BOOTSTRAPS):
        rows = np.concatenate([random.choice(positive, len(positive)), random.choice(negative, len(negative))])
        gaps.append(roc_auc_score(labels[rows], ours[rows]) - roc_auc_score(labels[rows], theirs[rows]))
    low, high = np.quantile(gaps, [0.025, 0.975])
    area, other = float(roc_auc_score(labels, ours)), float(roc_auc_score(labels, theirs))
    return area, other, f"{area - other:+.3f} [{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
