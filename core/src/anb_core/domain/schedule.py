"""Read the time before which the work on a video must not begin: `process_after` of an upload or a VideoJob."""

import re
import reprlib
from datetime import datetime, timedelta

from anb_core.domain.errors import Invalid

LONGEST_WAIT = timedelta(days=7)
"""The longest time for which a person may delay the work on a video."""

_SECONDS = r"[+-]?[0-9]+(\.[0-9]+)?"
_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_ZONE = r"([Zz]|[+-][0-9]{2}:[0-9]{2})"

PROCESS_AFTER_PATTERN = rf"^ *({_SECONDS}|{_TIME}{_ZONE}) *$"
"""The format of `process_after`: seconds, or a time of RFC 3339 in which the seconds are optional."""


def parse_process_after(given: str, now: datetime) -> datetime:
    """Return the time that `given` means: a time with an offset, or a number of seconds after `now`.

    The returned time is rounded down to milliseconds. It may be in the past, which means that the work may begin now.

    Raises:
        Invalid: `process_after_invalid` if the text is neither, or the time is more than LONGEST_WAIT after `now`.
    """
    text = given.strip(" ")
    if re.fullmatch(_SECONDS, text):
        seconds = min(max(float(text), 0.0), LONGEST_WAIT.total_seconds() + 1)
        at = now + timedelta(seconds=seconds)
    else:
        at = _time_of(text)
    if at > now + LONGEST_WAIT:
        raise _invalid(given, f"is more than {LONGEST_WAIT.days} days ahead; give an earlier time")
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def _time_of(text: str) -> datetime:
    if re.fullmatch(_TIME, text):
        raise _invalid(text, "has no time zone; add Z for UTC or an offset, such as 2026-12-01T08:00:00+02:00")
    try:
        if re.fullmatch(_TIME + _ZONE, text):
            # Python's parser accepts the letter Z only in upper case.
            return datetime.fromisoformat(text.upper())
    except ValueError:
        pass
    raise _invalid(text, "is no time and no number; give a time such as 2026-12-01T08:00:00Z, or seconds such as 3600")


def _invalid(given: str, fault: str) -> Invalid:
    return Invalid("process_after_invalid", f"process_after {reprlib.repr(given)} {fault}.")
