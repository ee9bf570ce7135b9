"""Short texts about arguments and answers of calls, for the story of a run. They are the same in each replay."""

from collections.abc import Callable, Mapping
from typing import Any

from anb_core.domain.model import Deletion, Lease, NewVideo, Record, Result
from anb_core.domain.retry import Settlement
from anb_core.ports.objects import StoredObject
from anb_core.ports.queue import Delivery, Depth, Outgoing
from anb_core.ports.store import Claimed, Dropped, OutboxEntry

_TEXTS: Mapping[type, Callable[[Any], str]] = {
    bytes: lambda one: f"{len(one)} bytes",
    Claimed: lambda one: f"claimed: {brief(one.lease)}",
    Dropped: lambda one: f"dropped: {one.reason}",
    Lease: lambda one: f"{one.attempt_id} of {one.video_id}, fence {one.fence}, generation {one.generation}",
    Record: lambda one: f"{one.video.id} is {one.job.status}, fence {one.job.fence}, generation {one.job.generation}",
    NewVideo: lambda one: one.id,
    Result: lambda one: one.key,
    StoredObject: lambda one: one.key,
    Deletion: lambda one: one.key,
    Settlement: lambda one: f"{one.ending}, {one.change or f'again in {one.delay}'}",
    OutboxEntry: lambda one: f"entry {one.id} of {one.video_id}",
    Outgoing: lambda one: f"message of {one.group}",
    Delivery: lambda one: one.message_id,
    Depth: lambda one: f"{one.visible} visible, {one.in_flight} in flight, {one.delayed} delayed",
}


def brief(value: object) -> str:
    """Return a short text about a value. Empty for None and for empty collections."""
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(map(brief, value))
    if type(value) in _TEXTS:
        return _TEXTS[type(value)](value)
    if value is None:
        return ""
    # Not the text of any other object, because it may have an address in memory.
    return str(value) if isinstance(value, bool | int | float | str) else type(value).__name__
