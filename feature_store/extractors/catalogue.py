"""Which extractors there are, in the order in which they run: keyframes come before what reads images, for they make some."""

from typing import Final

from upheld.common.errors import BadUse
from upheld.common.params.params import Params
from upheld.feature_store.decoding.contract import load_class
from upheld.feature_store.extractors.contract import Extractor

# name -> module:class; modules are imported only when asked for.
EXTRACTORS: Final[dict[str, str]] = {
    "keyframes": "upheld.feature_store.extractors.video.keyframes:Keyframes",
    "motion": "upheld.feature_store.extractors.video.motion:Motion",
    "action": "upheld.feature_store.extractors.video.action:Action",
    "speech": "upheld.feature_store.extractors.audio.transcript:Speech",
    "transcript": "upheld.feature_store.extractors.audio.transcript:Transcript",
    "spectrogram": "upheld.feature_store.extractors.audio.spectrogram:Spectrogram",
    "audio_fingerprint": "upheld.feature_store.extractors.audio.fingerprint:AudioFingerprint",
    "language": "upheld.feature_store.extractors.text.language:Language",
    "text_embedding": "upheld.feature_store.extractors.text.embedding:TextEmbedding",
    "colour": "upheld.feature_store.extractors.image.colour:Colour",
    "image_hash": "upheld.feature_store.extractors.image.hashes:ImageHash",
    "image_embedding": "upheld.feature_store.extractors.image.embedding:ImageEmbedding",
    "clip_image": "upheld.feature_store.extractors.clip:ClipImage",
    "clip_text": "upheld.feature_store.extractors.clip:ClipText",
    "ocr": "upheld.feature_store.extractors.image.ocr:Ocr",
    "faces": "upheld.feature_store.extractors.image.faces:Faces",
    "caption": "upheld.feature_store.extractors.image.caption:Caption",
    "vision_answer": "upheld.feature_store.extractors.image.vision_answer:VisionAnswer",
}


def make(name: str, params: Params) -> Extractor:
    """The extractor of that name; loads no weights.

    Raises:
        BadUse: there is none.
    """
    if name not in EXTRACTORS:
        raise BadUse(f"no extractor {name!r}; there are {', '.join(EXTRACTORS)}")
    extractor: Extractor = load_class(EXTRACTORS[name])(params)
    return extractor
