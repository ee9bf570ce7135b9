import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.errors import Invalid
from anb_core.domain.naming import clean_title, result_file_name, safe_file_name, title_from_file_name

SCOTLAND = "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f"
"""Scotland's flag as an emoji: a black flag, and the letters gbsct as invisible tag characters."""


@pytest.mark.parametrize(
    ("raw", "title"),
    [("  Día 1 ", "Día 1"), ("x" * 200, "x" * 200), ("日本語 🎬", "日本語 🎬"), ("a  b", "a  b")],
)
def test_a_title_loses_only_the_blanks_around_it(raw: str, title: str) -> None:
    assert clean_title(raw) == title


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ("", "title_empty"),
        ("   ", "title_empty"),
        ("\u00a0\u2003", "title_empty"),
        ("\u200b\u200b", "title_empty"),
        ("\u200c\u200d\ufeff", "title_empty"),
        ("\u00ad \u2060\u200e", "title_empty"),
        ("\u3164\u115f\uffa0", "title_empty"),
        ("\u2800", "title_empty"),
        ("\ufe0f\U000e0041", "title_empty"),
        ("x" * 201, "title_too_long"),
        ("x" * 10_000, "title_too_long"),
        ("a\tb", "title_unprintable"),
        ("ends\n", "title_unprintable"),
        ("a\0b", "title_unprintable"),
        ("a\x7fb", "title_unprintable"),
        ("a\u2028b", "title_unprintable"),
        ("a\ud800b", "title_unprintable"),
    ],
)
def test_a_title_against_the_rules_is_refused(raw: str, code: str) -> None:
    with pytest.raises(Invalid) as refusal:
        clean_title(raw)

    assert refusal.value.code == code


@pytest.mark.parametrize(
    "title", ["👩\u200d👩\u200d👧 à la plage", "می\u200cرویم", "❤\ufe0f", "\u0600", "\u0301", "\u200bx"]
)
def test_what_joins_and_shapes_visible_characters_stays(title: str) -> None:
    assert clean_title(title) == title


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("My clip.mp4", "My clip"),
        ("a.b.mov", "a.b"),
        ("uploads/2024/clip.mp4", "clip"),
        ("C:\\videos\\clip.mp4", "clip"),
        ("clip", "clip"),
        (".mp4", ".mp4"),
        ("a" * 230 + ".mp4", "a" * 200),
        ("a" * 199 + " b.mp4", "a" * 199),
        ("a" * 199 + "\u200d👩.mp4", "a" * 199),
        ("two\nlines.mp4", "two lines"),
        ("\r\ntab\there\x00\x7f\u2028.mp4", "tab here"),
        ("caf\udce9.mp4", "caf\ufffd"),
        ("   .mp4", ".mp4"),
        ("\u200b\u200d", "video"),
        ("\n", "video"),
        ("", "video"),
        ("folder/", "video"),
        ("👩\u200d👩\u200d👧.mp4", "👩\u200d👩\u200d👧"),
        ("\u200b.mp4", ".mp4"),
        ("\ufeff\u2800 clip\u200b.mp4", "clip"),
        ("\u200b" * 300 + "clip.mp4", "clip"),
        ("I ❤\ufe0f.mp4", "I ❤\ufe0f"),
        (f"{SCOTLAND}.mp4", SCOTLAND),
    ],
)
def test_a_title_is_made_of_a_file_name(name: str, title: str) -> None:
    assert title_from_file_name(name) == title


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_whatever_a_file_is_called_its_title_is_fit(raw: str) -> None:
    title = title_from_file_name(raw)

    assert clean_title(title) == title


def test_the_refusal_says_which_character_it_is() -> None:
    with pytest.raises(Invalid, match=r"Character 4 .*U\+0007"):
        clean_title("abc\a")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("clip.mp4", "clip.mp4"),
        ("../../etc/passwd", "passwd"),
        ("..\\..\\windows\\clip.mp4", "clip.mp4"),
        ("C:\\Users\\ana\\clip.mp4", "clip.mp4"),
        ("/abs/olute.mov", "olute.mov"),
        ("a/..", "video.mp4"),
        ("..", "video.mp4"),
        ("", "video.mp4"),
        ("folder/", "video.mp4"),
        ('quo"te\r\nSet-Cookie: a.mp4', 'quo"teSet-Cookie: a.mp4'),
        ("x" * 300 + ".mp4", "x" * 251 + ".mp4"),
        ("é" * 200 + ".mp4", "é" * 125 + ".mp4"),
    ],
)
def test_a_file_name_keeps_only_what_names_the_file(raw: str, name: str) -> None:
    assert safe_file_name(raw) == name


@given(st.text(alphabet=st.characters()))
def test_no_file_name_leads_anywhere_or_breaks_a_header(raw: str) -> None:
    name = safe_file_name(raw)

    assert name.strip(".")
    assert len(name.encode()) <= 255
    assert not set(name) & {"/", "\\"}
    assert not any(unicodedata.category(character) == "Cc" for character in name)


@pytest.mark.parametrize(
    ("source", "result"),
    [("clip.mp4", "clip-processed.mp4"), ("a.b.mov", "a.b-processed.mp4"), ("clip", "clip-processed.mp4")],
)
def test_a_finished_video_is_named_after_its_source(source: str, result: str) -> None:
    assert result_file_name(source) == result
