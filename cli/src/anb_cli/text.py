"""Text that other people chose: names of files, titles, sentences of servers. Made fit to be shown."""

import unicodedata

_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})
"""Control characters, separators of lines and paragraphs, halves of surrogate pairs."""

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""They turn around what is printed after them. Joiners, which emoji and Persian need, steer nothing."""


def readable(name: str) -> str:
    """A name from the file system or the command line; bytes in it that are no UTF-8 are replaced."""
    try:
        raw = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        raw = name.encode(errors="replace")
    return raw.decode(errors="replace")


def clean(text: str) -> str:
    """Text without anything that steers a terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _steers(letter) else letter for letter in text)


def _steers(letter: str) -> bool:
    return letter in _TURNING or unicodedata.category(letter) in _UNPRINTABLE
