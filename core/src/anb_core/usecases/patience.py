"""Retry a call while a dependency (database, bucket or queue) does not answer."""

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import repeat
from typing import TypeVar

import structlog

from anb_core.domain.errors import Unavailable
from anb_core.ports.runtime import Runtime

PAUSE = timedelta(seconds=1)
"""Default pause between two tries of a call."""

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")


def patiently(
    call: Callable[[], _T],
    runtime: Runtime,
    sentence: str,
    *,
    worthwhile: Callable[[Unavailable], bool] = lambda _: True,
    until: float = math.inf,
    pauses: Iterable[float] = repeat(PAUSE.total_seconds()),
    check: Callable[[], None] = lambda: None,
    **about: object,
) -> _T:
    """Call the function `call` and return its result. Repeat the call if it raises Unavailable.

    The call is repeated only if three conditions are met:
    `worthwhile` returns True for the error, the monotonic time `until` has not come, and `pauses` has another entry.
    If a condition is not met, Unavailable is raised. Any other error of `call` is raised at once.
    Before each pause, `sentence` is logged with the fields `about`.
    After each pause, `check` is called, which may raise an error. `until` and `pauses` are in seconds.
    """
    for pause in pauses:
        try:
            return call()
        except Unavailable as error:
            if runtime.monotonic() >= until or not worthwhile(error):
                raise
            _log.warning(sentence, reason=error.message, **about)
        runtime.sleep(pause)
        check()
    return call()
