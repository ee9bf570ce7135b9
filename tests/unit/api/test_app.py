"""Tests of the start and the end of the API's app."""

import threading
from datetime import timedelta

import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import DeadLetterCause
from tests.support import eventually
from tests.unit.api.conftest import running_api


def test_the_relay_and_the_sweep_run_as_long_as_the_api() -> None:
    before = set(threading.enumerate())
    with running_api():
        loops = {thread.name: thread for thread in threading.enumerate() if thread not in before}
        assert {"relay", "sweep"} <= loops.keys()
    assert not loops["relay"].is_alive()
    assert not loops["sweep"].is_alive()


def test_an_api_that_handles_dead_letters_records_counts_and_announces_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_core.usecases.receive_dead_letters.WAIT", timedelta(milliseconds=20))
    monkeypatch.setattr("anb_core.usecases.announce_dead_letters.INTERVAL", timedelta(milliseconds=20))
    with running_api(handle_dead_letters=True) as world:
        world.queue.dead_letters.put("nobody can read this")
        eventually(lambda: world.queue.dead_letters.depth().empty)
        assert [letter.cause for letter in world.store.letters] == [DeadLetterCause.UNREADABLE]
        lines = [
            'anb_dead_letters_open{cause="unreadable"} 1.0',
            'anb_dead_letters_total{cause="unreadable"} 1.0',
            'anb_dead_letter_messages_total{outcome="unreadable"} 1.0',
        ]
        eventually(lambda: set(lines) <= set(world.client.get("/metrics").text.splitlines()))


def test_a_dead_letter_queue_that_is_away_is_told_by_its_setting_and_the_api_stays_ready(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("anb_core.usecases.receive_dead_letters.WAIT", timedelta(milliseconds=20))
    with running_api(handle_dead_letters=True) as world:

        def shown() -> dict[str, object]:
            answer = world.client.get("/readyz")
            assert answer.status_code == 200
            check: dict[str, object] = answer.json()["checks"]["dead-letter queue"]
            return check

        assert shown() == {"ok": True, "required": False, "detail": None}
        world.queue.dead_letters.fault = Unavailable("queue", "forbidden")
        eventually(lambda: not shown()["ok"])
        assert shown()["detail"] == "The dead-letter queue (SQS_DLQ_URL) does not answer."
