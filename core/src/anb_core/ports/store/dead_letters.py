"""The store's port for dead letters."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter, DeadLetterPage
from anb_core.domain.model import DeadLetterCause, Record
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store.leases import Unknown


class DeadLetters(Protocol):
    """Dead letters: jobs that reached their limit of failures or losses, and messages that could not be handled.

    A dead letter is open until it is resolved.
    `Commands.retry` and `Commands.delete` resolve all open dead letters of the video.
    Methods that return several dead letters cut the bodies to `SHORT_BODY` characters. They skip rows that this version
    can't read. Methods for one dead letter raise `Unreadable` for such a row.
    """

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        """Add an open dead letter for a message that belongs to no job. At most 256 KiB of the body are stored.

        Returns False if a dead letter for this message exists.
        """
        ...

    def receive_dead_letter(
        self, *, message_id: str, body: str, video_id: str, generation: int | None, policy: RetryPolicy
    ) -> DeadLetter | Unknown | None:
        """Handle a message that SQS moved to the dead-letter queue. This is one transaction.

        `judge_arrival` decides what happens. The decision is applied to the job, and a dead letter is recorded.
        The new dead letter is resolved as `stale` or `requeued`. It is open if the job ended.
        Returns None if the message was handled before.
        Returns `Unknown` and records nothing if the video does not exist.

        After an error, the caller must keep the message in the dead-letter queue.

        Raises:
            Unavailable: the database does not answer.
            Busy (a kind of Unavailable): another transaction has locked the job for too long.
            Unreadable: this version can't read the job, but a newer one may be able to.
        """
        ...

    def dead_letters(
        self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None, limit: int = 50
    ) -> Sequence[DeadLetter]:
        """Return the selected dead letters from new to old. If fewer than `limit` are returned, no more exist."""
        ...

    def count_dead_letters(self, wanted: DeadLetterFilter, *, after: DeadLetterPage | None = None) -> int:
        """Return the number of all selected dead letters. Unreadable ones are counted, too."""
        ...

    def dead_letter(self, dead_letter_id: int) -> DeadLetter | None:
        """Return a dead letter with its whole body. None if the dead letter does not exist."""
        ...

    def redrive_dead_letter(self, dead_letter_id: int, *, by: str, delay: timedelta = timedelta(0)) -> Record:
        """Retry the job of an open dead letter. The job's message is sent after `delay`.

        A redrive also resolves the video's other open dead letters, like `Commands.retry`.

        Raises:
            NotFound: `dead_letter_not_found`.
            Conflict: `dead_letter_resolved`, or `source_missing`.
                `dead_letter_without_video` if the dead letter has no video or the video was deleted.
                `wrong_status` if the job is processed or has not ended.
        """
        ...

    def discard_dead_letter(self, dead_letter_id: int, *, by: str, reason: str) -> DeadLetter:
        """Resolve an open dead letter without a retry. If its video exists, an event is added to the feed.

        Raises:
            NotFound: `dead_letter_not_found`.
            Conflict: `dead_letter_resolved`.
        """
        ...

    def open_dead_letters(self) -> Mapping[DeadLetterCause, int]:
        """Return the number of open dead letters for each cause. Causes without open dead letters are left out."""
        ...

    def unannounced_dead_letters(self, *, limit: int, quiet: timedelta = timedelta(0)) -> Sequence[DeadLetter]:
        """Return open dead letters that no alert has announced yet, from old to new.

        After an announcement, dead letters with the same cause are left out for the duration `quiet`.
        An announcement more than `quiet` in the future does not count, because the clock was set back since then.
        """
        ...

    def mark_announced(self, dead_letter_ids: Collection[int]) -> None:
        """Record that an alert has announced these dead letters."""
        ...
