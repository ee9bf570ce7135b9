"""Retries with backoff, based on the library stamina."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stamina import Attempt


def attempts(
    on: type[Exception] | Callable[[Exception], float | bool], *, most: int | None = None
) -> "Iterable[Attempt]":
    """Yield one context manager per try, until a try succeeds. After `most` failed tries, raise the last error.

    If `on` is an exception class, an attempt that raises this exception is repeated after 1 s, then 2 s, 4 s and so on.
    If `on` is a function, it is called with the exception. It returns the seconds to wait, or False for no retry.
    """
    # Import stamina only when needed, because the import takes a third of the time of a short command.
    import stamina  # noqa: PLC0415

    # Turn off stamina's log lines, because they would disturb the command's output.
    stamina.instrumentation.set_on_retry_hooks(())
    # Do not set stamina's `timeout`, because the timeout would include the time of the upload itself.
    return stamina.retry_context(on, attempts=most, timeout=None, wait_initial=1.0, wait_max=60.0, wait_jitter=0.0)
