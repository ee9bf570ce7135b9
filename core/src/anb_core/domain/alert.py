"""The subject and the text of alerts about dead letters. SNS allows only some characters in a subject."""

from collections.abc import Mapping, Sequence

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import DeadLetterCause

MAX_SUBJECT = 99
"""Maximum number of characters of an alert's subject. SNS wants fewer than 100."""


def subject_line(raw: str) -> str:
    """Return a text as the subject of an alert: one line of at most MAX_SUBJECT printable ASCII characters.

    White space becomes one space. Any other character that is not printable ASCII becomes a question mark.
    """
    line = " ".join(raw.split())
    return "".join(character if " " <= character <= "~" else "?" for character in line)[:MAX_SUBJECT]


MOST_SHOWN = 5
"""An alert shows at most this many dead letters, each on a line of its own."""

MAX_DETAIL = 300
"""Maximum number of characters of an error message in an alert."""

_EVENTS: Mapping[DeadLetterCause, tuple[str, str]] = {
    DeadLetterCause.FAILURES: ("video", "every attempt failed"),
    DeadLetterCause.WORKER_LOST: ("video", "the workers died or hung, again and again"),
    DeadLetterCause.UNKNOWN_JOB: ("message", "the queue brought it, but it belongs to no video"),
    DeadLetterCause.UNREADABLE: ("message", "the queue brought it, but nobody can read it"),
}
"""For each cause, two parts of the alert's text: whether a video or a message became a dead letter, and why."""


def dead_letter_alert(cause: DeadLetterCause, letters: Sequence[DeadLetter]) -> tuple[str, str]:
    """Return the subject and the text of an alert about new dead letters.

    `letters` are ordered from old to new, and all have the cause `cause`.

    The text describes the first MOST_SHOWN dead letters and only counts the rest. It ends with the commands to run.
    """
    thing, happened = _EVENTS[cause]
    count = f"{len(letters)} {thing}{'s' if len(letters) > 1 else ''}"
    withheld = len(letters) - MOST_SHOWN
    lines = [
        f"{count} became {'dead letters' if len(letters) > 1 else 'a dead letter'}. The cause is {cause}: {happened}.",
        "",
        *(_line(letter) for letter in letters[:MOST_SHOWN]),
        *([f"... and {withheld} more"] if withheld > 0 else []),
        "",
        f"List them: anb dlq list --cause {cause}",
        "Show one: anb dlq show ID",
    ]
    if thing == "video":
        lines.append(f"Try again once the cause is gone: anb dlq redrive --cause {cause}")
    else:
        lines.append('Discard one: anb dlq discard ID --reason "..."')
    return f"ANB Video: {count} in the dead letters, cause {cause}", "\n".join(lines)


def _line(letter: DeadLetter) -> str:
    about = f"video {letter.video_id}" if letter.video_id else f"message {letter.message_id}"
    detail = " ".join(letter.detail.split())
    return f"{letter.id}: {about}: {detail if len(detail) <= MAX_DETAIL else detail[:MAX_DETAIL] + '...'}"
