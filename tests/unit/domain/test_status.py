from itertools import product

import pytest

from anb_core.domain.errors import Conflict
from anb_core.domain.status import TERMINAL, TRANSITIONS, Change, Status, next_status

ALLOWED = {
    (Status.UPLOADING, Change.RECEIVE): Status.UPLOADED,
    (Status.UPLOADING, Change.CANCEL): Status.CANCELLED,
    (Status.UPLOADED, Change.CLAIM): Status.PROCESSING,
    (Status.UPLOADED, Change.EXHAUST): Status.DEAD_LETTERED,
    (Status.UPLOADED, Change.CANCEL): Status.CANCELLED,
    (Status.PROCESSING, Change.CLAIM): Status.PROCESSING,
    (Status.PROCESSING, Change.PUBLISH): Status.PROCESSED,
    (Status.PROCESSING, Change.REJECT): Status.FAILED,
    (Status.PROCESSING, Change.EXHAUST): Status.DEAD_LETTERED,
    (Status.PROCESSING, Change.CANCEL): Status.CANCELLED,
    (Status.FAILED, Change.RETRY): Status.UPLOADED,
    (Status.DEAD_LETTERED, Change.RETRY): Status.UPLOADED,
    (Status.CANCELLED, Change.RETRY): Status.UPLOADED,
    (Status.UPLOADED, Change.RESTORE): Status.PROCESSED,
    (Status.PROCESSING, Change.RESTORE): Status.PROCESSED,
    (Status.FAILED, Change.RESTORE): Status.PROCESSED,
    (Status.DEAD_LETTERED, Change.RESTORE): Status.PROCESSED,
    (Status.CANCELLED, Change.RESTORE): Status.PROCESSED,
    (Status.PROCESSED, Change.REPEAT): Status.UPLOADED,
}


@pytest.mark.parametrize(("status", "change"), list(product(Status, Change)))
def test_every_change_is_allowed_or_refused_with_a_sentence(status: Status, change: Change) -> None:
    if (status, change) in ALLOWED:
        assert next_status(status, change) is ALLOWED[status, change]
        return
    with pytest.raises(Conflict) as refused:
        next_status(status, change)
    assert refused.value.code == "wrong_status"
    assert refused.value.message.startswith(f"A job that is {status} can't {change}; only one that is ")


def test_the_sentence_names_what_could_be_retried() -> None:
    with pytest.raises(Conflict, match="only one that is failed, dead_lettered, cancelled can"):
        next_status(Status.PROCESSED, Change.RETRY)


def test_only_a_retry_or_a_reconciliation_leads_out_of_a_terminal_status() -> None:
    out = {change for status, change in TRANSITIONS if status.terminal}
    assert out == {Change.RETRY, Change.RESTORE, Change.REPEAT}
    assert {status for status in Status if status.terminal} == TERMINAL


def test_every_status_can_be_reached_and_can_end() -> None:
    reached = {Status.UPLOADING} | set(TRANSITIONS.values())
    assert reached == set(Status)
    ending = set(TERMINAL)
    for _ in Status:
        ending |= {status for (status, _), after in TRANSITIONS.items() if after in ending}
    assert ending == set(Status)
