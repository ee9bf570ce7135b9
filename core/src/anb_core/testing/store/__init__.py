"""The store in memory, for tests of everything that needs one: one class a port, joined by `InMemoryStore`.

The contract suite holds it to what the databases do.
"""

from datetime import datetime

from anb_core.testing.store.commands import InMemoryCommands
from anb_core.testing.store.dead_letters import InMemoryDeadLetters
from anb_core.testing.store.feed import InMemoryFeed
from anb_core.testing.store.housekeeping import InMemoryHousekeeping
from anb_core.testing.store.leases import InMemoryLeases
from anb_core.testing.store.outbox import InMemoryOutbox
from anb_core.testing.store.reading import InMemoryReading
from anb_core.testing.store.tokens import InMemoryTokens
from anb_core.testing.store.uploads import InMemoryUploads


class InMemoryStore(
    InMemoryUploads,
    InMemoryReading,
    InMemoryCommands,
    InMemoryLeases,
    InMemoryOutbox,
    InMemoryHousekeeping,
    InMemoryFeed,
    InMemoryDeadLetters,
    InMemoryTokens,
):
    """A `Store` with a clock and ids of its own: those that it is given. Its tables are there for assertions."""

    def ping(self) -> None:
        with self.transaction():
            pass

    def now(self) -> datetime:
        with self.transaction() as now:
            return now

    def close(self) -> None:
        """Nothing to give back."""
