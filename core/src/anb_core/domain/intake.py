"""Checks of an uploaded file before it is accepted: its size, and its container according to the first bytes."""

from anb_core.domain.errors import Invalid, TooLarge
from anb_core.domain.formats import ACCEPTED, sniff_container


def check_size(size: int, max_bytes: int) -> None:
    """Check that a file of `size` bytes is not empty and has at most `max_bytes` bytes.

    Raises:
        Invalid: `file_empty`.
        TooLarge: `file_too_large`.
    """
    if size == 0:
        raise Invalid("file_empty", "The file is empty.")
    if size > max_bytes:
        raise TooLarge("file_too_large", f"The file has more than {max_bytes} bytes, which is the limit.")


def check_first_bytes(head: bytes) -> None:
    """Check by its first bytes that a file is a video. `head` has SNIFF_BYTES bytes, or all bytes of a shorter file.

    Raises:
        Invalid: `file_empty`, `not_a_video`.
    """
    if not head:
        raise Invalid("file_empty", "The file is empty.")
    if sniff_container(head) is None:
        raise Invalid(
            "not_a_video", f"The file is not a video of an accepted kind, whatever its name says: {ACCEPTED}."
        )
