from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.alert import MAX_SUBJECT, dead_letter_alert, subject_line
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import DeadLetterCause

THEN = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ("1 new dead letter", "1 new dead letter"),
        ("  two\r\n lines\u2028here ", "two lines here"),
        ("naïve \x1b[0m", "na?ve ?[0m"),
        ("", ""),
    ],
)
def test_a_subject_is_one_line_of_printable_ascii(raw: str, line: str) -> None:
    assert subject_line(raw) == line


@given(st.text(max_size=300))
def test_whatever_a_subject_is_made_of_sns_takes_it(raw: str) -> None:
    line = subject_line(raw)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= MAX_SUBJECT
    assert not line.startswith(" ")


def letters(cause: DeadLetterCause, count: int, detail: str, *, with_video: bool) -> Sequence[DeadLetter]:
    return [
        DeadLetter(
            number,
            cause,
            detail,
            THEN,
            video_id=f"v{number}" if with_video else None,
            message_id=None if with_video else f"m{number}",
        )
        for number in range(1, count + 1)
    ]


def test_an_alert_about_videos_says_what_failed_how_many_and_what_to_run() -> None:
    failed = letters(DeadLetterCause.FAILURES, 7, "The result is\nnot as planned.", with_video=True)
    subject, text = dead_letter_alert(DeadLetterCause.FAILURES, failed)
    assert subject == "ANB Video: 7 videos in the dead letters, cause failures"
    assert text.splitlines() == [
        "7 videos became dead letters. The cause is failures: every attempt failed.",
        "",
        *(f"{number}: video v{number}: The result is not as planned." for number in range(1, 6)),
        "... and 2 more",
        "",
        "List them: anb dlq list --cause failures",
        "Show one: anb dlq show ID",
        "Try again once the cause is gone: anb dlq redrive --cause failures",
    ]


def test_an_alert_that_shows_everything_mentions_no_more() -> None:
    five = letters(DeadLetterCause.WORKER_LOST, 5, "?", with_video=True)
    _, text = dead_letter_alert(DeadLetterCause.WORKER_LOST, five)
    assert "5: video v5: ?\n\nList them" in text


def test_an_alert_about_a_message_without_a_video_offers_no_redrive() -> None:
    [unreadable] = letters(DeadLetterCause.UNREADABLE, 1, "x" * 301, with_video=False)
    subject, text = dead_letter_alert(DeadLetterCause.UNREADABLE, [unreadable])
    assert subject == "ANB Video: 1 message in the dead letters, cause unreadable"
    assert text.splitlines() == [
        "1 message became a dead letter. The cause is unreadable: the queue brought it, but nobody can read it.",
        "",
        f"1: message m1: {'x' * 300}...",
        "",
        "List them: anb dlq list --cause unreadable",
        "Show one: anb dlq show ID",
        'Discard one: anb dlq discard ID --reason "..."',
    ]


@pytest.mark.parametrize("cause", DeadLetterCause)
def test_each_cause_has_an_alert_that_sns_takes(cause: DeadLetterCause) -> None:
    subject, text = dead_letter_alert(cause, letters(cause, 1000, "é" * 5000, with_video=True))
    assert subject_line(subject) == subject
    assert len(text.encode()) < 256 * 1024
    assert "... and 995 more" in text
