"""The guards at the edges of the work on a job: uploads, gate, sweep, dead letters and deletions, each weakened."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

from anb_core.domain import lifecycle
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.errors import Unavailable
from anb_core.domain.status import Change, Status
from anb_core.testing.store import InMemoryStore
from anb_core.testing.store import dead_letters as stored_dead_letters
from anb_core.testing.store.tables import Tables
from anb_core.usecases import commands
from anb_core.usecases.attempt import AttemptRun
from anb_core.usecases.gate import Gate
from anb_core.usecases.old_queue import BothQueues
from anb_core.usecases.process import Process
from anb_core.usecases.receive_dead_letters import ReceiveDeadLetters
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import EmptyWatch
from anb_core.usecases.upload_session import UploadSession
from anb_operator import planning
from tests.simulation.faults import Focus, Kind
from tests.simulation.weakening import DEATHS, DELAYS, Mutant, Patch, both, changed, wrapped
from tests.simulation.world import World

FAILURES = (Kind.FAIL,) * 6
"""So many failures that most jobs become dead letters."""


def _allowed(change: Change, after: Status) -> Callable[..., Status]:
    """Return a table of transitions in which one change is possible in every status."""
    return lambda old, status, wanted: after if wanted is change else old(status, wanted)


def _complete_again(complete: Callable[..., Any], record: Any, *args: Any, **options: Any) -> Any:
    return complete(replace(record, video=replace(record.video, source=None)), *args, **options)


def _remove_if_unknown(schedule: Callable[..., Any], self: Any, *args: Any) -> Any:
    try:
        return schedule(self, *args)
    except Unavailable:
        self._remove_object()
        raise


def _without_key(begin: Callable[..., Any], self: InMemoryStore, new: Any, **options: Any) -> Any:
    return begin(self, new, **(options | {"idempotency": None}))


def _keep_expiry(apply: Callable[..., Any], self: Tables, row: Any, *args: Any) -> Any:
    expiry = row.upload_expires_at
    record = apply(self, row, *args)
    row.upload_expires_at = expiry
    return record


def _abandon_any(abandon: Callable[..., Any], self: Tables, row: Any, now: Any) -> None:
    if row:
        row.record = replace(row.record, job=replace(row.job, status=Status.UPLOADING))
    abandon(self, row, now)


@contextmanager
def _exclusive_for_all(_exclusively: Callable[..., Any], *_: Any, **__: Any) -> Iterator[bool]:
    yield True


def _delete_before_settling(settle: Callable[..., Any], self: AttemptRun, settlement: Any) -> Any:
    with suppress(Unavailable):
        self.tools.objects.delete([self.lease.result_key])
    return settle(self, settlement)


def _delete_before_recording(handle: Callable[..., Any], self: Any, delivery: Any, stop: Any) -> Any:
    with suppress(Unavailable):
        self._queue.delete(delivery)
    return handle(self, delivery, stop)


def _forget_owed(judge: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return replace(judge(*args, **options), send_after=None)


def _letter(_open: Callable[..., Any], self: Any, dead_letter_id: int) -> DeadLetter:
    letters: Sequence[DeadLetter] = self.letters
    return next(one for one in letters if one.id == dead_letter_id)


def _own_clock(make: Callable[..., Any], world: World, *args: Any) -> Any:
    offset = timedelta(seconds=world.scheduler.current.process.clock_offset)
    clock = world.store.clock
    world.store.clock = lambda: clock() + offset
    try:
        return make(world, *args)
    finally:
        world.store.clock = clock


def _of_known_brokers(requeue: Callable[..., Any], *args: Any, not_on: Any = (), **options: Any) -> Any:
    return 0 if not_on else requeue(*args, **options)


def _always(*_: Any) -> bool:
    return True


RETRIED_ALWAYS: Patch = both(
    wrapped(lifecycle, "next_status", _allowed(Change.RETRY, Status.UPLOADED)),
    wrapped(commands, "next_status", _allowed(Change.RETRY, Status.UPLOADED)),
)

WITHOUT_OTHER_SEARCHES: Patch = both(
    wrapped(InMemoryStore, "requeue_overdue", lambda *_, **__: 0),
    wrapped(EmptyWatch, "observe", lambda *_: None),
)
"""Otherwise the sweep would send each message again after a while, wherever it was lost."""

BACK: Focus = Focus(DEATHS, ("claim", "receive"), moves=2)

EDGES: Sequence[Mutant] = (
    Mutant(
        "a deleted video loses its VideoJob",
        "planning.plan",
        ("L6",),
        wrapped(planning, "_plan_without_video", lambda *_, **__: None),
        Focus((Kind.DELETE,), ("claim", "render", "publish"), mirrored=True),
    ),
    Mutant(
        "a message of a removed broker is sent again",
        "Sweep.sweep",
        ("L1",),
        both(wrapped(InMemoryStore, "requeue_unclaimed", _of_known_brokers), WITHOUT_OTHER_SEARCHES),
        BACK,
    ),
    Mutant(
        "a job's row names the broker of its message",
        "outbox.mark_sent",
        ("L1",),
        both(
            wrapped(InMemoryStore, "mark_sent", lambda mark, *args, **_: mark(*args, broker="celery")),
            WITHOUT_OTHER_SEARCHES,
        ),
        BACK,
    ),
    Mutant(
        "a message is deleted from the queue from which it came",
        "BothQueues.delete",
        ("queue",),
        wrapped(BothQueues, "_from", lambda _, self, __: self._current),
        Focus(DEATHS, ("claim", "receive"), moves=1),
    ),
    Mutant(
        "only the database's clock decides",
        "engine.clock",
        ("lease",),
        wrapped(World, "_effect", _own_clock),
        Focus((Kind.OWN_CLOCK_FORWARD, Kind.SEND_TWICE), ("claim", "send", "hold_outbox")),
    ),
    Mutant(
        "only an unfinished upload can be completed",
        "lifecycle.complete",
        ("L2", "L4"),
        wrapped(lifecycle, "next_status", _allowed(Change.RECEIVE, Status.UPLOADED)),
        Focus((Kind.CANCEL,), ("begin_upload", "commit", "end writing")),
    ),
    Mutant(
        "a completion that is repeated changes nothing",
        "lifecycle.complete",
        ("L2",),
        wrapped(lifecycle, "complete", _complete_again),
        Focus((Kind.LOSE_ANSWER,), ("complete_upload",)),
    ),
    Mutant(
        "an upload that may be complete keeps its object",
        "UploadSession.complete",
        ("L2",),
        wrapped(UploadSession, "_schedule", _remove_if_unknown),
        Focus((Kind.LOSE_ANSWER, Kind.OUTAGE), ("complete_upload",)),
    ),
    Mutant(
        "the sweep ends uploads that nobody continues",
        "Sweep.sweep",
        ("upload",),
        wrapped(InMemoryStore, "end_expired_uploads", lambda *_, **__: 0),
        Focus(DEATHS, ("begin_upload", "commit")),
    ),
    Mutant(
        "an Idempotency-Key has one video",
        "uploads.begin_upload",
        ("upload",),
        wrapped(InMemoryStore, "begin_upload", _without_key),
        Focus((Kind.LOSE_ANSWER, *DEATHS), ("complete_upload",)),
    ),
    Mutant(
        "only an unfinished upload is abandoned",
        "uploads.abandon_upload, lifecycle.complete",
        ("L1", "L2"),
        both(wrapped(Tables, "abandon", _abandon_any), wrapped(Tables, "apply", _keep_expiry)),
    ),
    Mutant(
        "a worker receives only while database and bucket answer",
        "Gate.passes",
        ("gate",),
        wrapped(Gate, "passes", _always),
        Focus((Kind.OUTAGE, Kind.REFUSE), ("claim",)),
    ),
    Mutant(
        "one process sweeps at a time",
        "housekeeping.exclusively",
        ("sweep",),
        wrapped(InMemoryStore, "exclusively", _exclusive_for_all),
        Focus(DELAYS, ("end_expired_leases", "end_expired_uploads")),
    ),
    Mutant(
        "a refused publication counts only if it was made before",
        "lifecycle.published_before",
        ("report",),
        wrapped(lifecycle, "published_before", _always),
        Focus(DELAYS, ("publish", "commit")),
    ),
    Mutant(
        "a refused settlement counts only if it was made before",
        "lifecycle.settled_before",
        ("report",),
        wrapped(lifecycle, "settled_before", _always),
        Focus((Kind.FAIL, *DELAYS), ("render", "settle")),
    ),
    Mutant(
        "an attempt's object goes after the commit",
        "Process.handle",
        ("L2",),
        wrapped(AttemptRun, "_settle", _delete_before_settling),
        Focus((Kind.LOSE_ANSWER, Kind.TERMINATE, Kind.TERMINATE), ("publish", "report_progress")),
    ),
    Mutant(
        "a dead letter's message goes after the commit",
        "ReceiveDeadLetters.handle",
        ("L3",),
        wrapped(ReceiveDeadLetters, "handle", _delete_before_recording),
        Focus((Kind.MOVE, Kind.REFUSE, *DEATHS), ("receive", "receive_dead_letter")),
    ),
    Mutant(
        "a message that a relay sends is owed again when it is a dead letter",
        "dead_letters.judge_arrival",
        ("L3", "L1"),
        wrapped(stored_dead_letters, "judge_arrival", _forget_owed),
        Focus((Kind.MOVE, Kind.WAIT, Kind.LATE), ("receive", "mark_sent", "send")),
    ),
    Mutant(
        "a message that the queue refuses is not marked as sent",
        "Relay.send_due",
        ("L3",),
        wrapped(Relay, "_mark", lambda mark, self, entry, _: mark(self, entry, None)),
        Focus((Kind.REFUSE,), ("send",)),
    ),
    Mutant(
        "a message whose outcome is not committed is given back",
        "Process.handle",
        ("L3",),
        wrapped(Process, "_give_back", lambda _, self, delivery: self._delete(delivery, lambda _: None)),
        Focus((Kind.REFUSE,), ("claim",)),
    ),
    Mutant(
        "only a job that is over and has no result can be retried",
        "status.next_status",
        ("L2", "L4"),
        RETRIED_ALWAYS,
        Focus((Kind.RETRY,), ("claim", "render")),
    ),
    Mutant(
        "a dead letter is redriven once",
        "dead_letters.redrive_dead_letter, status.next_status",
        ("L4",),
        both(wrapped(InMemoryStore, "_open", _letter), RETRIED_ALWAYS),
        Focus((*FAILURES, Kind.REDRIVE, Kind.REDRIVE, Kind.WAIT), ("render", "redrive_dead_letter")),
    ),
    Mutant(
        "only an open dead letter can be discarded",
        "dead_letters.discard_dead_letter",
        ("L4",),
        wrapped(InMemoryStore, "_open", _letter),
        Focus((*FAILURES, Kind.REDRIVE, Kind.DISCARD), ("render",)),
    ),
    Mutant(
        "a retry resolves the dead letter",
        "lifecycle.retry",
        ("L7",),
        changed("retry", resolution=None),
        Focus((*FAILURES, Kind.RETRY, Kind.REDRIVE), ("render",)),
    ),
    Mutant(
        "a deletion schedules the deletion of all objects",
        "lifecycle.delete",
        ("L2",),
        changed("delete", deletions=()),
        Focus((Kind.DELETE,), ("claim", "publish")),
    ),
)
"""The table of the guards at the edges."""
