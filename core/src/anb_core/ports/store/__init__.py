"""The store: all records of the system. Every method is one transaction. Every change of a job is a compare-and-set.

All stored times come from the database's clock. Callers pass durations, and the database computes the times.
All methods raise `Unavailable("database", ...)` when the database does not answer in time.
A transaction may have been committed although the method raised `Unavailable`: perhaps only the response was lost.
To find out whether a transaction was committed, the caller must read the row again.

Each module of this package has one port. `Store` combines the ports.
"""

from datetime import datetime
from typing import Protocol

from anb_core.ports.store.commands import Commands
from anb_core.ports.store.dead_letters import DeadLetters
from anb_core.ports.store.feed import Feed
from anb_core.ports.store.housekeeping import Housekeeping
from anb_core.ports.store.leases import Claimed, Dropped, Leases, Unknown
from anb_core.ports.store.outbox import Outbox, OutboxEntry, QueueLimit
from anb_core.ports.store.reading import History, Page, QueueJobs, Reading
from anb_core.ports.store.restoring import Restoring
from anb_core.ports.store.tokens import Tokens
from anb_core.ports.store.uploads import Replay, Uploads

__all__ = [
    "Claimed",
    "Clock",
    "Commands",
    "DeadLetters",
    "Dropped",
    "Feed",
    "History",
    "Housekeeping",
    "Leases",
    "Outbox",
    "OutboxEntry",
    "Page",
    "QueueJobs",
    "QueueLimit",
    "Reading",
    "Replay",
    "Restoring",
    "Store",
    "Tokens",
    "Unknown",
    "Uploads",
]


class Clock(Protocol):
    """The database's clock, which gives all stored times."""

    def now(self) -> datetime:
        """Return the current time of the database's clock."""
        ...


class Store(
    Uploads, Reading, Commands, Leases, Outbox, Housekeeping, Feed, DeadLetters, Restoring, Tokens, Clock, Protocol
):
    """All ports of the store together, for adapters and the in-memory store. A use case takes only some of these."""

    def ping(self) -> None:
        """Check that the database answers.

        Raises:
            Unavailable: the database does not answer, or does not have the schema that this program needs.
        """
        ...

    def close(self) -> None: ...
