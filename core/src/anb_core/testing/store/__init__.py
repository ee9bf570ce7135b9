"""The in-memory store, for tests. `InMemoryStore` combines one class for each port of `anb_core.ports.store`.

The tests in tests/contract/store run on this store and on the databases.
"""

from datetime import datetime

from anb_core.testing.store.commands import InMemoryCommands
from anb_core.testing.store.dead_letters import InMemoryDeadLetters
from anb_core.testing.store.feed import InMemoryFeed
from anb_core.testing.store.housekeeping import InMemoryHousekeeping
from anb_core.testing.store.leases import InMemoryLeases
from anb_core.testing.store.outbox import InMemoryOutbox
from anb_core.testing.store.reading import InMemoryReading
from anb_core.testing.store.restoring import InMemoryRestoring
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
    InMemoryRestoring,
    InMemoryTokens,
):
    """A `Store` in memory. Tests may pass a clock and a function for ids, and may read the tables."""

    def ping(self) -> None:
        with self.transaction():
            pass

    def now(self) -> datetime:
        with self.transaction() as now:
            return now

    def close(self) -> None:
        """Do nothing, because no connection is open."""
