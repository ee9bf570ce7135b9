"""Room for what holds a part of the process for long, shared fairly between owners."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from anb_api.problems import Busy

SHARE = 3
"""How many times the free slots an owner may hold, so that none keeps the others out: 12 of 16, alone."""


class Slots:
    """Counts what is under way, of which there is at most `count`. For one event loop: nothing here waits.

    `refusal` is told how many slots are taken, and how many of them by the owner who wants one more.
    """

    def __init__(self, count: int, refusal: Callable[[int, int], Busy]) -> None:
        self.count = count
        self._refusal = refusal
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """Hold a slot for an owner.

        Raises:
            Busy: there is none, or the owner has their share.
        """
        mine, all_ = self._taken[owner], self._taken.total()
        if mine >= SHARE * (self.count - all_):
            if not mine:
                del self._taken[owner]
            raise self._refusal(all_, mine)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                # Owners come and go for as long as the process runs.
                del self._taken[owner]


def too_many_uploads(count: int, mine: int) -> Busy:
    """No room for an upload."""
    message = f"{count} uploads are under way here, {mine} of them yours; try again in a moment."
    return Busy("uploads_unavailable", message)


def too_many_streams(count: int, mine: int) -> Busy:
    """No room for an event stream."""
    message = f"{count} event streams are open here, {mine} of them yours; close some, or ask for the video instead."
    return Busy("streams_unavailable", message)
