"""A question about each picture, answered by a vision model behind an OpenAI-compatible endpoint; off until params name one.

The table of answers is their cache: a picture is asked about once per model, question, schema and options, for these make the
version; the address, the budget and the waits do not. What the picture says may steer the model, so nothing but JSON that
fits the schema is kept. What is sent is a fresh JPEG of the pixels: no file name, no metadata, no word of the post.
"""

import base64
import io
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import jsonschema
import pyarrow as pa
import referencing
from PIL import Image

from upheld.common.errors import BadUse
from upheld.common.params.params import Params
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import Picture, decode_within
from upheld.feature_store.extractors import versions
from upheld.feature_store.extractors.contract import Extractor, Kind
from upheld.feature_store.extractors.image.chat_endpoint import ChatEndpoint, missing_key

_JPEG_QUALITY = 90
_SAID_CHARS = 200  # of an answer that does not fit, kept as the reason's detail


class VisionAnswer(Extractor):
    """The answer as JSON text with sorted keys.

    Raises:
        BadUse: `vision_answer.answer_schema` is no JSON Schema.
    """

    name: ClassVar[str] = "vision_answer"
    kind: ClassVar[Kind] = "image"
    columns: ClassVar[pa.Schema] = pa.schema([("answer", pa.string())])

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        # Params are frozen, their lists tuples; JSON has lists.
        self._schema = json.loads(json.dumps(params.vision_answer.answer_schema))
        try:
            jsonschema.Draft202012Validator.check_schema(self._schema)
        except jsonschema.SchemaError as error:
            raise BadUse(f"params: key vision_answer.answer_schema: not a JSON Schema: {error.message}") from error
        # A registry of its own, for the default one fetches what a "$ref" names.
        self._judge = jsonschema.Draft202012Validator(self._schema, registry=referencing.Registry())
        self._endpoint = ChatEndpoint(params.vision_answer)

    @cached_property
    def version(self) -> str:
        """Number of the code's version, digest of what decides an answer: model, question, schema, options, size of the picture."""
        settings = self.params.vision_answer.model_dump(include={"model", "question", "answer_schema", "options", "max_side"})
        return versions.version(1, settings)

    def unavailable(self) -> str | None:
        """Says so until params name an endpoint and, beyond this machine, the environment holds a key."""
        settings = self.params.vision_answer
        if not settings.url or not settings.model:
            return "switched off: set vision_answer.url and vision_answer.model to an OpenAI-compatible endpoint"
        return missing_key(settings.url)

    def decode(self, content: bytes) -> Arrays:
        """`image`, uint8 (H, W, 3).

        Raises:
            Undecodable: as `decode_within`.
        """
        return {"image": decode_within(content, self.params.vision_answer.max_side, self.params.ingest.max_media_pixels).picture}

    def extract(self, batch: Sequence[Arrays]) -> list[dict[str, Any] | Refused]:
        """Ask about one picture after the other; refusals as `ChatEndpoint.complete`, `vision_malformed` and `vision_off_schema`."""
        return [self._ask(arrays["image"]) for arrays in batch]

    def _ask(self, image: Picture) -> dict[str, Any] | Refused:
        said = self._endpoint.complete(self._request(image))
        if isinstance(said, Refused):
            return said
        try:
            answer = json.loads(said)
            self._judge.validate(answer)
        except (ValueError, RecursionError):
            return Refused("vision_malformed", f"expected JSON, got {said[:_SAID_CHARS]!r}")
        except (jsonschema.ValidationError, referencing.exceptions.Unresolvable) as error:
            return Refused("vision_off_schema", f"{str(error).splitlines()[0][:_SAID_CHARS]} in {said[:_SAID_CHARS]!r}")
        return {"answer": json.dumps(answer, sort_keys=True, ensure_ascii=False)}

    def _request(self, image: Picture) -> dict[str, Any]:
        settings = self.params.vision_answer
        picture = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{_jpeg(image)}"}}
        shape = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": self._schema}}
        messages = [{"role": "user", "content": [{"type": "text", "text": settings.question}, picture]}]
        return {"model": settings.model, "messages": messages, "response_format": shape, **settings.options}


def _jpeg(image: Picture) -> str:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
