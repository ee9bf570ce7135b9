"""The three stores under one contract, and what a test must be able to do to each: let time pass, look into tables."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import BigInteger, Connection, Engine, delete, event, literal, select, update

from anb_core.adapters.database import SqlStore
from anb_core.adapters.database.engine import Database
from anb_core.adapters.database.tables import Time, dead_letters, metadata, milliseconds, object_deletions, videos
from anb_core.ports.store import Store
from anb_core.testing.clock import ManualClock
from anb_core.testing.store import InMemoryStore


class DueDeletion(NamedTuple):
    """An object that is to be deleted, in how long from now, in whole minutes."""

    key: str
    reason: str
    minutes: int


class DeadLetter(NamedTuple):
    """A row of dead_letters."""

    cause: str
    detail: str
    video_id: str | None
    generation: int | None
    message_id: str | None
    body: str | None


class Backend(Protocol):
    """A store in the hands of a test."""

    store: Store

    def another(self) -> Store:
        """The store as another process has it."""
        ...

    def pass_time(self, by: timedelta) -> None:
        """Less than none puts the clock back."""
        ...

    def deletions(self) -> Sequence[DueDeletion]:
        """All rows of object_deletions, the first one due first."""
        ...

    def dead_letters(self) -> Sequence[DeadLetter]: ...

    def spoil(self, video_id: str) -> None:
        """Make of a video what this version can't read."""
        ...

    def close(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._clock = ManualClock()
        self._kept = InMemoryStore(self._clock.now)
        self.store: Store = self._kept

    def another(self) -> Store:
        return self._kept

    def pass_time(self, by: timedelta) -> None:
        if by < timedelta(0):
            self._clock.put_back(-by)
        else:
            self._clock.advance(by)

    def in_outbox(self, video_id: str) -> bool:
        """Whether there is a message to send for this video, due or not."""
        return video_id in self._kept.outbox

    def deletions(self) -> Sequence[DueDeletion]:
        now = self._clock.now()
        return sorted(
            (
                DueDeletion(kept.scheduled.key, str(kept.scheduled.reason), _minutes(kept.due - now))
                for kept in self._kept.deletions
            ),
            key=_by_due,
        )

    def dead_letters(self) -> Sequence[DeadLetter]:
        return [
            DeadLetter(str(kept.cause), kept.detail, kept.video_id, kept.generation, kept.message_id, kept.body)
            for kept in self._kept.dead_letters
        ]

    def spoil(self, video_id: str) -> None:
        self._kept.unreadable.add(video_id)

    def close(self) -> None:
        self.store.close()


def statements_of(engine: Engine) -> list[list[str]]:
    """A list that grows by the statements of each transaction that is committed, in their order."""
    transactions: list[list[str]] = []

    def execute(connection: Connection, _cursor: object, statement: str, *_: Any) -> None:
        connection.info.setdefault("statements", []).append(statement)

    def commit(connection: Connection) -> None:
        transactions.append(connection.info.pop("statements", []))

    def rollback(connection: Connection) -> None:
        connection.info.pop("statements", None)

    event.listen(engine, "before_cursor_execute", execute)
    event.listen(engine, "commit", commit)
    event.listen(engine, "rollback", rollback)
    return transactions


class Sql:
    """`transactions` are the statements that its own store has committed, for each transaction."""

    def __init__(self, url: str) -> None:
        self.url = url
        store = SqlStore(url)
        self.store: Store = store
        self.transactions = statements_of(store.database.engine)
        self.database = Database(url)
        self._others: list[SqlStore] = []

    def another(self) -> SqlStore:
        self._others.append(SqlStore(self.url))
        return self._others[-1]

    def pass_time(self, by: timedelta) -> None:
        """Nobody can turn the server's clock, so everything that was written down becomes older."""
        with self.database.transaction() as connection:
            for table in metadata.sorted_tables:
                times = [column for column in table.c if isinstance(column.type, Time)]
                if times:
                    older = {column.name: column.op("-")(literal(milliseconds(by), BigInteger)) for column in times}
                    connection.execute(update(table).values(older))

    def clear(self) -> None:
        """Empty all tables."""
        self.transactions.clear()
        with self.database.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(delete(table))

    def deletions(self) -> Sequence[DueDeletion]:
        now = self.store.now()
        with self.database.reading() as connection:
            rows = connection.execute(select(object_deletions)).all()
        return sorted((DueDeletion(row.key, row.reason, _minutes(row.delete_after - now)) for row in rows), key=_by_due)

    def dead_letters(self) -> Sequence[DeadLetter]:
        columns = (dead_letters.c[name] for name in DeadLetter._fields)
        with self.database.reading() as connection:
            rows = connection.execute(select(*columns).order_by(dead_letters.c.id))
            return [DeadLetter(*row) for row in rows]

    def spoil(self, video_id: str) -> None:
        """As a newer program does that lets people keep more than 30 s."""
        newer = {"trim": {"length": 45}}
        with self.database.transaction() as connection:
            connection.execute(update(videos).where(videos.c.id == video_id).values(edit=newer))

    def check_events_come_last(self) -> int:
        """Fail if a statement followed an event in its transaction; else the number of transactions with an event."""
        with_event = [sent for sent in self.transactions if any(_is_event(statement) for statement in sent)]
        for sent in with_event:
            assert _is_event(sent[-1]), f"everybody who writes to the feed waits for what follows the event: {sent}"
        return len(with_event)

    def close_others(self) -> None:
        """A server has so many connections to give and no more."""
        while self._others:
            self._others.pop().close()

    def close(self) -> None:
        self.close_others()
        self.database.close()
        self.store.close()


def _is_event(statement: str) -> bool:
    return "INSERT INTO job_events" in statement


def _minutes(span: timedelta) -> int:
    return round(span / timedelta(minutes=1))


def _by_due(one: DueDeletion) -> tuple[int, str]:
    return one.minutes, one.key
