import pytest

from anb_cli.text import clean, readable

GONE = "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[2Jb", f"a{GONE}[2Jb"),
        ("a\u202eb\u2066c", f"a{GONE}b{GONE}c"),
        ("two\nlines\r\x9b", f"two{GONE}lines{GONE}{GONE}"),
        ("\u2028\ud800", f"{GONE}{GONE}"),
    ],
)
def test_other_peoples_text_cannot_steer_the_terminal(text: str, shown: str) -> None:
    assert clean(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "\U0001f469\u200d\U0001f469\u200d\U0001f467 \xe0 la plage",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\u65e5\u672c\u3000\u8a9e",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "no\xa0break",
        "\U0001faef new emoji",
        "e\u0301 \u2764\ufe0f",
    ],
)
def test_text_in_every_script_is_shown_unchanged(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("caf\xe9", "caf\xe9"),
        ("caf\udce9", f"caf{GONE}"),
        ("caf\udcc3\udca9", "caf\xe9"),
        ("\ud800", "?"),
    ],
)
def test_a_name_becomes_text(name: str, text: str) -> None:
    assert readable(name) == text
