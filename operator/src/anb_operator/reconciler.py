"""Makes Kubernetes and the system agree about one video: reads, asks the plan, does what it says."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from datetime import UTC, datetime

import structlog

from anb_core.domain.errors import Refused, Unavailable, Withheld
from anb_core.domain.model import Attempt, Problem, Record, Scope
from anb_core.ports.objects import Objects
from anb_core.ports.store import History, Reading
from anb_core.usecases import commands
from anb_core.usecases.submit import Submit
from anb_core.usecases.visibility import Caller
from anb_operator.cache import VideoJobCache
from anb_operator.kube import Existing, Json, KubeRefused, Missing, Outdated, VideoJobs
from anb_operator.mirror import Observed
from anb_operator.planning import (
    Announce,
    Command,
    CreateMirror,
    Delete,
    Plan,
    Policy,
    Refusal,
    SetFinalizer,
    WriteStatus,
    command_of,
    finalizers_of,
    plan,
    plan_after_failure,
    plan_holds,
)
from anb_operator.videojob import DEFAULT_OWNER, FINALIZER, VideoJob

CALLER = Caller("kubernetes", Scope.OPS)
"""Whoever may write VideoJobs may cancel and retry what they speak of."""

GATHER_SECONDS = 0.05
"""Between the beginnings of two reads: one for several videos costs little more than one for each."""

_log = structlog.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Histories:
    """Reads videos for those who see to one each: all that are asked for before a read begins come with it."""

    def __init__(self, store: Reading, threads: Executor) -> None:
        self._store = store
        self._threads = threads
        self._asked: set[str] = set()
        self._next: asyncio.Task[Mapping[str, History] | Exception] | None = None
        # One connection is enough, and the others are for those who change something.
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    async def of(self, video_id: str) -> History:
        """As it is now: the read begins after this was asked.

        Raises:
            Unavailable: the database did not answer.
            Unreadable: this version can't read it.
        """
        self._asked.add(video_id)
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._read())
        # Who asks may be stopped, but not for the others.
        found = await asyncio.shield(self._next)
        if isinstance(found, Unavailable):
            raise found
        if isinstance(found, Exception) or video_id not in found:
            # Whose fault it is shows when each is read alone.
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._store.history, video_id)
        return found[video_id]

    async def _read(self) -> Mapping[str, History] | Exception:
        """What was found, or why not: nobody may be left to whom it could be raised."""
        async with self._reading:
            await asyncio.sleep(self._read_at + GATHER_SECONDS - time.monotonic())
            asked, self._asked, self._next = self._asked, set(), None
            self._read_at = time.monotonic()
            try:
                return await self._all_of(asked)
            except Exception as error:  # noqa: BLE001 - raised in `of`
                return error

    async def _all_of(self, video_ids: set[str]) -> Mapping[str, History]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._store.histories, video_ids)


class Reconciler:
    """One for all videos, but for each one call at a time. `threads` is where commands are done: they block."""

    def __init__(
        self,
        *,
        store: commands.CommandStore,
        objects: Objects,
        submit: Submit,
        kube: VideoJobs,
        cache: VideoJobCache,
        histories: Histories,
        policy: Policy,
        threads: Executor,
        on_command: Callable[[str, str], None] = lambda *_: None,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._store = store
        self._histories = histories
        self._objects = objects
        self._submit = submit
        self._kube = kube
        self._cache = cache
        self._policy = policy
        self._threads = threads
        self._on_command = on_command
        self._clock = clock
        # By video: until when no mirror may take the place of a VideoJob that has had its time.
        self._expired: dict[str, datetime] = {}

    async def reconcile(self, video_id: str, *, news: bool = False) -> float | None:
        """See to one video; in how many seconds it has to be seen to again (None: when something happens).

        Raises:
            Unavailable: a part did not answer; nothing is lost by trying again.
            KubeRefused: likewise, although it may take a person to mend it.
        """
        await self._carry_out(plan_holds(self._cache.of(video_id)))
        # What changes from here on is for the next turn: nothing counts as observed that was not acted on.
        videojobs = self._cache.of(video_id)
        if plan_holds(videojobs).actions:
            raise Outdated("not_held", f"Somebody took {FINALIZER} off at once. Nothing begins without this finalizer.")
        try:
            record, attempts = await self._histories.of(video_id)
            refusals: Mapping[str, Refusal] = {}
            if any(command_of(videojob, record) for videojob in videojobs):
                record, attempts, refusals = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._obey, video_id, videojobs
                )
        except Exception:
            await self._carry_out(plan_after_failure(video_id, videojobs, self._clock()))
            raise
        made = self._plan(video_id, videojobs, record, attempts, news=news, refusals=refusals)
        created = await self._carry_out(made)
        if created:
            # A status can't be given to an object that is being made.
            made = self._plan(video_id, created, record, attempts, news=news, refusals={})
            await self._carry_out(made)
        if _asked(self._cache.of(video_id)) - _asked((*videojobs, *created)):
            # The watch may leave a change out that our own write came after.
            return 0.0
        return (made.again_at - self._clock()).total_seconds() if made.again_at else None

    def _plan(
        self,
        video_id: str,
        videojobs: Sequence[VideoJob],
        record: Record | None,
        attempts: Sequence[Attempt],
        *,
        news: bool,
        refusals: Mapping[str, Refusal],
    ) -> Plan:
        now = self._clock().replace(microsecond=0)
        made = plan(
            video_id,
            videojobs,
            record,
            attempts,
            policy=self._policy,
            now=now,
            news=news,
            expired=video_id in self._expired,
            refusals=refusals,
        )
        if made.expired_until:
            self._expired = {name: until for name, until in self._expired.items() if until > now}
            self._expired[video_id] = made.expired_until
        return made

    # -- towards the system, in a thread

    def _obey(
        self, video_id: str, videojobs: Sequence[VideoJob]
    ) -> tuple[Record | None, Sequence[Attempt], dict[str, Refusal]]:
        """Do what the specs ask for; then the row, its attempts, and by UID what was refused."""
        refusals: dict[str, Refusal] = {}
        record, attempts = self._store.history(video_id)
        for videojob in videojobs:
            command = command_of(videojob, record)
            if command is None:
                continue
            try:
                self._do(command, videojob, video_id)
            except Refused as error:
                refusals[videojob.metadata.uid] = Refusal(command, Problem(error.code, error.message))
                self._on_command(command, "refused")
                _log.warning("refused", command=command, video_id=video_id, reason=error.message)
            else:
                self._on_command(command, "done")
                _log.info("done as asked", command=command, video_id=video_id, videojob="/".join(videojob.key))
            # Told by the store as it is now, whoever changed it.
            record, attempts = self._store.history(video_id)
        return record, attempts, refusals

    def _do(self, command: Command, videojob: VideoJob, video_id: str) -> None:
        spec = videojob.spec
        receipts = {videojob.metadata.uid: asdict(Observed(videojob.metadata.generation, spec.retry, spec.cancel))}
        match command:
            case Command.SUBMIT if spec.source:
                self._submit.submit_existing(
                    spec.source.key,
                    video_id,
                    owner=spec.owner or DEFAULT_OWNER,
                    title=spec.title,
                    edit=spec.edit,
                    receipts=receipts,
                )
            case Command.RETRY:
                # Another process relays what is owed, within a second.
                try:
                    commands.retry(
                        self._store, self._objects, CALLER, video_id, wake_relay=lambda: None, receipts=receipts
                    )
                except Withheld as error:
                    # A refusal would use the token up, and what is withheld may be given in a while.
                    raise Unavailable("bucket", error.message) from error
            case Command.CANCEL:
                commands.cancel(self._store, CALLER, video_id, receipts=receipts)

    # -- towards Kubernetes

    async def _carry_out(self, made: Plan) -> list[VideoJob]:
        """The mirrors that were made."""
        created = []
        for action in made.actions:
            if isinstance(action, CreateMirror):
                created += await self._create(action)
                continue
            try:
                await self._act(action)
            except Missing:
                self._cache.drop(action.videojob)
        return created

    async def _act(self, action: SetFinalizer | WriteStatus | Delete | Announce) -> None:
        match action:
            case SetFinalizer(videojob, wanted):
                # Others may have changed theirs since it was planned, or have made another object of its name.
                known = self._cache.get(videojob.key)
                current = known if known and known.metadata.uid == videojob.metadata.uid else videojob
                finalizers = finalizers_of(current, wanted=wanted)
                self._written(await self._kube.set_finalizers(current, finalizers))
            case WriteStatus(videojob, status):
                patch = merge_patch(videojob.status.manifest(), status.manifest())
                self._cache.written(await self._kube.patch_status(videojob, patch))
            case Delete(videojob):
                await self._kube.delete_videojob(videojob)
                if not videojob.metadata.finalizers:
                    self._cache.drop(videojob)
            case Announce():
                await self._announce(action)

    def _written(self, videojob: VideoJob) -> None:
        if videojob.deleting and not videojob.metadata.finalizers:
            self._cache.drop(videojob)
        else:
            self._cache.written(videojob)

    async def _create(self, action: CreateMirror) -> list[VideoJob]:
        try:
            created = await self._kube.create_videojob(
                action.namespace, action.name, {"videoId": action.video_id}, action.labels
            )
        except Existing:
            if self._cache.get((action.namespace, action.name)) is None:
                # The watch has not shown it yet.
                raise
            _log.warning("no mirror: its name is taken", video_id=action.video_id, videojob=action.name)
            return []
        self._cache.created(created)
        return [created]

    async def _announce(self, action: Announce) -> None:
        try:
            await self._kube.post_event(action.videojob, action.announcement)
        except Existing:
            return
        except (KubeRefused, Unavailable) as error:
            # News is worth less than the mirror, or the end of a deletion.
            _log.warning("event not posted", videojob="/".join(action.videojob.key), reason=error.message)


def _asked(videojobs: Iterable[VideoJob]) -> set[tuple[str, int, bool]]:
    return {(videojob.metadata.uid, videojob.metadata.generation, videojob.deleting) for videojob in videojobs}


def merge_patch(before: Json, after: Json) -> Json:
    """What makes `after` of `before` when it is merged: only what differs, null for what is gone."""
    patch: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[name] = inner
        elif old != value:
            patch[name] = value
    return patch
