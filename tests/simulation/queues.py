"""The queues of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anb_core.testing.queue import InMemoryQueue


@dataclass(slots=True)
class Queue(InMemoryQueue):
    """The in-memory queue, whose messages a fault can move."""

    def next_visible(self) -> datetime | None:
        """Return the time at which a message can be received. None if the queue has no message."""
        entries = self._entries
        if entries and self.fifo:
            # The first message of a group hides the other ones.
            entries = [*{entry.group: entry for entry in reversed(entries)}.values()]
        return min([entry.visible_at for entry in entries]) if entries else None

    @property
    def entries(self) -> Sequence[Any]:
        """The messages, in their order."""
        return self._entries

    def redeliver(self) -> None:
        for entry in self._entries:
            entry.visible_at = min(entry.visible_at, self.now())

    def reverse(self) -> None:
        self._entries.reverse()

    def exhaust(self) -> None:
        """Let the queue move its visible messages to the dead-letter queue at the next receipt."""
        for entry in self._entries:
            entry.receives = self.max_receives

    @property
    def dead_letters(self) -> "Queue":
        if self._dead_letters is None:
            self._dead_letters = Queue("dead letters", self.visibility, 10**9, now=self.now, runtime=self.runtime)
        assert isinstance(self._dead_letters, Queue)
        return self._dead_letters
