"""How an attempt's claim on its job is kept while the attempt runs."""

from types import TracebackType
from typing import Protocol, Self

from anb_core.domain.model import Lease
from anb_core.ports.queue import Delivery
from anb_core.ports.stop import Stop


class Keeper(Protocol):
    """Keeps one attempt's lease and message while its block runs; asks its `Stop` when the lease is or may be lost."""

    @property
    def deadline(self) -> float:
        """Until when, on the monotonic clock, nobody else can have taken the lease."""
        ...

    def progress(self, value: float) -> None:
        """Note progress, 0 to 1; it is written by and by. Never waits."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Keep(Protocol):
    """Makes a keeper. `since` is the monotonic time just before the claim was sent."""

    def __call__(self, lease: Lease, delivery: Delivery, stop: Stop, since: float) -> Keeper: ...
