"""Reconciles a video with its VideoJobs: runs the commands of the specs, makes a plan and carries out the plan."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict
from datetime import UTC, datetime

import structlog

from anb_core.domain.errors import Refused, Unavailable, Withheld
from anb_core.domain.model import Problem, Scope
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
    SetDeadLetterLabel,
    SetFinalizer,
    WriteStatus,
    command_of,
    finalizers_of,
    plan,
    plan_after_failure,
    plan_holds,
)
from anb_operator.videojob import DEAD_LETTER, DEFAULT_OWNER, FINALIZER, VideoJob

GATHER_SECONDS = 0.05
"""Minimum time between the starts of two reads, in seconds. Requests between two reads share the second read."""

_log = structlog.get_logger(__name__)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Histories:
    """Reads the histories of videos in batches: all videos requested before a read begins are read together."""

    def __init__(self, store: Reading, threads: Executor) -> None:
        self._store = store
        self._threads = threads
        self._asked: set[str] = set()
        self._next: asyncio.Task[Mapping[str, History] | Exception] | None = None
        # Run only one read at a time, so that commands can use the other database connections.
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")

    async def of(self, video_id: str) -> History:
        """Read the current record of a video and its attempts. Results of earlier reads are not reused.

        Raises:
            Unavailable: the database did not respond.
            Unreadable: a newer version of the software has written the video's row.
        """
        self._asked.add(video_id)
        if self._next is None or self._next.done():
            self._next = asyncio.create_task(self._read())
        # A cancelled caller must not cancel the read, because other callers wait for the read too.
        found = await asyncio.shield(self._next)
        if isinstance(found, Unavailable):
            raise found
        if isinstance(found, Exception) or video_id not in found:
            # One video made the read of the batch fail. Read each video alone, so that only that video's read fails.
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._store.history, video_id)
        return found[video_id]

    async def _read(self) -> Mapping[str, History] | Exception:
        """Read the requested videos. Return an error instead of raising it: there may be no caller left to catch it."""
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
    """Reconciles videos. For each video only one call of `reconcile` may run at a time.

    Commands are blocking calls, so they run in `threads`.
    After each command, `on_command` is called with the command and the word `done` or `refused`.
    """

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
        # For each video whose VideoJob was deleted after its own TTL: the time before which the video gets no mirror.
        self._expired: dict[str, datetime] = {}

    async def reconcile(self, video_id: str, *, news: bool = False) -> float | None:
        """Reconcile one video. `news` is True after a feed event for the video.

        Returns the seconds until the next reconcile, or None if only a change starts the next reconcile.

        Raises:
            Unavailable: the database, the bucket or the API server did not respond. A retry is safe.
            KubeRefused: the API server refused a request. A retry is safe, but a person may have to remove the cause.
        """
        await self._carry_out(plan_holds(self._cache.of(video_id)))
        # Use one snapshot of the VideoJobs, and leave later changes to the next reconcile.
        # With a second snapshot, a status could report a `metadata.generation` that was not acted on.
        videojobs = self._cache.of(video_id)
        if plan_holds(videojobs).actions:
            raise Outdated("not_held", f"{FINALIZER} was removed at once. Nothing is done without this finalizer.")
        try:
            history = await self._histories.of(video_id)
            refusals: Mapping[str, Refusal] = {}
            if any(command_of(videojob, history.record) for videojob in videojobs):
                history, refusals = await asyncio.get_running_loop().run_in_executor(
                    self._threads, self._run_commands, video_id, videojobs
                )
        except Exception:
            await self._carry_out(plan_after_failure(video_id, videojobs, self._clock()))
            raise
        new_plan = self._plan(video_id, videojobs, history, news=news, refusals=refusals)
        created = await self._carry_out(new_plan)
        if created:
            # A request that creates a mirror can't set the mirror's status. A second plan writes the status.
            new_plan = self._plan(video_id, created, history, news=news, refusals={})
            await self._carry_out(new_plan)
        if _spec_versions(self._cache.of(video_id)) - _spec_versions((*videojobs, *created)):
            # Reconcile again at once, because a VideoJob changed during this reconcile.
            # The watch may not report the change: the cache may have it already, from the response to a write.
            return 0.0
        return (new_plan.again_at - self._clock()).total_seconds() if new_plan.again_at else None

    def _plan(
        self,
        video_id: str,
        videojobs: Sequence[VideoJob],
        history: History,
        *,
        news: bool,
        refusals: Mapping[str, Refusal],
    ) -> Plan:
        now = self._clock().replace(microsecond=0)
        new_plan = plan(
            video_id,
            videojobs,
            history.record,
            history.attempts,
            history.dead_letter,
            policy=self._policy,
            now=now,
            news=news,
            expired=video_id in self._expired,
            refusals=refusals,
        )
        if new_plan.expired_until:
            self._expired = {name: until for name, until in self._expired.items() if until > now}
            self._expired[video_id] = new_plan.expired_until
        return new_plan

    # -- commands from VideoJob specs. The commands run in a thread.

    def _run_commands(self, video_id: str, videojobs: Sequence[VideoJob]) -> tuple[History, dict[str, Refusal]]:
        """Run the commands of the specs. Returns the history, and the refusals. Their keys are UIDs of VideoJobs."""
        refusals: dict[str, Refusal] = {}
        history = self._store.history(video_id)
        for videojob in videojobs:
            command = command_of(videojob, history.record)
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
                _log.info("command done", command=command, video_id=video_id, videojob="/".join(videojob.key))
            # Read the row again, because the command has changed the row. Other programs may have changed it too.
            history = self._store.history(video_id)
        return history, refusals

    def _do(self, command: Command, videojob: VideoJob, video_id: str) -> None:
        spec = videojob.spec
        # Every user with permission to write a VideoJob may cancel and retry its video.
        caller = Caller(f"kubernetes:{'/'.join(videojob.key)}", Scope.OPS)
        receipts = {videojob.metadata.uid: asdict(Observed(videojob.metadata.generation, spec.retry, spec.cancel))}
        match command:
            case Command.SUBMIT if spec.source:
                self._submit.submit_existing(
                    spec.source.key,
                    video_id,
                    owner=spec.owner or DEFAULT_OWNER,
                    title=spec.title,
                    edit=spec.edit,
                    process_after=videojob.process_after,
                    receipts=receipts,
                )
            case Command.RETRY:
                # The operator needs no relay: the relay of the API or of a worker sends the message within a second.
                try:
                    commands.retry(
                        self._store, self._objects, caller, video_id, wake_relay=lambda: None, receipts=receipts
                    )
                except Withheld as error:
                    # The bucket may allow access later. So raise Unavailable, and the operator tries again.
                    # If the operator refused the command, the person would have to write a new value to `spec.retry`.
                    raise Unavailable("bucket", error.message) from error
            case Command.CANCEL:
                commands.cancel(self._store, caller, video_id, receipts=receipts)

    # -- writes to Kubernetes

    async def _carry_out(self, new_plan: Plan) -> list[VideoJob]:
        """Carry out the actions of a plan. Returns the mirrors that were created."""
        created = []
        for action in new_plan.actions:
            if isinstance(action, CreateMirror):
                created += await self._create(action)
                continue
            try:
                await self._act(action)
            except Missing:
                self._cache.drop(action.videojob)
        return created

    async def _act(self, action: SetFinalizer | SetDeadLetterLabel | WriteStatus | Delete | Announce) -> None:
        match action:
            case SetFinalizer(videojob, wanted):
                # Use the newest version of the VideoJob, because other programs may have changed their own finalizers.
                cached = self._cache.get(videojob.key)
                current = cached if cached and cached.metadata.uid == videojob.metadata.uid else videojob
                finalizers = finalizers_of(current, wanted=wanted)
                self._written(await self._kube.set_finalizers(current, finalizers))
            case SetDeadLetterLabel(videojob, wanted):
                value = "true" if wanted else None
                self._cache.written(await self._kube.set_label(videojob, DEAD_LETTER, value))
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
                # The existing VideoJob may be this video's mirror, which the watch has not shown yet. Try again later.
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
            # Only log the error, because the other actions of the plan matter more than an Event.
            _log.warning("event not posted", videojob="/".join(action.videojob.key), reason=error.message)


def _spec_versions(videojobs: Iterable[VideoJob]) -> set[tuple[str, int, bool]]:
    return {(videojob.metadata.uid, videojob.metadata.generation, videojob.deleting) for videojob in videojobs}


def merge_patch(before: Json, after: Json) -> Json:
    """Return the JSON merge patch that turns `before` into `after`. In the patch, None removes a key."""
    patch: Json = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[name] = inner
        elif old != value:
            patch[name] = value
    return patch
