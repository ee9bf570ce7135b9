"""Bulk adoption: make videos from objects that were in the bucket before, a part of the bucket's list at a time."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from anb_core.domain.adoption import KnownSource, NotTaken, adopted_id, advised, why_not_taken
from anb_core.domain.errors import LimitReached, Refused, TooLarge, Withheld
from anb_core.domain.limits import Limits, halved
from anb_core.ports.objects import Objects, Peeked
from anb_core.ports.store import Uploads
from anb_core.usecases.submit import Submit
from anb_core.usecases.visibility import Caller, check_operator

PAGE = 1000
"""Maximum number of objects that one call examines. S3 lists at most this many at once."""

MAX_ADOPTIONS = 100
"""Maximum number of objects that one call reads from the bucket, and so of the objects that it adopts."""

A = TypeVar("A")
B = TypeVar("B")

_log = structlog.get_logger(__name__)


class Map(Protocol):
    """A function that works like the built-in `map`, but may call `function` in several threads."""

    def __call__(self, function: Callable[[A], B], values: Iterable[A], /) -> Iterator[B]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Which objects are adopted, and for whom."""

    prefix: str
    owner: str
    after: str | None = None
    """Key of the last object that earlier calls examined. None for the first call."""
    cap: int = MAX_ADOPTIONS
    """Maximum number of objects that are adopted, at most MAX_ADOPTIONS."""
    dry_run: bool = False


@dataclass(slots=True)
class AdoptionReport:
    """The outcome of one call of `AdoptMany`."""

    adopted: dict[str, str] = field(default_factory=dict)
    """The id of the video for the key of each object that was adopted, or that a dry run would adopt."""
    ignored: list[NotTaken] = field(default_factory=list)
    """Objects that need no adoption, such as those that are videos already, or are no videos."""
    refused: list[NotTaken] = field(default_factory=list)
    """Objects that a person may want to be adopted, but that can't be: too large, or withheld by the bucket."""
    after: str | None = None
    """Key after which the next call has to begin. None if the whole list was examined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptMany:
    """Adopts the objects under a prefix. A repeated adoption of the same object changes nothing.

    Adopted videos may use half of the limits for unfinished videos, so that there is always room for uploads.
    """

    store: Uploads
    objects: Objects
    submit: Submit
    limits: Limits

    def __call__(self, caller: Caller, order: Order, *, each: Map) -> AdoptionReport:
        """Examine the next objects of the bucket's list, and adopt those that are videos. A dry run changes nothing.

        The objects are read through `each`. An `each` with several threads saves time.
        If the database or the bucket stops answering, an error is raised, and the caller may repeat the call.
        The objects that were adopted before the error stay adopted. The same is true for a limit, but if any object
        was examined before, the report ends there, and the next call raises the error.

        Raises:
            Forbidden: `scope_missing` if the caller's token does not have the scope `ops`.
            Invalid: `key_not_allowed` if objects with the prefix may not be submitted.
            LimitReached: `backlog_full` or `quota_exceeded`.
        """
        check_operator(caller, "Adoptions")
        self.submit.check_prefix(order.prefix)
        listed = self.objects.listing(order.prefix, after=order.after, limit=PAGE)
        known = self._known([one.key for one in listed])
        verdicts = {one.key: why_not_taken(one.key, one.size, known[one.key]) for one in listed}
        to_read = [key for key, verdict in verdicts.items() if verdict is None][:MAX_ADOPTIONS]
        findings = dict(zip(to_read, each(self._examine, to_read), strict=True))
        report = AdoptionReport(after=order.after)
        for key, verdict in verdicts.items():
            finding = verdict or findings.get(key)
            if finding is None or len(report.adopted) == order.cap:
                break
            try:
                self._handle(key, finding, order, report)
            except LimitReached as error:
                if report.after == order.after:
                    raise _half_reached(error) from error
                break
            report.after = key
        else:
            report.after = listed[-1].key if len(listed) == PAGE else None
        if not order.dry_run:
            _log.info(
                "objects adopted", adopted=len(report.adopted), prefix=order.prefix, owner=order.owner, by=caller.owner
            )
        return report

    def _known(self, keys: Sequence[str]) -> defaultdict[str, list[KnownSource]]:
        known: defaultdict[str, list[KnownSource]] = defaultdict(list)
        for one in self.store.known_sources(keys):
            known[one.key].append(one)
        return known

    def _examine(self, key: str) -> Peeked | Refused:
        try:
            return self.submit.examine(key)
        except Refused as refusal:
            return refusal

    def _handle(self, key: str, finding: NotTaken | Peeked | Refused, order: Order, report: AdoptionReport) -> None:
        """Adopt an object, or find out that it can't be adopted, and add this to the report."""
        match finding:
            case NotTaken():
                report.ignored.append(finding)
            case Refused():
                places = report.refused if isinstance(finding, TooLarge | Withheld) else report.ignored
                places.append(NotTaken(key, finding.code, advised(finding)))
            case Peeked():
                video_id = adopted_id(self.objects.bucket, key, finding.version)
                left = None if order.dry_run else self._adopt(key, finding, video_id, order.owner)
                if left is None:
                    report.adopted[key] = video_id
                else:
                    report.ignored.append(left)

    def _adopt(self, key: str, found: Peeked, video_id: str, owner: str) -> NotTaken | None:
        """Submit an object. Returns why it was not submitted, if another program was faster. None if it was."""
        self.store.check_limits(halved(self.limits), owner=owner)
        try:
            _, created = self.submit.submit_examined(key, found.size, video_id, owner=owner)
        except Refused as refusal:
            return NotTaken(key, refusal.code, refusal.message)
        return None if created else NotTaken(key, "source_taken", f"It is the source of video {video_id}.")


def _half_reached(error: LimitReached) -> LimitReached:
    if error.code != "backlog_full":
        return error
    message = f"Adopted videos get half of what the limits for unfinished videos allow. {error.message}"
    return LimitReached(error.code, message, error.wait)
