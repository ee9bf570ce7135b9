"""Following a video until nothing more happens to it: by its events, and by asking whenever these say nothing."""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from httpx_sse import ServerSentEvent

from anb_cli.errors import CliError, NotOurs, Refused, Unreachable
from anb_core.domain.backoff import backoff
from anb_core.domain.status import Status

PATIENCE = 60.0
"""Seconds for which an API that does not answer is waited for, as while it is restarted."""

SILENCE = 3.0
"""Seconds without an event after which the API is asked: there are proxies that hold events back."""

FIRST_PAUSE = timedelta(seconds=0.25)
LONGEST_PAUSE = timedelta(seconds=3)

HOPELESS = frozenset({401, 403, 404, 410})
"""Answers that asking again will not change."""


@dataclass(frozen=True, slots=True)
class Update:
    """How a video stands. `status` None: it was deleted."""

    status: Status | None
    progress: float
    error: str | None = None
    at: datetime | None = field(default=None, compare=False)
    """When it changed so."""

    @property
    def final(self) -> bool:
        """Whether nothing more will happen."""
        return self.status is None or self.status.terminal


class Source(Protocol):
    """What is needed of the API."""

    def get(self, video_id: str) -> dict[str, Any]: ...

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerSentEvent]: ...


def pause_after(breaks: int) -> float:
    """Seconds to wait after the events broke off so many times in a row without telling anything."""
    return backoff(breaks + 1, base=FIRST_PAUSE, cap=LONGEST_PAUSE, jitter=0.0, least=1.0).total_seconds()


def follow(
    api: Source,
    video_id: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    silence: float = SILENCE,
) -> Iterator[Update]:
    """Every change of a video, the last one final. Streams that break are picked up where they broke.

    After `silence` seconds without an event the API is asked: behind a proxy that holds events back, this is polling.

    Raises:
        Unreachable: nothing has answered for a minute, or what answers is no ANB Video.
        Refused: there is no such video, or the token is no good.
    """
    shown: Update | None = None
    for update in _streamed_and_polled(api, video_id, sleep, monotonic, silence):
        if update != shown:
            yield update
        shown = update
        if update.final:
            return


def _streamed_and_polled(
    api: Source, video_id: str, sleep: Callable[[float], None], monotonic: Callable[[], float], silence: float
) -> Iterator[Update]:
    last: str | None = None
    breaks, heard = 0, monotonic()
    asked: datetime | None = None
    while True:
        stream = _Stream(api, video_id, last)
        while not stream.ended:
            event = stream.next(silence)
            if event is not None:
                last, breaks, heard = event.id or last, 0, monotonic()
                # What was held back may be older than what was asked for meanwhile.
                yield from (update for update in _of_event(event) if not _older(update.at, asked))
                continue
            try:
                update = of_video(api.get(video_id))
                asked, heard = update.at, monotonic()
                yield update
            except Unreachable as error:
                if isinstance(error, NotOurs) or monotonic() - heard > PATIENCE:
                    raise
        sleep(pause_after(breaks))
        breaks += 1


class _Stream:
    """The events of a video, read by a thread of its own, so that their silence can be noticed."""

    def __init__(self, api: Source, video_id: str, last: str | None) -> None:
        self.ended = False
        self._came: queue.SimpleQueue[ServerSentEvent | CliError | None] = queue.SimpleQueue()
        # A daemon: what comes when nobody listens any more holds nothing up.
        threading.Thread(target=self._read, args=(api, video_id, last), daemon=True).start()

    def next(self, silence: float) -> ServerSentEvent | None:
        """The next event, None after so many seconds without one, or at the end.

        Raises:
            Refused: for good.
        """
        try:
            came = self._came.get(timeout=silence)
        except queue.Empty:
            return None
        if isinstance(came, Refused) and came.status in HOPELESS:
            raise came
        self.ended = not isinstance(came, ServerSentEvent)
        return came if isinstance(came, ServerSentEvent) else None

    def _read(self, api: Source, video_id: str, last: str | None) -> None:
        end: CliError | None = None
        try:
            for event in api.events(video_id, after=last):
                self._came.put(event)
        except CliError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - the connection may be closed under it, when nobody listens any more
            end = Unreachable(f"The events broke off: {type(error).__name__}.")
        finally:
            self._came.put(end)


def of_video(video: dict[str, Any]) -> Update:
    """How a video stands, as the API shows it.

    Raises:
        NotOurs: in a way that this program does not know.
    """
    update = _update(video, "updated_at")
    if update is None:
        raise NotOurs(f"The API tells of the status {video.get('status')!r}, which this version of anb doesn't know.")
    return update


def _of_event(event: ServerSentEvent) -> Iterator[Update]:
    if event.event == "deleted":
        yield Update(None, 0.0)
        return
    try:
        said = json.loads(event.data)
    except (ValueError, RecursionError):
        return
    # A newer API may tell things that this program does not know yet.
    update = _update(said, "at") if isinstance(said, dict) else None
    if update is not None:
        yield update


def _update(said: dict[str, Any], at: str) -> Update | None:
    try:
        error = said.get("error")
        return Update(
            Status(said["status"]),
            float(said.get("progress") or 0.0),
            f"{error['message']} ({error['code']})" if error else None,
            datetime.fromisoformat(said[at]) if at in said else None,
        )
    except (ValueError, KeyError, TypeError):
        return None


def _older(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one < other
