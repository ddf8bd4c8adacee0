"""The decoders of pictures do their work in confined processes, too."""

from pathlib import Path

import numpy as np
import pytest

from tests.feature_store.extractors.pictures import blobs, encoded
from upheld.common.params import params
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.sandbox.pool import DecodePool

PARAMS = params.load(Path("params.yaml"), ["features.decode_memory_bytes=536870912"])


@pytest.mark.parametrize("name", ["colour", "image_hash", "image_embedding", "clip_image"])
def test_a_worker_gives_what_the_decoder_gives(name: str) -> None:
    good = [encoded(blobs(1), kind) for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP")]
    with DecodePool(catalogue.EXTRACTORS[name], PARAMS, timeout_s=30, num_workers=1) as pool:
        found = list(pool.decode([*good, b"", good[0][:3000]], ahead=4))
    assert [answer.reason for answer in found if isinstance(answer, Refused)] == ["image_empty", "image_truncated"]
    extractor = catalogue.make(name, PARAMS)
    for content, arrays in zip(good, found, strict=False):
        assert isinstance(arrays, dict)
        assert all(np.array_equal(values, arrays[key]) for key, values in extractor.decode(content).items())
