"""How many faces a picture shows, where, and how large. Nobody is recognised: no code here, and no weights, could tell whose they are.

The detector is MTCNN: three small networks, of which the last draws the boxes. The package's own `__init__` imports further classes;
nothing of ours names them, and the weights in the package are the detector's alone.

Source: Zhang, Zhang, Li & Qiao (2016), IEEE Signal Processing Letters 23(10), "Joint face detection and alignment using multitask
cascaded convolutional networks".
"""

from functools import cached_property, partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind, packaged_folder

_PACKAGE = "facenet_pytorch"
_NETS = ("PNet", "RNet", "ONet")
_THRESHOLDS = (0.6, 0.7, 0.7)  # of the three networks, as the package's authors set them
_PYRAMID_STEP = 0.709  # each level has half the pixels of the one before
_SIDES = ("x1", "y1", "x2", "y2")
_BOX = pa.struct([(name, pa.float32()) for name in (*_SIDES, "prob")])


class Faces(Extractor):
    """Count, boxes as shares of the picture's width and height with the largest face first, and its share of the picture's area."""

    name: ClassVar[str] = "faces"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("count", pa.int32()), ("boxes", pa.list_(_BOX)), ("largest_share", pa.float32())])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digest of the params and of the three networks."""
        folder = packaged_folder(_PACKAGE)
        weights = sorted((folder / "data").glob("*.pt")) if folder else []
        return extractor_version(1, self.params.faces.model_dump(), weights)

    def unavailable(self) -> str | None:
        """Says so where the package with the networks is not installed."""
        if packaged_folder(_PACKAGE) is None:
            return "package facenet-pytorch is not installed; run `make setup`"
        return None

    def decode(self, content: bytes) -> Arrays:
        """`image`, uint8 (H, W, 3). Raises as `decode_within`."""
        return {"image": decode_within(content, self.params.faces.max_side, self.params.ingest.max_media_pixels).picture}

    @cached_property
    def _detect(self) -> Any:
        import torch  # seconds
        from facenet_pytorch.models import mtcnn
        from facenet_pytorch.models.utils.detect_face import detect_face

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folder = packaged_folder(_PACKAGE)
        assert folder is not None, "unavailable() says so first"
        nets = {}
        for name in _NETS:
            net = getattr(mtcnn, name)(pretrained=False)
            net.load_state_dict(torch.load(folder / "data" / f"{name.lower()}.pt", map_location=device, weights_only=True))
            nets[name.lower()] = net.to(device).eval()
        detect = partial(
            detect_face, minsize=self.params.faces.min_face, threshold=_THRESHOLDS, factor=_PYRAMID_STEP, device=device, **nets
        )
        return torch.inference_mode()(detect)

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The faces that are found in a picture."""
        image = arrays["image"]
        height, width = image.shape[:2]
        boxes: list[dict[str, float]] = []
        if min(height, width) >= self.params.faces.min_face:  # the detector fails on less
            (found, *_), _ = self._detect(image)
            for row in found:
                if row[4] >= self.params.faces.min_prob:  # a detection in pixels, which may reach beyond the picture
                    sides = np.clip(np.asarray(row[:4], np.float64) / (width, height, width, height), 0.0, 1.0)
                    boxes.append(dict(zip(_SIDES, sides.tolist(), strict=True)) | {"prob": float(row[4])})
        boxes.sort(key=_area, reverse=True)
        return {"count": len(boxes), "boxes": boxes, "largest_share": _area(boxes[0]) if boxes else 0.0}


def _area(box: dict[str, float]) -> float:
    return (box["x2"] - box["x1"]) * (box["y2"] - box["y1"])
