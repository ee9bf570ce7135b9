"""Room for uploads, shared fairly between owners."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from anb_api.problems import Busy

SHARE = 3
"""How many times the free slots an owner may hold, so that none keeps the others out: 12 of 16, alone."""


class UploadSlots:
    """Counts the uploads under way, of which there are at most `count`. For one event loop: nothing here waits."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, owner: str) -> Iterator[None]:
        """Hold a slot for an owner.

        Raises:
            Busy: `uploads_unavailable`, there is none, or the owner has their share.
        """
        mine, all_ = self._taken[owner], self._taken.total()
        if mine >= SHARE * (self._count - all_):
            told = f"{all_} uploads are under way here, {mine} of them yours; try again in a moment."
            raise Busy("uploads_unavailable", told)
        self._taken[owner] += 1
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                # Owners come and go for as long as the process runs.
                del self._taken[owner]
