"""Text drawn on pictures: memes, screenshots, captions burnt into a video.

The model (PP-OCRv4 by PaddlePaddle, Apache-2.0, in the package rapidocr-onnxruntime) reads English and simplified Chinese. Of other
Latin letters it drops most accents, of traditional Chinese it drops characters, of Japanese all kana; Korean, Hindi and Bengali
give nothing. Russian, Greek, Thai, Hebrew and Tamil come out as Latin letters that look alike, at times with a high probability:
`min_prob` does not keep all of that out, so `feature_store/posts/enrichment.py` says into which posts' texts this one is merged.
"""

from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import Picture, decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind, packaged_folder

_MAX_ASPECT = 4  # of what the model is given; narrower pictures get a margin, or enlarging them would fill the memory
_LINE = pa.struct([("text", pa.string()), ("prob", pa.float32()), *((name, pa.float32()) for name in ("x1", "y1", "x2", "y2"))])


class Ocr(Extractor):
    """Lines of text with their boxes, as shares of the picture's width and height, and the whole text in reading order."""

    name: ClassVar[str] = "ocr"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("text", pa.string()), ("lines", pa.list_(_LINE))])

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digest of the params and of the three models."""
        folder = packaged_folder("rapidocr_onnxruntime")
        weights = sorted((folder / "models").glob("*.onnx")) if folder else []
        return extractor_version(1, self.params.ocr.model_dump(), weights)

    def unavailable(self) -> str | None:
        """Says so where the package with the models is not installed."""
        if packaged_folder("rapidocr_onnxruntime") is None:
            return "package rapidocr-onnxruntime is not installed; run `make setup`"
        return None

    def decode(self, content: bytes) -> Arrays:
        """`image`, uint8 (H, W, 3). Raises as `decode_within`."""
        return {"image": decode_within(content, self.params.ocr.max_side, self.params.ingest.max_media_pixels).picture}

    @cached_property
    def _engine(self) -> Any:
        from rapidocr_onnxruntime import RapidOCR  # OpenCV and ONNX Runtime

        bounds = self.params.ocr
        # Lines one by one: padded to the longest of six, they take twice as long.
        engine = RapidOCR(det_limit_side_len=bounds.min_side, text_score=bounds.min_prob, rec_batch_num=1)
        engine.text_rec = _bounded(engine.text_rec, bounds.max_length)
        return engine

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """The text that is read in a picture."""
        image = arrays["image"]
        height, width = image.shape[:2]
        shorter = max(32, -(-max(height, width) // _MAX_ASPECT))  # too narrow a picture gets a white margin at the right or below
        margins = ((0, max(0, shorter - height)), (0, max(0, shorter - width)), (0, 0))
        framed = np.pad(image, margins, constant_values=255)
        found, _ = self._engine(np.ascontiguousarray(framed[:, :, ::-1]))  # the model knows pictures as BGR
        lines: list[dict[str, Any]] = []
        for corners, text, prob in found or []:
            if text.strip():  # the four corners, which may be askew, become the upright box around them
                across, down = np.clip(np.asarray(corners, np.float64) / (width, height), 0.0, 1.0).T
                box = {"x1": across.min(), "y1": down.min(), "x2": across.max(), "y2": down.max()}
                lines.append({"text": text, "prob": float(prob)} | {side: float(share) for side, share in box.items()})
        rows: list[list[dict[str, Any]]] = []  # lines whose middle lies within the first one's height are one row of the text
        for line in sorted(lines, key=lambda line: (line["y1"] + line["y2"], line["x1"])):
            if rows and line["y1"] + line["y2"] < 2 * rows[-1][0]["y2"]:
                rows[-1].append(line)
            else:
                rows.append([line])
        rows = [sorted(row, key=lambda line: float(line["x1"])) for row in rows]
        return {"text": "\n".join(" ".join(line["text"] for line in row) for row in rows), "lines": [line for row in rows for line in row]}


def _bounded(recognise: Any, max_length: float) -> Any:
    """The package's recogniser, which leaves off where a picture's lines, from the top, are longer together than `max_length`.

    Recognising takes nearly all the time where there is much text, and a page of small print would take a minute.
    """

    def read(crops: list[Picture], word_boxes: bool = False) -> tuple[list[tuple[str, float]], float]:
        """Text and probability of each line, empty beyond `max_length`, and seconds taken."""
        lengths = np.cumsum([crop.shape[1] / crop.shape[0] for crop in crops])
        num = int(np.searchsorted(lengths, max_length, side="right"))
        found, seconds = recognise(crops[:num], word_boxes) if num else ([], 0.0)
        return [*found, *[("", 0.0)] * (len(crops) - num)], seconds

    return read
