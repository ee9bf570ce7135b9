import pytest

from anb_cli.events import EventReader, ServerEvent


def read(*lines: str) -> list[ServerEvent]:
    reader = EventReader()
    return [event for event in map(reader.take, lines) if event is not None]


def test_an_event_ends_at_an_empty_line() -> None:
    assert read("id: 7", "event: status", 'data: {"a": 1}', "") == [ServerEvent("7", "status", '{"a": 1}')]


def test_an_event_that_was_cut_off_is_not_told() -> None:
    assert read("id: 7", "event: status", "data: {") == []


def test_an_event_without_a_name_is_a_message() -> None:
    assert read("data: x", "") == [ServerEvent(None, "message", "x")]


def test_lines_of_data_are_joined() -> None:
    assert read("data: one", "data:two", "data", "") == [ServerEvent(None, "message", "one\ntwo\n")]


def test_the_id_stays_until_another_one_comes_and_the_name_does_not() -> None:
    events = read("id: 1", "event: status", "data: a", "", "data: b", "", "id: 2", "data: c", "")
    assert [(event.id, event.name) for event in events] == [("1", "status"), ("1", "message"), ("2", "message")]


@pytest.mark.parametrize("line", [": keep the connection open", "retry: 5000", "unknown: x", "nothing at all"])
def test_comments_and_unknown_fields_say_nothing(line: str) -> None:
    assert read(line, "") == []


def test_an_id_with_a_zero_in_it_is_ignored() -> None:
    assert read("id: 1", "id: 2\0", "data: x", "")[0].id == "1"
