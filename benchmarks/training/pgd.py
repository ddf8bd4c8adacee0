"""What does training against attacks buy? An image classifier fine-tuned without it and with it, attacked by PGD that knows its weights.

usage: python benchmarks/training/pgd.py [--data ../shared/data/flickrlogos27] [--eps 2] [--photos 120] [--set image.epochs=4]

Photos, groups and splits are those of `image_quality.py`; both sides start from the head on frozen features and take the same epochs.
Attacked are held-out photos, as many that show a brand of a group as that do not, per group the first `--photos` by digest: ten steps of
PGD within eps of 255, and one of FGSM. Accuracy is at the threshold that gets most of the val photos right, not attacked.
The last line is `ratio N`: accuracy under PGD of the defended side over that of the other (over 1/photos, where that is 0), both the mean
over groups.
"""

import argparse
import datetime
import platform
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from image_quality import GROUPS, read_photos
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from upheld.common.params import params as parameters
from upheld.feature_store.decoding.images import decode_square
from upheld.training.image.model import predict_image
from upheld.training.image.stage import fit_image, pictures, prepare
from upheld.training.robustness import pictures as attacks

STEPS = 10
BATCH = 20


def main() -> None:
    """Train both sides, attack them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickrlogos27"))
    parser.add_argument("--eps", type=float, default=2.0, help="of 255, of the attack and of the defence")
    parser.add_argument("--photos", type=int, default=120, help="attacked of each group, half of them violations")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    asked = [f"policies=[{', '.join(GROUPS)}]", "image.mode=head-then-full", *args.set]
    photos, contents = read_photos(args.data)
    train, val, test = (photos[photos["split"] == split].reset_index(drop=True) for split in ("train", "val", "test"))
    examples = photos.melt(id_vars="post_id", value_vars=list(GROUPS), var_name="category", value_name="label").assign(weight=1.0)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    print(f"{datetime.date.today()} · {platform.machine()}, {torch.get_num_threads()} threads · commit {commit}")
    print(f"image: {parameters.load(args.params, asked).image.model_dump()}; attack: {args.eps}/255, PGD of {STEPS} steps")
    print(f"{'side':12}{'epoch':>6}{'seconds':>8}  {'group':12}{'ROC-AUC':>8}{'accuracy':>9}{'FGSM':>7}{'PGD':>7}")
    under_pgd: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        size = parameters.load(args.params, asked).image.size
        shards = pictures(Path(folder), contents, size, lambda names: ((name, contents[name]) for name in names))
        for side, eps in (("undefended", 0.0), ("defended", args.eps)):
            params = parameters.load(args.params, [*asked, f"image.adversarial_eps={eps}"])
            start, model = time.monotonic(), prepare(params)
            record, _ = fit_image(model, train, val, examples, examples, params, shards, Path(folder) / side)
            took_s = time.monotonic() - start
            of_val, of_test = (predict_image(model, some["image_digests"].tolist(), contents.__getitem__) for some in (val, test))
            for column, group in enumerate(GROUPS):
                threshold = best_threshold(of_val[:, column], val[group].to_numpy() == 1)
                rows = np.concatenate([np.flatnonzero(test[group] == label)[: args.photos // 2] for label in (1, 0)])
                label = test[group].to_numpy()[rows] == 1
                right: dict[str, list[NDArray[np.bool_]]] = {"clean": [], "fgsm": [], "pgd": []}
                for place in range(0, len(rows), BATCH):
                    part, of_part = rows[place : place + BATCH], label[place : place + BATCH]
                    shown = [[decode_square(contents[digests[0]], model.setup.size)] for digests in test["image_digests"].iloc[part]]
                    batch = attacks.batch_of(model, shown, [0] * len(part), np.full(len(part), column, np.int64), of_part)
                    draws = [np.random.default_rng(int(row)) for row in part]
                    attacked = {"clean": batch.pixels, "fgsm": attacks.fgsm(batch, args.eps / 255)}
                    attacked["pgd"] = attacks.pgd(batch, args.eps / 255, STEPS, draws)
                    for name, pixels in attacked.items():
                        right[name].append((attacks.probabilities(batch, pixels) >= threshold) == of_part)
                share = {name: float(np.concatenate(parts).mean()) for name, parts in right.items()}
                under_pgd.setdefault(side, []).append(share["pgd"])
                area = roc_auc_score(test[group], of_test[:, column])
                about = f"{side:12}{record['best_epoch']:>6}{took_s:>8.0f}  {group:12}"
                print(f"{about}{area:>8.3f}{share['clean']:>9.3f}{share['fgsm']:>7.3f}{share['pgd']:>7.3f}", flush=True)
    defended, other = (float(np.mean(under_pgd[side])) for side in ("defended", "undefended"))
    print(f"ratio {defended / max(other, 1 / args.photos):.2f}")


def best_threshold(probs: NDArray[np.float32], label: NDArray[np.bool_]) -> float:
    """The probability that, as a threshold, gets most posts right."""
    return float(max(np.unique(probs), key=lambda threshold: float(((probs >= threshold) == label).mean())))


if __name__ == "__main__":
    main()
