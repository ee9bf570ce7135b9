"""Posts Kubernetes Events about messages that belong to no video. The Events are about the operator's Deployment."""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from anb_core.domain.dead_letters import DeadLetter
from anb_core.domain.errors import Unavailable
from anb_core.domain.model import DeadLetterCause
from anb_operator.kube import Deployments, Existing, KubeRefused
from anb_operator.mirror import Announcement

PAUSE_SECONDS = 60.0
"""Minimum time between two Events with the same cause, in seconds. A faulty program may send many bad messages."""

MOST_SHOWN = 3
"""Maximum number of dead letters that one Event describes. If there are more, the Event says how many."""

TEXTS: Mapping[DeadLetterCause, tuple[str, str]] = {
    DeadLetterCause.UNKNOWN_JOB: ("UnknownJob", "of unknown videos"),
    DeadLetterCause.UNREADABLE: ("UnreadableMessage", "that nobody can read"),
}
"""The Event's reason and a description of the messages, for each cause of a dead letter without a video."""

_log = structlog.get_logger(__name__)


class MessageEvents:
    """Posts at most one Event a minute for each cause. An Event covers all messages since the previous Event."""

    def __init__(self, deployments: Deployments, name: str) -> None:
        """Prepare Events about the Deployment `name`. Must be called in the event loop in which `run` will run."""
        self._deployments = deployments
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        # Maps each cause to the dead letters that no Event covers yet: their number, and the first MOST_SHOWN of them.
        self._waiting: dict[DeadLetterCause, tuple[int, tuple[DeadLetter, ...]]] = {}

    def add(self, letter: DeadLetter) -> None:
        """Add a new dead letter without a video to the next Event, and ignore others. Any thread may call this method.

        The call does not block.
        """
        if letter.video_id is None and letter.cause in TEXTS:
            self._loop.call_soon_threadsafe(self._wait, letter.cause, 1, (letter,))

    async def run(self) -> None:
        """Post the Events, until cancelled."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            waiting, self._waiting = self._waiting, {}
            for cause, (count, first) in waiting.items():
                await self._post(cause, count, first)
            await asyncio.sleep(PAUSE_SECONDS)

    def _wait(self, cause: DeadLetterCause, count: int, first: tuple[DeadLetter, ...]) -> None:
        before, shown = self._waiting.get(cause, (0, ()))
        self._waiting[cause] = (before + count, (*shown, *first)[:MOST_SHOWN])
        self._woken.set()

    async def _post(self, cause: DeadLetterCause, count: int, first: tuple[DeadLetter, ...]) -> None:
        try:
            await self._deployments.post_deployment_event(self._name, announcement(cause, count, first))
        except Existing:
            return
        except KubeRefused as error:
            _log.warning("event not posted", deployment=self._name, reason=error.message)
        except Unavailable as error:
            _log.warning("event not posted yet", deployment=self._name, reason=error.message)
            self._wait(cause, count, first)


def announcement(cause: DeadLetterCause, count: int, first: Sequence[DeadLetter]) -> Announcement:
    """Return an Event about `count` new dead letters of one cause. Only the dead letters in `first` are described."""
    reason, what = TEXTS[cause]
    shown = "; ".join(f"dead letter {letter.id}: {letter.detail}" for letter in first)
    more = f"; and {count - len(first)} more" if count > len(first) else ""
    message = f"Messages {what} arrived: {shown}{more}"
    return Announcement(f"dead-letter/{first[0].id}", reason, message, warning=True)
