"""Tests that a long poll of the emulator returns as soon as a message arrives."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from anb_cli.emulator_guard import woken_by_messages


@pytest.fixture
def sqs() -> Any:
    """Return a fake of MiniStack's SQS module, with the two names that the guard replaces."""
    module = SimpleNamespace(esm_wake=threading.Event(), asyncio=asyncio)
    woken_by_messages(module)
    return module


@pytest.mark.timeout(20)
@pytest.mark.parametrize("thread", ["of the event loop", "another"])
def test_a_message_ends_the_pauses_of_all_long_polls(sqs: Any, thread: str) -> None:
    async def polls() -> None:
        waiting = [asyncio.create_task(sqs.asyncio.sleep(3600)) for _ in range(2)]
        await asyncio.sleep(0)
        if thread == "another":
            await asyncio.to_thread(sqs.esm_wake.set)
        else:
            sqs.esm_wake.set()
            sqs.esm_wake.set()
        await asyncio.gather(*waiting)

    asyncio.run(polls())


def test_without_a_message_a_pause_ends_after_its_time(sqs: Any) -> None:
    asyncio.run(sqs.asyncio.sleep(0.001))


def test_ministacks_own_event_is_set_too() -> None:
    told = threading.Event()
    module: Any = SimpleNamespace(esm_wake=told)
    woken_by_messages(module)

    module.esm_wake.set()

    assert told.is_set()
