"""Dead letters in the in-memory store."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from anb_core.domain import lifecycle
from anb_core.domain.dead_letters import (
    SHORT_BODY,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterPage,
    Resolution,
    after_discard,
    check_open,
    judge_arrival,
    not_found,
    of_arrival,
    stored_body,
    without_video,
)
from anb_core.domain.model import DeadLetterCause, EventKind, Record
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Unknown
from anb_core.testing.store.tables import Tables


class InMemoryDeadLetters(Tables):
    """Implements `anb_core.ports.store.DeadLetters`."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        with self.transaction() as now:
            letter = DeadLetter(0, cause, detail, now, message_id=message_id, body=stored_body(body))
            return self.add_letter(letter) is not None

    def receive_dead_letter(
        self, *, message_id: str, body: str, video_id: str, generation: int | None, policy: RetryPolicy
    ) -> DeadLetter | Unknown | None:
        with self.transaction() as now:
            row = self.find(video_id)
            if row is None:
                return Unknown()
            entry = self.outbox.get(video_id)
            verdict = judge_arrival(
                row.job,
                deleted=row.deleted_at is not None,
                generation=generation,
                waiting_in_outbox=entry is not None and entry.token is None,
                being_sent=entry is not None and entry.token is not None,
                now=now,
                policy=policy,
            )
            effect = lifecycle.settle(row.record, verdict.settlement, now) if verdict.settlement else None
            added = self.add_letter(
                of_arrival(
                    effect.record if effect else row.record,
                    verdict,
                    message_id=message_id,
                    body=body,
                    attempt=self.last_attempt(row),
                    now=now,
                )
            )
            if added and verdict.send_after:
                self.put_in_outbox(row.job, verdict.send_after, now)
            if added and effect:
                self.apply(row, replace(effect, dead_letter=None), now)
            return added

    def dead_letters(
        self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None, limit: int = 50
    ) -> Sequence[DeadLetter]:
        with self.transaction():
            found = [shortened(letter) for letter in self._matching(wanted, after)]
            return sorted(found, key=_place, reverse=True)[:limit]

    def count_dead_letters(self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None) -> int:
        with self.transaction():
            return len(self._matching(wanted, after))

    def dead_letter(self, dead_letter_id: int) -> DeadLetter | None:
        with self.transaction():
            return next((letter for letter in self.letters if letter.id == dead_letter_id), None)

    def redrive_dead_letter(self, dead_letter_id: int, *, by: str, delay: timedelta = timedelta(0)) -> Record:
        with self.transaction() as now:
            letter = self._open(dead_letter_id)
            row = self.find(letter.video_id) if letter.video_id else None
            if row is None or row.deleted_at:
                raise without_video(letter)
            return self.apply(row, lifecycle.retry(row.record, now, by=by, delay=delay), now)

    def discard_dead_letter(self, dead_letter_id: int, *, by: str, reason: str) -> DeadLetter:
        with self.transaction() as now:
            letter = self._open(dead_letter_id)
            row = self.find(letter.video_id) if letter.video_id else None
            discarded = replace(letter, resolution=Resolution.DISCARDED, resolved_at=now, resolved_by=by, reason=reason)
            self.letters[self.letters.index(letter)] = discarded
            if row and not row.deleted_at:
                row.record = after_discard(row.record, now)
                self.append_event(row.record, EventKind.STATUS, now, row.job.error)
            return discarded

    def open_dead_letters(self) -> Mapping[DeadLetterCause, int]:
        with self.transaction():
            return Counter(letter.cause for letter in self.letters if letter.open)

    def unannounced_dead_letters(self, *, limit: int, quiet: timedelta = timedelta(0)) -> Sequence[DeadLetter]:
        with self.transaction() as now:
            announced = ((one.cause, self.announced.get(one.id)) for one in self.letters)
            recent = {cause for cause, at in announced if at and now - quiet < at <= now + quiet}
            found = [
                shortened(one)
                for one in self.letters
                if one.open and one.id not in self.announced and one.cause not in recent
            ]
            return sorted(found, key=_place)[:limit]

    def mark_announced(self, dead_letter_ids: Collection[int]) -> None:
        with self.transaction() as now:
            self.announced.update(dict.fromkeys(dead_letter_ids, now))

    def _matching(self, wanted: DeadLetterFilter, after: DeadLetterPage | None) -> list[DeadLetter]:
        return [
            letter
            for letter in self.letters
            if _matches(letter, wanted) and (after is None or _place(letter) < (after.created_at, after.id))
        ]

    def _open(self, dead_letter_id: int) -> DeadLetter:
        letter = self.dead_letter(dead_letter_id)
        if letter is None:
            raise not_found(dead_letter_id)
        check_open(letter)
        return letter


def shortened(letter: DeadLetter) -> DeadLetter:
    """Return a dead letter with its body cut to SHORT_BODY characters."""
    return replace(letter, body=letter.body and letter.body[:SHORT_BODY])


def _matches(letter: DeadLetter, wanted: DeadLetterFilter) -> bool:
    return (
        (wanted.state == "all" or letter.open == (wanted.state == "open"))
        and (not wanted.causes or letter.cause in wanted.causes)
        and (not wanted.codes or letter.code in wanted.codes)
        and wanted.owner in {None, letter.owner}
        and wanted.worker in {None, letter.worker}
        and wanted.version in {None, letter.version}
        and (wanted.since is None or letter.created_at >= wanted.since)
        and (wanted.until is None or letter.created_at < wanted.until)
    )


def _place(letter: DeadLetter) -> tuple[datetime, int]:
    return letter.created_at, letter.id
