"""Parses the API's server-sent events."""

from collections.abc import Iterator

import httpx
from httpx_sse import EventSource, ServerSentEvent


def events_of(response: httpx.Response) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream until the stream ends. An event without an id has the id of the event before it.

    Raises:
        httpx.TransportError: the connection broke, or the response is not an event stream.
    """
    # After the first id, the library also yields an empty event for the empty line after a comment.
    return (event for event in EventSource(response).iter_sse() if event.data)
