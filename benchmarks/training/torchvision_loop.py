"""Fine-tuning EfficientNet-lite0: our loop against the plain one that a tutorial of torchvision writes, on the same photographs.

usage: python benchmarks/training/torchvision_loop.py [--data ../shared/data/flickrlogos27] [--epochs 3] [--seeds 1] [--set KEY=VALUE]

Photos, groups and splits are those of `image_quality.py`. Theirs: a Dataset that opens the JPEG and a DataLoader with two workers,
transforms.v2 (RandomResizedCrop of the area ours crops, ToDtype, Normalize), AdamW at our learning rate, batches as large as ours, a linear
head on the same pretrained network, batch norms as they came, no validation. Ours: `image.mode=full`, validation included. Cold: from JPEG,
each side as it does that (we decode once and keep it). Cached: both read pictures of our size that were decoded before. Seconds are of the
processor, over all processes, so that other work on the machine counts little; those on the clock are printed beside.
The last line is `ratio N`: their seconds over ours, cold, medians over seeds.
"""

import argparse
import datetime
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from image_quality import GROUPS, read_photos
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from upheld.common.params import params as parameters
from upheld.feature_store.backbones.image import load_image_backbone
from upheld.feature_store.decoding.images import decode_square
from upheld.training.image.model import predict_image
from upheld.training.image.stage import MIN_CROP_SHARE, fit_image, pictures, prepare

WORKERS = 2


def main() -> None:
    """Train both sides cold and cached, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickrlogos27"))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    epochs = [f"image.epochs={args.epochs}", f"image.patience={args.epochs}"]
    asked = [f"policies=[{', '.join(GROUPS)}]", "image.mode=full", *epochs, *args.set]
    photos, contents = read_photos(args.data)
    train, val, test = (photos[photos["split"] == split].reset_index(drop=True) for split in ("train", "val", "test"))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"{len(train)} photos, {args.epochs} epochs")
    taken: dict[tuple[str, str], list[float]] = {}
    for seed in args.seeds:
        params = parameters.load(args.params, [*asked, f"seed={seed}"])
        size = params.image.size
        decoded = {name: Image.fromarray(decode_square(raw, size)) for name, raw in contents.items()}
        with tempfile.TemporaryDirectory() as folder:
            sides: dict[tuple[str, str], Callable[[], NDArray[np.float32]]] = {
                ("cold", "torchvision"): partial(theirs, train, test, contents.__getitem__, params, size),
                ("cold", "ours"): partial(ours, train, val, test, photos, contents, params, Path(folder)),
                ("cached", "torchvision"): partial(theirs, train, test, decoded.__getitem__, params, size),
                ("cached", "ours"): partial(ours, train, val, test, photos, contents, params, Path(folder)),
            }
            for (how, side), run in sides.items():
                processor, clock = spent_s(), time.monotonic()
                probs = run()
                took_s, clock_s = spent_s() - processor, time.monotonic() - clock
                taken.setdefault((how, side), []).append(took_s)
                areas = "  ".join(f"{group} {roc_auc_score(test[group], probs[:, c]):.3f}" for c, group in enumerate(GROUPS))
                print(f"{how:7} {side:12} seed {seed} {took_s:7.1f} s of the processor {clock_s:7.1f} s on the clock  {areas}", flush=True)
    for how in ("cold", "cached"):
        faster = np.median(taken[how, "torchvision"]) / np.median(taken[how, "ours"])
        print(f"{how}: {faster:.2f} times as fast")
    print(f"ratio {np.median(taken['cold', 'torchvision']) / np.median(taken['cold', 'ours']):.2f}")


def spent_s() -> float:
    """Seconds of the processor that this process and its ended children have taken."""
    each = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in each)


def ours(
    train: pd.DataFrame,
    val: pd.DataFrame,
    test: pd.DataFrame,
    photos: pd.DataFrame,
    contents: dict[str, bytes],
    params: parameters.Params,
    folder: Path,
) -> NDArray[np.float32]:
    """Train as the stage image does, decoding what is not decoded yet; probabilities of the test photos."""
    examples = photos.melt(id_vars="post_id", value_vars=list(GROUPS), var_name="category", value_name="label").assign(weight=1.0)
    wanted = {name for some in (train, val) for digests in some["image_digests"] for name in digests}
    shards = pictures(folder, wanted, params.image.size, lambda names: ((name, contents[name]) for name in names))
    model = prepare(params)
    fit_image(model, train, val, examples, examples, params, shards, folder / "progress")
    (folder / "progress").unlink()
    return predict_image(model, test["image_digests"].tolist(), contents.__getitem__)


class Photos(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Photos and labels, opened when asked for."""

    def __init__(self, photos: pd.DataFrame, get: Callable[[str], bytes | Image.Image], transform: v2.Compose) -> None:
        self.names, self.get, self.transform = [digests[0] for digests in photos["image_digests"]], get, transform
        self.labels = torch.from_numpy(photos[list(GROUPS)].to_numpy(np.float32))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.get(self.names[row])
        picture = Image.open(BytesIO(found)).convert("RGB") if isinstance(found, bytes) else found
        return self.transform(picture), self.labels[row]


def theirs(
    train: pd.DataFrame, test: pd.DataFrame, get: Callable[[str], bytes | Image.Image], params: parameters.Params, size: int
) -> NDArray[np.float32]:
    """Train as a tutorial does; probabilities of the test photos."""
    torch.manual_seed(params.seed)
    backbone = load_image_backbone(params.image.backbone)
    model = nn.Sequential(backbone.network, nn.Dropout(params.image.dropout), nn.Linear(backbone.num_features, len(GROUPS)))
    told = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(backbone.mean, backbone.std)]
    crop = v2.RandomResizedCrop(size, scale=(MIN_CROP_SHARE**2, 1.0), ratio=(1.0, 1.0))
    jitter = v2.ColorJitter(brightness=0.2, contrast=0.2)
    learnt = DataLoader(Photos(train, get, v2.Compose([crop, jitter, *told])), params.image.batch_size, shuffle=True, num_workers=WORKERS)
    optimizer = torch.optim.AdamW(model.parameters(), params.image.learning_rate, weight_decay=params.image.weight_decay)
    for _ in range(params.image.epochs):
        model.train()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        for pixels, labels in learnt:
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(model(pixels), labels).backward()
            optimizer.step()
    model.eval()
    judged = DataLoader(Photos(test, get, v2.Compose([v2.Resize((size, size)), *told])), 32)
    with torch.inference_mode():
        found: NDArray[np.float32] = np.concatenate([torch.sigmoid(model(pixels)).numpy() for pixels, _ in judged])
    return found


if __name__ == "__main__":
    main()
