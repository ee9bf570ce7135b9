"""Retries with backoff, based on the library stamina."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stamina import Attempt


def attempts(
    on: type[Exception] | Callable[[Exception], float | bool], *, most: int | None = None
) -> "Iterable[Attempt]":
    """Yield context managers, one per attempt, until an attempt succeeds. After `most` attempts the error is raised.

    `on` is an exception class or a function. An exception class is retried with waits of 1 s, 2 s, 4 s and so on.
    A function takes the exception and returns the seconds to wait, or False to raise the exception.
    """
    # stamina is imported only when needed, because the import takes a third of a short command's time.
    import stamina  # noqa: PLC0415

    # The progress bars show each wait. The library's own log lines would disturb the command's output.
    stamina.instrumentation.set_on_retry_hooks(())
    # stamina's `timeout` is not used, because it would also include the time of the upload itself.
    return stamina.retry_context(on, attempts=most, timeout=None, wait_initial=1.0, wait_max=60.0, wait_jitter=0.0)
