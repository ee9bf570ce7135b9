"""Trying again, by stamina."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stamina import Attempt


def attempts(
    on: type[Exception] | Callable[[Exception], float | bool], *, most: int | None = None
) -> "Iterable[Attempt]":
    """Attempts to enter one after the other until one succeeds, at most `most`. The last error is raised.

    `on` is the error that is worth another attempt, after 1 s, 2 s, 4 s and so on. Or it is a function that returns the
    seconds to wait after an error, or False to raise it.
    """
    # The import takes a third of the time of a short command.
    import stamina  # noqa: PLC0415

    # The bars show each wait. The library's own report would be in the output of the command.
    stamina.instrumentation.set_on_retry_hooks(())
    # No `timeout`: it would count the time that an upload took before it broke off, too.
    return stamina.retry_context(on, attempts=most, timeout=None, wait_initial=1.0, wait_max=60.0, wait_jitter=0.0)
