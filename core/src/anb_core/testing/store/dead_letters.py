"""Dead letters: messages and jobs that a person has to examine."""

from anb_core.domain.model import (
    DeadLetterCause,
)
from anb_core.ports.store import (
    MAX_DEAD_LETTER_BODY,
)
from anb_core.testing.store.tables import DeadLetterRow, Tables


class InMemoryDeadLetters(Tables):
    """Implements `anb_core.ports.store.DeadLetters`."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        with self.transaction():
            if any(kept.message_id == message_id for kept in self.dead_letters):
                return False
            self.dead_letters.append(
                DeadLetterRow(cause, detail, message_id=message_id, body=body[:MAX_DEAD_LETTER_BODY])
            )
            return True
