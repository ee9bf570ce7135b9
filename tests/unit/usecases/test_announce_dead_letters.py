"""Tests of the announcements of dead letters: hooks, alerts, and the minimum time between alerts."""

from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from anb_core.domain.dead_letters import DeadLetter, DeadLetterFilter
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import DeadLetterCause
from anb_core.testing.alerts import InMemoryAlerts
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_core.testing.store import InMemoryStore
from anb_core.usecases.announce_dead_letters import LIFETIME, AnnounceDeadLetters
from tests.support import eventually

UNKNOWN, UNREADABLE = DeadLetterCause.UNKNOWN_JOB, DeadLetterCause.UNREADABLE
SNS_AWAY = Unavailable("alerts", "The topic in ANB_SNS_TOPIC_ARN does not answer.")


class World:
    """A store, the alerts of a deployment, and one process that announces dead letters."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.runtime = ManualRuntime(self.clock)
        self.store = InMemoryStore(self.clock.now)
        self.alerts = InMemoryAlerts()
        self.told: list[int] = []
        self.defect: Exception | None = None
        self.announcer = self.process()

    def process(self, *, with_topic: bool = True) -> AnnounceDeadLetters:
        return AnnounceDeadLetters(
            self.store,
            self.alerts if with_topic else None,
            on_record=self.on_record,
            runtime=self.runtime,
        )

    def on_record(self, letter: DeadLetter) -> None:
        if self.defect:
            raise self.defect
        self.told.append(letter.id)

    def record(self, cause: DeadLetterCause, count: int = 1) -> None:
        for _ in range(count):
            number = len(self.store.letters) + 1
            assert self.store.record_dead_letter(cause=cause, message_id=f"m{number}", body="", detail="?")

    @property
    def subjects(self) -> list[str]:
        return [subject.removeprefix("ANB Video: ").partition(" in ")[0] for subject, _ in self.alerts.published]


@pytest.fixture
def world() -> World:
    return World()


def test_new_dead_letters_are_told_once_in_one_alert_for_each_cause(world: World) -> None:
    world.record(UNKNOWN, 2)
    world.record(UNREADABLE)
    assert world.announcer.announce() == 3
    assert world.subjects == ["2 messages", "1 message"]
    assert world.told == [1, 2, 3]
    world.clock.advance(timedelta(hours=1))
    assert world.announcer.announce() == 0
    assert len(world.alerts.published) == 2


def test_a_cause_has_at_most_one_alert_a_minute_from_all_processes_and_the_next_one_counts_what_came_meanwhile(
    world: World,
) -> None:
    processes = [world.announcer, world.process()]
    minutes: list[float] = []
    for second in range(0, 180, 5):
        world.record(UNKNOWN, 2)
        for process in processes:
            before = len(world.alerts.published)
            process.announce()
            minutes += [second] * (len(world.alerts.published) - before)
        world.clock.advance(timedelta(seconds=5))
    assert minutes == [0, 60, 120]
    assert world.subjects == ["2 messages", "24 messages", "24 messages"]


def test_one_cause_does_not_silence_another(world: World) -> None:
    world.record(UNKNOWN)
    world.announcer.announce()
    world.record(UNKNOWN)
    world.record(UNREADABLE)
    world.announcer.announce()
    assert world.subjects == ["1 message", "1 message"]
    assert "unreadable" in world.alerts.published[1][0]


def test_while_sns_is_away_alerts_wait_and_are_sent_late_and_once(world: World) -> None:
    world.alerts.fault = SNS_AWAY
    for _ in range(3):
        world.record(UNKNOWN)
        with pytest.raises(Unavailable):
            world.announcer.announce()
        world.clock.advance(timedelta(minutes=5))
    assert world.told == [1, 2, 3], "metrics and events do not wait for SNS"

    world.alerts.fault = None
    assert world.announcer.announce() == 3
    assert world.announcer.announce() == 0
    assert world.subjects == ["3 messages"]
    assert world.told == [1, 2, 3]


def test_an_alert_whose_mark_is_lost_is_sent_again_rather_than_never(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise Unavailable("database", "away")

    world.record(UNKNOWN)
    with monkeypatch.context() as patch:
        patch.setattr(InMemoryStore, "mark_announced", lose)
        with pytest.raises(Unavailable):
            world.announcer.announce()
    world.announcer.announce()
    assert world.subjects == ["1 message"] * 2
    assert world.told == [1]


def test_only_one_process_announces_at_a_time_and_a_dead_one_is_replaced(world: World) -> None:
    world.record(UNKNOWN)
    with world.store.exclusively("dead letter alerts", lifetime=LIFETIME):
        assert world.announcer.announce() == 0
        assert world.alerts.published == []
        world.clock.advance(LIFETIME)
        assert world.announcer.announce() == 1


def test_without_a_topic_each_dead_letter_is_told_at_once_and_logged(world: World) -> None:
    announcer = world.process(with_topic=False)
    with capture_logs() as logs:
        for _ in range(2):
            world.record(UNKNOWN)
            announcer.announce()
    assert world.told == [1, 2]
    assert [(line["cause"], line["number"], line["first"]) for line in logs] == [
        ("unknown_job", 1, [1]),
        ("unknown_job", 1, [2]),
    ]


def test_a_dead_letter_that_was_resolved_before_its_alert_needs_none(world: World) -> None:
    world.record(UNKNOWN)
    [letter] = world.store.dead_letters(DeadLetterFilter())
    world.store.discard_dead_letter(letter.id, by="ada", reason="a test")
    assert world.announcer.announce() == 0


def test_a_hook_that_fails_is_reported_and_the_alert_is_sent(world: World) -> None:
    world.defect = RuntimeError("a defect")
    world.record(UNKNOWN)
    world.announcer.announce()
    assert [where for where, _ in world.runtime.errors] == ["reporting a dead letter"]
    assert world.subjects == ["1 message"]


def test_the_loop_logs_an_outage_once_for_each_reason_and_survives_defects(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anb_core.usecases.announce_dead_letters.INTERVAL", timedelta(milliseconds=1))
    stop, turns = world.runtime.event(), 0
    world.record(UNKNOWN)
    errors = [SNS_AWAY, SNS_AWAY, RuntimeError("a defect"), Unavailable("alerts", "another reason"), None]

    def publish(_subject: str, _text: str) -> None:
        nonlocal turns
        error, turns = errors[turns], turns + 1
        if error:
            raise error

    monkeypatch.setattr(world.alerts, "publish", publish)
    with capture_logs() as logs:
        thread = world.runtime.start("loop", lambda: world.announcer.run(stop))
        eventually(lambda: world.store.announced)
        stop.set()
        thread.join(10)
    assert [line["reason"] for line in logs if "reason" in line] == [SNS_AWAY.message, "another reason"]
    assert [str(error) for _, error in world.runtime.errors] == ["a defect"]
