"""Foreign logo datasets: what is taken, where its boxes are, and that nothing vanishes."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.feature_store.deliveries import ROOT, parameters
from tests.feature_store.logo_folders import SIZE, coco, jpeg, picture, put, voc, voc_object, yolo
from upheld import cli
from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.contracts import hashing
from upheld.feature_store.logos.dataset import dataset as logo_dataset
from upheld.feature_store.logos.sources import import_command

SOME = "0 0.5 0.5 0.25 0.5\n"  # x 30 to 50, y 15 to 45 of SIZE


def take(folder: Path, layout: str, *overrides: str) -> import_command.Result:
    given = parameters(*overrides)
    return import_command.run(given.logo_data, given.seed, folder, layout, folder.with_name(f"{folder.name}.out"))


def reasons(result: import_command.Result, kind: str) -> dict[str, int]:
    row = result.report[kind]
    assert row["rows"] == row["accepted"] + row["duplicate"] + row["quarantined"]
    assert row["quarantined"] == sum(row["by_reason"].values())
    return row["by_reason"]


def test_yolo_boxes_become_pixels_and_an_empty_label_file_is_a_photo_without_logos(tmp_path):
    photos = {"train/a": (jpeg(picture(1)), SOME), "val/b": (jpeg(picture(2)), ""), "val/c": (jpeg(picture(3)), "1 .5 .5 1 1")}
    result = take(yolo(tmp_path / "d", photos), "yolo")
    dataset = logo_dataset.read(tmp_path / "d.out")
    assert dataset.brands == ("ant", "bee")
    assert result.report["photos_without_logos"] == 1
    by_photo = dataset.boxes.set_index("digest")
    a, b, c = (hashing.of_bytes(photos[name][0]) for name in photos)
    assert by_photo.loc[a, ["brand", "x1", "y1", "x2", "y2", "split"]].tolist() == ["ant", 30, 15, 50, 45, "train"]
    assert by_photo.loc[c, ["brand", "x1", "y1", "x2", "y2", "split"]].tolist() == ["bee", 0, 0, *SIZE, "val"]
    assert set(dataset.images["digest"]) == {a, b, c}
    assert dict(logo_dataset.contents(dataset, [a, b])) == {a: photos["train/a"][0], b: photos["val/b"][0]}


def test_every_yolo_defect_has_its_name(tmp_path):
    label = "\n".join(
        [SOME.strip(), "7 .5 .5 .1 .1", "0 .5 .5 .1", "0 .5 .5 0 .2", "0 .9 .5 .5 .2", "1 nan .5 .1 .1", "0 .5 .5 .01 .2", "-1 0 0 1 1"]
    )
    photos = {
        "train/good": (jpeg(picture(1)), label),
        "train/torn": (jpeg(picture(2))[:300], SOME),
        "train/bare": (jpeg(picture(3)), None),
        "train/lost": (jpeg(picture(4)), "9 .5 .5 .1 .1"),
    }
    folder = yolo(tmp_path / "d", photos)
    put(folder / "labels" / "train" / "orphan.txt", SOME)
    put(folder / "images" / "train" / "notes.pdf", b"%PDF")
    put(folder / "labels" / "train" / "notes.txt", "")
    result = take(folder, "yolo")
    assert reasons(result, "photos") == {"image_corrupt": 2, "label_missing": 1, "no_box_left": 1, "photo_missing": 1}
    assert reasons(result, "boxes") == {
        "box_degenerate": 1,
        "box_not_finite": 1,
        "box_outside": 1,
        "box_too_small": 1,
        "class_out_of_range": 3,
        "label_malformed": 1,
        "photo_quarantined": 1,
    }
    kept = pd.read_parquet(folder.with_name("d.out") / "quarantine.parquet")
    assert len(kept) == 14 and kept["detail"].ne("").all()
    where = kept.set_index("reason").loc["label_malformed", "position"]
    assert where.endswith("labels/train/good.txt:3")


def test_a_box_a_pixel_over_the_border_is_clipped_and_counted(tmp_path):
    photos = {"train/a": (jpeg(picture(1)), "0 .5 .5 1.02 1")}
    result = take(yolo(tmp_path / "d", photos), "yolo")
    assert result.report["boxes_clipped"] == 1
    assert result.dataset.boxes[["x1", "x2"]].to_numpy().tolist() == [[0, 80]]


def test_copies_count_once_and_are_refused_if_they_disagree(tmp_path):
    same, other = jpeg(picture(1)), jpeg(picture(2))
    photos = {
        "train/a": (same, SOME),
        "val/b": (same, "0 0.5 0.5 0.3 0.5"),  # drawn again by another hand
        "train/c": (other, SOME),
        "train/d": (other, "1 0.5 0.5 0.25 0.5"),
    }
    result = take(yolo(tmp_path / "d", photos), "yolo")
    assert reasons(result, "photos") == {"copies_disagree": 2}
    assert (result.report["photos"]["duplicate"], result.report["boxes"]["duplicate"]) == (1, 1)
    assert result.dataset.images["split"].tolist() == ["val"]  # held out: training loses the copy


def test_near_duplicates_never_straddle_a_split(tmp_path):
    near = picture(1)
    photos = {"train/a": (jpeg(near), SOME), "test/b": (jpeg(near.resize((160, 120)), 60), SOME), "train/c": (jpeg(picture(5)), SOME)}
    result = take(yolo(tmp_path / "d", photos), "yolo")
    assert result.report["near_duplicate"] == 1 and result.report["moved"] == 1
    assert result.dataset.images.groupby("group_id")["split"].nunique().max() == 1
    assert result.dataset.images["split"].value_counts().to_dict() == {"test": 2, "train": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("names: [a, b]\n", "train"),
        ("names: [a, a]\ntrain: images\n", "'a'"),
        ("names: 3\ntrain: images\n", "names"),
        ("names: [a]\ntrain: nowhere\n", "nowhere"),
        ("names: [a]\ntrain: /etc\n", "/etc"),
        ("- a", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_a_wrong_data_yaml_is_named(tmp_path, text, said):
    put(tmp_path / "d" / "data.yaml", text)
    (tmp_path / "d" / "images").mkdir()
    with pytest.raises(BadUse, match=said):
        take(tmp_path / "d", "yolo")


def test_no_photo_at_all_is_failed_work(tmp_path):
    (tmp_path / "d" / "images" / "train").mkdir(parents=True)
    put(tmp_path / "d" / "data.yaml", "names: [a]\ntrain: images/train\n")
    with pytest.raises(FailedWork, match="no photo can be taken"):
        take(tmp_path / "d", "yolo")


def test_coco_boxes_and_defects(tmp_path):
    annotations = [
        {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 25]},
        {"image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 25]},
        {"image_id": 9, "category_id": 1, "bbox": [10, 20, 30, 25]},
        {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30]},
        {"image_id": 1, "category_id": 1, "bbox": [10, 20, 30, 25], "iscrowd": 1},
        {"image_id": 1, "category_id": 2, "bbox": [10, 20, -3, 25]},
    ]
    folder = coco(tmp_path / "d", "train", {"a.jpg": jpeg(picture(1)), "none.jpg": jpeg(picture(2))}, annotations)
    coco(folder, "val", {"b.jpg": jpeg(picture(3))}, [{"image_id": 1, "category_id": 2, "bbox": [0, 0, 80, 60]}])
    result = take(folder, "coco")
    assert reasons(result, "photos") == {}
    assert reasons(result, "boxes") == {"box_degenerate": 1, "crowd": 1, "label_malformed": 1, "photo_missing": 1, "unknown_class": 1}
    boxes = result.dataset.boxes.sort_values("brand")[["brand", "x1", "y1", "x2", "y2", "split"]].to_numpy().tolist()
    assert boxes == [["ant", 10, 20, 40, 45, "train"], ["bee", 0, 0, 80, 60, "val"]]
    assert result.report["photos_without_logos"] == 1


def test_coco_photos_of_another_size_or_place_are_refused(tmp_path):
    folder = coco(tmp_path / "d", "train", {"a.jpg": jpeg(picture(1))}, [], width=60, height=80)
    coco(folder, "val", {"b.jpg": jpeg(picture(2))}, [])
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    content["images"].append({"id": 2, "file_name": "../../../etc/hostname"})
    content["images"].append({"id": 3, "file_name": "gone.jpg"})
    path.write_text(json.dumps(content))
    assert reasons(take(folder, "coco"), "photos") == {"photo_missing": 1, "photo_path_unsafe": 1, "size_mismatch": 1}


def test_boxes_are_of_the_photo_as_a_viewer_turns_it(tmp_path):
    exif = picture(1).getexif()
    exif[0x0112] = 6  # to be turned by a quarter
    folder = coco(tmp_path / "d", "train", {"a.jpg": jpeg(picture(1), exif=exif)}, [], width=SIZE[1], height=SIZE[0])
    images = take(folder, "coco").dataset.images
    assert images[["width", "height"]].to_numpy().tolist() == [[SIZE[1], SIZE[0]]]


def test_voc_counts_from_one_and_includes_the_last_pixel(tmp_path):
    folder = voc(tmp_path / "d", "a", jpeg(picture(1)), voc_object("ant", 1, 1, *SIZE) + voc_object("bee", 11, 21, 40, 50))
    put(folder / "ImageSets" / "Main" / "test.txt", "a\n")
    boxes = take(folder, "voc").dataset.boxes
    assert boxes[["brand", "x1", "y1", "x2", "y2", "split"]].to_numpy().tolist() == [
        ["ant", 0, 0, 80, 60, "test"],
        ["bee", 10, 20, 40, 50, "test"],
    ]


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb">'
    + "".join(f'<!ENTITY c{n} "{"&b;" * 10}">' for n in range(9))
    + "]><annotation>&c8;</annotation>"
)


def test_voc_defects(tmp_path):
    folder = voc(tmp_path / "d", "a", jpeg(picture(1)), voc_object("ant", 1, 1, 20, 20) + voc_object("wasp", 1, 1, 20, 20))
    voc(folder, "turned", jpeg(picture(2)), "", size=(60, 80))
    voc(folder, "words", jpeg(picture(3)), "<object><name>ant</name><bndbox><xmin>one</xmin></bndbox></object>")
    put(folder / "Annotations" / "bomb.xml", BOMB)
    put(folder / "Annotations" / "outside.xml", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation>&x;</annotation>')
    put(folder / "Annotations" / "torn.xml", "<annotation>")
    put(folder / "JPEGImages" / "bare.jpg", jpeg(picture(4)))
    put(folder / "classes.txt", "ant\nbee\n")
    result = take(folder, "voc")
    expected = {"label_malformed": 1, "label_missing": 1, "no_box_left": 1, "size_mismatch": 1, "xml_unsafe": 2}
    assert reasons(result, "photos") == expected
    assert reasons(result, "boxes") == {"label_malformed": 1, "unknown_class": 1}
    assert result.dataset.brands == ("ant", "bee")


def test_the_command_reports_and_guards_what_it_overwrites(tmp_path, capsys):
    folder = yolo(tmp_path / "d", {"train/a": (jpeg(picture(1)), SOME)})
    command = ["logo", "import", str(folder), "--format", "yolo", "--params", str(ROOT / "params.yaml")]
    assert cli.main([*command, "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["photos"]["accepted"] == 1
    assert cli.main([*command, "--out", str(folder)]) == 2
    assert "no logo dataset" in capsys.readouterr().err
    assert cli.main(["logo", "import", str(folder), "--format", "zip", "--out", "x"]) == 2
    assert cli.main(["logo"]) == 2
    assert "import" in capsys.readouterr().out


def test_tables_that_were_changed_are_not_read(tmp_path):
    dataset = take(yolo(tmp_path / "d", {"train/a": (jpeg(picture(1)), SOME)}), "yolo").dataset
    dataset.boxes.assign(x1=1.0).to_parquet(dataset.folder / "boxes.parquet")
    with pytest.raises(BadUse, match="make the dataset anew"):
        logo_dataset.read(dataset.folder)


def test_a_photo_that_was_replaced_is_noticed(tmp_path):
    folder = yolo(tmp_path / "d", {"train/a": (jpeg(picture(1)), SOME)})
    dataset = take(folder, "yolo").dataset
    put(folder / "images" / "train" / "a.jpg", jpeg(picture(2)))
    with pytest.raises(FailedWork, match="is not the photo"):
        list(logo_dataset.contents(dataset, dataset.images["digest"]))
