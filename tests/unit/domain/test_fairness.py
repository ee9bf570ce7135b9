from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.fairness import Due, in_fair_order, sent_earlier

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def due(owners: str) -> list[Due]:
    """Return a due message for each letter, which is its owner. The first message is the oldest."""
    return [Due(owner, NOW + number * SECOND, number) for number, owner in enumerate(owners)]


def order(owners: str, **in_flight: int) -> str:
    """Return the owners in the order in which their messages are sent."""
    return "".join(message.owner for message in in_fair_order(due(owners), in_flight))


@pytest.mark.parametrize(
    ("owners", "in_flight", "expected"),
    [
        ("", {}, ""),
        ("aaaa", {}, "aaaa"),
        ("aaaabb", {}, "ababaa"),
        ("baaaab", {}, "baabaa"),
        ("aaaabb", {"a": 2}, "bbaaaa"),
        ("aaab", {"b": 1}, "aaba"),
        ("aaab", {"a": 30, "c": 5}, "baaa"),
        ("aabbcc", {"a": 1, "b": 1}, "cabcab"),
    ],
)
def test_the_owner_with_the_fewest_jobs_in_flight_is_served_next(
    owners: str, in_flight: dict[str, int], expected: str
) -> None:
    assert order(owners, **in_flight) == expected


def test_an_owners_messages_keep_the_order_in_which_they_became_due() -> None:
    messages = due("aabab")

    assert in_fair_order(reversed(messages), {"b": 1}) == [messages[n] for n in (0, 1, 2, 3, 4)]
    assert [one.id for one in in_fair_order([Due("a", NOW, 2), Due("a", NOW, 1)], {})] == [1, 2]


@given(
    owners=st.text("abc", max_size=12),
    in_flight=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5)),
    place=st.integers(0, 11),
)
def test_the_number_of_earlier_messages_is_exact_except_for_other_owners_at_the_same_place(
    owners: str, in_flight: dict[str, int], place: int
) -> None:
    messages = in_fair_order(due(owners), in_flight)
    if place >= len(messages):
        return
    message = messages[place]
    own = sum(one.owner == message.owner for one in messages[:place])

    counted = sent_earlier(message.owner, own, Counter(owners), in_flight)

    assert place <= counted < place + max(1, len(set(owners)))


def test_a_thousand_messages_of_one_owner_are_no_reason_to_wait_for_another() -> None:
    many = {"a": 1000, "b": 3}

    assert [sent_earlier("b", own, many, {"a": 33}) for own in range(3)] == [0, 1, 2]
    assert sent_earlier("a", 999, many, {"a": 33}) == 999 + 3
