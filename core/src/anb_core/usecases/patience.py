"""Patience: try until it works, or until trying again is pointless."""

import math
from collections.abc import Callable, Iterable
from datetime import timedelta
from itertools import repeat
from typing import TypeVar

import structlog

from anb_core.domain.errors import Unavailable
from anb_core.ports.runtime import Runtime

PAUSE = timedelta(seconds=1)
"""Between two tries of something that is away."""

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
    """Call until it answers. What it raised last passes through once another try is not allowed.

    Another try is allowed when the error is `worthwhile`, the runtime's monotonic clock is before `until`, and a pause
    is left. It is logged as `sentence`, with `about`. `check` is called after each pause and ends the trying by
    raising. `pauses` are in seconds. Errors other than Unavailable pass at once.
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
