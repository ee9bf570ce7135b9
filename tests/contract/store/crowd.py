"""Programs and people that use one PostgreSQL database at the same time. Each is a thread with a store of its own."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import psycopg

from anb_core.adapters.database import SqlStore
from anb_core.adapters.system import SystemRuntime, new_id
from anb_core.domain.dead_letters import DeadLetterFilter
from anb_core.domain.edit import EditSpec
from anb_core.domain.errors import BadInput, Refused, Transient, Unavailable
from anb_core.domain.message import decode
from anb_core.domain.model import Lease, Source
from anb_core.domain.retry import RetryPolicy, plan_failure
from anb_core.ports.queue import Delivery
from anb_core.ports.renderer import Rendered, Resources
from anb_core.ports.stop import Stop
from anb_core.ports.store import Claimed
from anb_core.testing.objects import InMemoryObjects
from anb_core.testing.promises import Evidence, read_evidence
from anb_core.testing.queue import InMemoryQueue
from anb_core.usecases import commands
from anb_core.usecases.adopt import Adopt
from anb_core.usecases.attempt import Tools
from anb_core.usecases.process import Process
from anb_core.usecases.receive_dead_letters import ReceiveDeadLetters
from anb_core.usecases.relay import Relay
from anb_core.usecases.submit import Submit
from anb_core.usecases.visibility import Caller
from anb_worker.lease import LeaseKeeper, Terms
from tests.support.given import PROBLEM, SECOND, new_video, result
from tests.support.scratch import FakeScratch
from tests.support.stores import Sql

POLICY = RetryPolicy(max_failures=2, max_lost=3, backoff_base=SECOND / 10, backoff_cap=SECOND / 2)
LEASE = SECOND
TERMS = Terms(duration=LEASE, heartbeat=LEASE / 3, visibility=2 * LEASE)
ADA = Caller("ada")
SOURCE = b"a video"


class ReportingRuntime(SystemRuntime):
    """The system's runtime, which keeps the unexpected errors."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def on_error(self, where: str, error: Exception, **about: object) -> None:
        super().on_error(where, error, **about)
        self.errors.append(error)


class Crowd:
    """What the threads share. `seed` decides what each thread does next, but not which thread is faster."""

    def __init__(self, backend: Sql, folder: Path, seed: int) -> None:
        self.url = backend.url
        self.folder = folder
        self.runtime = ReportingRuntime()
        self.queue = InMemoryQueue(
            visibility=TERMS.visibility, max_receives=2, now=lambda: datetime.now(UTC) + self._ahead
        )
        self.objects = InMemoryObjects()
        self.accepted: list[str] = []
        """The ids of the videos whose upload was accepted."""
        self.done: Counter[str] = Counter()
        """How often each thing was done without an error."""
        self._backend = backend
        self._seed = seed
        self._ahead = timedelta(0)

    @contextmanager
    def at_work(self, **kinds: int) -> Iterator[None]:
        """Run threads during the block. Each name is a method of `Member`, and each number is a number of threads."""
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._repeat, args=(kind, number, stop), name=f"{kind}-{number}", daemon=True)
            for kind, count in kinds.items()
            for number in range(count)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
            assert not [thread.name for thread in threads if thread.is_alive()], "these threads do not end"

    def show_all_messages(self) -> None:
        """Make all messages visible, as if the longest pause of a returned message were over."""
        self._ahead += timedelta(minutes=10)

    def rows(self) -> Evidence:
        """Read the database. Threads may run meanwhile. If the connection is killed, read again."""
        receipts = frozenset(self.accepted)
        while True:
            with suppress(Unavailable):
                return read_evidence(self._backend.database, receipts=receipts)

    def everything(self) -> Evidence:
        """Read the database, bucket and queues. No thread may run meanwhile."""
        return replace(
            self.rows(),
            objects={key: len(data) for key, data in self.objects.contents.items()},
            messages=[*self.queue.bodies(), *self.queue.dead_letters.bodies()],
            sent=[message.body for message in self.queue.sent],
        )

    def all_ended(self) -> bool:
        """Return whether the jobs of all videos have ended, or wait for a person."""
        return all(record.job.status.terminal for record in self.rows().records)

    def _repeat(self, kind: str, number: int, stop: threading.Event) -> None:
        member = Member(self, f"{kind}-{number}", random.Random(f"{self._seed} {kind} {number}"), stop)
        act: Callable[[], None] = getattr(member, kind)
        while not stop.is_set():
            try:
                act()
            except (Refused, Unavailable):
                stop.wait(0.01)
            except Exception as error:  # noqa: BLE001 - the test fails because of it
                self.runtime.on_error(member.name, error)
        member.store.close()


class Member:
    """One thread. Each public method is a turn of one kind of thread."""

    def __init__(self, crowd: Crowd, name: str, chance: random.Random, stop: threading.Event) -> None:
        self.name = name
        self.store = SqlStore(crowd.url, connections=3)
        self._crowd = crowd
        self._chance = chance
        self._stop = stop
        self._relay = Relay(
            self.store, crowd.queue, bucket="anb-videos", runtime=crowd.runtime, jitter=self._chance.random
        )
        self._receiver = ReceiveDeadLetters(self.store, crowd.queue.dead_letters, policy=POLICY, runtime=crowd.runtime)

    def upload(self) -> None:
        """Upload a video. Sometimes the client goes away before the upload is complete."""
        new = new_video(owner=ADA.owner)
        self.store.begin_upload(new, lifetime=LEASE)
        self._crowd.objects.put(new.source_key, SOURCE)
        if self._chance.random() < 0.1:
            return
        while not self._stop.is_set():
            with suppress(Unavailable):
                self.store.complete_upload(new.id, Source(len(SOURCE)))
                self._crowd.accepted.append(new.id)
                self._crowd.done["upload"] += 1
                break
        self._stop.wait(0.05)

    def relay(self) -> None:
        """Send messages, some of them twice: a relay that can't write down that it sent a message sends it again."""
        sent = self._relay.send_due().sent
        self._crowd.done["sent message"] += sent
        if not sent:
            self._stop.wait(0.02)

    def work(self) -> None:
        """Handle a message as a worker does."""
        delivery = self._receive()
        if delivery is not None:
            report = self._process().handle(delivery, Stop())
            self._crowd.done[f"{report.outcome} by a worker"] += 1
            if report.unavailable:
                raise report.unavailable

    def claim_and_die(self) -> None:
        """Claim a job and do nothing more, as a worker that was killed."""
        delivery = self._receive()
        if delivery is not None and self._claim(delivery):
            self._crowd.done["death"] += 1
        self._stop.wait(self._chance.random())

    def claim_and_sleep(self) -> None:
        """Claim a job, sleep longer than the lease, and then go on, as a worker that was frozen."""
        delivery = self._receive()
        lease = delivery and self._claim(delivery)
        if lease:
            self._stop.wait(LEASE.total_seconds() * (1 + self._chance.random()))
            late: Sequence[Callable[[], bool]] = [
                lambda: self.store.renew(lease, duration=LEASE),
                lambda: self.store.report_progress(lease, 0.9),
                lambda: self.store.settle(lease, plan_failure(lease.counters, PROBLEM, POLICY, jitter=0.5)),
                lambda: self._publish(lease),
            ]
            self._crowd.done["late call" if self._chance.choice(late)() else "refused late call"] += 1

    def command(self) -> None:
        """Give a command for any video, or redrive or discard any dead letter."""
        self._stop.wait(0.05)
        video_id = self._chance.choice(self._crowd.accepted or [""])
        kind = self._chance.choice(["cancel", "cancel", "retry", "delete", "redrive", "discard"])
        if kind == "cancel":
            commands.cancel(self.store, ADA, video_id)
        elif kind == "retry":
            commands.retry(self.store, self._crowd.objects, ADA, video_id, wake_relay=lambda: None)
        elif kind == "delete":
            commands.delete(self.store, ADA, video_id)
        elif kind == "redrive":
            self.store.redrive_dead_letter(self._dead_letter(), by=ADA.owner)
        else:
            self.store.discard_dead_letter(self._dead_letter(), by=ADA.owner, reason="It is a test.")
        self._crowd.done[kind] += 1

    def sweep(self) -> None:
        """Do the steps of a sweep, but without its lock: several threads do them at the same time."""
        self._crowd.done["ended lease"] += self.store.end_expired_leases(limit=10, policy=POLICY)
        self._crowd.done["ended upload"] += self.store.end_expired_uploads(limit=10)
        self.store.requeue_unclaimed(enqueued_before=3 * TERMS.visibility, limit=10)
        self.store.requeue_overdue(slack=2 * TERMS.visibility, limit=10)
        due = self.store.hold_deletions(limit=10, hold=LEASE)
        self._crowd.objects.delete([deletion.key for deletion in due])
        self.store.deletion_done(due)
        self.store.purge(events_before=timedelta(days=1), dead_letters_before=timedelta(days=1), limit=10)
        self._stop.wait(0.1)

    def receive_dead_letters(self) -> None:
        """Handle a message of the dead-letter queue."""
        delivery = self._crowd.queue.dead_letters.receive(wait=SECOND / 10)
        if delivery is not None:
            self._receiver.handle(delivery, Stop())
            self._crowd.done["message of the dead-letter queue"] += 1

    def kill(self) -> None:
        """End one backend of the database, or sometimes all, at any moment of their work."""
        self._stop.wait(0.1 * self._chance.random())
        url = self._crowd.url.replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True) as connection:
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " ORDER BY state <> 'idle' DESC, pid"
            )
            pids = [pid for [pid] in found]
            one = self._chance.randrange(20)
            for pid in pids if one == 0 else pids[one : one + 1]:
                connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                self._crowd.done["killed backend"] += 1

    def _dead_letter(self) -> int:
        letters = self.store.dead_letters(DeadLetterFilter())
        return self._chance.choice([letter.id for letter in letters] or [0])

    def _receive(self) -> Delivery | None:
        return self._crowd.queue.receive(wait=SECOND / 10)

    def _claim(self, delivery: Delivery) -> Lease | None:
        message = decode(delivery.body)
        claimed = self.store.claim(
            message.video_id,
            generation=message.generation,
            attempt_id=new_id(),
            worker=self.name,
            lease=LEASE,
            policy=POLICY,
        )
        return claimed.lease if isinstance(claimed, Claimed) else None

    def _publish(self, lease: Lease) -> bool:
        late = result(lease)
        self._crowd.objects.put(lease.result_key, b"x" * late.size)
        return self.store.publish(lease, late)

    def _process(self) -> Process:
        crowd = self._crowd
        tools = Tools(
            store=self.store,
            objects=crowd.objects,
            renderer=Renderer(self._chance),
            relay=self._relay,
            keep=partial(LeaseKeeper, store=self.store, queue=crowd.queue, terms=TERMS, runtime=crowd.runtime),
            scratch=FakeScratch(crowd.folder),
            load_resources=Resources,
            policy=POLICY,
            runtime=crowd.runtime,
            jitter=self._chance.random,
        )
        submit = Submit(
            self.store, crowd.objects, max_bytes=1000, source_prefixes=(), wake_relay=self._relay.wake, new_id=new_id
        )
        return Process(
            store=self.store,
            queue=crowd.queue,
            tools=tools,
            worker=self.name,
            version="1.0",
            lease=LEASE,
            new_id=new_id,
            adopt=Adopt(store=self.store, submit=submit, bucket="anb-videos", owner=None, source_prefixes=()),
        )


class Renderer:
    """Renders for a random time. Some renders fail, and some reject the upload."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def render(
        self,
        source: Path,
        edit: EditSpec,  # noqa: ARG002 - the port's signature
        title: str,  # noqa: ARG002
        workdir: Path,
        *,
        on_progress: Callable[[float], None],
        on_step: Callable[[str], None],
        stop: Stop,
        resources: Resources,  # noqa: ARG002
    ) -> Rendered:
        assert source.read_bytes() == SOURCE
        on_step("main")
        until = time.monotonic() + self._chance.random() * self._chance.choice([0.1, 0.1, 1.5])
        while time.monotonic() < until:
            stop.check()
            on_progress(self._chance.random())
            time.sleep(0.01)
        end = self._chance.random()
        if end < 0.1:
            raise BadInput("corrupt", "Half of the frames can't be decoded.")
        if end < 0.4:
            raise Transient("verification_failed", "The renderer stopped with status 1.")
        size = self._chance.randrange(1, 1000)
        path = workdir / "finished"
        path.write_bytes(b"x" * size)
        return Rendered(path, size, "5a" * 32, width=1280, height=720, duration=12.5, frames=375)
