"""Classifiers of a few thousand random weights, and a workspace as the graph leaves it, made in a second: fixture `tiny`."""

import io
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel

from upheld.feature_store.backbones.image import empty_image_backbone
from upheld.feature_store.contracts.snapshot import EXAMPLES, EXAMPLES_FILE, POSTS, POSTS_FILE, SERVED_FILE, UNREVIEWED_FILE
from upheld.feature_store.contracts.tables import NUM_BANDS
from upheld.feature_store.features.media import Spectrogram
from upheld.training.audio.model import AudioModel, AudioSetup
from upheld.training.fusion.model import FEATURES
from upheld.training.image.model import ImageModel, ImageSetup
from upheld.training.logos import detector
from upheld.training.logos import photos as logo_photos
from upheld.training.logos import scan as logo_scan
from upheld.training.loop import classifier, teacher
from upheld.training.ngrams.model import NgramModel, NgramSetup, save_ngrams, vectoriser_of
from upheld.training.text.model import TextModel, TextSetup, save_text

POLICIES = ("hate_speech", "spam")
WORDS = ("[PAD]", "[UNK]", "buy", "now", "cheap", "hello", "friend", "hate", "them", "query", ":")
FEATURES_PINNED = {"spectrogram": {"lance_version": 2, "extractor_version": "1-abc", "kind": "audio"}}
BACKBONE = "test_efficientnet"  # timm's smallest: 0.1 M weights
BRANDS = {"blue": (0, 0, 255), "green": (0, 128, 0), "red": (255, 0, 0)}  # what `Colours` calls a brand
SIDE = 40  # of its input, pixels


def text_model(policies: tuple[str, ...] = POLICIES) -> TextModel:
    torch.manual_seed(3)
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 64}
    encoder = BertModel(BertConfig(vocab_size=len(WORDS), **sizes), add_pooling_layer=False)
    return TextModel(encoder, tokenizer, TextSetup("tiny", "0" * 64, policies, 32, "query: ")).eval()


def ngram_model(policies: tuple[str, ...] = POLICIES) -> NgramModel:
    random = np.random.default_rng(6)
    vectoriser = vectoriser_of((2, 3), None)
    vectoriser.fit([" ".join(WORDS[2:9])] * 2)
    coefficients = random.normal(size=(len(policies), len(vectoriser.vocabulary_))).astype(np.float32)
    return NgramModel(NgramSetup(policies, (2, 3)), vectoriser, coefficients, random.normal(size=len(policies)).astype(np.float32))


def image_model(policies: tuple[str, ...] = POLICIES) -> ImageModel:
    torch.manual_seed(4)
    backbone = empty_image_backbone(BACKBONE)
    return ImageModel(backbone, ImageSetup(BACKBONE, "0" * 64, policies, 32, backbone.mean, backbone.std)).eval()


def audio_model(policies: tuple[str, ...] = POLICIES) -> AudioModel:
    torch.manual_seed(5)
    return AudioModel(AudioSetup(policies, (4, 8), (-5.0,) * NUM_BANDS, (2.0,) * NUM_BANDS)).eval()


def sound(pitch: int, num_frames: int = 60, seed: int = 0) -> Spectrogram:
    """Noise, louder in the band `pitch`."""
    random = np.random.default_rng([seed, pitch, num_frames])
    noise = random.normal(-5, 1, (num_frames, NUM_BANDS))
    noise[:, pitch] += 4
    return noise.astype(np.float16)


def picture(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(stream, "PNG")
    return stream.getvalue()


class Colours:
    """A logo detector that finds the pixels of each of BRANDS, the surer the more there are."""

    def detect(self, pictures):
        return [self._found(picture) for picture in pictures]

    def _found(self, picture):
        boxes, classes, confidences = [], [], []
        for number, colour in enumerate(BRANDS.values()):
            y, x = np.nonzero((picture == colour).all(2))
            if len(x):
                boxes.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
                classes.append(number)
                confidences.append(0.2 + 0.8 * len(x) / (SIDE * SIDE * 0.75))
        return logo_photos.Found(np.array(boxes, np.float32).reshape(-1, 4), np.array(classes, np.int64), np.array(confidences, np.float32))


def patch_detector(patch: pytest.MonkeyPatch) -> None:
    """Folders that `save_colours` wrote load as `Colours`, all others as before."""
    load = detector.load

    def loaded(folder):
        about = json.loads((folder / "metadata.json").read_text())
        return detector.Detector(Colours(), tuple(BRANDS), SIDE) if about.get("kind") == "colours" else load(folder)

    patch.setattr(detector, "load", loaded)


def save_colours(workspace: Path, threshold: float | None = 0.3) -> None:
    """What the logo stages leave behind, up to the certificate of the threshold."""
    (workspace / "models/logo/metadata.json").write_text(json.dumps({"kind": "colours"}))
    (workspace / "data/logo_evaluation/logo.json").write_text(json.dumps({"threshold": threshold, "untrained": None}))


def save_no_logos(workspace: Path) -> None:
    """The same where there was nothing to learn from."""
    for name in ("models/logo", "data/logo_evaluation"):
        (workspace / name).mkdir(parents=True)
    detector.save_untrained(workspace / "models/logo", "no box of split train among 0 photos")
    logo_scan.save(logo_scan.NOTHING, workspace / "data/logo_scan")
    (workspace / "data/logo_evaluation/logo.json").write_text(json.dumps({"threshold": 0.5, "untrained": "no box"}))


def marked(*colours: str) -> bytes:
    """A grey picture of 40 x 30 with a 10 x 10 square of each colour."""
    image = Image.new("RGB", (40, 30), (110, 110, 110))
    for place, colour in enumerate(colours):
        image.paste(BRANDS[colour], (12 * place, 5, 12 * place + 10, 15))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def save_models(workspace: Path, *, with_image: bool = True) -> None:
    for name in ("text", "ngrams", "image", "audio"):
        (workspace / "models" / name).mkdir(parents=True)
    save_text(text_model(), workspace / "models/text", {})
    save_ngrams(ngram_model(), workspace / "models/ngrams", {})
    teacher.save_weight(workspace / "models/ngrams", 0.0, {}, {})
    if with_image:
        classifier.save_model(image_model(), workspace / "models/image", {})
    else:
        classifier.save_untrained(workspace / "models/image", "no labelled post has an image", POLICIES)
    classifier.save_model(audio_model(), workspace / "models/audio", {})


def save_snapshot(folder: Path, num_posts: int = 300, synthetic: bool = True, digests: tuple[str, ...] = ()) -> None:
    """Posts of all splits; spam says `buy`, `cheap` or `now` and is mostly labelled so. With `digests` every fourth post has an image.

    Every post of split train has a twin that nobody reviewed, and what served scored both.
    """
    random = np.random.default_rng(5)
    spam = random.random(num_posts) < 0.5
    posts = pd.DataFrame({"post_id": [f"p{number:04d}" for number in random.permutation(num_posts)]})
    posts["split"] = np.resize(["train", "fusion", "fusion", "calib", "test"], num_posts)
    posts["language"] = np.resize(["en", "de", "und"], num_posts)
    posts["region"] = np.resize(np.array(["US", None], object), num_posts)
    posts["author_group"] = None
    posts["period"] = "2026-W40"
    posts["text"] = [" ".join(random.choice(WORDS[2:5] if is_spam else WORDS[5:9], 3)) for is_spam in spam]
    posts.loc[posts.index % 10 == 9, "text"] = None
    posts["image_digests"] = [[digests[row // 4 % len(digests)]] if digests and row % 4 == 0 else [] for row in range(num_posts)]
    posts["num_frames"] = 0
    posts["video_digests"] = posts["audio_digests"] = [[] for _ in range(num_posts)]
    posts["num_hashtags"] = random.integers(0, 4, num_posts)
    posts["has_link"] = spam & (random.random(num_posts) < 0.5)
    posts["prior_removals"] = random.integers(0, 3, num_posts)
    said = pd.concat(
        [posts[["post_id", "split"]].assign(category=policy, truth=truth) for policy, truth in zip(POLICIES, (~spam, spam), strict=True)]
    )
    said = said[random.random(len(said)) < 0.7].reset_index(drop=True)
    said["hard_label"] = (said["truth"] ^ (random.random(len(said)) < 0.1)).astype("Int8")
    said.loc[said.index % 11 == 0, "hard_label"] = pd.NA
    said["label"] = said["hard_label"].astype("Float32")
    said["weight"] = np.float32(1)
    appeal = said.index % 7 == 0
    said["evidence"] = np.where(appeal, "appeal", "sample")
    said["inclusion_prob"] = np.where(appeal, np.nan, 0.25)
    said["zone"] = np.where(appeal, None, "review")
    unreviewed = posts[posts["split"] == "train"].assign(post_id=lambda rows: "u" + rows["post_id"])
    served = pd.concat([posts, unreviewed])[["post_id"]].assign(category="spam", action="none", model_version="old-1")
    served["score"] = np.where(pd.concat([posts, unreviewed])["text"].fillna("").str.contains("buy|cheap|now"), 0.8, 0.1)
    folder.mkdir(parents=True)
    served.to_parquet(folder / SERVED_FILE)
    examples = said.drop(columns="truth")
    for table, schema, name in ((posts, POSTS, POSTS_FILE), (unreviewed, POSTS, UNREVIEWED_FILE), (examples, EXAMPLES, EXAMPLES_FILE)):
        table.assign(**{column: None for column in schema.names if column not in table}).to_parquet(folder / name)
    posts.loc[posts["split"] == "train", ["post_id", "split"]].to_parquet(folder / "membership.parquet")
    (folder / "manifest.json").write_text(json.dumps({"digest": "e" * 64, "synthetic": synthetic, "features": FEATURES_PINNED}))


def save_calibration(folder: Path) -> None:
    """A calibration that differs by language, and thresholds that let something of everything happen."""
    entry = {"isotonic": {"x": [0.0, 1.0], "y": [0.1, 0.9]}, "mean": [0.2, 1.1], "languages": {"de": [-0.5, 0.9]}, "n": 100}
    folder.mkdir(parents=True)
    (folder / "calibration.json").write_text(json.dumps({"categories": {"spam": entry, "hate_speech": None}}))
    languages = {"en": {"action": "auto_remove"}, "de": {"action": "review"}}
    rule = {"auto_remove": {"threshold": 0.55, "languages": languages}, "review": {"threshold": 0.45}}
    (folder / "thresholds.json").write_text(json.dumps({"categories": {"spam": rule, "hate_speech": rule}}))


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """This module: test modules cannot import it by name."""
    return sys.modules[__name__]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return save_workspace(tmp_path / "workspace")


def save_workspace(folder: Path) -> Path:
    """A workspace with models, snapshot, fusion and calibration, without images in its posts."""
    save_models(folder)
    save_no_logos(folder)
    save_snapshot(folder / "data/snapshot")
    save_calibration(folder / "data/calibration")
    learnt = {
        "intercept": 0.1,
        "coefficients": dict.fromkeys(FEATURES, 0.0) | {"text_logit": 2.0, "ngrams_logit": 1.0, "has_link": 0.7},
        "base_rate_logit": -1.0,
    }
    learnt["coefficients"] |= {"image_logit": 0.5, "audio_logit": 0.25}
    learnt |= {"num_positive": 30, "num_negative": 30, "reason": None}
    (folder / "models/fusion").mkdir(parents=True)
    (folder / "models/fusion/fusion.json").write_text(json.dumps({"l2": 1.0, "policies": dict.fromkeys(POLICIES, learnt)}))
    return folder
