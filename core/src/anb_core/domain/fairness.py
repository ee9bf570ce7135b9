"""The order in which messages are sent, so that an owner with many videos does not delay the videos of other owners."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple


class Due(NamedTuple):
    """A message in the outbox that may be sent now."""

    owner: str
    """Owner of the video."""
    send_after: datetime
    """Time since which the message may be sent."""
    id: int
    """Id of the outbox entry."""


def in_fair_order(due: Iterable[Due], in_flight: Mapping[str, int]) -> list[Due]:
    """Sort messages into the order in which they are sent.

    `in_flight` maps an owner to the number of the owner's jobs that run now or whose message waits in the queue.

    An owner's first message has the place 1 + `in_flight`, the owner's second message has the next place, and so on.
    A lower place is sent first. At the same place, the message that became due first is sent first.
    So the owner with the fewest jobs in flight is served next.
    """
    places = Counter(in_flight)
    ranked = []
    for message in sorted(due, key=lambda each: (each.send_after, each.id)):
        places[message.owner] += 1
        ranked.append((places[message.owner], message))
    return [message for _, message in sorted(ranked, key=lambda each: (each[0], each[1].send_after, each[1].id))]


def sent_earlier(owner: str, own: int, due: Mapping[str, int], in_flight: Mapping[str, int]) -> int:
    """Return about how many messages are sent before a message of `owner`.

    `own` is the number of the owner's messages that became due earlier.
    `due` maps every owner to the number of the owner's messages that are due. `in_flight` is as in `in_fair_order`.
    The messages of other owners at the same place are counted, although some of them are sent later.
    """
    place = in_flight.get(owner, 0) + own + 1
    others = (min(many, max(0, place - in_flight.get(other, 0))) for other, many in due.items() if other != owner)
    return own + sum(others)
