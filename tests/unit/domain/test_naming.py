import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.errors import Invalid
from anb_core.domain.naming import clean_title, result_file_name, safe_file_name


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
