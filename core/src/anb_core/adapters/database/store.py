"""The store on a database: all repositories together."""

from datetime import datetime

from anb_core.adapters.database.commands import CommandsRepository
from anb_core.adapters.database.dead_letters import DeadLettersRepository
from anb_core.adapters.database.engine import CONNECTIONS, Database, clock
from anb_core.adapters.database.feed import FeedRepository
from anb_core.adapters.database.housekeeping import HousekeepingRepository
from anb_core.adapters.database.leases import LeasesRepository
from anb_core.adapters.database.migrations import check
from anb_core.adapters.database.outbox import OutboxRepository
from anb_core.adapters.database.reading import ReadingRepository
from anb_core.adapters.database.restoring import RestoringRepository
from anb_core.adapters.database.tokens import TokensRepository
from anb_core.adapters.database.uploads import UploadsRepository


class SqlStore(
    UploadsRepository,
    ReadingRepository,
    CommandsRepository,
    LeasesRepository,
    OutboxRepository,
    HousekeepingRepository,
    FeedRepository,
    DeadLettersRepository,
    RestoringRepository,
    TokensRepository,
):
    """A `Store` on PostgreSQL or SQLite. It connects when it is first used. Any thread may use it.

    `connections` is the size of the connection pool on PostgreSQL.
    `in_all` is the number of connections that all our processes together may open. None if unknown.
    A warning is logged if the server allows fewer than `in_all` connections.
    """

    def __init__(self, url: str, *, connections: int = CONNECTIONS, in_all: int | None = None) -> None:
        super().__init__(Database(url, connections=connections, in_all=in_all))

    def ping(self) -> None:
        # Begin a transaction that may write, because the check must fail for a read-only database.
        with self.database.transaction() as connection:
            check(connection)

    def now(self) -> datetime:
        with self.database.reading() as connection:
            return clock(connection)

    def close(self) -> None:
        self.database.close()
