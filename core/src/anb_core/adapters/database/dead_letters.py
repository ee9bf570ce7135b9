"""Dead letters: messages and jobs that a person has to examine."""

from anb_core.adapters.database.engine import Repository, insert, now_plus
from anb_core.adapters.database.tables import dead_letters
from anb_core.domain.model import DeadLetterCause
from anb_core.ports.store import MAX_DEAD_LETTER_BODY


class DeadLettersRepository(Repository):
    """Implements `anb_core.ports.store.DeadLetters`."""

    def record_dead_letter(self, *, cause: DeadLetterCause, message_id: str, body: str, detail: str) -> bool:
        with self.database.transaction() as connection:
            recorded = connection.scalar(
                insert(connection, dead_letters)
                .values(
                    cause=cause,
                    detail=detail,
                    message_id=message_id,
                    body=body[:MAX_DEAD_LETTER_BODY],
                    created_at=now_plus(),
                )
                .on_conflict_do_nothing(index_elements=[dead_letters.c.message_id])
                .returning(dead_letters.c.id)
            )
            return recorded is not None
