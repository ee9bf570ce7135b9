"""One run of the system on a store, with an in-memory bucket and queue. Tests can also edit rows directly."""

from dataclasses import asdict, fields, replace
from datetime import timedelta
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Table, delete, insert, select, update

from anb_core.adapters.database.tables import attempts, dead_letters, job_events, jobs, object_deletions, outbox, videos
from anb_core.adapters.system import SystemRuntime
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.effect import ScheduledDeletion
from anb_core.domain.model import Counters, DeadLetterCause, DeletionReason, Lease, Problem
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises import Evidence
from anb_core.testing.queue import InMemoryQueue
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.relay import Relay
from tests.support.given import LEASE, POLICY, SOURCE, claim, fail, record_of, result, uploaded
from tests.support.stores import Backend, InMemory, Sql


class Run:
    """A run on a store. An upload puts an object into the bucket, and counts as answered with HTTP 202."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.store = backend.store
        self.objects = InMemoryObjects()
        self.queue = InMemoryQueue()
        self.relay = Relay(self.store, self.queue, bucket=self.objects.bucket, runtime=SystemRuntime())
        self.receipts: set[str] = set()
        self.edits = edits_of(backend)

    def upload(self) -> str:
        video_id = uploaded(self.store)
        self.objects.put(record_of(self.store, video_id).video.source_key, bytes(SOURCE.size))
        self.receipts.add(video_id)
        return video_id

    def claim(self, video_id: str) -> Lease:
        """Claim the video, and put the attempt's result into the bucket."""
        lease = claim(self.store, video_id)
        self.objects.put(lease.result_key, bytes(result(lease).size))
        return lease

    def publish(self, video_id: str) -> Lease:
        lease = self.claim(video_id)
        assert self.store.publish(lease, result(lease))
        return lease

    def fail(self, video_id: str, *, times: int = 1) -> None:
        """Make `times` attempts fail. After each failure, wait until the next attempt may begin."""
        for _ in range(times):
            assert fail(self.store, self.claim(video_id))
            self.backend.pass_time(POLICY.backoff_cap)

    def lose(self, video_id: str, *, times: int = 1) -> None:
        """Let `times` leases expire, as if workers died. After each loss, wait until the next attempt may begin."""
        for _ in range(times):
            self.claim(video_id)
            self.backend.pass_time(LEASE)
            self.store.end_expired_leases(limit=10, policy=POLICY)
            self.backend.pass_time(POLICY.backoff_cap)

    def take_message(self) -> None:
        """Receive a message and delete it, as a worker does."""
        delivery = self.queue.receive(wait=timedelta(0))
        assert delivery is not None
        self.queue.delete(delivery)

    def sweep(self) -> None:
        """Do two steps of the sweep: delete the objects whose deletion is due, and remove old rows."""
        self.delete_objects()
        self.store.purge(events_before=timedelta(days=7), dead_letters_before=timedelta(days=90), limit=100)

    def delete_objects(self) -> None:
        due = self.store.hold_deletions(limit=100, hold=timedelta(minutes=5))
        self.objects.delete([deletion.key for deletion in due])
        self.store.deletion_done(due)

    def evidence(self, **changes: Any) -> Evidence:
        """Return the evidence of the run. `changes` replaces parts of the evidence."""
        seen: dict[str, Any] = {
            "objects": {key: len(data) for key, data in self.objects.contents.items()},
            "messages": [*self.queue.bodies(), *self.queue.dead_letters.bodies()],
            "sent": [message.body for message in self.queue.sent],
        }
        return replace(self.backend.evidence(receipts=self.receipts), **seen | changes)


class Edits(Protocol):
    """Methods with which a test breaks a promise: they change rows. A column that is not given keeps its value."""

    def job(self, video_id: str, **columns: Any) -> None: ...

    def attempt(self, video_id: str, fence: int, **columns: Any) -> None: ...

    def last_event(self, video_id: str, **columns: Any) -> None: ...

    def letters(self, video_id: str, **columns: Any) -> None: ...

    def add_letter(self, video_id: str, cause: DeadLetterCause, *, generation: int = 1) -> None: ...

    def forget(self, what: str, video_id: str) -> None:
        """Delete the video's rows of a table: videos, outbox, object_deletions or dead_letters."""
        ...

    def put_in_outbox(self, video_id: str) -> None: ...

    def schedule(self, video_id: str, key: str, *, after: timedelta = timedelta(0)) -> None: ...


def edits_of(backend: Backend) -> Edits:
    if isinstance(backend, InMemory):
        return InMemoryEdits(backend.kept)
    assert isinstance(backend, Sql)
    return SqlEdits(backend)


class InMemoryEdits:
    def __init__(self, store: InMemoryStore) -> None:
        self.store = store

    def job(self, video_id: str, **columns: Any) -> None:
        row = self.store.rows[video_id]
        names = {field.name for field in fields(Counters)}
        counters = {name: columns.pop(name) for name in names & columns.keys()}
        job = replace(row.job, counters=replace(row.job.counters, **counters), **_with_error(columns))
        row.record = replace(row.record, job=job)

    def attempt(self, video_id: str, fence: int, **columns: Any) -> None:
        row = self.store.rows[video_id]
        row.attempts = [replace(one, **columns) if one.fence == fence else one for one in row.attempts]

    def last_event(self, video_id: str, **columns: Any) -> None:
        last = max(number for number, one in enumerate(self.store.events) if one.video_id == video_id)
        self.store.events[last] = replace(self.store.events[last], **columns)

    def letters(self, video_id: str, **columns: Any) -> None:
        self.store.letters = [
            replace(one, **columns) if one.video_id == video_id else one for one in self.store.letters
        ]

    def add_letter(self, video_id: str, cause: DeadLetterCause, *, generation: int = 1) -> None:
        self.store.add_letter(
            DeadLetter(0, cause, "planted", self.store.now(), video_id=video_id, generation=generation)
        )

    def forget(self, what: str, video_id: str) -> None:
        match what:
            case "videos":
                del self.store.rows[video_id]
                self.store.outbox.pop(video_id, None)
            case "outbox":
                del self.store.outbox[video_id]
            case "object_deletions":
                self.store.deletions = [one for one in self.store.deletions if one.video_id != video_id]
            case "dead_letters":
                self.store.letters = [one for one in self.store.letters if one.video_id != video_id]

    def put_in_outbox(self, video_id: str) -> None:
        self.store.put_in_outbox(self.store.rows[video_id].job, self.store.now(), self.store.now())

    def schedule(self, video_id: str, key: str, *, after: timedelta = timedelta(0)) -> None:
        scheduled = ScheduledDeletion(key, DeletionReason.LOSING_ATTEMPT, self.store.now() + after)
        self.store.schedule_deletions(video_id, [scheduled])


class SqlEdits:
    def __init__(self, backend: Sql) -> None:
        self.backend = backend

    def job(self, video_id: str, **columns: Any) -> None:
        values = {name: asdict(value) if name == "result" and value else value for name, value in columns.items()}
        self._update(jobs, jobs.c.video_id == video_id, values)

    def attempt(self, video_id: str, fence: int, **columns: Any) -> None:
        self._update(attempts, (attempts.c.job_id == self._job_id(video_id)) & (attempts.c.fence == fence), columns)

    def last_event(self, video_id: str, **columns: Any) -> None:
        [last] = self.backend.store.events_after(0, video_id=video_id)[-1:]
        self._update(job_events, job_events.c.id == last.id, columns)

    def letters(self, video_id: str, **columns: Any) -> None:
        self._update(dead_letters, dead_letters.c.video_id == video_id, columns)

    def add_letter(self, video_id: str, cause: DeadLetterCause, *, generation: int = 1) -> None:
        values = {"cause": cause, "detail": "planted", "video_id": video_id, "generation": generation}
        self._insert(dead_letters, created_at=self.backend.store.now(), **values)

    def forget(self, what: str, video_id: str) -> None:
        which: dict[str, tuple[Table, ColumnElement[bool]]] = {
            "videos": (videos, videos.c.id == video_id),
            "outbox": (outbox, outbox.c.job_id == self._job_id(video_id)),
            "object_deletions": (object_deletions, object_deletions.c.video_id == video_id),
            "dead_letters": (dead_letters, dead_letters.c.video_id == video_id),
        }
        table, condition = which[what]
        with self.backend.database.transaction() as connection:
            assert connection.execute(delete(table).where(condition)).rowcount

    def put_in_outbox(self, video_id: str) -> None:
        now = self.backend.store.now()
        self._insert(outbox, job_id=self._job_id(video_id), send_after=now, created_at=now, tries=0)

    def schedule(self, video_id: str, key: str, *, after: timedelta = timedelta(0)) -> None:
        due = self.backend.store.now() + after
        self._insert(
            object_deletions, video_id=video_id, key=key, reason=DeletionReason.LOSING_ATTEMPT, delete_after=due
        )

    def _job_id(self, video_id: str) -> str | None:
        with self.backend.database.reading() as connection:
            return connection.scalar(select(jobs.c.id).where(jobs.c.video_id == video_id))

    def _update(self, table: Table, which: ColumnElement[bool], columns: dict[str, Any]) -> None:
        with self.backend.database.transaction() as connection:
            assert connection.execute(update(table).where(which).values(columns)).rowcount

    def _insert(self, table: Table, **columns: Any) -> None:
        with self.backend.database.transaction() as connection:
            connection.execute(insert(table).values(columns))


def _with_error(columns: dict[str, Any]) -> dict[str, Any]:
    """Replace the columns `error_code` and `error_message` by the field `error`."""
    if "error_code" not in columns:
        return columns
    code, message = columns.pop("error_code"), columns.pop("error_message")
    return columns | {"error": Problem(code, message) if code else None}
