"""Tests of the Events on the operator's Deployment about messages that belong to no video."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.model import DeadLetterCause
from anb_operator.kube import KubeRefused
from anb_operator.message_events import MessageEvents, announcement
from tests.unit.operator.conftest import KUBERNETES_AWAY, World, beside, until

UNREADABLE = "Messages that nobody can read arrived:"
NOW = datetime(2026, 1, 2, tzinfo=UTC)

Scenario = Callable[[MessageEvents], Awaitable[None]]


def letter(number: int, cause: DeadLetterCause = DeadLetterCause.UNREADABLE, video_id: str | None = None) -> DeadLetter:
    return DeadLetter(number, cause, f"fault {number}", NOW, video_id=video_id, message_id="m", body="a secret")


def run(world: World, scenario: Scenario) -> None:
    async def both() -> None:
        events = MessageEvents(world.cluster, "anb-operator")
        await beside(events.run(), lambda: scenario(events))

    asyncio.run(both())


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_operator.message_events.PAUSE_SECONDS", 0.001)


def messages(world: World) -> list[str]:
    return [one.message for one in world.cluster.events.values()]


def test_a_message_without_a_video_is_an_event_on_the_deployment_without_its_body(world: World) -> None:
    async def scenario(events: MessageEvents) -> None:
        # Call `add` from another thread, as the loops for dead letters do.
        await asyncio.to_thread(events.add, letter(7))
        await until(lambda: world.cluster.events)

    run(world, scenario)
    [((name, _), event)] = world.cluster.events.items()
    assert (name, event.reason, event.warning) == ("anb-operator", "UnreadableMessage", True)
    assert event.message == f"{UNREADABLE} dead letter 7: fault 7"


def test_a_dead_letter_of_a_video_is_left_to_its_videojob(world: World) -> None:
    async def scenario(events: MessageEvents) -> None:
        events.add(letter(1, DeadLetterCause.FAILURES, "v"))
        events.add(letter(2, DeadLetterCause.UNKNOWN_JOB))
        await until(lambda: world.cluster.events)

    run(world, scenario)
    assert messages(world) == ["Messages of unknown videos arrived: dead letter 2: fault 2"]


def test_many_messages_are_one_event_for_each_cause(world: World) -> None:
    async def scenario(events: MessageEvents) -> None:
        for number in range(100):
            events.add(letter(number))
        events.add(letter(100, DeadLetterCause.UNKNOWN_JOB))
        await until(lambda: len(world.cluster.events) == 2)
        events.add(letter(101))
        await until(lambda: len(world.cluster.events) == 3)

    run(world, scenario)
    assert messages(world) == [
        f"{UNREADABLE} dead letter 0: fault 0; dead letter 1: fault 1; dead letter 2: fault 2; and 97 more",
        "Messages of unknown videos arrived: dead letter 100: fault 100",
        f"{UNREADABLE} dead letter 101: fault 101",
    ]


def test_an_event_waits_for_the_api_server_and_then_tells_what_came_meanwhile(world: World) -> None:
    async def scenario(events: MessageEvents) -> None:
        world.cluster.fault = KUBERNETES_AWAY
        events.add(letter(1))
        await until(lambda: world.cluster.refused > 1)
        events.add(letter(2))
        await until(lambda: world.cluster.refused > 3)
        world.cluster.fault = None
        await until(lambda: world.cluster.events)

    run(world, scenario)
    assert messages(world) == [f"{UNREADABLE} dead letter 1: fault 1; dead letter 2: fault 2"]


def test_an_event_that_is_refused_is_logged_and_the_next_is_posted(world: World) -> None:
    async def scenario(events: MessageEvents) -> None:
        world.cluster.fault = KubeRefused("refused", "deployments is forbidden")
        events.add(letter(1))
        await until(lambda: world.cluster.refused)
        world.cluster.fault = None
        # The second Event already exists, as after a restart of the operator.
        for number in (2, 2, 3):
            events.add(letter(number))
            await until(lambda: len(world.cluster.writes) > 0)
            world.cluster.writes.clear()

    with capture_logs() as logs:
        run(world, scenario)
    assert [line["reason"] for line in logs] == ["deployments is forbidden"]
    assert [one.key for one in world.cluster.events.values()] == ["dead-letter/2", "dead-letter/3"]


def test_a_long_event_shows_only_the_first_dead_letters() -> None:
    shown = announcement(DeadLetterCause.UNKNOWN_JOB, 3, (letter(1), letter(2), letter(3)))
    assert "more" not in shown.message
