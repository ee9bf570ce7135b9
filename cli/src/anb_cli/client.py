"""The HTTP client of the API. Every failure is raised as a CliError with a message for the user."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlsplit
from urllib.request import getproxies

import httpx
from httpx_sse import ServerSentEvent

from anb_cli.answers import Json, object_of, page_of, read, receipt_of, refusal_of, unreachable, video_of
from anb_cli.connection import Connection
from anb_cli.dead_letter_answers import (
    adoption_report_of,
    broker_overview_of,
    dead_letter_detail_of,
    dead_letter_of,
    dead_letter_page_of,
    explanation_of,
    reconciliation_report_of,
    redrive_report_of,
)
from anb_cli.errors import NotOurs, Refused, Unreachable, WrongUse
from anb_cli.events import events_of
from anb_cli.retrying import attempts
from anb_cli.sources import Source
from anb_core.domain.backoff import backoff

TIMEOUT = httpx.Timeout(30.0, connect=5.0)

BROKERS_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
"""Timeout of the request for the state of the queues. The API may wait about 20 seconds for each of two queues."""

BULK_TIMEOUT = httpx.Timeout(300.0, connect=5.0)
"""Timeout of a request to adopt objects. The API reads 100 objects from the bucket, which may be slow."""

SILENCE = 40.0
"""Seconds without a byte after which an event stream counts as broken. The API sends a comment every 15 seconds."""

LONGEST_PAUSE = timedelta(seconds=8)
PATIENCE_AT_FIRST = 7.0
"""Maximum sum of the pauses between the tries of an upload, in seconds, if no byte of the file was sent yet."""
PATIENCE = 60.0
"""Maximum sum of the pauses, in seconds, if some bytes were sent. A laptop changes its network in less time."""
PATIENCE_WHILE_HELD = 150.0
"""Maximum sum of the pauses, in seconds, while the API still serves an earlier, broken request of the same upload.

The API detects a broken connection within one minute.
"""
PATIENCE_WITH_BACKLOG = 3600.0
"""Maximum sum of the pauses, in seconds, while too many videos are unfinished. Workers have to process some first."""

PAGE = 100
"""Maximum number of videos or dead letters on one page of a list."""


def plan_resend(tries: int, waited: float, error: Exception, *, begun: bool) -> float | None:
    """Return the seconds to wait before the client sends the upload again, or None if the client must give up.

    `tries` is the number of failed tries, and `error` is the last error. `waited` is the total wait so far in seconds.
    `begun` is true if any byte of the file was sent. The Idempotency-Key makes it safe to send the upload again.
    """
    match error:
        case NotOurs():
            return None
        case Unreachable():
            first, patience = timedelta(seconds=1), PATIENCE if begun else PATIENCE_AT_FIRST
        case Refused(code="quota_exceeded"):
            # A wait does not help, because somebody has to delete videos first.
            return None
        case Refused(code="backlog_full"):
            first, patience = timedelta(seconds=2), PATIENCE_WITH_BACKLOG
        case Refused(code="upload_in_progress") | Refused(status=429):
            first, patience = timedelta(seconds=2), PATIENCE_WHILE_HELD
        case _:
            return None
    growing = backoff(tries, base=first, cap=LONGEST_PAUSE, jitter=0.0, least=1.0).total_seconds()
    pause = growing if error.retry_after is None else max(1.0, error.retry_after)
    return pause if waited + pause <= patience else None


class _Patience:
    """Decides after each failed try of a request how long the client waits before it sends the request again."""

    def __init__(self, on_wait: Callable[[float, Exception], None], *, begun: Callable[[], bool]) -> None:
        self._on_wait = on_wait
        self._begun = begun
        self._tries = 0
        self._waited = 0.0

    def __call__(self, error: Exception) -> float | bool:
        """Return the seconds to wait, or False if the client must give up."""
        self._tries += 1
        seconds = plan_resend(self._tries, self._waited, error, begun=self._begun())
        if seconds is None:
            return False
        self._on_wait(seconds, error)
        self._waited += seconds
        return seconds


def http_client(url: str, **options: Any) -> httpx.Client:  # noqa: ANN401 - httpx's own options
    """Return an HTTP client for the URL, with the proxies and certificates that the environment variables name.

    Raises:
        WrongUse: the proxies or certificates can't be used.
    """
    loopback = is_loopback(url)
    try:
        # For a loopback address, use no proxy. Load certificates only for HTTPS, because loading certificates is slow.
        return httpx.Client(trust_env=not loopback, verify=not loopback or urlsplit(url).scheme == "https", **options)
    except (ImportError, ValueError, OSError, httpx.InvalidURL) as error:
        for kind, proxy in getproxies().items():
            scheme, colon, _ = proxy.partition("://")
            if kind in {"http", "https", "all"} and colon and scheme.lower() not in {"http", "https"}:
                raise WrongUse(
                    f"{kind.upper()}_PROXY names a proxy of the kind {scheme!r}, but anb knows only http and https."
                ) from error
        raise WrongUse(
            "The environment's proxies or certificates can't be used: look at ALL_PROXY, HTTP_PROXY, HTTPS_PROXY, "
            "NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR."
        ) from error


class Api:
    """A client for the API of one deployment, with one token."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        headers = {"Authorization": f"Bearer {connection.token}"}
        self._http = http_client(connection.url, base_url=connection.url, headers=headers, timeout=TIMEOUT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # --- reading ------------------------------------------------------------------------------------------------------

    def get(self, video_id: str) -> Json:
        """Return one video."""
        return video_of(self._json("GET", _path(video_id)))

    def videos(self, statuses: Sequence[str] = (), *, limit: int | None = None) -> Iterator[Json]:
        """Yield at most `limit` videos, newest first. Fetch the next page only when the caller needs its videos."""
        return self._pages("/api/videos", {"status": list(statuses)}, page_of, limit)

    def why(self, video_id: str) -> Json:
        """Return sentences that say where a video is and what it waits for."""
        return explanation_of(self._json("GET", f"{_path(video_id)}/why"))

    def dead_letters(self, conditions: Mapping[str, Any], *, limit: int) -> Iterator[Json]:
        """Yield at most `limit` dead letters that meet all conditions, newest first. Fetches pages as `videos` does."""
        return self._pages("/api/dead-letters", conditions, dead_letter_page_of, limit)

    def dead_letter(self, dead_letter_id: int) -> Json:
        """Return one dead letter with its body and attempts."""
        return dead_letter_detail_of(self._json("GET", f"/api/dead-letters/{dead_letter_id}"))

    def brokers(self) -> Json:
        """Return the state of all queues."""
        return broker_overview_of(self._json("GET", "/api/brokers", timeout=BROKERS_TIMEOUT))

    # --- commands -----------------------------------------------------------------------------------------------------

    def cancel(self, video_id: str) -> Json:
        """Cancel the job of a video. Returns the video."""
        return video_of(self._json("POST", f"{_path(video_id)}/cancel"))

    def retry(self, video_id: str) -> Json:
        """Start the job of a video again. Returns the video."""
        return video_of(self._json("POST", f"{_path(video_id)}/retry"))

    def delete(self, video_id: str) -> None:
        """Delete a video."""
        self._request("DELETE", _path(video_id))

    def redrive(self, dead_letter_id: int) -> Json:
        """Retry the job of a dead letter. Returns the video."""
        return video_of(self._json("POST", f"/api/dead-letters/{dead_letter_id}/redrive"))

    def redrive_many(self, order: Mapping[str, Any]) -> Json:
        """Retry the jobs of the dead letters that `order` selects. Returns the API's report."""
        return redrive_report_of(self._json("POST", "/api/dead-letters/redrive", json=order))

    def discard(self, dead_letter_id: int, reason: str) -> Json:
        """Resolve a dead letter without a retry. Returns the dead letter."""
        path = f"/api/dead-letters/{dead_letter_id}/discard"
        return dead_letter_of(self._json("POST", path, json={"reason": reason}))

    def adopt(self, order: Mapping[str, Any], *, on_wait: Callable[[float, Exception], None]) -> Json:
        """Adopt the next objects that `order` selects. Returns the API's report.

        If the request gets no response, or too many videos are unfinished, the client sends the request again.
        `on_wait(seconds, error)` is called before each wait.
        """
        return adoption_report_of(self._repeat("/api/adoptions", order, on_wait))

    def reconcile(self, order: Mapping[str, Any], *, on_wait: Callable[[float, Exception], None]) -> Json:
        """Reconcile the next objects or videos with the database. Returns the API's report. Repeats like `adopt`."""
        return reconciliation_report_of(self._repeat("/api/reconciliations", order, on_wait))

    def _repeat(self, path: str, order: Mapping[str, Any], on_wait: Callable[[float, Exception], None]) -> object:
        for attempt in attempts(_Patience(on_wait, begun=lambda: True)):
            with attempt:
                return self._json("POST", path, json=order, timeout=BULK_TIMEOUT)
        raise AssertionError("the last attempt returns or raises")

    def upload(
        self,
        source: Source,
        *,
        title: str,
        edit: Mapping[str, Any] | None,
        process_after: str | None = None,
        on_bytes: Callable[[int], None],
        on_wait: Callable[[float, Exception], None] = lambda _seconds, _error: None,
    ) -> Json:
        """Upload a file as a stream and return the API's receipt.

        If a request gets no response, the client sends the request again with the same Idempotency-Key.
        `on_bytes(sent)` is called with the number of bytes of the file that the current request has sent.
        `on_wait(seconds, error)` is called before each wait.
        """
        key, most = str(uuid.uuid4()), 0
        given = {"title": title, "edit": json.dumps(edit) if edit else None, "process_after": process_after}
        fields = {name: value for name, value in given.items() if value is not None}

        def count(sent: int) -> None:
            nonlocal most
            most = max(most, sent)
            on_bytes(sent)

        for attempt in attempts(_Patience(on_wait, begun=lambda: most > 0)):
            with attempt:
                return self._send(source, fields, key, count)
        raise AssertionError("the last attempt returns or raises")

    def _send(self, source: Source, fields: Mapping[str, str], key: str, on_bytes: Callable[[int], None]) -> Json:
        receipt = self._json(
            "POST",
            "/api/videos/upload",
            data=fields,
            files={"video_file": (source.name, source.reader(on_bytes), "application/octet-stream")},
            headers={"Idempotency-Key": key},
            # Use a long timeout, because the API may need minutes to store a big file on a slow disk.
            timeout=httpx.Timeout(300.0, connect=5.0, write=60.0),
        )
        return receipt_of(receipt)

    # --- streams ------------------------------------------------------------------------------------------------------

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerSentEvent]:
        """Yield the video's events until the stream ends. `after` is the id of the last received event, or None.

        Raises:
            Unreachable: the connection broke.
            Refused: the API refused the request.
        """
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": after} if after is not None else {})
        timeout = httpx.Timeout(SILENCE, connect=5.0)
        with self._stream("GET", f"{_path(video_id)}/events", headers=headers, timeout=timeout) as response:
            yield from events_of(response)

    def download_url(self, video_id: str) -> str:
        """Return a presigned URL of the finished video. The URL needs no token, and expires."""
        response = self._request("GET", f"{_path(video_id)}/download")
        try:
            if response.has_redirect_location:
                return str(httpx.URL(self._connection.url).join(response.headers["location"]))
        except (httpx.InvalidURL, ValueError):
            pass
        raise NotOurs(f"{self._connection.url} did not say where the video is (HTTP {response.status_code}).")

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:  # noqa: ANN401 - httpx's own options
        try:
            with self._http.stream(method, path, **options) as response:
                if response.is_error:
                    raise refusal_of(read(response))
                yield response
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise unreachable(self._connection.url, error) from error

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own options
        with self._stream(method, path, **options) as response:
            return read(response)

    def _pages(
        self,
        path: str,
        conditions: Mapping[str, Any],
        read_page: Callable[[Json], tuple[list[Json], str | None]],
        limit: int | None,
    ) -> Iterator[Json]:
        cursor: str | None = None
        left = limit
        while left is None or left > 0:
            query: Json = {**conditions, "limit": PAGE if left is None else min(PAGE, left)}
            items, cursor = read_page(self._json("GET", path, params=query | ({"cursor": cursor} if cursor else {})))
            yield from items
            left = None if left is None else left - len(items)
            if cursor is None:
                return

    def _json(self, method: str, path: str, **options: Any) -> Json:  # noqa: ANN401 - httpx's own options
        return object_of(self._request(method, path, **options))


def _path(video_id: str) -> str:
    return f"/api/videos/{quote(video_id, safe='')}"


def may_have_arrived(error: BaseException) -> bool:
    """Whether the API may have got the request that ended with `error`, and may have done a part of the work."""
    never_sent = isinstance(error.__cause__, httpx.ConnectError | httpx.ConnectTimeout)
    return isinstance(error, KeyboardInterrupt | Unreachable) and not never_sent


def is_loopback(url: str) -> bool:
    """Whether the host of the URL is this machine's loopback address."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
