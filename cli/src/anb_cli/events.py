"""Server-sent events of the API."""

from collections.abc import Iterator

import httpx
from httpx_sse import EventSource, ServerSentEvent


def events_of(answer: httpx.Response) -> Iterator[ServerSentEvent]:
    """The events of a stream as they come, until it ends. `id` is the last one that was sent, "" if none was.

    Raises:
        httpx.TransportError: the connection broke, or the answer is no stream of events.
    """
    # Once it knows an id, the library takes every empty line for an event, also the one after a comment.
    return (event for event in EventSource(answer).iter_sse() if event.data)
