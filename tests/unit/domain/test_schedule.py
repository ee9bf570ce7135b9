from datetime import UTC, datetime, timedelta, timezone

import pytest

from anb_core.domain.errors import Invalid
from anb_core.domain.schedule import parse_process_after

NOW = datetime(2026, 12, 1, 8, 0, 0, 123456, tzinfo=UTC)
EIGHT = datetime(2026, 12, 1, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("2026-12-01T09:00:00Z", EIGHT + HOUR),
        ("2026-12-01t09:00:00z", EIGHT + HOUR),
        ("2026-12-01 09:00Z", EIGHT + HOUR),
        (" 2026-12-01T11:00+02:00 ", EIGHT + HOUR),
        ("2026-12-01T03:30:00-05:30", EIGHT + HOUR),
        ("2026-12-01T09:00:00.25Z", EIGHT + HOUR + timedelta(milliseconds=250)),
        ("2026-12-01T09:00:00.123999Z", EIGHT + HOUR + timedelta(milliseconds=123)),
        ("2026-12-08T08:00:00Z", EIGHT + timedelta(days=7)),
        ("2001-01-01T00:00:00Z", datetime(2001, 1, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime(1, 1, 1, tzinfo=timezone(14 * HOUR))),
    ],
)
def test_a_time_with_an_offset_means_that_time(given: str, at: datetime) -> None:
    assert parse_process_after(given, NOW) == at


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("3600", 3600), (" 3600 ", 3600), ("+60", 60), ("0.5", 0.5), ("604800", 604800), ("0", 0), ("-5", 0)],
)
def test_a_number_means_seconds_from_now(given: str, seconds: float) -> None:
    now = NOW.replace(microsecond=123000)

    assert parse_process_after(given, NOW) == now + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "given", ["604801", "604800.002", "9" * 400, "1796112000", "2026-12-08T08:00:01Z", "9999-12-31T23:59:59-01:00"]
)
def test_more_than_seven_days_ahead_is_refused(given: str) -> None:
    with pytest.raises(Invalid, match="more than 7 days ahead") as refusal:
        parse_process_after(given, NOW)

    assert refusal.value.code == "process_after_invalid"
    assert len(refusal.value.message) < 200


@pytest.mark.parametrize("given", ["2026-12-01T09:00:00", "2026-12-01t09:00", "2026-12-01 09:00:00.5"])
def test_a_time_without_a_zone_is_refused_with_the_advice_to_add_one(given: str) -> None:
    with pytest.raises(Invalid, match="add Z for UTC or an offset") as refusal:
        parse_process_after(given, NOW)

    assert refusal.value.code == "process_after_invalid"
    assert given in refusal.value.message


@pytest.mark.parametrize(
    "given",
    [
        *("", " ", "tomorrow", "2h", "NaN", "inf", "-inf", "1e3", "0x10", "1_000", "1,5", ".5", "٣", "true", "null"),
        *(
            "12:00Z",
            "2026-12-01",
            "20261201T090000Z",
            "2026-W49-2T08:00Z",
            "0000-12-01T08:00Z",
            "3600\n",
            "2026-02-30T08:00Z",
            "2026-12-01T25:00Z",
            "01.12.2026 08:00",
            "Tue, 01 Dec 2026 08:00:00 GMT",
        ),
        *("2026-12-01T08:00:00 02:00", "x" * 100_000, "\0", "\ud800"),
    ],
)
def test_anything_else_is_refused_with_two_examples(given: str) -> None:
    with pytest.raises(Invalid, match=r"give a time such as .*Z, or seconds such as 3600") as refusal:
        parse_process_after(given, NOW)

    assert refusal.value.code == "process_after_invalid"
    assert len(refusal.value.message) < 200
