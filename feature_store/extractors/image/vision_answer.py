"""A question about each picture, answered by a vision model behind an OpenAI-compatible endpoint; off until params name one.

The table of answers is their cache: a picture is asked about once per model, question, schema and options, for these make the
version; the address, the budget and the waits do not. What the picture says may steer the model, so nothing but JSON that
fits the schema is kept. What is sent is a fresh JPEG of the pixels: no file name, no metadata, no word of the post.
"""

import base64
import io
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from typing import Any, ClassVar, Final

import jsonschema
import pyarrow as pa
import referencing
from PIL import Image

from upheld.common.errors import BadUse
from upheld.common.params import extractors as sections
from upheld.common.params.params import Params
from upheld.feature_store.contracts.hashing import extractor_version
from upheld.feature_store.decoding.contract import Arrays, Refused
from upheld.feature_store.decoding.images import Picture, decode_within
from upheld.feature_store.extractors.contract import Extractor, Kind

_JPEG_QUALITY = 90
_REPLY_CHARS = 200  # of an answer that does not fit, kept as the reason's detail
KEY_VARIABLE: Final = "UPHELD_VISION_API_KEY"
_MAX_REPLY_BYTES = 1 << 20
_MAX_WAIT_S = 60.0  # between two attempts, whatever the server asks for
_MAX_FAILED_IN_ROW = 3  # pictures; then the service is taken to be away
_TRY_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)
_HOPELESS = (401, 402, 403, 404)  # key, account, path or model: the next picture would fare no better


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
        return extractor_version(1, settings)

    def unavailable(self) -> str | None:
        """Says so until params name an endpoint and, beyond this machine, the environment holds a key."""
        settings = self.params.vision_answer
        if not settings.url or not settings.model:
            return "switched off: set vision_answer.url and vision_answer.model to an OpenAI-compatible endpoint"
        return missing_key(settings.url)

    def decode(self, content: bytes) -> Arrays:
        """`image`, uint8 (H, W, 3). Raises as `decode_within`."""
        return {"image": decode_within(content, self.params.vision_answer.max_side, self.params.ingest.max_media_pixels).picture}

    def extract_one(self, arrays: Arrays) -> dict[str, Any] | Refused:
        """Ask about a picture; refusals as `ChatEndpoint.complete`, `vision_malformed` and `vision_off_schema`."""
        reply = self._endpoint.complete(self._request(arrays["image"]))
        if isinstance(reply, Refused):
            return reply
        try:
            answer = json.loads(reply)
            self._judge.validate(answer)
        except (ValueError, RecursionError):
            return Refused("vision_malformed", f"expected JSON, got {reply[:_REPLY_CHARS]!r}")
        except (jsonschema.ValidationError, referencing.exceptions.Unresolvable) as error:
            return Refused("vision_off_schema", f"{str(error).splitlines()[0][:_REPLY_CHARS]} in {reply[:_REPLY_CHARS]!r}")
        return {"answer": json.dumps(answer, sort_keys=True, ensure_ascii=False)}

    def _request(self, image: Picture) -> dict[str, Any]:
        settings = self.params.vision_answer
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=_JPEG_QUALITY)
        jpeg = base64.b64encode(file.getvalue()).decode("ascii")
        picture = {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{jpeg}"}}
        shape = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": self._schema}}
        messages = [{"role": "user", "content": [{"type": "text", "text": settings.question}, picture]}]
        return {"model": settings.model, "messages": messages, "response_format": shape, **settings.options}


def missing_key(url: str) -> str | None:
    """Why requests to `url` could not be signed, in words without the key; None where they can. This machine asks for none."""
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not key:
        return None if sections.is_loopback(_host(url)) else f"no key: set the environment variable {KEY_VARIABLE}"
    # http.client would quote a key that is no valid header in its error.
    return None if key.isascii() and key.isprintable() and " " not in key else f"the key in {KEY_VARIABLE} holds characters that no key has"


@dataclass(frozen=True)
class _Later:
    """An attempt that failed in a way that may pass: what was found, and the seconds that the server asked to wait."""

    found: str
    wait_s: float


class ChatEndpoint:
    """Counts what is spent in its life, a run's; the key is read for each request and kept nowhere.

    Args:
        settings: where, how often, how long.
    """

    def __init__(self, settings: sections.VisionAnswer) -> None:
        self._settings = settings
        self._num_requests = 0
        self._failed_in_row = 0
        self._closed: Refused | None = None
        # No proxy to this machine. Redirects are refused: picture and key go where the params say.
        proxies = [urllib.request.ProxyHandler({})] if sections.is_loopback(_host(settings.url)) else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def complete(self, request: dict[str, Any]) -> str | Refused:
        """Send a request until it is answered, or answered for good.

        Args:
            request: JSON body of /chat/completions.

        Returns:
            the text of the first choice, or why there is none: `vision_budget_spent`, `vision_not_allowed` (key, account, path,
            model, or a redirect), `vision_away` (429, 5xx, timeouts and broken connections, each time), `vision_rejected` (other
            codes: this picture's fault), `vision_malformed` (no completion), `vision_declined` (the model would not answer).
        """
        body = json.dumps(request).encode()
        found = ""
        for attempt in range(self._settings.max_attempts):
            if self._closed or self._num_requests >= self._settings.max_requests:
                return self._closed or Refused("vision_budget_spent", f"{self._num_requests} requests, a run's most", passing=True)
            self._num_requests += 1
            outcome = self._send(body)
            if not isinstance(outcome, _Later):
                return self._noted(outcome)
            found = outcome.found
            if attempt + 1 < self._settings.max_attempts:
                time.sleep(min(_MAX_WAIT_S, max(outcome.wait_s, self._settings.backoff_s * 2**attempt)))
        return self._noted(Refused("vision_away", f"{found}, {self._settings.max_attempts} times", passing=True))

    def _noted(self, outcome: str | Refused) -> str | Refused:
        """Count failures in a row; too many are not the pictures' fault, and nothing more is asked."""
        failed = isinstance(outcome, Refused) and outcome.reason in ("vision_away", "vision_rejected")
        self._failed_in_row = self._failed_in_row + 1 if failed else 0
        if isinstance(outcome, Refused) and self._failed_in_row >= _MAX_FAILED_IN_ROW:
            self._closed = Refused("vision_away", f"not asked, for {self._failed_in_row} in a row failed: {outcome.detail}", passing=True)
        return outcome

    def _send(self, body: bytes) -> str | Refused | _Later:
        try:
            key = os.environ.get(KEY_VARIABLE, "").strip()
            headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
            request = urllib.request.Request(f"{self._settings.url.rstrip('/')}/chat/completions", body, headers, method="POST")  # noqa: S310 (params allow https and loopback alone)
            with self._opener.open(request, timeout=self._settings.timeout_s) as reply:
                return _content(self._read(reply))
        except urllib.error.HTTPError as error:
            with error:
                return self._refusal(error.code, error.headers.get("Retry-After", ""))
        except (OSError, HTTPException) as error:  # URLError and timeouts are OSErrors
            return _Later(type(getattr(error, "reason", error)).__name__, 0.0)

    def _read(self, reply: Any) -> bytes:
        """The body, bounded in bytes and in time: a server that drips would outlast every single read's timeout."""
        until = time.monotonic() + self._settings.timeout_s
        content = b""
        while len(content) <= _MAX_REPLY_BYTES and (block := reply.read1(1 << 16)):
            content += block
            if time.monotonic() > until:
                raise TimeoutError
        return content

    def _refusal(self, code: int, retry_after: str) -> Refused | _Later:
        """What a status code means; the body stays unread, for some servers quote the key in it."""
        if code in _TRY_AGAIN:
            return _Later(f"HTTP {code}", float(retry_after) if retry_after.isdecimal() else 0.0)
        if code in _HOPELESS or code < 400:  # a redirect's code is below 400
            self._closed = Refused(
                "vision_not_allowed", f"HTTP {code}: check the key, vision_answer.url and vision_answer.model", passing=True
            )
            return self._closed
        return Refused("vision_rejected", f"HTTP {code}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return None


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or ""


def _content(reply: bytes) -> str | Refused:
    """The first choice's text."""
    try:
        message = json.loads(reply)["choices"][0]["message"]
        if message.get("refusal"):
            return Refused("vision_declined", "the model would not answer")
        if isinstance(message["content"], str):
            return message["content"]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        pass
    return Refused("vision_malformed", "the reply is no chat completion with a text")
