import httpx
import pytest

from anb_cli.events import events_of


def read(*lines: str, end: str = "\n", content_type: str = "text/event-stream") -> list[tuple[str, str, str]]:
    """Parse the given lines and return the id, name and data of each event."""
    content = "".join(line + end for line in lines).encode()
    answer = httpx.Response(200, headers={"Content-Type": content_type}, content=content)
    return [(event.id, event.event, event.data) for event in events_of(answer)]


def test_an_event_ends_at_an_empty_line() -> None:
    assert read("id: 7", "event: status", 'data: {"a": 1}', "") == [("7", "status", '{"a": 1}')]


def test_an_event_that_was_cut_off_is_not_yielded() -> None:
    assert read("id: 7", "event: status", "data: {") == []


def test_an_event_without_a_name_is_a_message() -> None:
    assert read("data: x", "") == [("", "message", "x")]


def test_lines_of_data_are_joined() -> None:
    assert read("data: one", "data:two", "data", "") == [("", "message", "one\ntwo\n")]


def test_the_id_stays_until_another_one_comes_and_the_name_does_not() -> None:
    events = read("id: 1", "event: status", "data: a", "", "data: b", "", "id: 2", "data: c", "")
    assert [(number, name) for number, name, _ in events] == [("1", "status"), ("1", "message"), ("2", "message")]


@pytest.mark.parametrize("line", [": keep the connection open", "retry: 5000", "unknown: x", "nothing at all"])
def test_comments_and_unknown_fields_are_ignored(line: str) -> None:
    assert read(line, "") == []
    assert len(read("id: 1", "data: x", "", line, "")) == 1


def test_an_id_with_a_zero_in_it_is_ignored() -> None:
    assert read("id: 1", "id: 2\0", "data: x", "")[0][0] == "1"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_ends_where_the_standard_says_and_nowhere_else(end: str) -> None:
    said = "a title with\u2028other\u0085separators\x0c"
    assert read(f"data: {said}", "", end=end) == [("", "message", said)]


def test_an_answer_of_another_content_type_is_no_event_stream() -> None:
    with pytest.raises(httpx.TransportError):
        read("data: x", "", content_type="text/html")
