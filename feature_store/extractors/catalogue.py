"""Which extractors there are, in the order in which they run: keyframes come before what reads images, for they make some."""

from typing import Final

from feature_store.decoding_contract import load_class
from feature_store.errors import BadUse
from feature_store.extractors.contract import Extractor
from feature_store.params import Params

# name -> module:class; modules are imported only when asked for.
EXTRACTORS: Final[dict[str, str]] = {
    "keyframes": "feature_store.extractors.keyframes:Keyframes",
    "motion": "feature_store.extractors.motion:Motion",
    "action": "feature_store.extractors.action:Action",
    "speech": "feature_store.extractors.speech:Speech",
    "transcript": "feature_store.extractors.transcript:Transcript",
    "spectrogram": "feature_store.extractors.spectrogram:Spectrogram",
    "audio_fingerprint": "feature_store.extractors.audio_fingerprint:AudioFingerprint",
    "language": "feature_store.extractors.language:Language",
    "text_embedding": "feature_store.extractors.text_embedding:TextEmbedding",
    "colour": "feature_store.extractors.colour:Colour",
    "image_hash": "feature_store.extractors.image_hash:ImageHash",
    "image_embedding": "feature_store.extractors.image_embedding:ImageEmbedding",
    "clip_image": "feature_store.extractors.clip_image:ClipImage",
    "clip_text": "feature_store.extractors.clip_text:ClipText",
    "ocr": "feature_store.extractors.ocr:Ocr",
    "faces": "feature_store.extractors.faces:Faces",
    "caption": "feature_store.extractors.caption:Caption",
    "vision_answer": "feature_store.extractors.vision_answer:VisionAnswer",
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
