"""Titles, file names and ids that people choose: checks and cleaning before the values are stored."""

import re
import unicodedata

from anb_core.domain.errors import Invalid

MAX_TITLE = 200
"""The maximum length of a title, in characters. A longer title does not fit on the intro card."""

MAX_FILE_NAME_BYTES = 255
"""The maximum length of a file name, in UTF-8 bytes. File systems refuse longer names."""

VIDEO_ID_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"
"""A video's id is used in object keys and URLs, so the id has no slash and is neither `.` nor `..`."""

IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"

INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that are invisible but not whitespace, as the content of a character class in a regular expression.
These characters are Unicode's Default_Ignorable_Code_Point and the blank Braille pattern.
Emoji and Persian text need some of these characters, so a title may contain them.
But a title must also contain a visible character."""

_VISIBLE = re.compile(rf"[^\s{INVISIBLE}]")
_LEADING = re.compile(rf"^[\s{INVISIBLE}]+")
# Variation selectors and tags at the end of a title are kept: they are part of the emoji before them.
_TRAILING = re.compile(rf"(?:(?![\u180b-\u180f\ufe00-\ufe0f\U000e0000-\U000e0fff])[\s{INVISIBLE}])+$")

_NAMELESS = "video.mp4"
_UNTITLED = "video"

# Unicode categories of control characters, line separators, paragraph separators and lone surrogates.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})


def clean_title(raw: str) -> str:
    """Check a title and return it without leading and trailing spaces.

    Raises:
        Invalid: `title_empty`, `title_too_long` or `title_unprintable`.
    """
    # Strip only spaces. `strip()` would also remove line breaks, but a title with a line break is refused.
    title = raw.strip(" ")
    if not _VISIBLE.search(title):
        fault = "has no character that can be seen" if title else "is empty"
        raise Invalid("title_empty", f"The title {fault}; give one of 1 to {MAX_TITLE} characters.")
    if len(title) > MAX_TITLE:
        raise Invalid("title_too_long", f"The title has {len(title)} characters; at most {MAX_TITLE} are allowed.")
    for position, character in enumerate(title, start=1):
        if unicodedata.category(character) in _UNPRINTABLE:
            raise Invalid(
                "title_unprintable",
                f"Character {position} of the title is a control character (U+{ord(character):04X}); leave it out.",
            )
    return title


def title_from_file_name(raw: str) -> str:
    """Make a title from a file's name, without path and extension. `clean_title` accepts every returned title."""
    last = _last_part(raw)
    for name in (last.rpartition(".")[0], last):
        printable = "".join(_printable(character) for character in name)
        visible = _LEADING.sub("", " ".join(printable.split()))
        # If an emoji sequence was cut at MAX_TITLE, the title may end with a joiner, which is removed.
        title = _TRAILING.sub("", visible[:MAX_TITLE])
        if _VISIBLE.search(title):
            return title
    return _UNTITLED


def safe_file_name(raw: str) -> str:
    """Return the last component of a path from a client, without characters that are invalid in file names or headers.

    The returned file name is never empty.
    """
    last = _last_part(raw)
    printable = "".join(character for character in last if unicodedata.category(character) not in _UNPRINTABLE)
    name = printable.strip(" ")
    while len(name.encode()) > MAX_FILE_NAME_BYTES:
        stem, dot, suffix = name.rpartition(".")
        # A text of 10 or more characters after the dot is no real extension, so it may be shortened, too.
        name = f"{stem[:-1]}{dot}{suffix}" if stem and len(suffix) < 10 else name[:-1]  # noqa: PLR2004
    return name if name.strip(".") else _NAMELESS


def result_file_name(source_name: str) -> str:
    """Return the file name under which a browser saves the finished video."""
    stem, dot, _ = source_name.rpartition(".")
    return f"{stem if dot and stem else source_name}-processed.mp4"


def check_video_id(video_id: str) -> None:
    """Check that a text is a valid id for a video.

    Raises:
        Invalid: `video_id_invalid` if the text is no valid id.
    """
    # `fullmatch` is used because `$` also matches before a line break at the end.
    if not re.fullmatch(VIDEO_ID_PATTERN, video_id):
        raise Invalid(
            "video_id_invalid",
            f"{video_id!r} can't be a video's id: it takes 1 to 128 letters, digits, dots, hyphens and underscores.",
        )


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _printable(character: str) -> str:
    """Replace a character that can't be printed by a space or by U+FFFD. Any other character is returned unchanged."""
    match unicodedata.category(character):
        case "Cs":
            # Python decodes a byte that is not valid UTF-8 to a lone surrogate.
            return "\ufffd"
        case category if category in _UNPRINTABLE:
            return " "
    return character
