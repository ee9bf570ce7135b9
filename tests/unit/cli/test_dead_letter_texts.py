import time

import pytest
from rich.cells import cell_len
from rich.text import Text

from anb_api.dead_letter_schemas import DeadLetterDetail
from anb_cli.dead_letter_texts import SHOWN_BODY, describe, lay_out
from tests.support.dead_letters import VIDEO_ID, a_dead_letter

MESSAGE = {"cause": "unreadable", "code": None, "video_id": None, "owner": None, "generation": None, "worker": None}


def lines(width: int, *letters: dict[str, object]) -> list[str]:
    return [line.plain for line in lay_out(letters, width)]


def described(**changes: object) -> list[str]:
    return [line.plain if isinstance(line, Text) else line for line in describe(a_dead_letter(**changes))]


def test_the_example_of_the_tests_is_a_response_of_the_api() -> None:
    example = a_dead_letter()
    assert DeadLetterDetail.model_validate(example).model_dump(mode="json").keys() == example.keys()


def test_eighty_columns_have_room_for_every_column_and_the_beginning_of_the_error() -> None:
    heading, job, message = lines(80, a_dead_letter(), a_dead_letter(id=1234, **MESSAGE))
    assert heading.split() == ["ID", "WHEN", "CAUSE", "CODE", "VIDEO", "OWNER", "ERROR"]
    assert job.split("  ")[0] == "12"
    assert job[len("1234  11-29 11:00  ") :] == "failures    bad_resource  0f9e8d7c  ana    The operator's wa…"
    assert message.startswith("1234  ")
    assert max(map(len, (heading, job, message))) <= 80


def test_a_wide_terminal_shows_complete_ids_and_errors() -> None:
    _, line = lines(200, a_dead_letter())
    assert VIDEO_ID in line
    assert line.endswith("  The operator's watermark can't be used: it is not a PNG picture.")


@pytest.mark.parametrize("width", [18, 23, 40, 60, 80, 120, 9999])
@pytest.mark.parametrize(
    "detail", ["x" * 300, "\u65e5\u672c\u8a9e" * 90, "\x1b[2J\r\n\t" * 40, "", "e" + "\u0301" * 99], ids=ascii
)
def test_each_line_fits_and_has_the_id_whatever_the_error(detail: str, width: int) -> None:
    letters = [a_dead_letter(detail=detail, owner="o" * 300, code="c" * 300), a_dead_letter(id=1234, **MESSAGE)]
    heading, *shown = lines(width, *letters)
    assert [line.split()[0] for line in (heading, *shown)] == ["ID", "12", "1234"]
    assert max(map(cell_len, (heading, *shown))) <= width
    assert not any("\n" in line or "\x1b" in line for line in shown)


def test_two_dead_letters_of_one_video_have_its_short_id() -> None:
    assert [line.split()[5] for line in lines(80, a_dead_letter(), a_dead_letter(id=13))[1:]] == ["0f9e8d7c"] * 2


def test_the_state_is_a_column_only_if_it_tells_something() -> None:
    heading, line, other = lines(120, a_dead_letter(), a_dead_letter(resolution="redriven"))
    assert heading.split()[2] == "STATE"
    assert (line.split()[3], other.split()[3]) == ("open", "redriven")


def test_times_name_their_zone_because_the_api_answers_in_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        at = "2026-11-29T11:00:00+00:00"
        shown = described(created_at=at, resolution="discarded", resolved_by="olga", resolved_at=at)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert shown[:2] == [
        "Dead letter 12, discarded by olga at 2026-11-29 20:00:00 JST",
        "  since   2026-11-29 20:00:00 JST",
    ]


def test_an_open_dead_letter_says_what_happened_and_what_to_do() -> None:
    attempt = {
        "worker": "worker-1",
        "started_at": "2026-11-29T11:00:00+00:00",
        "ended_at": "2026-11-29T11:00:02.140+00:00",
        "ending": "failed",
        "error": {"code": "bad_resource", "message": "No PNG."},
    }
    running = attempt | {"ended_at": None, "ending": None, "error": None}
    shown = described(error_detail="[png] Invalid\x1b[2J\nEnd", attempts=[attempt, running])
    assert shown[0] == "Dead letter 12, open"
    assert "  cause   failures (failures: 3, losses: 0)" in shown
    assert "  error   The operator's watermark can't be used: it is not a PNG picture. (bad_resource)" in shown
    assert f"  video   {VIDEO_ID} of ana, generation 1" in shown
    assert "  worker  worker-1, version 0.1.0" in shown
    details = shown.index("Details of the error")
    assert shown[details + 1 : details + 3] == ["  [png] Invalid\\x1b[2J", "  End"]
    [one] = [line for line in shown if "No PNG." in line]
    assert one.split("  ", 1)[1] == "2.1 s  worker-1  failed  No PNG. (bad_resource)"
    assert [line.split("  ")[-1] for line in shown[-3:]] == [
        " anb dlq redrive 12",
        " anb dlq discard 12 --reason TEXT",
        f"anb why {VIDEO_ID}",
    ]


def test_a_message_without_a_video_can_only_be_discarded() -> None:
    shown = described(**MESSAGE, version=None, failures=None, lost=None, message_id="m-1", body="?\x07", body_bytes=2)
    assert "  cause   unreadable" in shown
    assert not any(line.startswith(("  video", "  worker")) for line in shown)
    assert shown[-4:] == [
        "Body of message m-1, 2 bytes",
        "  ?\\x07",
        "",
        "It has no video to redrive:  anb dlq discard 12 --reason TEXT",
    ]


def test_of_a_long_body_the_beginning_is_shown_in_whole_characters_and_the_rest_is_counted() -> None:
    body = "x" + "\xe9" * SHOWN_BODY
    shown = described(body=body, body_bytes=len(body.encode()))
    assert "  x" + "\xe9" * (SHOWN_BODY // 2 - 1) in shown
    assert f"  ... and {SHOWN_BODY + 1} more bytes, which `anb dlq show 12 --json` shows" in shown
    assert not any("more bytes" in line for line in described(body="x" * SHOWN_BODY, body_bytes=SHOWN_BODY))


def test_a_resolved_dead_letter_says_how_by_whom_and_why_and_asks_for_nothing() -> None:
    at = "2026-11-29T12:00:00+00:00"
    shown = described(resolution="discarded", resolved_by="olga", resolved_at=at, reason="A test.")
    assert shown[0].startswith("Dead letter 12, discarded by olga at 2026-11-29 ")
    assert "  reason  A test." in shown
    assert not any("anb dlq" in line for line in shown)
    assert described(resolution="stale")[0] == "Dead letter 12, stale"
