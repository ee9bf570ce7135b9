"""Tests that the store keeps its promises while many programs and people use it and its connections break."""

import os
import time
from collections import Counter
from pathlib import Path

import pytest

from anb_core.domain.model import Ending
from anb_core.domain.status import Status
from anb_core.testing.promises import check_promises
from anb_core.usecases import relay
from tests.contract.store.crowd import POLICY, Crowd
from tests.support.given import SECOND
from tests.support.stores import Sql
from tests.support.waiting import eventually

SEED = int(os.environ.get("SEED", "1"))
SECONDS = 12
"""How long backends are killed."""

WORKERS = {"relay": 2, "work": 4, "sweep": 2, "receive_dead_letters": 1}
OTHERS = {"upload": 2, "command": 2, "claim_and_die": 1, "claim_and_sleep": 2, "kill": 1}

EXPECTED = [
    *("killed backend", "cancel", "retry", "delete", "death", "ended lease", "ended upload"),
    *("refused late call", "message of the dead-letter queue", "processed by a worker"),
]
"""Each of these must have happened. Otherwise the test would prove less than it says."""


@pytest.mark.chaos
def test_nothing_is_lost_or_done_twice_while_all_use_the_store_at_once_and_backends_are_killed(
    postgresql: Sql, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "HOLD", SECOND)
    print(f"SEED={SEED}")  # noqa: T201 - pytest shows it when the test failed
    crowd = Crowd(postgresql, tmp_path, SEED)
    with crowd.at_work(**WORKERS):
        before = None
        with crowd.at_work(**OTHERS):
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                now = crowd.rows()
                check_promises(now, POLICY, earlier=before)
                before = now
        crowd.show_all_messages()
        eventually(crowd.all_ended, every=0.2)

    assert crowd.runtime.errors == []
    end = crowd.everything()
    check_promises(end, POLICY, at_rest=True, earlier=before)

    endings = Counter(str(attempt.ending) for attempt in end.attempts)
    statuses = Counter(str(record.job.status) for record in end.records)
    print(dict(crowd.done), dict(endings), dict(statuses))  # noqa: T201 - pytest shows it when the test failed
    assert not [name for name in EXPECTED if not crowd.done[name]]
    assert endings.keys() >= {Ending.PROCESSED, Ending.FAILED, Ending.REJECTED, Ending.LOST, Ending.SUPERSEDED}
    assert statuses.keys() == {Status.PROCESSED, Status.FAILED, Status.CANCELLED, Status.DEAD_LETTERED}
