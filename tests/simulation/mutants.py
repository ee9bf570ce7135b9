"""The guards of the promises, each weakened on purpose. A property must notice each of these mutants.

A guard that a second guard covers completely is not in the table: docs/reliability.md names these guards.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
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
from tests.simulation.faults import Focus, Kind

Patch = Callable[[pytest.MonkeyPatch], None]

SEEDS_A_MUTANT = range(200)
"""The seeds in which each mutant must be noticed."""

_DELAYS = (Kind.WAIT, Kind.LATE, Kind.FREEZE)
_DEATHS = (Kind.DIE_BEFORE, Kind.DIE_AFTER)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A weakened guard."""

    guard: str
    """The guard, in words."""
    where: str
    """The function that has the guard."""
    promises: Sequence[str]
    """The promises whose rules may notice the mutant first."""
    weaken: Patch
    focus: Focus | None = None
    """The faults that show the defect. None if any faults do, or none at all."""


def _wrapped(owner: Any, name: str, wrapper: Callable[..., Any]) -> Patch:
    """Return a patch that replaces a function. The new function gets the old one as its first argument."""
    old = getattr(owner, name)

    @wraps(old)
    def new(*args: Any, **options: Any) -> Any:
        return wrapper(old, *args, **options)

    return lambda patch: patch.setattr(owner, name, new)


def _all(*patches: Patch) -> Patch:
    def apply(patch: pytest.MonkeyPatch) -> None:
        for one in patches:
            one(patch)

    return apply


def _without_fence(method: str) -> Patch:
    """Return a patch with which one write of a worker looks only at the job's status."""

    def write(old: Callable[..., Any], *args: Any, **options: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lifecycle, "holds", lambda job, _: job.status is Status.PROCESSING)
            return old(*args, **options)

    return _wrapped(InMemoryStore, method, write)


def _effect(name: str, **changes: Any) -> Patch:
    """Return a patch with which a change of a job has other effects."""

    def change(old: Callable[..., Any], *args: Any, **options: Any) -> Any:
        effect = old(*args, **options)
        return effect and replace(effect, **changes)

    return _wrapped(lifecycle, name, change)


def _expired(judge: Callable[..., Any], job: Any, generation: Any, now: Any, policy: Any) -> Any:
    return judge(replace(job, lease_expires_at=job.lease_expires_at and now), generation, now, policy)


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
    Mutant(
        "publish needs the fence",
        "lifecycle.holds",
        ("L2", "L4"),
        _without_fence("publish"),
        Focus(_DELAYS, ("publish", "commit")),
    ),
    Mutant(
        "settle needs the fence",
        "lifecycle.holds",
        ("L1", "L2", "L4", "L7"),
        _without_fence("settle"),
        Focus((Kind.FAIL, *_DELAYS), ("render", "settle")),
    ),
    Mutant(
        "renew needs the fence",
        "lifecycle.holds",
        ("L3", "L7"),
        _without_fence("renew"),
        Focus((Kind.FAIL, *_DELAYS), ("render", "renew")),
    ),
    Mutant(
        "a claim waits until the lease expires",
        "claim.judge_claim",
        ("L4",),
        _wrapped(leases, "judge_claim", _expired),
        Focus((Kind.SEND_TWICE, Kind.REDELIVER), ("send", "report_progress")),
    ),
    Mutant(
        "a dead letter waits until the lease expires",
        "dead_letters.judge_arrival",
        ("L4",),
        _wrapped(dead_letters, "judge_claim", _expired),
        Focus((Kind.MOVE, Kind.SEND_TWICE), ("send", "receive")),
    ),
    Mutant(
        "a message that comes too early is owed again",
        "claim.judge_claim",
        ("L3", "L1"),
        _wrapped(leases, "judge_claim", _forget_not_due),
        Focus((Kind.FAIL, Kind.CLOCK_BACK), ("render", "claim")),
    ),
    Mutant("an upload's end writes the outbox", "lifecycle.complete", ("L1",), _effect("complete", send_after=None)),
    Mutant(
        "an attempt's end writes the outbox",
        "lifecycle.settle",
        ("L3",),
        _effect("settle", send_after=None),
        Focus((Kind.FAIL,), ("render",)),
    ),
    Mutant(
        "a retry writes the outbox",
        "lifecycle.retry",
        ("L3",),
        _effect("retry", send_after=None),
        Focus((Kind.CANCEL, Kind.RETRY), ("claim", "render")),
    ),
    Mutant(
        "a sent entry is removed only if it is the same",
        "outbox.mark_sent",
        ("L3",),
        _wrapped(InMemoryStore, "_still_held", lambda _, self, entry: self.outbox.get(entry.video_id)),
        Focus((Kind.FAIL, Kind.WAIT), ("render", "mark_sent")),
    ),
    Mutant("the entry goes after the sending", "Relay.send_due", ("L3",), _wrapped(Relay, "_send", _mark_first)),
    Mutant("the message goes after the commit", "Process.handle", ("L3",), _wrapped(Process, "handle", _delete_first)),
    Mutant(
        "an interruption is no failure",
        "ending.plan_ending",
        ("L7",),
        _wrapped(attempt, "plan_ending", _count_interruption),
        Focus((Kind.TERMINATE,), ("render",)),
    ),
    Mutant(
        "only a job that is not over can be cancelled",
        "status.next_status",
        ("L2", "L4"),
        _wrapped(lifecycle, "next_status", _cancel_always),
        Focus((Kind.CANCEL, Kind.DELETE), ("delete",)),
    ),
    Mutant(
        "the sweep ends expired leases",
        "Sweep.sweep",
        ("L1",),
        _wrapped(InMemoryStore, "end_expired_leases", _nothing),
        Focus((Kind.LOSE_ANSWER,), ("claim",)),
    ),
    Mutant(
        "the sweep sends lost messages again",
        "Sweep.sweep",
        ("L1",),
        _all(
            _wrapped(InMemoryStore, "requeue_unclaimed", _nothing), _wrapped(InMemoryStore, "requeue_overdue", _nothing)
        ),
        Focus((Kind.FORGET,), ("send",)),
    ),
    Mutant(
        "the watchdog ends a render at the end of its lease",
        "LeaseKeeper.watch",
        ("lease",),
        _wrapped(LeaseKeeper, "watch", lambda _, __: 1.0),
        Focus((Kind.WAIT, Kind.LATE), ("render", "renew")),
    ),
    Mutant(
        "an object is deleted twice",
        "lifecycle._twice",
        ("L2",),
        _wrapped(lifecycle, "_twice", _once),
        Focus((Kind.FREEZE, Kind.WAIT), ("commit", "write")),
    ),
    Mutant(
        "a deletion is done after the deletion",
        "Sweep.sweep",
        ("L2",),
        _wrapped(Sweep, "_delete", _done_first),
        Focus(_DEATHS, ("publish",)),
    ),
    Mutant(
        "each attempt has its own object",
        "keys.result_key",
        ("L2",),
        _wrapped(lifecycle, "result_key", lambda _, video_id, *__: f"{PROCESSED}{video_id}/1-result.mp4"),
        Focus(_DEATHS, ("render",)),
    ),
    Mutant(
        "an attempt's end schedules the deletion of its object",
        "lifecycle.settle",
        ("L2",),
        _wrapped(lifecycle, "_attempt", lambda *_: ()),
        Focus(_DEATHS, ("publish",)),
    ),
    Mutant(
        "a write needs the status and the owner of the lease",
        "lifecycle.holds",
        ("L2", "L4", "L7"),
        _wrapped(lifecycle, "holds", lambda _, job, lease: job.fence == lease.fence),
        Focus((Kind.CANCEL, Kind.FAIL, *_DELAYS), ("render", "publish")),
    ),
    Mutant(
        "a message is recorded once as a dead letter",
        "dead_letters.receive_dead_letter",
        ("L4",),
        _wrapped(Tables, "add_letter", _add_again),
        Focus((Kind.MOVE, Kind.KEEP), ("receive", "delete")),
    ),
)
"""The table of guards. docs/reliability.md shows it."""
