"""Makes untrusted text safe to print, such as file names, titles and messages of servers."""

import unicodedata

_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})
"""Unicode categories of control characters, line separators, paragraph separators and surrogates."""

_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the direction of text. Emoji and Persian text need joiners, so joiners are not included."""


def readable(name: str) -> str:
    """Return a file name or an argument as valid text, with replacement characters for bytes that are not UTF-8."""
    try:
        raw = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raw = name.encode(errors="replace")
    return raw.decode(errors="replace")


def clean(text: str) -> str:
    """Return the text with replacement characters for all characters that could control a terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_unsafe(letter) else letter for letter in text)


def escaped(text: str) -> str:
    r"""Return the text with escapes such as `\n` and `\x1b` for all characters that could control a terminal."""
    return "".join(ascii(letter)[1:-1] if _is_unsafe(letter) else letter for letter in text)


def _is_unsafe(letter: str) -> bool:
    return letter in _BIDI_CONTROLS or unicodedata.category(letter) in _UNPRINTABLE
