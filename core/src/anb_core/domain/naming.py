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

_NAMELESS = "video.mp4"

# Control characters, separators of lines and paragraphs, and halves of surrogate pairs, which no database keeps.
_UNPRINTABLE = frozenset({"Cc", "Zl", "Zp", "Cs"})


def clean_title(raw: str) -> str:
    """The title without the blanks around it.

    Raises:
        Invalid: `title_empty`, `title_too_long` or `title_unprintable`.
    """
    # Only blanks go silently: `strip()` alone would take line breaks at the ends, which are refused everywhere.
    title = raw.strip(" ")
    if not title or title.isspace():
        raise Invalid("title_empty", f"The title is empty; give one of 1 to {MAX_TITLE} characters.")
    if len(title) > MAX_TITLE:
        raise Invalid("title_too_long", f"The title has {len(title)} characters; at most {MAX_TITLE} are allowed.")
    for place, character in enumerate(title, start=1):
        if unicodedata.category(character) in _UNPRINTABLE:
            raise Invalid(
                "title_unprintable",
                f"Character {place} of the title is a control character (U+{ord(character):04X}); leave it out.",
            )
    return title


def safe_file_name(raw: str) -> str:
    """The last part of a path that a client sent, without what file systems and headers can't take. Never empty."""
    last = re.split(r"[/\\]", raw)[-1]
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
