"""The Faster R-CNN detector: trained in our own loop, applied, saved, loaded."""

from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from upheld.common import curves
from upheld.common.params.training import Logo
from upheld.feature_store.backbones.devices import Lane, best_device
from upheld.feature_store.logos.dataset.dataset import CORNERS
from upheld.feature_store.logos.dataset.precision import average_precision
from upheld.training.logos.network import FasterRcnn
from upheld.training.logos.photos import BATCH, DETECTIONS, Found, PhotoMap, Pixels, moved, padded
from upheld.training.loop import tensor_file
from upheld.training.loop.batches import Batches, Forward, Inputs
from upheld.training.loop.examples import Rows
from upheld.training.loop.loop import Fitted, fit


class FasterRcnnBackend:
    """A network on the best device here, ready to detect.

    Args:
        network: trained.
        arguments: what `FasterRcnn` was made with, `pretrained` aside.
    """

    def __init__(self, network: FasterRcnn, arguments: dict[str, Any]) -> None:
        self.network = network.to(best_device()).eval()
        self.arguments = arguments

    @torch.inference_mode()
    def detect(self, pictures: Pixels) -> list[Found]:
        """Marks on each of uint8 (N, S, S, 3) pictures."""
        self.network.eval()
        results = self.network.network(list(to_images(pictures).to(best_device()).float() / 255))
        return [
            Found(found["boxes"].float().cpu().numpy(), found["labels"].cpu().numpy() - 1, found["scores"].float().cpu().numpy())
            for found in results
        ]

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the weights; returns the arguments that make the network again."""
        save_file({name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}, folder / tensor_file.NAME)
        return self.arguments


def load_faster_rcnn(folder: Path, arguments: dict[str, Any]) -> FasterRcnnBackend:
    """Read what `FasterRcnnBackend.save` wrote.

    Raises:
        OSError, RuntimeError: the weights are missing or another network's.
    """
    network = FasterRcnn(**arguments, pretrained=False)
    network.load_state_dict(load_file(tensor_file.saved(folder)))
    return FasterRcnnBackend(network, arguments)


def to_images(pictures: Pixels) -> torch.Tensor:
    """uint8 (N, S, S, 3) pictures as uint8 (N, 3, S, S)."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2)


def fit_faster_rcnn(
    train: PhotoMap, val: PhotoMap, brands: Sequence[str], settings: Logo, seed: int, checkpoint: Path, lane: Lane
) -> tuple[FasterRcnnBackend, Fitted]:
    """Train a detector.

    Args:
        train: photos to learn from, those without marks included.
        val: photos that choose the epoch, by mean average precision at IoU 0.5.
        brands: names of the classes 1, 2, …
        seed: of weights, order and augmentation.
        checkpoint: file for progress.
        lane: which kernels may be used.

    Returns:
        the detector at its best epoch, and the training record.
    """
    torch.manual_seed(seed)
    arguments: dict[str, Any] = {
        "backbone": settings.backbone, "num_classes": len(brands), "size": settings.size, "min_confidence": settings.min_confidence,
    }  # fmt: skip
    network = FasterRcnn(**arguments, pretrained=True)

    def inputs(rows: Rows, seed: int) -> Inputs:
        random = np.random.default_rng(seed)
        pictures, photos = zip(*(moved(train.pixels[row], train.photos[row], settings.size, random) for row in rows), strict=True)
        boxes, classes = padded(photos)
        return {"images": to_images(np.stack(pictures)), "boxes": torch.from_numpy(boxes), "classes": torch.from_numpy(classes)}

    def evaluate() -> dict[str, Any]:
        precision = mean_average_precision(FasterRcnnBackend(network, arguments), val, brands, settings.size)
        return {"score": precision, "map_50": precision}

    def loss(forward: Forward, inputs: Inputs) -> torch.Tensor:
        return forward(inputs)

    names = [photo.digest for photo in train.photos]
    batches = Batches(np.ones(len(train), np.int64), inputs, loss, lambda rows: float(len(rows)), names)
    on_gpu = best_device().type != "cpu"
    fitted = fit(network, batches, evaluate, settings, seed, checkpoint, on_gpu, lane, curves=curves.place())
    return FasterRcnnBackend(network, arguments), fitted


def mean_average_precision(backend: FasterRcnnBackend, photos: PhotoMap, brands: Sequence[str], size: int) -> float | None:
    """COCO's mAP at IoU 0.5 of a detector as it stands, for choosing an epoch.

    Args:
        backend: the detector.
        photos: what it is shown.
        brands: names of the classes 1, 2, …
        size: side of the input in pixels.

    Returns:
        mean over the brands that have marks; None where none has.
    """
    factor = size / photos.pixels.shape[1]
    finds: list[tuple[Any, ...]] = []
    for start in range(0, len(photos), BATCH):
        some = photos.photos[start : start + BATCH]
        shown = photos.pixels[start : start + len(some)]
        squares = np.stack([np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8) for picture in shown])
        for photo, found in zip(some, backend.detect(squares), strict=True):
            finds += zip(repeat(photo.digest), (brands[c] for c in found.classes), found.confidences, *found.boxes.T, strict=False)
    marks = [(p.digest, brands[c - 1], *box) for p in photos.photos for c, box in zip(p.classes, p.boxes * factor, strict=True)]
    truth = pd.DataFrame(marks, columns=["image", "brand", *CORNERS])
    names = [photo.digest for photo in photos.photos]
    return average_precision(names, truth, pd.DataFrame(finds, columns=list(DETECTIONS)), brands).mean(iou_50=True)
