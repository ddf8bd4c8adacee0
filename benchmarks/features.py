"""How close feature extraction comes to the slower of its two halves: loading, and the network.

usage: python benchmarks/features.py [--images 1600] [--texts 2048]

Three lanes each for the image vectors and the text vectors, with the weights and parameters of params.yaml, on a GPU if there is one:
loader only (read from the ledger, decoded in the engine's worker processes; texts tokenised on top), the network on tensors that lie
on its device, and end to end, `upheld features` from an empty feature store to written tables, weights already loaded once in this
process. The first two are measured before and after the third, for other users of the machine come and go. Besides: JPEG 640 × 480
to 224 by plain Pillow and by the decoder here, on one processor.
The photographs and texts are invented; texts have the lengths of social media posts (median 24 words, some past a hundred).
The last line is the smaller of end to end / slower lane for images and for texts.
"""

import argparse
import datetime
import io
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from upheld.common.params import params as parameters
from upheld.feature_store.backbones.image import to_tensor
from upheld.feature_store.backbones.text import padded
from upheld.feature_store.contracts import hashing
from upheld.feature_store.contracts import tables as contracts
from upheld.feature_store.contracts.workspace import features_location
from upheld.feature_store.decoding.images import decode_square
from upheld.feature_store.extraction import command as features
from upheld.feature_store.extraction.contents import ContentReader, PostContents
from upheld.feature_store.extractors import catalogue
from upheld.feature_store.extractors.contract import Extractor
from upheld.feature_store.extractors.image.embedding import ImageEmbedding
from upheld.feature_store.extractors.text.embedding import TextEmbedding
from upheld.feature_store.features.table import FeatureStore
from upheld.feature_store.ledger import ledger
from upheld.feature_store.sandbox.pool import DecodePool, num_cpus

SIZE = 224
DAY = datetime.datetime(2026, 11, 2, tzinfo=datetime.UTC)
NUM_JPEGS = 300  # decoded for the comparison with Pillow


def photograph(number: int) -> bytes:
    """A JPEG of 640 × 480 with detail at all scales, 50 kB as photographs of that size have."""
    random = np.random.default_rng(number)
    shapes = [(3, 4), (12, 16), (48, 64), (240, 320)]
    coarse = [Image.fromarray(random.integers(0, 256, (*shape, 3), np.uint8)) for shape in shapes]
    layers = [np.asarray(image.resize((640, 480), Image.Resampling.BICUBIC)) for image in coarse]
    stream = io.BytesIO()
    mixed = sum(share * layer.astype(float) for share, layer in zip((0.4, 0.3, 0.25, 0.05), layers, strict=True))
    Image.fromarray(np.asarray(mixed, np.uint8)).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def sentences(count: int) -> list[str]:
    """Texts of invented words, each another one."""
    random = np.random.default_rng(1)
    syllables = ["ba", "lo", "ne", "ri", "tum", "sa", "ko", "vel", "mi", "dor", "一", "天", "กา", "नम"]
    words = ["".join(random.choice(syllables, random.integers(1, 4))) for _ in range(3000)]
    return [f"{number} " + " ".join(random.choice(words, int(random.lognormal(3.2, 0.6)) + 1)) for number in range(count)]


def fill_ledger(store: Path, images: Sequence[bytes], texts: Sequence[str]) -> None:
    """A ledger of posts with one picture each, and posts with a text each."""
    digests = [hashing.of_bytes(content) for content in images]
    captions = [None] * len(images) + list(texts)
    media = [[{"kind": "image", "uri": name, "digest": name}] for name in digests] + [[]] * len(texts)
    schema = contracts.LEDGER["posts"]
    number = len(captions)
    values = {
        "post_id": [f"p{row}" for row in range(number)],
        "row_digest": [f"{row:064x}" for row in range(number)],
        "text": captions,
        "media": media,
        "language": ["und"] * number,
    }
    filler = {pa.timestamp("us", tz="UTC"): DAY, pa.string(): "x", pa.int64(): 0}
    columns = [values.get(field.name) or [None if field.nullable else filler[field.type]] * number for field in schema]
    files = [
        {"digest": name, "kind": "image", "format": "JPEG", "width": 640, "height": 480, "num_bytes": len(content), "bytes": content}
        for name, content in zip(digests, images, strict=True)
    ]
    posts = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    with ledger.writing(store) as change:
        change.upsert("posts", pa.table(posts, schema=schema))
        change.upsert("media", pa.Table.from_pylist(files, contracts.LEDGER["media"]))
        change.commit()


def loader_per_s(params: parameters.Params, store: Path, extractor: Extractor) -> float:
    """Contents a second that are read and decoded as the engine does, and tokenised if texts; workers already started."""
    where = features_location(store, params.features.location)
    rows = PostContents(ledger.Ledger(store), FeatureStore(where)).of(extractor.kind)
    ahead = 2 * params.features.model_batch[extractor.kind]
    with DecodePool(catalogue.EXTRACTORS[extractor.name], params, params.features.decode_timeout_s[extractor.kind], num_cpus()) as pool:
        decoded = pool.decode((content for _, content in ContentReader(store, where).read(rows)), ahead)
        next(decoded)
        started = time.perf_counter()
        arrays = list(decoded)
        if isinstance(extractor, TextEmbedding):
            texts = [each["bytes"].tobytes().decode() for each in arrays if isinstance(each, dict)]
            extractor._model[1].encode_batch_fast([params.text_embedding.prefix + text for text in texts])
        return len(arrays) / (time.perf_counter() - started)


def network_per_s(batches: Sequence[dict[str, torch.Tensor]], network: Callable[..., object]) -> float:
    """Rows a second of a network on resident batches, warmed up."""
    with torch.inference_mode():
        network(**batches[-1])
        network(**batches[-1])
        _wait()
        started = time.perf_counter()
        for batch in batches:
            network(**batch)
        _wait()
    return sum(len(next(iter(batch.values()))) for batch in batches) / (time.perf_counter() - started)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def image_batches(params: parameters.Params, extractor: ImageEmbedding, images: Sequence[bytes]) -> list[dict[str, torch.Tensor]]:
    """Scaled pixels as the extractor makes them, on the network's device, as many pictures together as the engine hands it."""
    size, backbone = params.features.model_batch["image"], extractor._backbone
    device = next(backbone.network.parameters()).device
    pixels = np.stack([decode_square(content, params.image_embedding.size) for content in images])
    parts = [torch.from_numpy(pixels[start : start + size]).to(device) for start in range(0, len(pixels), size)]
    return [{"x": to_tensor(part, backbone.mean, backbone.std)} for part in parts]


def text_batches(params: parameters.Params, extractor: TextEmbedding, texts: Sequence[str]) -> list[dict[str, torch.Tensor]]:
    """Token ids as the extractor makes them: of each portion of the engine, texts of like length together."""
    portion, size = params.features.model_batch["text"], params.text_embedding.batch_size
    encoder, tokenizer = extractor._model
    device = next(encoder.parameters()).device
    ids = [encoding.ids for encoding in tokenizer.encode_batch_fast([params.text_embedding.prefix + text for text in texts])]
    portions = [sorted(ids[start : start + portion], key=len) for start in range(0, len(ids), portion)]
    batches = [some[start : start + size] for some in portions for start in range(0, len(some), size)]
    return [{name: tensor.to(device) for name, tensor in padded(encoder, batch).items()} for batch in batches]


def jpeg_per_s(images: Sequence[bytes]) -> tuple[float, float]:
    """Pictures per second of processor time, by plain Pillow and by our decoder, in turns."""
    took = [0.0, 0.0]
    for content in images[:NUM_JPEGS]:
        for place, decode in enumerate((_plain, lambda content: decode_square(content, SIZE))):
            started = time.thread_time()
            decode(content)
            took[place] += time.thread_time() - started
    number = min(len(images), NUM_JPEGS)
    return number / took[0], number / took[1]


def _plain(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    args = parser.parse_args()
    params = parameters.load(Path("params.yaml"), args.set)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    where = f"{platform.machine()}, {num_cpus()} processors, {device}, load {os.getloadavg()[0]:.1f}"
    print(f"{datetime.date.today()} · {where} · commit {commit}")
    images, texts = [photograph(number) for number in range(args.images)], sentences(args.texts)
    plain, ours = jpeg_per_s(images)
    print(f"JPEG 640 x 480 to {SIZE}: plain Pillow {plain:.0f}/s, here {ours:.0f}/s, {ours / plain:.2f} times as many")
    print(f"\n{'per second':18}{'loader only':>13}{'network only':>14}{'end to end':>12}{'of the slower':>15}")
    fractions = []
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        fill_ledger(store, images, texts)
        image, text = ImageEmbedding(params), TextEmbedding(params)
        for name, extractor, batches, network in (
            (image.name, image, image_batches(params, image, images[:640]), image._backbone.network),
            (text.name, text, text_batches(params, text, texts[:1024]), text._model[0]),
        ):
            before = loader_per_s(params, store, extractor), network_per_s(batches, network)
            result = features.run(params, store, [name])["extractors"][name]
            after = loader_per_s(params, store, extractor), network_per_s(batches, network)
            lanes = [2 / (1 / first + 1 / second) for first, second in zip(before, after, strict=True)]
            end_to_end = result["computed"] / result["took_s"]
            fractions.append(end_to_end / min(lanes))
            print(f"{name:18}{lanes[0]:>13.1f}{lanes[1]:>14.1f}{end_to_end:>12.1f}{fractions[-1]:>15.3f}")
    print(f"ratio {min(fractions):.3f}")


if __name__ == "__main__":
    main()
