"""What a file must be to be taken in: of an allowed size, and a video by its first bytes."""

from anb_core.domain.errors import Invalid, TooLarge
from anb_core.domain.formats import ACCEPTED, sniff_container


def check_size(size: int, most: int) -> None:
    """Refuse a file of `size` bytes where `most` are allowed.

    Raises:
        Invalid: `file_empty`.
        TooLarge: `file_too_large`.
    """
    if size == 0:
        raise Invalid("file_empty", "The file is empty.")
    if size > most:
        raise TooLarge("file_too_large", f"The file has more than the {most} bytes that are allowed.")


def check_first_bytes(head: bytes) -> None:
    """Refuse a file that begins with `head` (SNIFF_BYTES, or all of a shorter file) if it is no video.

    Raises:
        Invalid: `file_empty`, `not_a_video`.
    """
    if not head:
        raise Invalid("file_empty", "The file is empty.")
    if sniff_container(head) is None:
        raise Invalid("not_a_video", f"The file is no video, whatever its name says; {ACCEPTED} are accepted.")
