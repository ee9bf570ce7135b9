"""Reads the times, ages and delays that a user gives as options."""

import re
from datetime import datetime, timedelta
from typing import Literal

from anb_cli.errors import WrongUse
from anb_core.domain.schedule import LONGEST_WAIT

_DURATION = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(option: str, given: str, now: datetime) -> datetime:
    """Convert the text of an option to a time. The text is a time, or an age such as `2h` (two hours before `now`).

    A time without a zone is local time.

    Raises:
        WrongUse: the text is neither a time nor an age.
    """
    read = _duration_or_time(option, given, "age")
    try:
        return now - read if isinstance(read, timedelta) else read
    except OverflowError as error:
        raise _wrong(option, given, "age") from error


def process_after_of(option: str, given: str) -> str:
    """Convert the text of an option to the API's `process_after`. The text is a time, or a delay such as `2h`.

    A delay is sent as seconds, so that the clock of this machine does not matter. A time without a zone is local time.

    Raises:
        WrongUse: the text is neither a time nor a delay, or the delay is longer than LONGEST_WAIT.
    """
    read = _duration_or_time(option, given, "delay")
    if isinstance(read, datetime):
        return read.isoformat()
    if read > LONGEST_WAIT:
        raise WrongUse(
            f"--{option} is {given!r}, which is more than {LONGEST_WAIT.days} days ahead: give a shorter delay."
        )
    return f"{read.total_seconds():.0f}"


def _duration_or_time(option: str, given: str, duration: Literal["age", "delay"]) -> timedelta | datetime:
    try:
        if found := _DURATION.fullmatch(given.strip()):
            return timedelta(**{_UNITS[found[2]]: int(found[1])})
        return datetime.fromisoformat(given.strip()).astimezone()
    except (ValueError, OverflowError) as error:
        raise _wrong(option, given, duration) from error


def _wrong(option: str, given: str, duration: Literal["age", "delay"]) -> WrongUse:
    article = "an" if duration == "age" else "a"
    return WrongUse(
        f"--{option} is {given!r}: give a time such as 2026-11-29T10:00, or {article} {duration} such as 30m, 2h or 7d."
    )
