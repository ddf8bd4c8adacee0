"""docs/architecture.md and its picture are what the code says today."""

import importlib.util
import re
from pathlib import Path

import grimp
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
spec = importlib.util.spec_from_file_location("draw_architecture", DOCS / "draw_architecture.py")
assert spec and spec.loader
draw_architecture = importlib.util.module_from_spec(spec)
spec.loader.exec_module(draw_architecture)


def test_page_and_picture_are_fresh() -> None:
    graph = grimp.build_graph("upheld", cache_dir=None)
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    picture = (DOCS / "architecture.svg").read_text(encoding="utf-8")
    fresh = (draw_architecture.page(text, graph), draw_architecture.picture(graph))
    assert fresh == (text, picture), "run `python docs/draw_architecture.py`"


def test_every_owner_of_a_contract_exists() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:common|evaluation|feature_store|registry|training|dags|tests)/[\w/]+(?:\.py)?)`", text)
    assert len(named) > 12
    assert [name for name in named if not (DOCS.parent / name).exists()] == []


def test_a_line_is_drawn_only_where_no_other_explains_it() -> None:
    rooms = {"top": {"middle", "low"}, "middle": {"low"}, "low": set()}
    assert draw_architecture.floors(rooms) == {"low": 0, "middle": 1, "top": 2}
    assert draw_architecture.reduced(rooms) == [("middle", "low"), ("top", "middle")]


def test_a_circle_is_named() -> None:
    with pytest.raises(ValueError, match="circle: one, two"):
        draw_architecture.floors({"one": {"two"}, "two": {"one"}, "three": set()})
