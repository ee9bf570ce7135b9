"""The store's port for dead letters: jobs and messages that people have to examine."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter, DeadLetterPage
from anb_core.domain.model import DeadLetterCause, Record
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store.leases import Unknown


class DeadLetters(Protocol):
    """Jobs that have used up their attempts, and messages that nobody could handle.

    A dead letter is open until it is resolved. `Commands.retry` and `Commands.delete` resolve the video's open ones.
    Methods that return several dead letters cut their bodies to `SHORT_BODY` characters, and leave unreadable rows out.
    Methods that take one id raise `Unreadable` instead.
    """

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        """Record a message that belongs to no job. False if the message was recorded before.

        The body is stored up to 256 KiB. The dead letter is open.
        """
        ...

    def receive_dead_letter(
        self, *, message_id: str, body: str, video_id: str, generation: int | None, policy: RetryPolicy
    ) -> DeadLetter | Unknown | None:
        """Handle a message that SQS moved to the dead-letter queue, in one transaction.

        `judge_arrival` decides. The decision is applied to the job, and the message is recorded.
        The record is resolved as `stale` or `requeued`, or open if the job became a dead letter.
        None if the message was handled before. `Unknown` if the video does not exist: nothing was recorded.

        Raises:
            Unavailable: the message must stay. `Busy` if another transaction has locked the job for too long.
            Unreadable: the message must stay, because a newer program may be able to read the job.
        """
        ...

    def dead_letters(
        self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None, limit: int = 50
    ) -> Sequence[DeadLetter]:
        """Return dead letters from new to old. If fewer than `limit` are returned, no more exist."""
        ...

    def count_dead_letters(self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None) -> int:
        """Return the number of dead letters that `dead_letters` returns without a limit, with the unreadable ones."""
        ...

    def dead_letter(self, dead_letter_id: int) -> DeadLetter | None:
        """Return one dead letter with its whole body. None if it does not exist."""
        ...

    def redrive_dead_letter(self, dead_letter_id: int, *, by: str, delay: timedelta = timedelta(0)) -> Record:
        """Retry the job of an open dead letter. The job's message is sent after `delay`.

        This is the same as `Commands.retry`, so it also resolves the video's other open dead letters.

        Raises:
            NotFound: `dead_letter_not_found`.
            Conflict: `dead_letter_without_video` also if the video was deleted; `dead_letter_resolved`;
                `wrong_status` if the job is not over or is processed; `source_missing`.
        """
        ...

    def discard_dead_letter(self, dead_letter_id: int, *, by: str, reason: str) -> DeadLetter:
        """Resolve an open dead letter without a retry. If its video exists, an event tells the readers of the feed.

        Raises:
            NotFound: `dead_letter_not_found`.
            Conflict: `dead_letter_resolved`.
        """
        ...

    def open_dead_letters(self) -> Mapping[DeadLetterCause, int]:
        """Return the number of open dead letters for each cause. Causes without any are left out."""
        ...

    def unannounced_dead_letters(self, *, limit: int) -> Sequence[DeadLetter]:
        """Return open dead letters that were not marked as announced, from old to new."""
        ...

    def mark_announced(self, dead_letter_ids: Collection[int]) -> None:
        """Mark dead letters as announced."""
        ...
