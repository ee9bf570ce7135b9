from datetime import UTC, datetime, timedelta

import pytest

from anb_cli.errors import WrongUse
from anb_cli.times import moment, process_after_of
from anb_core.domain.schedule import parse_process_after

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        (" 7d ", NOW - timedelta(days=7)),
        ("2026-11-29T10:00Z", datetime(2026, 11, 29, 10, tzinfo=UTC)),
        ("2026-11-29T10:00:30+02:00", datetime(2026, 11, 29, 8, 0, 30, tzinfo=UTC)),
        ("2026-11-28 23:59", datetime(2026, 11, 28, 23, 59).astimezone()),
        ("2026-11-28", datetime(2026, 11, 28).astimezone()),
    ],
)
def test_a_moment_is_a_time_or_an_age(given: str, expected: datetime) -> None:
    assert moment("since", given, NOW) == expected
    assert moment("since", given, NOW).tzinfo is not None


@pytest.mark.parametrize("given", ["", "2", "h", "2 hours", "-2h", "999999d", "2026-13-01", "0001-01-01", "9" * 5000])
def test_what_is_neither_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(WrongUse, match=r"--until is .*: give a time such as 2026-11-29T10:00, or an age such as 30m"):
        moment("until", given, NOW)


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("90s", "90"),
        ("30m", "1800"),
        (" 2h ", "7200"),
        ("7d", "604800"),
        ("0s", "0"),
        ("2026-12-01T08:00Z", datetime(2026, 12, 1, 8, tzinfo=UTC).astimezone().isoformat()),
        ("2026-12-01 08:00", datetime(2026, 12, 1, 8).astimezone().isoformat()),
        ("2026-12-01", datetime(2026, 12, 1).astimezone().isoformat()),
    ],
)
def test_a_delay_is_sent_as_seconds_and_a_time_with_its_zone(given: str, sent: str) -> None:
    assert process_after_of("after", given) == sent
    parse_process_after(sent, NOW)


@pytest.mark.parametrize("given", ["", "2", "h", "2 hours", "-2h", "tomorrow", "2026-13-01", "9" * 5000])
def test_what_is_neither_a_time_nor_a_delay_is_refused_with_an_example(given: str) -> None:
    with pytest.raises(WrongUse, match=r"--after is .*: give a time such as 2026-11-29T10:00, or a delay such as 30m"):
        process_after_of("after", given)


@pytest.mark.parametrize("given", ["8d", "169h", "604801s", "999999d"])
def test_a_delay_of_more_than_seven_days_is_refused_with_the_given_text(given: str) -> None:
    with pytest.raises(WrongUse, match=f"^--after is '{given}', which is more than 7 days ahead: "):
        process_after_of("after", given)
