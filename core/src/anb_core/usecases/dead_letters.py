"""What the operator of a deployment can do with dead letters: list, show, redrive and discard them.

All functions raise these errors:
    Forbidden: `scope_missing` if the caller's token does not have the scope `ops`.
    NotFound: `dead_letter_not_found`.
    Conflict: `dead_letter_resolved` if the dead letter is already resolved.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol, TypeVar

import structlog

from anb_core.domain.codes import Code
from anb_core.domain.dead_letters import (
    DeadLetter,
    DeadLetterFilter,
    DeadLetterPage,
    check_open,
    not_found,
    without_video,
)
from anb_core.domain.errors import AnbError, Busy, Conflict, Invalid, Refused, Unreadable
from anb_core.domain.model import Attempt, Record
from anb_core.ports.objects import Objects
from anb_core.ports.store import DeadLetters, Reading
from anb_core.usecases.commands import check_retry
from anb_core.usecases.visibility import Caller, check_operator

MAX_REDRIVES = 1000
"""Maximum number of dead letters that one call of `redrive_many` redrives."""

PACE = timedelta(milliseconds=25)
"""Time between the messages of two redriven jobs.

The pauses give workers time for the messages of other jobs. Even redriven jobs that fail fast can't use all workers.
40 messages become due per second. The relay sends in bursts, so it may send up to 50 in one second.
"""

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")

_log = structlog.get_logger(__name__)


class DeadLetterStore(DeadLetters, Reading, Protocol):
    """The protocols of the store that these functions need."""


class Map(Protocol):
    """A function that works like the built-in `map`, but may call `function` in several threads."""

    def __call__(self, function: Callable[[A, B], C], first: Iterable[A], second: Iterable[B], /) -> Iterator[C]: ...


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a list of dead letters, ordered from new to old."""

    dead_letters: Sequence[DeadLetter]
    after: DeadLetterPage | None
    """Position of the next page. None if no next page exists."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A dead letter that was not redriven, and the error that says why."""

    dead_letter_id: int
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class RedriveReport:
    """The outcome of a call of `redrive_many`."""

    matched: int
    """Number of dead letters that the filter selects, from the position `after` on."""
    redriven: Sequence[int]
    """Ids of the dead letters that were redriven, or that a dry run would redrive."""
    skipped: Sequence[Skipped]
    left: int
    """Number of selected dead letters that this call did not examine, because it already examined `cap` of them."""
    spread: timedelta
    """Duration over which the messages of the redriven jobs are sent."""
    after: DeadLetterPage | None
    """Position at which the next call has to continue. None if this call examined all selected dead letters."""


def browse(
    store: DeadLetters, caller: Caller, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None, limit: int
) -> Listing:
    """List at most `limit` dead letters."""
    check_operator(caller, "Dead letters")
    _check_times(wanted)
    # Read one dead letter more than requested, to find out whether a next page exists.
    found = store.dead_letters(wanted, after=after, limit=limit + 1)
    shown = found[:limit]
    return Listing(shown, _place(shown[-1]) if len(found) > limit else None)


def show(store: DeadLetterStore, caller: Caller, dead_letter_id: int) -> tuple[DeadLetter, Sequence[Attempt]]:
    """Return a dead letter with its whole body, and the attempts in the dead letter's generation, oldest first."""
    check_operator(caller, "Dead letters")
    letter = _find(store, dead_letter_id)
    attempts = store.history(letter.video_id).attempts if letter.video_id else ()
    return letter, [attempt for attempt in attempts if attempt.generation == letter.generation]


def redrive(
    store: DeadLetterStore, objects: Objects, caller: Caller, dead_letter_id: int, *, wake_relay: Callable[[], None]
) -> Record:
    """Retry the job of an open dead letter.

    Raises:
        Conflict: `dead_letter_without_video`, `wrong_status`, `source_missing` or `object_withheld`.
    """
    check_operator(caller, "Dead letters")
    letter = _find(store, dead_letter_id)
    check_open(letter)
    _check_job(store, objects, letter, _record_of(store, letter))
    record = store.redrive_dead_letter(letter.id, by=caller.owner)
    wake_relay()
    _log.info("dead letter redriven", id=letter.id, video_id=record.video.id, by=caller.owner)
    return record


def redrive_many(
    store: DeadLetterStore,
    objects: Objects,
    caller: Caller,
    wanted: DeadLetterFilter,
    *,
    cap: int = MAX_REDRIVES,
    dry_run: bool = False,
    delay: timedelta = timedelta(0),
    after: DeadLetterPage | None = None,
    each: Map,
    wake_relay: Callable[[], None],
) -> RedriveReport:
    """Retry the jobs of at most `cap` open dead letters, each in a transaction of its own. A dry run changes nothing.

    The message of the first job is sent after `delay`, and each further message PACE later.
    The dead letters are redriven through `each`. An `each` with several threads saves time.
    A dead letter that can't be redriven is skipped.
    If the database or the bucket stops answering, an error is raised, and the caller may repeat the call.
    The dead letters that were redriven before the error stay redriven.
    """
    check_operator(caller, "Dead letters")
    _check_times(wanted)
    wanted = replace(wanted, state="open")
    matched = store.count_dead_letters(wanted, after=after)
    letters = store.dead_letters(wanted, after=after, limit=cap)
    histories = store.histories({letter.video_id for letter in letters if letter.video_id})

    def try_one(place: int, letter: DeadLetter) -> AnbError | None:
        history = histories.get(letter.video_id) if letter.video_id else None
        try:
            _check_job(store, objects, letter, history.record if history else _record_of(store, letter))
            if not dry_run:
                store.redrive_dead_letter(letter.id, by=caller.owner, delay=delay + place * PACE)
        except (Refused, Unreadable, Busy) as error:
            # These errors concern only this dead letter.
            return error
        return None

    try:
        refusals = list(each(try_one, range(len(letters)), letters))
    finally:
        if not dry_run:
            wake_relay()
    skipped = [
        Skipped(letter.id, refusal.code, refusal.message)
        for letter, refusal in zip(letters, refusals, strict=True)
        if refusal
    ]
    redriven = [letter.id for letter, refusal in zip(letters, refusals, strict=True) if not refusal]
    if not dry_run:
        _log.info("dead letters redriven", redriven=len(redriven), skipped=len(skipped), by=caller.owner)
    left = max(0, matched - len(letters))
    return RedriveReport(
        matched, redriven, skipped, left, len(letters) * PACE, _place(letters[-1]) if left and letters else None
    )


def discard(store: DeadLetters, caller: Caller, dead_letter_id: int, *, reason: str) -> DeadLetter:
    """Resolve an open dead letter without a retry. `reason` says why it needs no retry."""
    check_operator(caller, "Dead letters")
    discarded = store.discard_dead_letter(dead_letter_id, by=caller.owner, reason=reason)
    _log.info("dead letter discarded", id=dead_letter_id, by=caller.owner, reason=reason)
    return discarded


def _check_times(wanted: DeadLetterFilter) -> None:
    if wanted.since and wanted.until and wanted.since > wanted.until:
        message = f"since: it must not be later than until ({wanted.since.isoformat()} > {wanted.until.isoformat()})."
        raise Invalid("request_invalid", message)


def _find(store: DeadLetters, dead_letter_id: int) -> DeadLetter:
    letter = store.dead_letter(dead_letter_id)
    if letter is None:
        raise not_found(dead_letter_id)
    return letter


def _record_of(store: Reading, letter: DeadLetter) -> Record | None:
    return store.get(letter.video_id) if letter.video_id else None


def _check_job(store: DeadLetters, objects: Objects, letter: DeadLetter, record: Record | None) -> None:
    try:
        if record is None:
            raise without_video(letter)
        check_retry(objects, record)
    except Conflict:
        # If another person resolved the dead letter before `record` was read, raise the error that says this.
        check_open(_find(store, letter.id))
        raise


def _place(letter: DeadLetter) -> DeadLetterPage:
    return DeadLetterPage(letter.created_at, letter.id)
