"""Follows a video until its status is final. Reads the event stream, and polls the API while the stream is silent."""

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
"""Seconds without a response of the API after which `follow` fails. This is enough for a restart of the API."""

SILENCE = 3.0
"""Seconds without an event after which `follow` polls the API, because some proxies buffer event streams."""

FIRST_PAUSE = timedelta(seconds=0.25)
LONGEST_PAUSE = timedelta(seconds=3)

HOPELESS = frozenset({401, 403, 404, 410})
"""HTTP statuses of errors for which a retry does not help."""


@dataclass(frozen=True, slots=True)
class Update:
    """The state of a video at one moment."""

    status: Status | None
    """The status of the video, or None if the video was deleted."""
    progress: float
    """Fraction of the job that is done, from 0 to 1."""
    error: str | None = None
    """Message and code of the video's error, or None."""
    at: datetime | None = field(default=None, compare=False)
    """Time of the change to this state, or None if unknown."""

    @property
    def final(self) -> bool:
        """Whether the job has ended: its status is terminal, or the video was deleted."""
        return self.status is None or self.status.terminal


class Source(Protocol):
    """The methods of the API client that `follow` needs."""

    def get(self, video_id: str) -> dict[str, Any]: ...

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerSentEvent]: ...


def pause_after(breaks: int) -> float:
    """Return the seconds to wait before the next stream. The last `breaks` streams had no event."""
    return backoff(breaks + 1, base=FIRST_PAUSE, cap=LONGEST_PAUSE, jitter=0.0, least=1.0).total_seconds()


def follow(
    api: Source,
    video_id: str,
    *,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
    silence: float = SILENCE,
) -> Iterator[Update]:
    """Yield every change of a video until the status is final. A new stream continues after the last received event.

    After `silence` seconds without an event, `follow` polls the API, because a proxy may buffer the events.

    Raises:
        Unreachable: the API has not responded for a minute, or the server is not ANB Video.
        Refused: the video does not exist, or the token is not valid.
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
    last_id: str | None = None
    breaks, last_response = 0, monotonic()
    polled_state_at: datetime | None = None
    while True:
        stream = _Stream(api, video_id, last_id)
        while not stream.ended:
            event = stream.next(silence)
            if event is not None:
                last_id, breaks, last_response = event.id or last_id, 0, monotonic()
                # Skip an event that is older than the last polled state, because a proxy may delay events.
                yield from (update for update in _of_event(event) if not _older(update.at, polled_state_at))
                continue
            try:
                update = of_video(api.get(video_id))
                polled_state_at, last_response = update.at, monotonic()
                yield update
            except Unreachable as error:
                if isinstance(error, NotOurs) or monotonic() - last_response > PATIENCE:
                    raise
        sleep(pause_after(breaks))
        breaks += 1


class _Stream:
    """The event stream of a video. A thread reads the stream, so that the caller can wait with a timeout."""

    def __init__(self, api: Source, video_id: str, last_id: str | None) -> None:
        self.ended = False
        self._received: queue.SimpleQueue[ServerSentEvent | CliError | None] = queue.SimpleQueue()
        # Use a daemon thread, so that an open stream does not keep the process alive.
        threading.Thread(target=self._read, args=(api, video_id, last_id), daemon=True).start()

    def next(self, silence: float) -> ServerSentEvent | None:
        """Return the next event, or None if the stream ends or no event arrives within `silence` seconds.

        Raises:
            Refused: the API refused the stream, and a retry would not help.
        """
        try:
            item = self._received.get(timeout=silence)
        except queue.Empty:
            return None
        if isinstance(item, Refused) and item.status in HOPELESS:
            raise item
        self.ended = not isinstance(item, ServerSentEvent)
        return item if isinstance(item, ServerSentEvent) else None

    def _read(self, api: Source, video_id: str, last_id: str | None) -> None:
        end: CliError | None = None
        try:
            for event in api.events(video_id, after=last_id):
                self._received.put(event)
        except CliError as error:
            end = error
        except Exception as error:  # noqa: BLE001 - the caller may close the connection while this thread reads
            end = Unreachable(f"The event stream broke: {type(error).__name__}.")
        finally:
            self._received.put(end)


def of_video(video: dict[str, Any]) -> Update:
    """Return the state of a video from the API's JSON object.

    Raises:
        NotOurs: this version of `anb` does not know the status, or a field is malformed.
    """
    update = _update(video, "updated_at")
    if update is None:
        raise NotOurs(f"The video has the status {video.get('status')!r}, which this version of anb does not know.")
    return update


def _of_event(event: ServerSentEvent) -> Iterator[Update]:
    if event.event == "deleted":
        yield Update(None, 0.0)
        return
    try:
        data = json.loads(event.data)
    except (ValueError, RecursionError):
        return
    # Ignore an event with an unknown status, which only newer versions of the API send.
    update = _update(data, "at") if isinstance(data, dict) else None
    if update is not None:
        yield update


def _update(data: dict[str, Any], time_field: str) -> Update | None:
    try:
        error = data.get("error")
        return Update(
            Status(data["status"]),
            float(data.get("progress") or 0.0),
            f"{error['message']} ({error['code']})" if error else None,
            datetime.fromisoformat(data[time_field]) if time_field in data else None,
        )
    except (ValueError, KeyError, TypeError):
        return None


def _older(one: datetime | None, other: datetime | None) -> bool:
    return one is not None and other is not None and one < other
