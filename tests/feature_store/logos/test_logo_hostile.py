"""Logo datasets that mean harm: each ends as a quarantine reason or as an error that names the file, never as a traceback or a wait."""

import io
import json
import os
import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.feature_store.deliveries import ROOT, parameters
from tests.feature_store.logo_folders import SIZE, coco, jpeg, picture, put, voc, voc_object, yolo
from upheld import cli
from upheld.common.errors import BadUse, FailedWork
from upheld.common.params.logos import LogoData
from upheld.feature_store.decoding.contract import Refused, Undecodable
from upheld.feature_store.logos.composites import backgrounds
from upheld.feature_store.logos.composites.marks import load
from upheld.feature_store.logos.dataset.photos import upright
from upheld.feature_store.logos.sources import import_dataset, inspection
from upheld.feature_store.logos.sources.inspection import Seen, inspect_photos

pytestmark = pytest.mark.timeout(60)
RULES = parameters().logo_data
SOME = "0 .5 .5 .25 .5\n"
BOX = {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 25]}


def take(folder, layout: str, rules: LogoData = RULES) -> import_dataset.Result:
    return import_dataset.run(rules, 7, folder, layout, folder.with_name(f"{folder.name}.out"))


def reasons(result: import_dataset.Result, kind: str = "photos") -> dict[str, int]:
    kept = pd.read_parquet(result.dataset.folder / "quarantine.parquet")
    row = result.report[kind]
    assert row["rows"] == row["accepted"] + row["duplicate"] + row["quarantined"]
    assert len(kept) == sum(result.report[name]["quarantined"] for name in ("photos", "boxes"))
    return row["by_reason"]


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def png_of(width: int, height: int, rows: bytes = b"") -> bytes:
    """A PNG that declares any size."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(image, exif=exif)


PHOTO = picture(1)
FRAMES = [picture(2), picture(3)]
PHOTOS = {
    "a bomb": (png_of(50_000, 50_000), "image_too_large"),
    "a liar": (png_of(100, 100, b"\0" * 50), "image_corrupt"),
    "torn": (jpeg(PHOTO)[:-200], "image_corrupt"),
    "empty": (b"", "image_corrupt"),
    "text": (b"not a photo", "image_corrupt"),
    "a tiff": (encoded(PHOTO, "TIFF"), "image_corrupt"),
    "postscript": (encoded(PHOTO, "EPS"), "image_corrupt"),
    "an svg": (b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"/>', "image_corrupt"),
    "another name": (encoded(PHOTO, "PNG"), None),
    "an animation": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), None),
    "a moving webp": (encoded(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:]), None),
    "inks": (encoded(PHOTO.convert("CMYK"), "JPEG"), None),
    "one bit": (encoded(PHOTO.convert("1"), "PNG"), None),
    "a palette": (encoded(PHOTO.convert("P"), "PNG", transparency=0), None),
    "sixteen bits": (encoded(Image.fromarray(np.asarray(PHOTO.convert("L")).astype(np.uint16) * 257), "PNG"), None),
}


def test_photos_of_any_kind_are_taken_or_named():
    found = dict(inspect_photos(((name, content) for name, (content, _) in PHOTOS.items()), RULES))
    assert {name: seen.reason if isinstance(seen, Refused) else None for name, seen in found.items()} == {
        name: reason for name, (_, reason) in PHOTOS.items()
    }
    for name, (content, reason) in PHOTOS.items():  # a worker and this process agree
        if reason is None:
            assert upright(content, RULES.max_pixels).size == (found[name].width, found[name].height) == SIZE
        else:
            with pytest.raises(Undecodable) as refused:
                upright(content, RULES.max_pixels)
            assert refused.value.refused.reason == reason


def test_sixteen_bits_are_scaled_and_a_turned_photo_is_upright():
    assert np.abs(np.asarray(upright(PHOTOS["sixteen bits"][0], 10**6)).astype(int) - np.asarray(PHOTO.convert("L"))[..., None]).max() <= 1
    ((_, seen),) = inspect_photos([("turned", turned(PHOTO))], RULES)
    assert isinstance(seen, Seen) and (seen.width, seen.height) == SIZE[::-1]


def test_photos_that_could_not_be_read_keep_their_place():
    gone = Refused("photo_missing", "gone")
    given = [("a", gone), ("b", jpeg(PHOTO)), ("c", gone), ("d", b""), ("e", gone)]
    found = list(inspect_photos(given, RULES))
    assert [name for name, _ in found] == list("abcde")
    assert [seen.reason if isinstance(seen, Refused) else seen.width for _, seen in found] == [
        "photo_missing", SIZE[0], "photo_missing", "image_corrupt", "photo_missing",
    ]  # fmt: skip
    assert list(inspect_photos([], RULES)) == []


def test_a_decoder_that_was_taken_over_is_not_believed(monkeypatch):
    monkeypatch.setattr(inspection, "_DECODER", "tests.feature_store.hostile_decoders:LyingDecoder")
    ((_, seen),) = inspect_photos([("a", jpeg(PHOTO))], RULES)
    assert isinstance(seen, Refused) and seen.reason == "image_corrupt"


def test_a_photo_with_more_bytes_than_pixels_explain_is_not_read(tmp_path):
    folder = yolo(tmp_path / "d", {"train/a": (jpeg(PHOTO), SOME), "train/b": (jpeg(picture(2)), SOME)})
    os.truncate(folder / "images" / "train" / "b.jpg", 1 << 40)  # a hole: it takes no room on the disk
    assert reasons(take(folder, "yolo")) == {"image_too_large": 1}


def test_yolo_places_that_are_no_files(tmp_path):
    names = ["good", "pipe", "outside", "device", "loop", "label pipe", "label outside", "label folder"]
    folder = yolo(tmp_path / "d", {f"train/{name}": (jpeg(picture(number)), SOME) for number, name in enumerate(names)})
    photos, labels = folder / "images" / "train", folder / "labels" / "train"
    secret = put(tmp_path / "secret.txt", "root:x:0:0")
    for name in ("pipe", "outside", "device", "loop"):
        (photos / f"{name}.jpg").unlink()
    for name in ("label pipe", "label outside", "label folder"):
        (labels / f"{name}.txt").unlink()
    os.mkfifo(photos / "pipe.jpg")
    os.mkfifo(labels / "label pipe.txt")
    (photos / "outside.jpg").symlink_to(secret)
    (photos / "device.jpg").symlink_to("/dev/zero")
    (photos / "loop.jpg").symlink_to("loop.jpg")
    (labels / "label outside.txt").symlink_to(secret)
    (labels / "label folder.txt").mkdir()
    (photos / "folder.jpg").mkdir()
    result = take(folder, "yolo")
    assert reasons(result) == {"label_missing": 2, "label_path_unsafe": 1, "photo_missing": 1, "photo_path_unsafe": 3}
    assert "root:x" not in pd.read_parquet(result.dataset.folder / "quarantine.parquet").to_csv()


def test_yolo_lists_name_anything(tmp_path):
    folder = yolo(tmp_path / "d", {"train/a": (jpeg(PHOTO), SOME)})
    lines = ["images/train/a.jpg", str(folder / "images/train/a.jpg"), "../../etc/passwd", "a\0b.jpg", "n" * 5000, "images", "/dev/zero"]
    put(folder / "list.txt", "\n".join(lines))
    put(folder / "data.yaml", "names: [ant, bee]\ntrain: list.txt\n")
    assert reasons(take(folder, "yolo")) == {"label_missing": 1, "photo_path_unsafe": 4}
    put(folder / "list.txt", b"\xff\xfe\x00")
    with pytest.raises(BadUse, match=r"list\.txt.*UTF-8"):
        take(folder, "yolo")


def test_a_name_that_is_no_text_is_refused(tmp_path):
    folder = yolo(tmp_path / "d", {"train/a": (jpeg(PHOTO), SOME)})
    put(folder / "images" / "train" / os.fsdecode(b"\xff.jpg"), jpeg(picture(2)))
    assert reasons(take(folder, "yolo")) == {"photo_path_unsafe": 1}


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]\ntrain: images\n",
        "a: &a {k: v}\nb: {<<: [*a, *a]}\n",
        "names: " + "[" * 200_000,
        "names: " + "[" * 20 + "]" * 20,
        "names: {0: a, x: b}\ntrain: images\n",
        "names: [[a]]\ntrain: images\n",
        "names: [a]\ntrain: [[images]]\n",
        "names: !!python/object/apply:os.system ['true']\n",
        "names: [2001-99-99]\ntrain: images\n",
        "? [a]\n: b\n",
        "names: [a]\ntrain: " + "n" * 5000,
        'names: [a]\ntrain: "\\0"',
        'names: ["a\\u202eb"]\ntrain: images\n',
        'names: ["caf\\u00e9", "cafe\\u0301"]\ntrain: images\n',
        'names: ["\\ud800"]\ntrain: images\n',
    ],
)
def test_a_hostile_data_yaml_is_named(tmp_path, text):
    (tmp_path / "d" / "images").mkdir(parents=True)
    put(tmp_path / "d" / "data.yaml", text)
    with pytest.raises(BadUse, match=r"data\.yaml"):
        take(tmp_path / "d", "yolo")


@pytest.mark.parametrize("layout", ["yolo", "coco"])
@pytest.mark.parametrize("kind", ["pipe", "outside", "device", "folder"])
def test_the_file_that_all_hangs_on_must_be_one(tmp_path, layout, kind):
    path = tmp_path / "d" / {"yolo": "data.yaml", "coco": "all.json"}[layout]
    path.parent.mkdir()
    put(tmp_path / "outside", "{}")
    {
        "pipe": lambda: os.mkfifo(path),
        "outside": lambda: path.symlink_to(tmp_path / "outside"),
        "device": lambda: path.symlink_to("/dev/zero"),
        "folder": path.mkdir,
    }[kind]()
    with pytest.raises(BadUse, match=path.name):
        take(path.parent, layout)


@pytest.mark.parametrize(
    "text",
    [
        '{"images": ' + "[" * 100_000,
        '{"images": [{"id": ' + "9" * 5000 + ', "file_name": "a"}], "categories": [{"id": 1, "name": "a"}], "annotations": []}',
        '{"images": [], "categories": [{"id": 1, "name": "a\\u0000"}], "annotations": []}',
        '{"images": [], "categories": [{"id": 1, "name": "\\ud800"}], "annotations": []}',
        '{"images": [], "categories": [], "annotations": []}',
        '{"images": [], "categories": [{"id": 1e999, "name": "a"}], "annotations": []}',
        "[]",
        "",
    ],
)
def test_a_hostile_coco_file_is_named(tmp_path, text):
    put(tmp_path / "d" / "all.json", text)
    with pytest.raises(BadUse, match=r"all\.json"):
        take(tmp_path / "d", "coco")


def test_hostile_coco_rows_are_named(tmp_path):
    huge = int("9" * 4000)
    boxes = [[huge, 0, 1, 1], [float("nan"), 0, 5, 5], [0, 0, float("inf"), 5], [1e308, 0, 1e308, 5], ["1", [], {}, None]]
    rows = [BOX, *(BOX | {"bbox": box} for box in boxes), BOX | {"image_id": huge}, BOX | {"category_id": "x"}, {}]
    folder = coco(tmp_path / "d", "train", {"a.jpg": jpeg(PHOTO)}, rows)
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    names = ["../../../etc/hostname", "/etc/hostname", "n" * 5000, "a\0.jpg", "\ud800.jpg", "", "train"]
    content["images"] += [{"id": number, "file_name": name} for number, name in enumerate(names, start=2)]
    content["images"].append({"id": 99, "file_name": "b.jpg", "width": huge, "height": huge})
    put(folder / "train" / "b.jpg", jpeg(picture(2)))
    path.write_text(json.dumps(content))
    result = take(folder, "coco")
    assert reasons(result) == {"photo_missing": 2, "photo_path_unsafe": 5, "size_mismatch": 1}
    assert sum(reasons(result, "boxes").values()) == len(rows) - 1 and reasons(result, "boxes")["box_not_finite"] >= 2


def test_a_photo_that_is_listed_twice_is_one(tmp_path):
    folder = coco(tmp_path / "d", "train", {"a.jpg": jpeg(PHOTO), "b.jpg": jpeg(picture(2))}, [BOX])
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["images"] += [content["images"][0] | {"id": 3}, content["images"][1] | {"id": 4, "width": 7}]
    content["annotations"] += [BOX | {"image_id": 3}, BOX | {"image_id": 3, "category_id": 2, "bbox": [50, 5, 20, 20]}]
    path.write_text(json.dumps(content))
    result = take(folder, "coco")
    assert reasons(result) == {"size_mismatch": 1} and result.report["photos"]["duplicate"] == 2
    assert sorted(result.dataset.boxes["brand"]) == ["ant", "bee"] and result.report["boxes"]["duplicate"] == 1


def test_hostile_voc_files_are_named(tmp_path):
    folder = voc(tmp_path / "d", "a", jpeg(PHOTO), voc_object("ant", 1, 1, 20, 20) + voc_object("bee\u202e", 1, 1, 20, 20))
    for name in ("deep", "pipe", "outside", "binary", "nan", "climbs"):
        voc(folder, name, jpeg(picture(len(name))), voc_object("ant", *["nan" if name == "nan" else 9] * 4))
    labels = folder / "Annotations"
    put(labels / "deep.xml", "<annotation>" * 200_000)
    put(labels / "binary.xml", bytes(range(256)))
    put(labels / "climbs.xml", "<annotation><filename>../../../etc/hostname</filename></annotation>")
    (folder / "JPEGImages" / "climbs.jpg").unlink()
    for name in ("pipe", "outside"):
        (labels / f"{name}.xml").unlink()
    os.mkfifo(labels / "pipe.xml")
    (labels / "outside.xml").symlink_to(put(tmp_path / "x.xml", "<annotation/>"))
    result = take(folder, "voc")
    assert reasons(result) == {"label_malformed": 3, "label_missing": 1, "label_path_unsafe": 1, "no_box_left": 1, "photo_path_unsafe": 1}
    assert reasons(result, "boxes") == {"box_not_finite": 1, "unknown_class": 1}
    put(folder / "ImageSets" / "Main" / "train.txt", b"\xff")
    with pytest.raises(BadUse, match=r"train\.txt"):
        take(folder, "voc")


def test_backgrounds_that_are_no_photos_are_named_and_a_changed_one_is_noticed(tmp_path):
    folder = tmp_path / "photos"
    good = put(folder / "good.jpg", jpeg(PHOTO))
    put(folder / "torn.jpg", jpeg(PHOTO)[:99])
    put(folder / "notes.txt", "no photo")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "device.png").symlink_to("/dev/zero")
    found = backgrounds.backgrounds(str(folder), tmp_path, RULES)
    assert {refusal.reason for refusal in found.refused} == {"image_corrupt", "photo_missing"} and len(found.refused) == 3
    good.write_bytes(jpeg(picture(2)))
    with pytest.raises(FailedWork, match=r"good\.jpg"):
        found.photos[0].open(RULES.max_pixels)


def svg(inner: str) -> bytes:
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 50">{inner}</svg>'.encode()


RECT = '<rect width="50" height="50"/>'
MARKS = {
    "clear.svg": ("mark_empty", svg("")),
    "nan.svg": ("mark_empty", svg('<path d="M nan nan L inf 9"/>')),
    "far.svg": ("mark_empty", svg('<path d="M 1e38 1e38 L 1e39 1e39 L 1e308 0 z"/>')),
    "twice.svg": ("svg_element", svg(f'<g id="a">{RECT}</g><g id="a"/><path/>')),
    "hidden.svg": ("svg_element", svg(f"<style>rect{{mask/**/:url(#m)}}</style>{RECT}")),
    "torn.svg": ("svg_element", svg(f"<style>rect{{/*</style>{RECT}")),
    "wide.png": ("mark_too_large", png_of(50_000, 50_000)),
    "data.svg": ("svg_external", svg('<image href="data:image/svg+xml;base64,AAAA" width="9" height="9"/>')),
    "utf16.svg": ("svg_script", svg("<script>1</script>").decode().encode("utf-16")),
    "deep.svg": ("svg_bomb", b'<svg xmlns="http://www.w3.org/2000/svg">' + b"<g>" * 100_000 + b"</g>" * 100_000 + b"</svg>"),
    "zipped.svg": ("mark_corrupt", b"\x1f\x8b\x08"),
    "tiff.png": ("mark_corrupt", encoded(PHOTO, "TIFF")),
    "empty.svg": ("mark_corrupt", b""),
    "right\u202eleft.svg": ("brand_name", svg(RECT)),
}


def test_hostile_marks_among_good_ones(tmp_path):
    for name, (_, content) in MARKS.items():
        put(tmp_path / name, content)
    os.mkfifo(tmp_path / "pipe.svg")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    (tmp_path / "brand" / "folder.svg").mkdir(parents=True)
    put(tmp_path / "cafe\u0301.svg", svg(f"<style>/* mask: */ rect{{fill:red}}</style>{RECT}"))
    put(tmp_path / "dashed.svg", svg('<path d="M0 0H1e6" stroke="red" stroke-width="9" stroke-dasharray="1e-4"/>' + RECT))
    put(tmp_path / "wrong-name.png", svg(RECT))
    put(tmp_path / "wrong-name-too.svg", encoded(PHOTO, "PNG"))
    marks, refused = load(tmp_path)
    assert [mark.brand for mark in marks] == ["caf\u00e9", "dashed", "wrong-name-too", "wrong-name"]
    found = {refusal.file.rsplit("/")[-1]: refusal.reason for refusal in refused}
    expected = {name: reason for name, (reason, _) in MARKS.items()}
    assert found == expected | dict.fromkeys(("pipe.svg", "device.png", "folder.svg"), "mark_corrupt")


def test_a_mark_is_turned_as_a_viewer_shows_it(tmp_path):
    put(tmp_path / "ant.jpg", turned(PHOTO))
    ((mark,), _) = load(tmp_path)
    assert mark.rgba.shape == (*SIZE, 4)


def upheld(*words: object) -> int:
    return cli.main(["logo", *map(str, words), "--params", str(ROOT / "params.yaml")])


def test_what_the_acceptance_asks_for_through_the_commands(tmp_path, capsys):
    """A corrupt image, an empty label file, a class out of range; then a dataset of which nothing can be learned."""
    photos = {
        "val/good": (jpeg(PHOTO), SOME),
        "val/corrupt": (jpeg(picture(2))[:-300], SOME),
        "val/empty": (jpeg(picture(3)), ""),
        "val/range": (jpeg(picture(4)), "7 .5 .5 .2 .2"),
    }
    folder = yolo(tmp_path / "d", photos)
    assert upheld("import", folder, "--format", "yolo", "--out", tmp_path / "logos", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["photos"]["by_reason"] == {"image_corrupt": 1, "no_box_left": 1}
    assert report["boxes"]["by_reason"] == {"class_out_of_range": 1, "photo_quarantined": 1}
    assert report["photos_without_logos"] == 1
    code = upheld("train", tmp_path / "logos", "--out", tmp_path / "model", "--store", tmp_path / "store")
    told = capsys.readouterr().err
    assert code in (1, 2) and str(tmp_path / "logos") in told and "train" in told and "Traceback" not in told
