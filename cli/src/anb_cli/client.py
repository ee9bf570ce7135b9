"""The HTTP API as a Python object. Whatever goes wrong is raised as a CliError with a sentence."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx

from anb_cli.connection import Connection
from anb_cli.errors import CliError, Refused, Unreachable, WrongUse
from anb_cli.events import EventReader, ServerEvent

Json = dict[str, Any]

TIMEOUT = httpx.Timeout(30.0, connect=5.0)

SILENCE = 40.0
"""Seconds after which an event stream is dead: the API comments every 15."""

SEND_TRIES = 4
"""How often an upload is sent before its failure is believed. Safe because of its Idempotency-Key."""

USUAL_ID_LENGTH = len(str(uuid.UUID(int=0)))
LOOKED_THROUGH = 500
"""So many of the newest videos are looked through for the beginning of an id."""

PAGE = 100


def plan_resend(tries: int, error: CliError) -> float | None:
    """Seconds to wait before an upload that failed `tries` times is sent again, None to give up."""
    if tries >= SEND_TRIES:
        return None
    match error:
        case Unreachable():
            return float(2 ** (tries - 1))
        case Refused(code="upload_in_progress") | Refused(status=429):
            # The connection that died is still being cleaned up behind us.
            return float(2**tries)
    return None


class Api:
    """One deployment, as one token sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._http = httpx.Client(
            base_url=connection.url,
            headers={"Authorization": f"Bearer {connection.token}"},
            timeout=TIMEOUT,
            # A proxy cannot reach this machine's own loopback.
            trust_env=not is_loopback(connection.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, video_id: str) -> Json:
        """One video."""
        return self._json("GET", _path(video_id))

    def videos(self, statuses: Sequence[str] = (), *, limit: int | None = None) -> Iterator[Json]:
        """Videos, newest first, page by page; `limit` of them at most."""
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            query: Json = {"status": list(statuses), "limit": PAGE if left is None else min(PAGE, left)}
            page = self._json("GET", "/api/videos", params=query | ({"cursor": cursor} if cursor else {}))
            yield from page["videos"]
            left = None if left is None else left - len(page["videos"])
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def whole_id(self, given: str) -> str:
        """The id that begins with `given`, looked for among the newest videos; without one, `given` itself.

        Raises:
            WrongUse: several begin so.
        """
        if len(given) >= USUAL_ID_LENGTH:
            return given
        ids = [str(video["video_id"]) for video in self.videos(limit=LOOKED_THROUGH)]
        found = [video_id for video_id in ids if video_id.startswith(given)]
        if given in found or not found:
            return given
        if len(found) > 1:
            raise WrongUse(f"{len(found)} videos have an id that begins with {given!r}: give more of it.")
        return found[0]

    # --- commands -----------------------------------------------------------------------------------------------------

    def cancel(self, video_id: str) -> Json:
        """End the work on a video."""
        return self._json("POST", f"{_path(video_id)}/cancel")

    def retry(self, video_id: str) -> Json:
        """Begin the work anew."""
        return self._json("POST", f"{_path(video_id)}/retry")

    def delete(self, video_id: str) -> None:
        """Delete a video."""
        self._request("DELETE", _path(video_id))

    def upload(
        self,
        file: Path,
        *,
        title: str,
        edit: Mapping[str, Any] | None,
        on_bytes: Callable[[int], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> Json:
        """Send a file as a stream; the receipt. `on_bytes` gets how many bytes of the file have been sent so far.

        A request that got no answer is sent again, under the same Idempotency-Key.
        """
        key, tries = str(uuid.uuid4()), 0
        while True:
            try:
                return self._send(file, title, edit, key, on_bytes)
            except CliError as error:
                tries += 1
                delay = plan_resend(tries, error)
                if delay is None:
                    raise
            sleep(delay)

    def _send(
        self, file: Path, title: str, edit: Mapping[str, Any] | None, key: str, on_bytes: Callable[[int], None]
    ) -> Json:
        fields = {"title": title} | ({"edit": json.dumps(edit)} if edit else {})
        try:
            with file.open("rb") as source:
                answer = self._request(
                    "POST",
                    "/api/videos/upload",
                    data=fields,
                    files={"video_file": (file.name, _Counting(source, on_bytes), "application/octet-stream")},
                    headers={"Idempotency-Key": key},
                    # A big file on a slow disk behind the API may take its time after the last byte.
                    timeout=httpx.Timeout(300.0, connect=5.0, write=60.0),
                )
        except OSError as error:
            raise WrongUse(f"{file} can't be read: {error.strerror}.") from error
        return _object(answer)

    # --- streams ------------------------------------------------------------------------------------------------------

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerEvent]:
        """The video's events as they come, until the stream ends, from the one after the event `after` on.

        Raises:
            Unreachable: the connection broke.
            Refused: the API said no.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})
        timeout = httpx.Timeout(SILENCE, connect=5.0)
        with self._streaming("GET", f"{_path(video_id)}/events", headers=headers, timeout=timeout) as answer:
            reader = EventReader()
            for line in answer.iter_lines():
                event = reader.take(line)
                if event is not None:
                    yield event

    def download_url(self, video_id: str) -> str:
        """Where the finished video can be fetched for a while, without a token."""
        answer = self._request("GET", f"{_path(video_id)}/download")
        place = answer.headers.get("location")
        if not answer.is_redirect or not place:
            raise Unreachable(f"{self._connection.url} did not say where the video is (HTTP {answer.status_code}).")
        return str(httpx.URL(self._connection.url).join(place))

    @contextmanager
    def _streaming(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:  # noqa: ANN401 - httpx's own
        try:
            with self._http.stream(method, path, **options) as answer:
                if answer.is_error:
                    answer.read()
                    raise _refusal(answer)
                yield answer
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self._connection.url, error) from error

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            answer = self._http.request(method, path, **options)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _unreachable(self._connection.url, error) from error
        if answer.is_error:
            raise _refusal(answer)
        return answer

    def _json(self, method: str, path: str, **options: Any) -> Json:  # noqa: ANN401 - httpx's own
        return _object(self._request(method, path, **options))


class _Counting:
    """A file that tells how far it was read. httpx asks its size by `fileno`, and reads it piece by piece."""

    def __init__(self, file: Any, on_bytes: Callable[[int], None]) -> None:  # noqa: ANN401 - any binary file
        self._file = file
        self._on_bytes = on_bytes

    def fileno(self) -> int:
        return int(self._file.fileno())

    def read(self, size: int = -1) -> bytes:
        piece = bytes(self._file.read(size))
        self._on_bytes(self._file.tell())
        return piece


def _path(video_id: str) -> str:
    return f"/api/videos/{quote(video_id, safe='')}"


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _object(answer: httpx.Response) -> Json:
    try:
        said = answer.json()
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Unreachable(f"{answer.url} answered with something that is not ANB Video's: is the address right?")
    return said


def _refusal(answer: httpx.Response) -> CliError:
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict) or "code" not in problem:
        return Unreachable(
            f"HTTP {answer.status_code} from {answer.url}, which is not ANB Video's: is the address right?"
        )
    sentence = str(problem.get("detail") or problem.get("title") or problem["code"])
    if answer.is_server_error:
        return Unreachable(f"{sentence} (HTTP {answer.status_code}, {problem['code']})")
    return Refused(f"{sentence} ({problem['code']})", code=str(problem["code"]), status=answer.status_code)


def _unreachable(url: str, error: Exception) -> Unreachable:
    match error:
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return Unreachable(f"Nothing answers at {url}: is it running? `anb up` starts a stack on this machine.")
        case httpx.TimeoutException():
            return Unreachable(f"{url} took too long to answer.")
    return Unreachable(f"The connection to {url} broke: {str(error) or type(error).__name__}.")
