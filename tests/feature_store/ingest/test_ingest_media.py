"""Files that a delivery points to, by people who mean harm."""

import http.server
import io
import os
import struct
import threading
import zlib

import pytest
from PIL import Image

from tests.feature_store.deliveries import AS_OF, deliver, parameters, post, rows, take
from tests.feature_store.hostile_decoders import IMAGES
from upheld.feature_store.decoding.contract import Refused
from upheld.feature_store.ingest import command as ingest
from upheld.feature_store.ingest import delivery
from upheld.feature_store.ingest.delivery import MediaFile, check_all, image_decoders, open_delivery
from upheld.feature_store.sandbox.pool import DecodePool


def picture(kind="PNG", size=(5, 4), mode="RGB"):
    buffer = io.BytesIO()
    Image.new(mode, size, 1).save(buffer, kind)
    return buffer.getvalue()


def png_header(width, height):
    """A PNG that declares a size and holds next to nothing."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\x00")) + chunk(b"IEND", b"")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "delivery"
    (root / "media" / "inner").mkdir(parents=True)
    (tmp_path / "secret.png").write_bytes(picture())
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.png").write_bytes(picture())
    (root / "media" / "good.png").write_bytes(picture())
    (root / "media" / "link_out.png").symlink_to(tmp_path / "secret.png")
    (root / "media" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "media" / "link_in.png").symlink_to(root / "media" / "good.png")
    return root


@pytest.fixture(scope="module", autouse=True)
def decoders():
    with image_decoders(parameters("features.decode_memory_bytes=536870912")) as pool:
        yield pool


@pytest.fixture
def look(folder, decoders):
    """What becomes of one file."""

    def looking(uri, kind="image", *overrides):
        ((pair, found),) = check_all(open_delivery(str(folder)), [(kind, uri)], parameters(*overrides).ingest, decoders)
        assert pair == (kind, uri)
        return found

    return looking


@pytest.mark.parametrize("uri", ["media/good.png", "media/link_in.png"])
def test_a_file_inside_the_delivery_is_read(folder, look, uri):
    found = look(uri)
    assert isinstance(found, MediaFile)
    assert (found.width, found.height, found.format, found.content) == (5, 4, "PNG", picture())


@pytest.mark.parametrize(
    "uri",
    [
        "../secret.png",
        "media/../../secret.png",
        "media/./good.png",
        "media//good.png",
        "/etc/hostname",
        "media/link_out.png",
        "media/linked/a.png",
        "file:///etc/hostname",
        "C:\\secret.png",
        "media\\good.png",
        "media/%2e%2e/secret.png",
        "https://example.invalid/a.png",
        "HTTP://example.invalid/a.png",
        "http://[bad/a.png",
        "ftp://example.invalid/a.png",
        "s3://bucket/a.png",
        "data:image/png;base64,AAAA",
        "media/good.png\x00.jpg",
        "",
    ],
)
def test_a_way_out_of_the_delivery_is_refused(folder, look, uri):
    found = look(uri)
    assert isinstance(found, Refused)
    assert found.reason == "media_path_unsafe"


@pytest.mark.parametrize("uri", ["media/none.png", "media/inner", "media/pipe"])
def test_what_is_no_file_is_missing(folder, look, uri):
    os.mkfifo(folder / "media" / "pipe")
    assert look(uri).reason == "media_missing"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (png_header(30_000, 30_000), "media_too_large"),
        (png_header(12_000, 9_000), "media_too_large"),
        (png_header(8_000, 6_000), "media_corrupt"),
        (picture("PNG", (300, 300))[:-100], "media_corrupt"),
        (picture("JPEG", (300, 300))[:500], "media_corrupt"),
        (b"<html>no image</html>", "media_corrupt"),
        (b"", "media_corrupt"),
        (picture("TIFF"), "media_corrupt"),
        (picture("PPM"), "media_corrupt"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "media_corrupt"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "media_corrupt"),
        (b"\x00" * 2_000_000, "media_too_large"),
    ],
)
def test_content_that_is_no_picture_within_bounds_is_refused(folder, look, content, reason):
    (folder / "media" / "a.png").write_bytes(content)
    assert look("media/a.png", "image", "ingest.max_media_bytes=1000000").reason == reason


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("JPEG", "L"), ("PNG", "RGBA"), ("PNG", "1"), ("GIF", "P"), ("WEBP", "RGB"), ("BMP", "RGB")]
)
def test_usual_pictures_are_accepted(folder, look, kind, mode):
    (folder / "media" / "a.jpg").write_bytes(picture(kind, (1, 1), mode))
    assert look("media/a.jpg").format == kind


def text_bomb():
    """A small PNG with a compressed note that unpacks to 200 MB."""
    note = b"note\x00\x00" + zlib.compress(b" " * 200_000_000, 9)
    chunk = struct.pack(">I", len(note)) + b"zTXt" + note + struct.pack(">I", zlib.crc32(b"zTXt" + note))
    whole = picture()
    return whole[:33] + chunk + whole[33:]


def test_a_note_that_unpacks_without_end_is_refused(folder, look):
    (folder / "media" / "a.png").write_bytes(text_bomb())
    assert look("media/a.png").reason == "media_too_large"


def test_files_that_fell_their_decoder_are_quarantined_and_the_others_taken(tmp_path, monkeypatch, without_expectations):
    deeds = {"segfault": "decode_crashed", "hog": "decode_memory", "endless": "decode_timeout"}
    root = tmp_path / "delivery"
    (root / "media").mkdir(parents=True)
    for name in [*deeds, "good"]:
        (root / "media" / name).write_bytes(name.encode())
    posts = [post(name, media=[{"kind": "image", "uri": f"media/{name}"}]) for name in [*deeds, "good"]]
    hostile = "tests.feature_store.hostile_decoders:HostileImages"
    monkeypatch.setattr(ingest, "image_decoders", lambda params: DecodePool(hostile, params, 3, 1))
    take(deliver(root, posts=posts), tmp_path / "store", AS_OF, "features.decode_memory_bytes=268435456")
    assert [row["post_id"] for row in rows(tmp_path / "store", "posts")] == ["good"]
    told = {row["post_id"]: row["detail"] for row in rows(tmp_path / "store", "quarantine")}
    assert set(told) == set(deeds)
    assert all(deeds[name] in told[name] for name in deeds)


def test_an_answer_that_the_check_of_images_never_gives_quarantines_its_file_alone(tmp_path, monkeypatch, without_expectations):
    lies = [*IMAGES, "nested", "broken", "empty", "no arrays"]
    root = tmp_path / "delivery"
    (root / "media").mkdir(parents=True)
    for number, content in enumerate([*lies, "good"]):
        (root / "media" / str(number)).write_bytes(content.encode())
    posts = [post(name, media=[{"kind": "image", "uri": f"media/{number}"}]) for number, name in enumerate([*lies, "good"])]
    monkeypatch.setattr(delivery, "_DECODER", "tests.feature_store.hostile_decoders:HostileImages")
    take(deliver(root, posts=posts), tmp_path / "store", AS_OF)
    assert [row["post_id"] for row in rows(tmp_path / "store", "posts")] == ["good"]
    quarantined = rows(tmp_path / "store", "quarantine")
    assert {row["post_id"] for row in quarantined} == set(lies)
    assert {row["reason"] for row in quarantined} == {"media_corrupt"}
    assert all("decode_crashed" in row["detail"] for row in quarantined)


def test_videos_are_kept_without_being_decoded(folder, look):
    (folder / "media" / "a.mp4").write_bytes(b"not looked into")
    found = look("media/a.mp4", "video")
    assert (found.kind, found.format, found.width) == ("video", "mp4", None)


def test_many_files_come_back_in_order(folder, decoders):
    uris = ["media/good.png", "media/none.png"] * 20
    found = list(check_all(open_delivery(str(folder)), [("image", uri) for uri in uris], parameters().ingest, decoders))
    assert [pair[1] for pair, _ in found] == uris
    assert [isinstance(result, MediaFile) for _, result in found] == [True, False] * 20


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/away.png":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/a.png")
            self.end_headers()
            return
        self.send_response(200 if self.path == "/a.png" else 404)
        self.end_headers()
        self.wfile.write(picture() if self.path == "/a.png" else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("hosts", "path", "expected"),
    [
        ("[127.0.0.1]", "/a.png", "image"),
        ("[]", "/a.png", "media_path_unsafe"),
        ("[example.invalid]", "/a.png", "media_path_unsafe"),
        ("[127.0.0.1]", "/none.png", "media_missing"),
        ("[127.0.0.1]", "/away.png", "media_missing"),  # a redirect is not followed, even to the same machine
    ],
)
def test_http_only_from_hosts_that_params_name(folder, look, server, hosts, path, expected):
    found = look(f"http://127.0.0.1:{server}{path}", "image", f"ingest.media_hosts={hosts}")
    assert (found.kind if isinstance(found, MediaFile) else found.reason) == expected
