"""The guards of the promises, each weakened on purpose. A property must notice each of these mutants.

A guard that a second guard covers completely is not in the table: docs/reliability.md names these guards.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from anb_core.domain import claim, dead_letters, lifecycle
from anb_core.domain.errors import Interrupted, Unavailable
from anb_core.domain.keys import PROCESSED
from anb_core.domain.status import Change, Status
from anb_core.testing.store import InMemoryStore, leases
from anb_core.testing.store.tables import Tables
from anb_core.usecases import attempt
from anb_core.usecases.process import Process
from anb_core.usecases.relay import Relay
from anb_core.usecases.sweep import Sweep
from anb_worker.lease import LeaseKeeper
from tests.simulation.edges import EDGES
from tests.simulation.faults import Focus, Kind
from tests.simulation.weakening import DEATHS, DELAYS, Mutant, Patch, both, changed, wrapped

SEEDS_A_MUTANT = range(200)
"""The seeds in which each mutant must be noticed."""


def _without_fence(method: str) -> Patch:
    """Return a patch with which one write of a worker looks only at the job's status."""

    def write(old: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lifecycle, "holds", lambda job, _: job.status is Status.PROCESSING)
            return old(*args, **options)

    return wrapped(InMemoryStore, method, write)


def _expired(judge: Callable[..., Any], job: Any, generation: Any, now: Any, policy: Any) -> Any:
    return judge(replace(job, lease_expires_at=job.lease_expires_at and now), generation, now, policy)


def _never_taken_over(judge: Callable[..., Any], job: Any, *args: Any) -> Any:
    return claim.Drop(claim.Reason.LEASED) if job.lease_owner else judge(job, *args)


def _forget_not_due(judge: Callable[..., Any], *args: Any) -> Any:
    verdict = judge(*args)
    return replace(verdict, send_after=None) if isinstance(verdict, claim.Drop) else verdict


def _delete_first(handle: Callable[..., Any], self: Process, delivery: Any, stop: Any) -> Any:
    with suppress(Unavailable):
        self.queue.delete(delivery)
    return handle(self, delivery, stop)


def _mark_first(send: Callable[..., Any], self: Any, entries: Any) -> Any:
    for entry in entries:
        self._store.mark_sent(entry, broker=self._queue.name)
    return send(self, entries)


def _count_interruption(plan: Callable[..., Any], error: Exception, *rest: Any) -> Any:
    return plan(RuntimeError("interrupted") if isinstance(error, Interrupted) else error, *rest)


def _cancel_always(allowed: Callable[..., Any], status: Status, change: Change) -> Any:
    return Status.CANCELLED if change is Change.CANCEL else allowed(status, change)


def _keep_fence(cancel: Callable[..., Any], record: Any, *args: Any) -> Any:
    effect = cancel(record, *args)
    return replace(effect, record=replace(effect.record, job=replace(effect.record.job, fence=record.job.fence)))


def _done_first(_hold: Callable[..., Any], self: Sweep) -> int:
    due = self._store.hold_deletions(limit=100, hold=attempt.PATIENCE)
    self._store.deletion_done(due)
    self._objects.delete([deletion.key for deletion in due])
    return len(due)


def _once(_twice: Callable[..., Any], *args: Any) -> Any:
    return _twice(*args)[:1]


def _nothing(_old: Callable[..., Any], *_: Any, **__: Any) -> int:
    return 0


def _add_again(add: Callable[..., Any], store: Tables, letter: Any) -> Any:
    added = add(store, replace(letter, message_id=None))
    store.letters[-1] = replace(added, message_id=letter.message_id)
    return store.letters[-1]


MUTANTS: Sequence[Mutant] = (
    *EDGES,
    Mutant(
        "publish needs the fence",
        "lifecycle.holds",
        ("L2", "L4"),
        _without_fence("publish"),
        Focus(DELAYS, ("publish", "commit")),
    ),
    Mutant(
        "settle needs the fence",
        "lifecycle.holds",
        ("L1", "L2", "L4", "L7"),
        _without_fence("settle"),
        Focus((Kind.FAIL, *DELAYS), ("render", "settle")),
    ),
    Mutant(
        "renew needs the fence",
        "lifecycle.holds",
        ("L3", "L7", "lease"),
        _without_fence("renew"),
        Focus((Kind.FAIL, *DELAYS), ("render", "renew")),
    ),
    Mutant(
        "a claim waits until the lease expires",
        "claim.judge_claim",
        ("L4",),
        wrapped(leases, "judge_claim", _expired),
        Focus((Kind.SEND_TWICE, Kind.REDELIVER), ("send", "report_progress")),
    ),
    Mutant(
        "a dead letter waits until the lease expires",
        "dead_letters.judge_arrival",
        ("L4",),
        wrapped(dead_letters, "judge_claim", _expired),
        Focus((Kind.MOVE, Kind.SEND_TWICE), ("send", "receive")),
    ),
    Mutant(
        "a message that comes too early is owed again",
        "claim.judge_claim",
        ("L3", "L1"),
        wrapped(leases, "judge_claim", _forget_not_due),
        Focus((Kind.FAIL, Kind.CLOCK_BACK), ("render", "claim")),
    ),
    Mutant("an upload's end writes the outbox", "lifecycle.complete", ("L1",), changed("complete", send_after=None)),
    Mutant(
        "an attempt's end writes the outbox",
        "lifecycle.settle",
        ("L3",),
        changed("settle", send_after=None),
        Focus((Kind.FAIL,), ("render",)),
    ),
    Mutant(
        "a retry writes the outbox",
        "lifecycle.retry",
        ("L3",),
        changed("retry", send_after=None),
        Focus((Kind.CANCEL, Kind.RETRY), ("claim", "render")),
    ),
    Mutant(
        "a sent entry is removed only if it is the same",
        "outbox.mark_sent",
        ("L3",),
        wrapped(InMemoryStore, "_still_held", lambda _, self, entry: self.outbox.get(entry.video_id)),
        Focus((Kind.FAIL, Kind.WAIT), ("render", "mark_sent")),
    ),
    Mutant("the entry goes after the sending", "Relay.send_due", ("L3",), wrapped(Relay, "_send", _mark_first)),
    Mutant("the message goes after the commit", "Process.handle", ("L3",), wrapped(Process, "handle", _delete_first)),
    Mutant(
        "an interruption is no failure",
        "ending.plan_ending",
        ("L7",),
        wrapped(attempt, "plan_ending", _count_interruption),
        Focus((Kind.TERMINATE,), ("render",)),
    ),
    Mutant(
        "only a job that is not over can be cancelled",
        "status.next_status",
        ("L2", "L4"),
        wrapped(lifecycle, "next_status", _cancel_always),
        Focus((Kind.CANCEL, Kind.DELETE), ("delete",)),
    ),
    Mutant(
        "the sweep ends expired leases",
        "Sweep.sweep",
        ("L1",),
        wrapped(InMemoryStore, "end_expired_leases", _nothing),
        Focus((Kind.LOSE_ANSWER,), ("claim",)),
    ),
    Mutant(
        "an expired lease is taken over, or the sweep ends it",
        "claim.judge_claim, Sweep.sweep",
        ("L1",),
        both(wrapped(leases, "judge_claim", _never_taken_over), wrapped(InMemoryStore, "end_expired_leases", _nothing)),
        Focus(DEATHS, ("render",)),
    ),
    Mutant(
        "the sweep sends lost messages again",
        "Sweep.sweep",
        ("L1",),
        both(
            wrapped(InMemoryStore, "requeue_unclaimed", _nothing), wrapped(InMemoryStore, "requeue_overdue", _nothing)
        ),
        Focus((Kind.FORGET,), ("send",)),
    ),
    Mutant(
        "the watchdog ends a render at the end of its lease",
        "LeaseKeeper.watch",
        ("lease",),
        wrapped(LeaseKeeper, "watch", lambda _, __: 1.0),
        Focus((Kind.WAIT, Kind.LATE), ("render", "renew")),
    ),
    Mutant(
        "an object is deleted twice",
        "lifecycle._twice",
        ("L2",),
        wrapped(lifecycle, "_twice", _once),
        Focus((Kind.FREEZE, Kind.WAIT), ("commit", "write")),
    ),
    Mutant(
        "a deletion is done after the deletion",
        "Sweep.sweep",
        ("L2",),
        wrapped(Sweep, "_delete", _done_first),
        Focus(DEATHS, ("publish",)),
    ),
    Mutant(
        "each attempt has its own object",
        "keys.result_key",
        ("L2",),
        wrapped(lifecycle, "result_key", lambda _, video_id, *__: f"{PROCESSED}{video_id}/1-result.mp4"),
        Focus(DEATHS, ("render",)),
    ),
    Mutant(
        "an attempt's end schedules the deletion of its object",
        "lifecycle.settle",
        ("L2",),
        wrapped(lifecycle, "_attempt", lambda *_: ()),
        Focus(DEATHS, ("publish",)),
    ),
    Mutant(
        "a write needs the status and the owner of the lease",
        "lifecycle.holds",
        ("L2", "L4", "L7"),
        wrapped(lifecycle, "holds", lambda _, job, lease: job.fence == lease.fence),
        Focus((Kind.CANCEL, Kind.FAIL, *DELAYS), ("render", "publish")),
    ),
    Mutant(
        "a cancel ends the attempt",
        "lifecycle.cancel, lifecycle.holds",
        ("L2", "L4"),
        both(
            wrapped(lifecycle, "cancel", _keep_fence),
            wrapped(lifecycle, "holds", lambda _, job, lease: job.fence == lease.fence),
        ),
        Focus((Kind.CANCEL,), ("render", "commit", "publish")),
    ),
    Mutant(
        "a message is recorded once as a dead letter",
        "dead_letters.receive_dead_letter",
        ("L4",),
        wrapped(Tables, "add_letter", _add_again),
        Focus((Kind.MOVE, Kind.KEEP), ("receive", "delete")),
    ),
)
"""The table of guards. docs/reliability.md shows it."""
