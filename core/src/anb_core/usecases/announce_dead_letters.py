"""Announce new dead letters: count them in the metrics, and send alerts.

Code that records a dead letter does not send an alert, because the sending may have to wait for SNS.
Instead, this loop finds all dead letters in the database that were not announced yet.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import structlog

from anb_core.domain.alert import MOST_SHOWN, dead_letter_alert
from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import DeadLetterCause
from anb_core.ports.alerts import Alerts
from anb_core.ports.runtime import Event, Runtime
from anb_core.ports.store import DeadLetters, Housekeeping

INTERVAL = timedelta(seconds=5)
"""Time between two reads of the dead letters."""

QUIET = timedelta(minutes=1)
"""Minimum time between two alerts about the same cause, even if different processes send the alerts."""

LIMIT = 1000
"""Maximum number of dead letters that one pass announces."""

LIFETIME = timedelta(minutes=2)
"""Only one process at a time announces dead letters. If it dies, another process can go on after this time."""

_log = structlog.get_logger(__name__)


class AnnouncingStore(DeadLetters, Housekeeping, Protocol):
    """The protocols of the store that this use case needs."""


class AnnounceDeadLetters:
    """Announces each open dead letter at least once, and usually exactly once.

    The thread of the loop calls `on_record` with each new dead letter. `on_record` must not block for long.
    `alerts` is None if no alerts are sent.
    If an alert can't be sent, a later pass sends an alert about the same dead letters, without a call of `on_record`.
    """

    def __init__(
        self,
        store: AnnouncingStore,
        alerts: Alerts | None,
        *,
        on_record: Callable[[DeadLetter], None],
        runtime: Runtime,
    ) -> None:
        self._store = store
        self._alerts = alerts
        self._on_record = on_record
        self._runtime = runtime
        self._reported: set[int] = set()
        self._outage: str | None = None

    def run(self, stop: Event) -> None:
        """Announce dead letters once per INTERVAL until `stop` is set."""
        while not stop.wait(INTERVAL.total_seconds()):
            try:
                self.announce()
                self._outage = None
            except Unavailable as error:
                if error.message != self._outage:
                    _log.warning("dead letters are announced later", part=error.part, reason=error.message)
                self._outage = error.message
            except Exception as error:  # noqa: BLE001 - reported; the thread must not end
                self._runtime.on_error("announcing dead letters", error)

    def announce(self) -> int:
        """Announce the dead letters that are due, and return their number. Returns 0 if another process announces now.

        Raises:
            Unavailable: the database does not answer, or an alert was not sent.
                Dead letters that were not announced stay due.
        """
        if not self._due(limit=1):
            return 0
        with self._store.exclusively("dead letter alerts", lifetime=LIFETIME) as is_ours:
            due = self._due(limit=LIMIT) if is_ours else ()
            self._report_new(due)
            for cause, letters in _by_cause(due).items():
                if self._alerts:
                    self._alerts.publish(*dead_letter_alert(cause, letters))
                ids = [letter.id for letter in letters]
                self._store.mark_announced(ids)
                self._reported.difference_update(ids)
                _log.error("new dead letters", cause=cause.value, number=len(ids), first=ids[:MOST_SHOWN])
        return len(due)

    def _due(self, *, limit: int) -> Sequence[DeadLetter]:
        return self._store.unannounced_dead_letters(limit=limit, quiet=QUIET if self._alerts else timedelta(0))

    def _report_new(self, letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            if letter.id not in self._reported:
                self._reported.add(letter.id)
                try:
                    self._on_record(letter)
                except Exception as error:  # noqa: BLE001 - reported; the alert must still be sent
                    self._runtime.on_error("reporting a dead letter", error, dead_letter=letter.id)


def _by_cause(letters: Sequence[DeadLetter]) -> Mapping[DeadLetterCause, Sequence[DeadLetter]]:
    groups: defaultdict[DeadLetterCause, list[DeadLetter]] = defaultdict(list)
    for letter in letters:
        groups[letter.cause].append(letter)
    return groups
