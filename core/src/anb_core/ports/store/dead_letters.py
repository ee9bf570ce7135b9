"""The store's port for messages that people have to examine."""

from typing import Protocol

from anb_core.domain.model import DeadLetterCause

MAX_DEAD_LETTER_BODY = 4096
"""Maximum number of characters that are stored of the body of a dead letter."""


class DeadLetters(Protocol):
    """Messages that a person has to examine."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        """Record a message that belongs to no job, with a shortened body. False if the message was recorded before."""
        ...
