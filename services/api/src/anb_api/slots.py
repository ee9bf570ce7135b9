"""Limits how many uploads and event streams run at the same time, and shares the slots fairly between owners."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anb_api.problems import Busy

SHARE = 3
"""Maximum ratio of one owner's slots to the free slots, so that one owner can't take all slots.

If only one owner uses the server, this owner can take 12 of 16 slots.
"""


class Slots:
    """A set of `count` slots for long requests. Has no locks, so use a `Slots` object in one event loop only.

    If a request gets no slot, `refusal(taken, by_owner)` returns the error for its response.
    `taken` is the number of slots in use. `by_owner` is how many of these slots the request's owner holds.
    """

    def __init__(self, count: int, refusal: Callable[[int, int], Busy]) -> None:
        self.count = count
        self._refusal = refusal
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """Take a slot for an owner until the `with` block ends.

        Raises:
            Busy: no slot is free, or the owner already holds as many slots as one owner may hold.
        """
        by_owner, total = self._taken[owner], self._taken.total()
        if by_owner >= SHARE * (self.count - total):
            if not by_owner:
                del self._taken[owner]
            raise self._refusal(total, by_owner)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                # Remove the owner's entry, because the entries of many owners would use much memory.
                del self._taken[owner]


def too_many_uploads(count: int, by_owner: int) -> Busy:
    """Return the error for an upload that gets no slot."""
    message = f"This server is receiving {count} uploads, {by_owner} of them yours; try again in a moment."
    return Busy("uploads_unavailable", message)


def too_many_streams(count: int, by_owner: int) -> Busy:
    """Return the error for an event stream that gets no slot."""
    message = (
        f"This server has {count} open event streams, {by_owner} of them yours; close some, or poll the video instead."
    )
    return Busy("streams_unavailable", message)
