"""Parses the API's server-sent events."""

from collections.abc import Iterator

import httpx
from httpx_sse import EventSource, ServerSentEvent


def events_of(response: httpx.Response) -> Iterator[ServerSentEvent]:
    """Yield the events of a stream until the stream ends. An event without an id gets the id of the previous event.

    Raises:
        httpx.TransportError: the connection broke, or the response is not an event stream.
    """
    # Skip empty events, which httpx_sse yields after comments.
    return (event for event in EventSource(response).iter_sse() if event.data)
