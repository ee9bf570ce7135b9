"""The keeper of an attempt. The keeper renews the lease of the attempt, and keeps the attempt's message invisible."""

from types import TracebackType
from typing import Protocol, Self

from anb_core.domain.model import Lease
from anb_core.ports.queue import Delivery
from anb_core.ports.stop import Stop


class Keeper(Protocol):
    """A context manager that renews the lease of one attempt and keeps the attempt's message invisible.

    The keeper asks the attempt's `Stop` to end the attempt if the lease is lost or may be lost.
    """

    @property
    def deadline(self) -> float:
        """Monotonic time in seconds. Before this time the lease can't expire, so no other worker can take the job."""
        ...

    def progress(self, value: float) -> None:
        """Tell the keeper the progress, from 0 to 1. The keeper writes it to the store later. Never blocks."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Keep(Protocol):
    """Function that creates a keeper. `since` is the monotonic time in seconds, read just before the claim."""

    def __call__(self, lease: Lease, delivery: Delivery, stop: Stop, since: float) -> Keeper: ...
