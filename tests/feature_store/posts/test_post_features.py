"""What models read of a post."""

import pytest

from upheld.feature_store.posts.post_features import digests_of, has_link, merged_text, num_hashtags, spread, whole_text


@pytest.mark.parametrize(
    ("caption", "hashtags", "expected"),
    [
        ("hello", None, "hello"),
        (None, ["one", "#Two"], "#one #Two"),
        ("see #One", ["one", "two"], "see #One #two"),
        ("a\x00b\tc\r\nd\u202e", [], "ab c d"),
        (None, None, ""),
        ("क्\u200dष", None, "क्\u200dष"),
        ("देखो #हिंदी।", ["हिंदी", "#नया"], "देखो #हिंदी। #नया"),
        ("see #Cafe\u0301", ["caf\xe9", "\u200b#"], "see #Caf\xe9"),
    ],
)
def test_merged_text(caption, hashtags, expected) -> None:
    assert merged_text(caption, hashtags) == expected


def test_counts_and_links() -> None:
    assert num_hashtags("see #One #one #two", ["#TWO", "three"]) == 3
    assert num_hashtags("#हिंदी #ไทย้", ["हिंदी"]) == 2
    assert num_hashtags(None, None) == 0
    assert has_link("look: HTTPS://a.example")
    assert has_link("go to www.a.example")
    assert not has_link("http is a protocol; awww.")
    assert not has_link(None)


def test_digests_of_in_order_and_once() -> None:
    media = [{"kind": kind, "uri": "u", "digest": name} for kind, name in (("image", "b"), ("audio", "c"), ("image", "a"), ("image", "b"))]
    assert digests_of(media, "image") == ["b", "a"]
    assert digests_of(None) == []


@pytest.mark.parametrize(
    ("said", "written", "expected"),
    [
        ([], [], "a caption"),
        (["", ""], [""], "a caption"),
        (["hello", "", "you"], [], "a cap | speech: hello"),
        ([], ["SALE", "SALE", " 50\u202e%"], "a cap | picture: SALE "),
        (["hi"], ["x"], "a cap | speech: hi | picture: x"),
    ],
)
def test_whole_text_tells_its_parts_apart(said, written, expected) -> None:
    assert whole_text("a caption", said, written, 5) == expected
    assert whole_text("", said, written, 5) == expected.removeprefix("a caption").removeprefix("a cap | ")


def test_frames_spread_evenly_with_both_ends() -> None:
    assert spread(list("aabca"), 5) == list("abc")
    assert spread([str(number) for number in range(101)], 5) == ["0", "25", "50", "75", "100"]
    assert spread(list("abc"), 1) == ["a"]
