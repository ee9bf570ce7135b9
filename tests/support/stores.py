"""The in-memory, SQLite and PostgreSQL stores under test. Tests can advance a store's time and read its tables."""

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, Protocol

from sqlalchemy import BigInteger, Connection, Engine, delete, event, literal, select, update

from anb_core.adapters.database import SqlStore
from anb_core.adapters.database.engine import Database
from anb_core.adapters.database.tables import Time, dead_letters, metadata, milliseconds, object_deletions, videos
from anb_core.ports.store import Store
from anb_core.testing.clock import ManualClock
from anb_core.testing.promises import Evidence, in_memory_evidence, read_evidence
from anb_core.testing.store import InMemoryStore


class DueDeletion(NamedTuple):
    """A scheduled deletion of an object. `minutes` is the rounded number of minutes until the deletion is due."""

    key: str
    reason: str
    minutes: int


class DeadLetter(NamedTuple):
    """A row of the table dead_letters."""

    cause: str
    detail: str
    video_id: str | None
    generation: int | None
    message_id: str | None
    body: str | None


class Backend(Protocol):
    """A store that a test examines, with methods that change and read its data directly."""

    store: Store

    def another(self) -> Store:
        """Return another store with the same data, as another process would open it."""
        ...

    def pass_time(self, by: timedelta) -> None:
        """Advance the store's clock by `by`. A negative `by` sets the clock back."""
        ...

    def deletions(self) -> Sequence[DueDeletion]:
        """Return all rows of object_deletions, sorted by due time."""
        ...

    def dead_letters(self) -> Sequence[DeadLetter]: ...

    def evidence(self, *, receipts: Collection[str] = ()) -> Evidence:
        """Return the evidence for the checker of the promises, read from the store."""
        ...

    def spoil(self, video_id: str) -> None:
        """Change a video's row so that the current version can't read the row."""
        ...

    def close(self) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self._clock = ManualClock()
        self.kept = InMemoryStore(self._clock.now)
        self.store: Store = self.kept

    def another(self) -> Store:
        return self.kept

    def pass_time(self, by: timedelta) -> None:
        if by < timedelta(0):
            self._clock.put_back(-by)
        else:
            self._clock.advance(by)

    def deletions(self) -> Sequence[DueDeletion]:
        now = self._clock.now()
        return sorted(
            (
                DueDeletion(kept.scheduled.key, str(kept.scheduled.reason), _minutes(kept.due - now))
                for kept in self.kept.deletions
            ),
            key=_by_due,
        )

    def dead_letters(self) -> Sequence[DeadLetter]:
        return [
            DeadLetter(str(kept.cause), kept.detail, kept.video_id, kept.generation, kept.message_id, kept.body)
            for kept in self.kept.letters
        ]

    def evidence(self, *, receipts: Collection[str] = ()) -> Evidence:
        return in_memory_evidence(self.kept, receipts=receipts)

    def spoil(self, video_id: str) -> None:
        self.kept.unreadable.add(video_id)

    def close(self) -> None:
        self.store.close()


def statements_of(engine: Engine) -> list[list[str]]:
    """Record the statements of later transactions. Each commit appends a list of statements to the returned list."""
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
    """A store on a SQL database. `transactions` contains a list of statements for each committed transaction."""

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
        """Subtract `by` from every time in the tables, because a test can't change the database server's clock."""
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

    def evidence(self, *, receipts: Collection[str] = ()) -> Evidence:
        return read_evidence(self.database, receipts=receipts)

    def spoil(self, video_id: str) -> None:
        """Write an edit that only a newer program can read: a trim of 45 s, longer than the current version allows."""
        newer = {"trim": {"length": 45}}
        with self.database.transaction() as connection:
            connection.execute(update(videos).where(videos.c.id == video_id).values(edit=newer))

    def check_events_come_last(self) -> int:
        """Fail if an event is not the last statement of its transaction.

        Returns the number of transactions that added an event to the feed.
        """
        with_event = [sent for sent in self.transactions if any(_is_event(statement) for statement in sent)]
        for sent in with_event:
            assert _is_event(sent[-1]), f"other writers of the feed wait for the statements after the event: {sent}"
        return len(with_event)

    def close_others(self) -> None:
        """Close the stores that `another` opened, because the server allows only a limited number of connections."""
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
