"""Asked of a real server on this machine, which answers as each test says and keeps what it was sent."""

import base64
import io
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from upheld.common.errors import BadUse
from upheld.common.params import params
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.extractors.image.vision_answer import VisionAnswer

PARAMS_FILE = Path(__file__).resolve().parents[3] / "params.yaml"
GOOD = {"blood": False, "nudity": False, "weapons": True}
KEY = "sk-geheim-4711"


def completion(text: Any, **message: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps({"choices": [{"message": {"content": text, **message}}]}).encode()


class Server(ThreadingHTTPServer):
    """Answers with the next of `replies`, and with the last one for ever."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[tuple[int, dict[str, str], bytes] | Callable[[Any], None]] = [completion(json.dumps(GOOD))]
        self.asked: list[tuple[str, dict[str, str], Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, dict(self.headers), json.loads(body)))
        reply = self.server.replies[min(len(self.server.asked), len(self.server.replies)) - 1]
        if callable(reply):
            return reply(self)
        status, headers, content = reply
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers), None))
        self.send_error(404)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_key_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPHELD_VISION_API_KEY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # a proxy that is not there must not be asked


def extractor(server: Server | None = None, **settings: Any) -> VisionAnswer:
    url = {"url": f"http://127.0.0.1:{server.server_port}/v1"} if server else {}
    given = {"model": "eye-1", "backoff_s": 0.0, "timeout_s": 5.0, "max_attempts": 3, **url, **settings}
    return VisionAnswer(params.load(PARAMS_FILE, [f"vision_answer.{key}={json.dumps(value)}" for key, value in given.items()]))


def picture(colour: str = "red") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(buffer, "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x00SECRET-PLACE")
    return buffer.getvalue()


def ask(asker: VisionAnswer, count: int = 1) -> list[dict[str, Any] | Refused]:
    return asker.extract([asker.decode(picture())] * count)


def reasons(rows: list[dict[str, Any] | Refused]) -> list[str]:
    return [row.reason if isinstance(row, Refused) else "answered" for row in rows]


def test_a_good_answer_is_kept_as_canonical_json(server: Server) -> None:
    assert ask(extractor(server)) == [{"answer": '{"blood": false, "nudity": false, "weapons": true}'}]


def test_what_is_sent_is_the_question_the_schema_and_pixels_without_metadata(server: Server) -> None:
    ask(extractor(server, options={"temperature": 0}))
    [(path, headers, body)] = server.asked
    assert path == "/v1/chat/completions"
    assert "Authorization" not in headers
    assert (body["model"], body["temperature"]) == ("eye-1", 0)
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["weapons", "blood", "nudity"]
    question, shown = body["messages"][0]["content"]
    assert question["text"].startswith("Does the picture show")
    jpeg = base64.b64decode(shown["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))
    assert b"SECRET-PLACE" in picture() and b"SECRET-PLACE" not in jpeg
    assert Image.open(io.BytesIO(jpeg)).size == (40, 30)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I see a gun.", "vision_malformed"),
        ("", "vision_malformed"),
        ('{"weapons": tru', "vision_malformed"),
        ("[" * 100_000, "vision_malformed"),
        ('{"weapons": "yes", "blood": false, "nudity": false}', "vision_off_schema"),
        ('{"weapons": true}', "vision_off_schema"),
        ('{"weapons": true, "blood": false, "nudity": false, "note": "x"}', "vision_off_schema"),
        ("[]", "vision_off_schema"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_with_what_was_said(server: Server, text: str, reason: str) -> None:
    server.replies = [completion(text)]
    [row] = ask(extractor(server))
    assert isinstance(row, Refused) and row.reason == reason and not row.passing
    assert len(row.detail) < 600
    assert len(server.asked) == 1  # the same question would get the same answer


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        ((200, {}, b"<html>"), "vision_malformed"),
        ((200, {}, b"[]"), "vision_malformed"),
        ((200, {}, b'{"choices": []}'), "vision_malformed"),
        ((200, {}, b"\xff\xfe\x00"), "vision_malformed"),
        (completion(None), "vision_malformed"),
        (completion([{"type": "text"}]), "vision_malformed"),
        (completion(None, refusal="no"), "vision_declined"),
        ((400, {}, b"picture too small"), "vision_rejected"),
    ],
)
def test_a_reply_that_is_no_completion_is_refused(server: Server, reply: tuple[int, dict[str, str], bytes], reason: str) -> None:
    server.replies = [reply]
    assert reasons(ask(extractor(server), 2)) == [reason] * 2


def test_after_too_many_requests_it_waits_as_asked_and_asks_again(server: Server) -> None:
    server.replies = [(429, {"Retry-After": "1"}, b""), completion(json.dumps(GOOD))]
    start = time.monotonic()
    assert reasons(ask(extractor(server))) == ["answered"]
    assert time.monotonic() - start >= 1


def test_waits_double(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("upheld.feature_store.extractors.image.vision_answer.time.sleep", waits.append)
    server.replies = [(503, {"Retry-After": "99999"}, b""), (503, {"Retry-After": "soon"}, b""), (500, {}, b""), (500, {}, b"")]
    assert reasons(ask(extractor(server, backoff_s=0.5, max_attempts=4))) == ["vision_away"]
    assert waits == [60.0, 1.0, 2.0]


def test_a_server_that_fails_for_ever_is_left_alone_after_three_pictures(server: Server) -> None:
    server.replies = [(500, {}, b"")]
    rows = ask(extractor(server), 50)
    assert set(reasons(rows)) == {"vision_away"}
    assert all(isinstance(row, Refused) and row.passing for row in rows)
    assert rows[0].detail == "HTTP 500, 3 times"  # type: ignore[union-attr]
    assert len(server.asked) == 9


def test_a_server_that_never_answers_is_given_up(server: Server) -> None:
    server.replies = [lambda _: time.sleep(1)]
    start = time.monotonic()
    [row] = ask(extractor(server, timeout_s=0.2, max_attempts=2))
    assert isinstance(row, Refused) and (row.reason, row.passing) == ("vision_away", True)
    assert time.monotonic() - start < 2


def test_a_server_that_drips_is_given_up_in_time(server: Server) -> None:
    def drip(handler: Handler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    def quietly(handler: Handler) -> None:
        try:
            drip(handler)
        except OSError:
            handler.close_connection = True

    server.replies = [quietly]
    start = time.monotonic()
    assert reasons(ask(extractor(server, timeout_s=0.3, max_attempts=1))) == ["vision_away"]
    assert time.monotonic() - start < 2


def test_a_reply_without_end_is_cut_off(server: Server) -> None:
    server.replies = [(200, {}, b'{"choices": "' + b"x" * 3_000_000)]
    assert reasons(ask(extractor(server))) == ["vision_malformed"]


def test_a_connection_that_breaks_is_tried_again(server: Server) -> None:
    server.replies = [lambda handler: handler.connection.close(), completion(json.dumps(GOOD))]
    assert reasons(ask(extractor(server))) == ["answered"]


def test_nobody_there_is_not_the_pictures_fault() -> None:
    [row] = ask(extractor(url="http://127.0.0.1:9/v1"))
    assert isinstance(row, Refused) and (row.reason, row.passing) == ("vision_away", True)


def test_the_budget_counts_every_request_and_is_said_when_spent(server: Server) -> None:
    server.replies = [(429, {}, b""), completion(json.dumps(GOOD))]
    rows = ask(extractor(server, max_requests=3), 4)
    assert reasons(rows) == ["answered", "answered", "vision_budget_spent", "vision_budget_spent"]
    assert len(server.asked) == 3
    assert all(row.passing for row in rows if isinstance(row, Refused))


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_path_or_model_is_asked_once(server: Server, status: int) -> None:
    server.replies = [(status, {}, f"bad key {KEY}".encode())]
    rows = ask(extractor(server), 5)
    assert reasons(rows) == ["vision_not_allowed"] * 5
    assert len(server.asked) == 1
    assert f"HTTP {status}" in rows[0].detail  # type: ignore[union-attr]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(server: Server, status: int) -> None:
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.01,))
        thread.start()
        server.replies = [(status, {"Location": f"http://127.0.0.1:{other.server_port}/v1/chat/completions"}, b"")]
        rows = ask(extractor(server))
        other.shutdown()
        thread.join()
        assert (reasons(rows), other.asked) == (["vision_not_allowed"], [])


def test_the_key_is_sent_and_shown_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("UPHELD_VISION_API_KEY", KEY)
    server.replies = [(500, {}, f"{KEY} is bad".encode()), (400, {}, KEY.encode()), completion("no JSON")]
    asker = extractor(server)
    rows = ask(asker, 2)
    assert {headers["Authorization"] for _, headers, _ in server.asked} == {f"Bearer {KEY}"}
    assert KEY not in repr(rows) + repr(vars(asker)) + repr(vars(asker._endpoint)) + asker.version + caplog.text + "".join(
        capfd.readouterr()
    )


def test_pictures_rejected_in_a_row_are_a_wrong_option_and_the_rest_waits(server: Server) -> None:
    server.replies = [(400, {}, b"")]
    rows = ask(extractor(server), 6)
    assert reasons(rows) == ["vision_rejected"] * 3 + ["vision_away"] * 3
    assert [row.passing for row in rows if isinstance(row, Refused)] == [False] * 3 + [True] * 3


def test_it_is_off_by_default() -> None:
    assert "switched off" in str(VisionAnswer(params.load(PARAMS_FILE)).unavailable())


def test_beyond_this_machine_a_key_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    asker = extractor(url="https://vision.example/v1")
    assert "UPHELD_VISION_API_KEY" in str(asker.unavailable())
    monkeypatch.setenv("UPHELD_VISION_API_KEY", KEY)
    assert asker.unavailable() is None
    monkeypatch.setenv("UPHELD_VISION_API_KEY", f"{KEY}\r\nX-Evil: 1")
    assert "characters" in str(asker.unavailable()) and KEY not in str(asker.unavailable())


def test_on_this_machine_none_is(server: Server) -> None:
    assert extractor(server).unavailable() is None


@pytest.mark.parametrize(
    "url",
    ["http://vision.example/v1", "http://169.254.169.254/", "http://127.0.0.1.example/", "ftp://127.0.0.1/", "file:///etc/passwd",
     "https://user:pw@vision.example/", "https://vision.example/?key=1", "vision.example", "https://"],
)  # fmt: skip
def test_other_addresses_are_bad_use(url: str) -> None:
    with pytest.raises(BadUse, match=r"vision_answer\.url"):
        extractor(url=url)


@pytest.mark.parametrize("schema", [{"type": "sometimes"}, {"required": "weapons"}])
def test_a_schema_that_is_none_is_bad_use(schema: dict[str, Any]) -> None:
    with pytest.raises(BadUse, match="answer_schema"):
        extractor(answer_schema=schema)


def test_a_schema_fetches_nothing(server: Server) -> None:
    asker = extractor(server, answer_schema={"$ref": f"http://127.0.0.1:{server.server_port}/schema"})
    assert reasons(ask(asker)) == ["vision_off_schema"]
    assert [path for path, _, _ in server.asked] == ["/v1/chat/completions"]


def test_the_version_is_what_decides_an_answer_and_so_the_cache_key() -> None:
    same = {
        extractor(),
        extractor(url="http://127.0.0.1:1/v1"),
        extractor(max_requests=1),
        extractor(timeout_s=1.0),
        extractor(backoff_s=9.0),
    }
    others = [
        extractor(model="eye-2"),
        extractor(question="Why?"),
        extractor(answer_schema={}),
        extractor(options={"a": 1}),
        extractor(max_side=64),
    ]
    assert len({asker.version for asker in same}) == 1
    assert len({asker.version for asker in [*same, *others]}) == 6
