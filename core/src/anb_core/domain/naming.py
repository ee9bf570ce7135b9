"""What people call things: titles, file names and ids, judged before they are kept."""

import re
import unicodedata

from anb_core.domain.errors import Invalid

MAX_TITLE = 200
"""The longest title, in characters; it has to fit on the intro card."""

MAX_FILE_NAME_BYTES = 255
"""What file systems take, in UTF-8 bytes, for people save downloads under it."""

VIDEO_ID_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"
"""An id is part of object keys and addresses, so it has no slash and is neither `.` nor `..`."""

IDEMPOTENCY_KEY_PATTERN = r"^[!-~]{1,255}$"

INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Characters that show nothing and are no blanks (Default_Ignorable_Code_Point, and the empty cell of Braille), as
the inside of a character class. Beside others they matter: joiners make one emoji of several, and shape Persian."""

_VISIBLE = re.compile(rf"[^\s{INVISIBLE}]")
_LEADING = re.compile(rf"^[\s{INVISIBLE}]+")
# Not selectors and tags, which shape what they follow: a heart is red by one, a flag is Scotland's by others.
_TRAILING = re.compile(rf"(?:(?![\u180b-\u180f\ufe00-\ufe0f\U000e0000-\U000e0fff])[\s{INVISIBLE}])+$")

_NAMELESS = "video.mp4"
_UNTITLED = "video"

# Control characters, separators of lines and paragraphs, and halves of surrogate pairs, which no database keeps.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})


def clean_title(raw: str) -> str:
    """The title without the blanks around it.

    Raises:
        Invalid: `title_empty`, `title_too_long` or `title_unprintable`.
    """
    # Only blanks go silently: `strip()` alone would take line breaks at the ends, which are refused everywhere.
    title = raw.strip(" ")
    if not _VISIBLE.search(title):
        fault = "has no character that can be seen" if title else "is empty"
        raise Invalid("title_empty", f"The title {fault}; give one of 1 to {MAX_TITLE} characters.")
    if len(title) > MAX_TITLE:
        raise Invalid("title_too_long", f"The title has {len(title)} characters; at most {MAX_TITLE} are allowed.")
    for place, character in enumerate(title, start=1):
        if unicodedata.category(character) in _UNPRINTABLE:
            raise Invalid(
                "title_unprintable",
                f"Character {place} of the title is a control character (U+{ord(character):04X}); leave it out.",
            )
    return title


def title_from_file_name(raw: str) -> str:
    """A title that `clean_title` takes, out of whatever a file is called: cut, and cleaned of line breaks."""
    last = _last_part(raw)
    for name in (last.rpartition(".")[0], last):
        spoken = "".join(_spoken(character) for character in name)
        seen = _LEADING.sub("", " ".join(spoken.split()))
        # A cut may leave the joiner of an emoji that is gone.
        title = _TRAILING.sub("", seen[:MAX_TITLE])
        if _VISIBLE.search(title):
            return title
    return _UNTITLED


def safe_file_name(raw: str) -> str:
    """The last part of a path that a client sent, without what file systems and headers can't take. Never empty."""
    last = _last_part(raw)
    printable = "".join(character for character in last if unicodedata.category(character) not in _UNPRINTABLE)
    name = printable.strip(" ")
    while len(name.encode()) > MAX_FILE_NAME_BYTES:
        stem, dot, suffix = name.rpartition(".")
        # A suffix that is longer than any real one is cut like the rest.
        name = f"{stem[:-1]}{dot}{suffix}" if stem and len(suffix) < 10 else name[:-1]  # noqa: PLR2004
    return name if name.strip(".") else _NAMELESS


def result_file_name(source_name: str) -> str:
    """What the finished video is saved as."""
    stem, dot, _ = source_name.rpartition(".")
    return f"{stem if dot and stem else source_name}-processed.mp4"


def check_video_id(video_id: str) -> None:
    """Refuse what can't be an id.

    Raises:
        Invalid: `video_id_invalid`.
    """
    # fullmatch: `$` alone would let a line break pass at the end.
    if not re.fullmatch(VIDEO_ID_PATTERN, video_id):
        raise Invalid(
            "video_id_invalid",
            f"{video_id!r} can't be a video's id: it takes 1 to 128 letters, digits, dots, hyphens and underscores.",
        )


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path)[-1]


def _spoken(character: str) -> str:
    match unicodedata.category(character):
        case "Cs":
            # Half of a surrogate pair: a byte of a name that is not UTF-8.
            return "\ufffd"
        case category if category in _UNPRINTABLE:
            return " "
    return character
