"""Checks responses to the commands of operators. The fields that the commands use must exist and be valid."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from anb_cli.answers import Json
from anb_cli.errors import NotOurs

Check = Callable[[Any], bool]
Fields = dict[str, Check]

LARGEST_COUNT = 2**63
"""Integers in responses must be smaller than this. Python raises an error when it prints an integer of more than
4,300 digits, so a faulty server could crash a command."""


def dead_letter_of(data: object) -> Json:
    """Check a dead letter from a list, which has no body and no attempts. Returns the same dead letter.

    Raises:
        NotOurs: a field is missing or malformed. The other functions of this module also raise NotOurs.
    """
    return _checked(data, "a dead letter", _LETTER)


def dead_letter_detail_of(data: object) -> Json:
    """Check a complete dead letter, with its body and its attempts. Returns the same dead letter."""
    return _checked(data, "a dead letter", _LETTER | _DETAIL)


def dead_letter_page_of(data: object) -> tuple[list[Json], str | None]:
    """Return the dead letters of one page of the list, and the cursor of the next page (None on the last page)."""
    page = _checked(data, "a list of dead letters", _PAGE)
    # Treat a page without dead letters as the last page, so that a faulty server can't cause an endless loop.
    return page["dead_letters"], page["next_cursor"] if page["dead_letters"] else None


def redrive_report_of(data: object) -> Json:
    """Check the API's report about a redrive of many dead letters, and return the report."""
    report = _checked(data, "a report about dead letters", _REPORT)
    if not report["ids"] and not report["skipped"]:
        # Treat an empty report as the last report, so that a faulty server can't cause an endless loop.
        report["next_cursor"] = None
    return report


def adoption_report_of(data: object) -> Json:
    """Check the API's report about an adoption of objects, and return the report."""
    report = _checked(data, "a report about an adoption", _ADOPTION)
    if not any(report[name] for name in ("adopted", "ignored", "refused")):
        # Treat an empty report as the last report, so that a faulty server can't cause an endless loop.
        report["next_after"] = None
    return report


def reconciliation_report_of(data: object) -> Json:
    """Check the API's report about a reconciliation, and return the report."""
    return _checked(data, "a report about a reconciliation", _RECONCILIATION)


def explanation_of(data: object) -> Json:
    """Check a response that explains the state of a video in sentences, and return the response."""
    return _checked(data, "an explanation", {"video_id": _is_text, "sentences": _is_list_of(_is_text)})


def broker_overview_of(data: object) -> Json:
    """Check a response about the state of all queues, and return the response."""
    return _checked(data, "an overview of the queues", {"brokers": _is_list_of(_has(_BROKER)), "unsent": _is_count})


def _checked(data: object, what: str, fields: Fields) -> Json:
    if isinstance(data, dict) and _has(fields)(data):
        return data
    raise NotOurs(f"The response is not {what} of ANB Video: is the address right?")


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and 0 <= value < LARGEST_COUNT


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value < LARGEST_COUNT


def _is_time(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        datetime.fromisoformat(value).astimezone()
    except (ValueError, OverflowError):
        return False
    return True


def _has(fields: Fields) -> Check:
    return lambda value: isinstance(value, dict) and all(check(value.get(name)) for name, check in fields.items())


def _or_null(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _is_list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


_TEXT, _COUNT, _TIME = _or_null(_is_text), _or_null(_is_count), _or_null(_is_time)

_LETTER: Fields = (
    {"id": _is_count, "cause": _is_text, "detail": _is_text, "created_at": _is_time, "resolved_at": _TIME}
    | dict.fromkeys(("generation", "failures", "lost"), _COUNT)
    | dict.fromkeys(("code", "error_detail", "video_id", "owner", "worker", "version"), _TEXT)
    | dict.fromkeys(("message_id", "resolution", "resolved_by", "reason"), _TEXT)
)

_ATTEMPT: Fields = {
    "worker": _is_text,
    "started_at": _is_time,
    "ended_at": _TIME,
    "ending": _TEXT,
    "error": _or_null(_has({"code": _is_text, "message": _is_text})),
}

_DETAIL: Fields = {"body": _TEXT, "body_bytes": _COUNT, "attempts": _is_list_of(_has(_ATTEMPT))}

_BROKER: Fields = (
    dict.fromkeys(("name", "kind", "role"), _is_text)
    | dict.fromkeys(("waiting", "in_flight", "delayed", "consumers"), _COUNT)
    | dict.fromkeys(("jobs_waiting", "jobs_running"), _is_count)
    | {
        "outage": _TEXT,
        "oldest_seconds": _or_null(_is_seconds),
        "may_be_switched_off": lambda value: isinstance(value, bool),
        "reasons": _is_list_of(_is_text),
    }
)

_PAGE: Fields = {"dead_letters": _is_list_of(_has(_LETTER)), "next_cursor": _TEXT}

_REPORT: Fields = {
    "matched": _is_count,
    "ids": _is_list_of(_is_count),
    "skipped": _is_list_of(_has({"id": _is_count, "code": _is_text, "message": _is_text})),
    "left": _is_count,
    "spread_seconds": _is_seconds,
    "next_cursor": _TEXT,
}

_NOT_ADOPTED = _is_list_of(_has(dict.fromkeys(("key", "code", "message"), _is_text)))

_ADOPTION: Fields = {
    "owner": _is_text,
    "adopted": _is_list_of(_has({"key": _is_text, "video_id": _is_text})),
    "ignored": _NOT_ADOPTED,
    "refused": _NOT_ADOPTED,
    "next_after": _TEXT,
}

_FINDING: Fields = dict.fromkeys(("action", "video_id", "key", "message"), _is_text) | {
    "changes": lambda value: isinstance(value, bool)
}

_RECONCILIATION: Fields = {
    "examined": _is_count,
    "findings": _is_list_of(_has(_FINDING)),
    "next_after": _TEXT,
}
