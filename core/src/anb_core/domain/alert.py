"""The subject of an alert. SNS allows fewer characters in the subject than in the text of an alert."""

MAX_SUBJECT = 99
"""Maximum number of characters of an alert's subject. SNS wants fewer than 100."""


def subject_line(raw: str) -> str:
    """Return a text as the subject of an alert: one line of at most MAX_SUBJECT printable ASCII characters.

    White space becomes one space. Any other character that is not printable ASCII becomes a question mark.
    """
    line = " ".join(raw.split())
    return "".join(character if " " <= character <= "~" else "?" for character in line)[:MAX_SUBJECT]
