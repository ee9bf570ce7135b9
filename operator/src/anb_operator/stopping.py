"""How a stop is asked for (SIGTERM, SIGINT), and how work ends early by it."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set the event at SIGINT and SIGTERM, whoever handled them before."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Do the work, or cancel it at a stop. True: there was no stop."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        stopping.cancel()
    return not stop.is_set()
