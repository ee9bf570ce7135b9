"""Following a video until nothing more happens to it: by its events, and by asking whenever those break off."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from anb_cli.errors import Refused, Unreachable
from anb_cli.events import ServerEvent
from anb_core.domain.status import Status

PATIENCE = 60.0
"""Seconds for which an API that does not answer is waited for, as while it is restarted."""

LONGEST_PAUSE = 5.0

HOPELESS = frozenset({401, 403, 404, 410})
"""Answers that asking again will not change."""


@dataclass(frozen=True, slots=True)
class Update:
    """How a video stands. `status` None: it was deleted."""

    status: Status | None
    progress: float
    error: str | None = None

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.status is None or self.status.terminal


class Source(Protocol):
    """What is needed of the API."""

    def get(self, video_id: str) -> dict[str, Any]: ...

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerEvent]: ...


def pause_after(breaks: int) -> float:
    """Seconds to wait after the events broke off so many times in a row without telling anything."""
    return min(LONGEST_PAUSE, 0.25 * 2.0 ** min(breaks, 10))


def follow(
    api: Source,
    video_id: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Iterator[Update]:
    """Every change of a video, the last one final. Streams that break are picked up where they broke.

    Where no events come through at all (a proxy that withholds them), this is polling.

    Raises:
        Unreachable: nothing has answered for a minute.
        Refused: there is no such video, or the token is no good.
    """
    told: Update | None = None
    for update in _told_and_asked(api, video_id, sleep, monotonic):
        if update != told:
            yield update
        told = update
        if update.final:
            return


def _told_and_asked(
    api: Source, video_id: str, sleep: Callable[[float], None], monotonic: Callable[[], float]
) -> Iterator[Update]:
    last: str | None = None
    breaks, heard = 0, monotonic()
    while True:
        try:
            for event in api.events(video_id, after=last):
                last, breaks, heard = event.id or last, 0, monotonic()
                yield from _of_event(event)
        except Unreachable:
            pass
        except Refused as refusal:
            if refusal.status in HOPELESS:
                raise
        try:
            yield of_video(api.get(video_id))
            heard = monotonic()
        except Unreachable:
            if monotonic() - heard > PATIENCE:
                raise
        sleep(pause_after(breaks))
        breaks += 1


def of_video(video: dict[str, Any]) -> Update:
    """How a video stands, as the API shows it."""
    return _update(video)


def _of_event(event: ServerEvent) -> Iterator[Update]:
    if event.name == "deleted":
        yield Update(None, 0.0)
        return
    # A newer API may tell things that this program does not know yet.
    with contextlib.suppress(ValueError, KeyError, TypeError):
        yield _update(json.loads(event.data))


def _update(said: dict[str, Any]) -> Update:
    error = said.get("error")
    return Update(
        Status(said["status"]),
        float(said.get("progress") or 0.0),
        f"{error['message']} ({error['code']})" if error else None,
    )
