"""Marks from anywhere: what is hostile is refused by name, what is drawn is bounded."""

import shutil

import numpy as np
import pytest
from PIL import Image

from tests.feature_store.logo_folders import put
from upheld.common.errors import BadUse, FailedWork
from upheld.feature_store.decoding.contract import Undecodable
from upheld.feature_store.logos.composites.drawing import MAX_SVG_BYTES, draw_svg
from upheld.feature_store.logos.composites.marks import OURS, SIDE_PX, load

NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def svg(inner: str, attributes: str = 'viewBox="0 0 100 50"', head: str = "") -> bytes:
    return f"{head}<svg {NAMESPACES} {attributes}>{inner}</svg>".encode()


NESTED = '<g id="a0"><rect width="1" height="1"/></g>' + "".join(
    f'<g id="a{n}">' + f'<use xlink:href="#a{n - 1}"/>' * 10 + "</g>" for n in range(1, 9)
)
MASKED = "".join(f'<mask id="m{n}">' + f'<rect width="9" height="9" style="mask:url(#m{n - 1})"/>' * 10 + "</mask>" for n in range(1, 9))
CHAIN = "".join(f'<g id="c{n}"><use xlink:href="#c{n - 1}"/></g>' for n in range(1, 500))

HOSTILE = {
    "a file of ours": ("svg_external", svg('<image xlink:href="/etc/hostname" width="9" height="9"/>')),
    "a picture inside": ("svg_external", svg('<image href="data:image/png;base64,AAAA" width="9" height="9"/>')),
    "a page": ("svg_external", svg('<use href="http://example.org/a.svg#x"/>')),
    "a page in a fill": ("svg_external", svg("<rect width='9' height='9' fill='url(http://example.org/a.svg#x)'/>")),
    "a page in a style": ("svg_external", svg("<style>rect{fill:url( 'http://example.org/a')}</style><rect width='9' height='9'/>")),
    "an import": ("svg_element", svg("<style>@import 'http://example.org/a.css';</style>")),
    "a style in disguise": ("svg_element", svg(r"<style>rect{m\61sk:inherit}</style>")),
    "a mask by style": ("svg_element", svg("<style>rect{mask : url(#m)}</style>")),
    "a script": ("svg_script", svg("<script>1</script>")),
    "a handler": ("svg_script", svg('<rect width="9" height="9" onload="x()"/>')),
    "html": ("svg_script", svg("<foreignObject/>")),
    "words": ("svg_text", svg("<text>Brand</text>")),
    "a filter": ("svg_element", svg("<filter/>")),
    "entities": ("svg_entities", svg("&b;", head='<!DOCTYPE svg [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>')),
    "an outside entity": ("svg_entities", svg("&x;", head='<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>')),
    "uses in uses": ("svg_bomb", svg(f'{NESTED}<use xlink:href="#a8"/>')),
    "masks in masks": ("svg_bomb", svg(f'{MASKED}<rect width="9" height="9" mask="url(#m8)"/>')),
    "a long chain": ("svg_bomb", svg(CHAIN)),
    "a loop": ("svg_bomb", svg('<g id="a"><use xlink:href="#b"/></g><g id="b"><use xlink:href="#a"/></g>')),
    "deep": ("svg_bomb", svg("<g>" * 200 + "</g>" * 200)),
    "many": ("svg_bomb", svg('<rect width="1" height="1"/>' * 20_001)),
    "long": ("svg_too_large", svg(" " * MAX_SVG_BYTES)),
    "thin": ("svg_size", svg("", 'viewBox="0 0 1000000 1"')),
    "nothing": ("svg_size", svg("", 'viewBox="0 0 0 0"')),
    "no number": ("svg_size", svg("", 'viewBox="0 0 nan 5"')),
    "no size": ("svg_size", svg("")[:40] + b"></svg>"),
    "relative size": ("svg_size", svg("", 'width="100%" height="100%"')),
    "no svg": ("svg_malformed", b"<html xmlns='http://www.w3.org/1999/xhtml'/>"),
    "torn": ("svg_malformed", b"<svg"),
    "binary": ("svg_malformed", bytes(range(256))),
    "an odd encoding": ("svg_malformed", b"<?xml version='1.0' encoding='no-such'?><svg/>"),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_svg_is_refused_by_name(name):
    reason, content = HOSTILE[name]
    with pytest.raises(Undecodable) as refused:
        draw_svg(content, 64)
    assert refused.value.refused.reason == reason, refused.value


@pytest.mark.parametrize(
    "attributes", ['viewBox="0 0 1e9 5e8"', 'width="1000000000" height="500000000px"', 'viewBox="0,0,100,50" width="9999"']
)
def test_a_huge_svg_is_drawn_at_the_size_that_was_asked_for(attributes):
    assert draw_svg(svg('<rect width="100%" height="100%"/>', attributes), 64).size == (64, 32)


def test_what_editors_leave_is_dropped_and_the_shapes_are_drawn():
    content = svg(
        '<title>t</title><metadata><rdf:RDF xmlns:rdf="urn:r"/></metadata>'
        '<defs><linearGradient id="g"><stop stop-color="red"/></linearGradient>'
        '<style>.a{fill:url(#g)}</style></defs><rect class="a" width="50" height="50"/>',
        head='<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">',
    )
    drawn = np.asarray(draw_svg(content, 100))
    assert drawn.shape == (50, 100, 4)
    assert drawn[25, 25].tolist() == [255, 0, 0, 255] and drawn[25, 75, 3] == 0


def test_our_own_marks_load_and_are_told_apart():
    marks, refused = load(OURS)
    assert refused == [] and len(marks) == len({mark.brand for mark in marks}) == 8
    assert {mark.brand for mark in marks if mark.one_colour} == {"ferlune", "quorvel", "zindrel"}
    assert all(max(mark.rgba.shape[:2]) <= SIDE_PX and mark.rgba[..., 3].max() == 255 for mark in marks)


def test_a_folder_of_marks_with_good_and_bad_ones(tmp_path):
    shutil.copy(OURS / "tamsik.svg", tmp_path / "tamsik.svg")
    picture = Image.new("RGBA", (900, 600))
    picture.paste((10, 20, 30, 255), (300, 200, 600, 400))
    (tmp_path / "acme").mkdir()
    picture.save(tmp_path / "acme" / "one.png")
    Image.new("RGBA", (9, 9)).save(tmp_path / "clear.png")
    put(tmp_path / "torn.png", b"\x89PNG\r\n")
    put(tmp_path / "evil.svg", svg("<script>1</script>"))
    put(tmp_path / "read.me", "marks")
    marks, refused = load(tmp_path)
    assert {mark.brand: mark.one_colour for mark in marks} == {"acme": True, "tamsik": False}
    assert marks[0].rgba.shape[1] == pytest.approx(SIDE_PX / 3, abs=2)  # cut to what is seen
    found = {refusal.file.rsplit("/")[-1]: refusal.reason for refusal in refused}
    assert found == {"clear.png": "mark_empty", "torn.png": "mark_corrupt", "evil.svg": "svg_script", "read.me": "mark_corrupt"}


def test_no_usable_mark_is_an_error_that_names_the_first(tmp_path):
    put(tmp_path / "evil.svg", svg("<script>1</script>"))
    with pytest.raises(FailedWork, match=r"evil\.svg.*script"):
        load(tmp_path)
    with pytest.raises(BadUse, match="no such folder"):
        load(tmp_path / "none")
