"""Faces are counted, never told apart. No face can be drawn that a detector must find, so finding is tested on real photos."""

import ast
import io
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from upheld.common.params import params
from upheld.feature_store.extractors.image.faces import Faces

REPOSITORY = Path(__file__).resolve().parents[3]
PARAMS = params.load(REPOSITORY / "params.yaml")
PACKAGES = ("common", "dags", "evaluation", "feature_store", "registry", "training", "upheld", "benchmarks")
RECOGNITION = (
    "inceptionresnet",
    "inception_resnet",
    "face_recognition",
    "deepface",
    "insightface",
    "arcface",
    "vggface",
    "casia",
    "extract_face",
    "compare_faces",
    "face_encoding",
    "face_embedding",
    "face_identity",
    "facerecogni",
    "recognize_face",
    "recognise_face",
)


@pytest.fixture(scope="module")
def faces() -> Faces:
    return Faces(PARAMS)


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def named(path: Path) -> set[str]:
    """Every identifier, imported name, attribute and string of a source file, docstrings included, in lower case."""
    words = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        words |= {getattr(node, field) for field in ("id", "attr", "name", "arg", "module") if isinstance(getattr(node, field, None), str)}
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    return {word.lower() for word in words}


def test_no_code_of_ours_names_anything_that_recognises_faces() -> None:
    sources = [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]
    found = {(path.name, bad) for path in sources for word in named(path) for bad in RECOGNITION if bad in word}
    assert found == set()


def test_the_search_for_recognition_finds_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("from facenet_pytorch import MTCNN, InceptionResnetV1\n")
    assert any(bad in word for word in named(tmp_path / "bad.py") for bad in RECOGNITION)


def test_facenet_is_imported_in_one_file_for_its_detector_alone() -> None:
    importers = {}
    for path in [path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("facenet_pytorch"):
                importers.setdefault(path.name, set()).update(f"{node.module}.{alias.name}" for alias in node.names)
            assert not (isinstance(node, ast.Import) and any(alias.name.startswith("facenet_pytorch") for alias in node.names))
    assert importers == {"faces.py": {"facenet_pytorch.models.mtcnn", "facenet_pytorch.models.utils.detect_face.detect_face"}}


def test_columns_hold_counts_and_geometry_alone() -> None:
    box = pa.struct([(name, pa.float32()) for name in ("x1", "y1", "x2", "y2", "prob")])
    assert Faces.columns == pa.schema([("count", pa.int32()), ("boxes", pa.list_(box)), ("largest_share", pa.float32())])


def test_the_networks_end_in_a_box_and_a_probability(faces: Faces) -> None:
    """What they compute for a window: face or not, four sides, and the last one five points; nothing that tells two faces apart."""
    import torch

    faces.extract([faces.decode(png(Image.new("RGB", (64, 64))))])
    nets = {name: faces._detect.__wrapped__.keywords[name] for name in ("pnet", "rnet", "onet")}
    sizes = {"pnet": 12, "rnet": 24, "onet": 48}
    outputs = {name: [tuple(out.shape)[1] for out in net(torch.zeros(1, 3, sizes[name], sizes[name]))] for name, net in nets.items()}
    assert outputs == {"pnet": [4, 2], "rnet": [4, 2], "onet": [4, 10, 2]}


@pytest.mark.parametrize("size", [(1, 1), (19, 300), (20, 20), (21, 2000), (3000, 20)])
def test_odd_shapes_show_no_face(faces: Faces, size: tuple[int, int]) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8))
    assert faces.extract([faces.decode(png(noise))]) == [{"count": 0, "boxes": [], "largest_share": 0.0}]


def test_faces_on_real_photos(faces: Faces, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "flickrlogos27" / "images.zip") as photos:
        contents = [photos.read(name) for name in sorted(photos.namelist())[::40] if name.endswith(".jpg")]
    rows = faces.extract([faces.decode(content) for content in contents])
    table = pa.Table.from_pylist(rows, faces.columns)
    assert len(table) == len(contents)
    assert sum(row["count"] for row in rows) > 0
    for row in rows:
        shares = [(box["x2"] - box["x1"]) * (box["y2"] - box["y1"]) for box in row["boxes"]]
        assert row["count"] == len(shares)
        assert shares == sorted(shares, reverse=True)
        assert row["largest_share"] == (shares[0] if shares else 0.0)
        assert all(0 <= box[side] <= 1 for box in row["boxes"] for side in ("x1", "y1", "x2", "y2"))


def test_a_picture_laid_twice_beside_itself_shows_twice_the_faces(faces: Faces, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "flickrlogos27" / "images.zip") as photos:
        contents = (photos.read(name) for name in sorted(photos.namelist())[::10] if name.endswith(".jpg"))
        content = next(content for content in contents if faces.extract([faces.decode(content)])[0]["count"] == 1)
    once = faces.decode(content)["image"]
    [row] = faces.extract([{"image": np.concatenate([once, once], axis=1)}])
    assert row["count"] == 2
    left, right = sorted(row["boxes"], key=lambda box: box["x1"])
    assert right["x1"] - left["x1"] == pytest.approx(0.5, abs=0.02)


def test_the_version_follows_params() -> None:
    other = params.load(REPOSITORY / "params.yaml", ["faces.min_prob=0.8"])
    assert Faces(PARAMS).version == Faces(PARAMS).version != Faces(other).version
