"""Handles the stop signals (SIGTERM, SIGINT), and cancels work after a stop signal."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def stop_on_signals(stop: asyncio.Event) -> None:
    """Set the event `stop` on SIGINT and SIGTERM. Replaces earlier signal handlers."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


async def unless_stopped(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run `work`, and cancel `work` when `stop` is set. Returns True if `work` ended without a stop."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        working.cancel()
        stopping.cancel()
    return not stop.is_set()
