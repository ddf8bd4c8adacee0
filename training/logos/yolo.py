"""YOLO by ultralytics: the only file that imports it, for its licence is AGPL-3.0 and its habits are its own.

It is told to stay offline, to install nothing, to load no pickles, to report to nobody, and to write below the folder it is given.
"""

import importlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
import yaml
from safetensors.torch import load_file, save_file

from upheld.common.errors import BadUse
from upheld.common.params.training import Logo
from upheld.feature_store.backbones.devices import best_device
from upheld.training.logos.photos import Found, PhotoMap, Pixels
from upheld.training.loop import tensor_file

ENVIRONMENT = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false", "ULTRALYTICS_SAFE_LOAD": "1"}
REPORTERS = ("mlflow", "clearml", "comet", "dvc", "hub", "neptune", "raytune", "tensorboard", "wandb", "sync")


def ultralytics(module: str, folder: Path) -> Any:
    """Import a module of ultralytics, named without that, with its hands tied; it keeps its settings in `folder`."""
    os.environ.update(ENVIRONMENT)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder))
    from ultralytics.utils import SETTINGS

    SETTINGS.update({name: False for name in REPORTERS if name in SETTINGS})
    return importlib.import_module(f"ultralytics.{module}")


class YoloBackend:
    """A network on the best device here, ready to detect.

    Args:
        network: ultralytics' DetectionModel, trained.
        architecture: the YAML mapping that it was made from.
        num_classes: brands.
        min_confidence: detections below are not given.
        folder: for ultralytics' settings.
    """

    def __init__(
        self, network: torch.nn.Module, architecture: dict[str, Any], num_classes: int, min_confidence: float, folder: Path
    ) -> None:
        self.network = network.to(best_device()).float().eval()
        self.arguments = {"architecture": architecture, "num_classes": num_classes, "min_confidence": min_confidence}
        self.suppress = ultralytics("utils.nms", folder).non_max_suppression

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """Marks on each of uint8 (N, S, S, 3) RGB pictures."""
        images = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).to(best_device()).float() / 255
        results = self.suppress(self.network(images), self.arguments["min_confidence"], 0.7)
        return [
            Found(found[:, :4].float().cpu().numpy(), found[:, 5].long().cpu().numpy(), found[:, 4].float().cpu().numpy())
            for found in results
        ]

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights; returns the arguments that make the network again."""
        save_file({name: tensor.contiguous().cpu() for name, tensor in self.network.state_dict().items()}, folder / tensor_file.NAME)
        return self.arguments


def load_yolo(folder: Path, arguments: dict[str, Any]) -> YoloBackend:
    """Read what `YoloBackend.save` wrote.

    Raises:
        OSError, RuntimeError: the weights are missing or another network's.
    """
    network = ultralytics("nn.tasks", folder).DetectionModel(arguments["architecture"], nc=arguments["num_classes"], verbose=False)
    network.load_state_dict(load_file(tensor_file.saved(folder)))
    return YoloBackend(network, **arguments, folder=folder)


def fit_yolo(
    train: PhotoMap, val: PhotoMap, brands: Sequence[str], settings: Logo, seed: int, folder: Path
) -> tuple[YoloBackend, list[dict[str, Any]]]:
    """Train a YOLO detector with ultralytics' own trainer, going on from its last epoch where one is in `folder`.

    Args:
        train: photos to learn from.
        val: photos that choose the epoch.
        brands: names of the classes 1, 2, …
        settings: section `logo` of the params; `yolo_weights` is a `.yaml` (from scratch) or a `.pt` file.
        seed: of weights, order and augmentation.
        folder: for the photos as it reads them, its settings and its checkpoints.

    Returns:
        the detector at its best epoch, and one record an epoch.

    Raises:
        BadUse: the weights are neither an architecture that ultralytics knows nor a file.
    """
    trainer_of = ultralytics("models.yolo.detect", folder).DetectionTrainer
    data = folder / "data.yaml"
    if not data.exists():
        # The layout that ultralytics reads: images/N.png and labels/N.txt with `class x y width height`, centres in shares of the side.
        for split, photos in {"train": train, "val": val}.items():
            for kind in ("images", "labels"):
                shutil.rmtree(folder / split / kind, ignore_errors=True)
                (folder / split / kind).mkdir(parents=True)
            for number, (picture, photo) in enumerate(zip(photos.pixels, photos.photos, strict=False)):
                cv2.imwrite(str(folder / split / "images" / f"{number}.png"), picture[..., ::-1])
                boxes = photo.boxes / picture.shape[0]
                centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
                lines = [f"{c - 1} {x} {y} {w} {h}\n" for c, (x, y), (w, h) in zip(photo.classes, centres, sides, strict=True)]
                (folder / split / "labels" / f"{number}.txt").write_text("".join(lines))
        data.write_text(
            yaml.safe_dump({"path": str(folder.resolve()), "train": "train/images", "val": "val/images", "names": list(brands)})
        )
    last, finished = folder / "run" / "weights" / "last.pt", folder / "finished"
    overrides = {
        "model": settings.yolo_weights, "data": str(data), "epochs": settings.epochs, "patience": settings.patience,
        "imgsz": settings.size, "batch": settings.batch_size, "seed": seed, "deterministic": True, "device": best_device().type,
        "project": str(folder.resolve()), "name": "run", "exist_ok": True, "plots": False, "workers": 0, "fliplr": 0.0, "amp": False,
        "resume": str(last) if last.exists() else False,
    }  # fmt: skip
    try:
        if not finished.exists():
            trainer_of(overrides=overrides).train()
            finished.touch()
    except FileNotFoundError as error:
        raise BadUse(
            f"logo.yolo_weights: {settings.yolo_weights!r} is no architecture or file ({error}); name one, such as yolov8n.yaml"
        ) from error
    network, _ = ultralytics("nn.tasks", folder).load_checkpoint(folder / "run" / "weights" / "best.pt")
    results = pd.read_csv(folder / "run" / "results.csv", skipinitialspace=True)
    history = [{"epoch": int(e), "map_50": float(m)} for e, m in zip(results["epoch"], results["metrics/mAP50(B)"], strict=True)]
    return YoloBackend(network, dict(network.yaml), len(brands), settings.min_confidence, folder), history
