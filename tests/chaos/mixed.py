"""A run in which faults of all kinds happen at random, by a seed, while people upload videos."""

import json
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from time import monotonic

import psycopg

from anb_core.testing.promises import Evidence, violations
from tests.chaos import steps
from tests.chaos.programs import Faults, Program
from tests.chaos.site import LEASE, OURS, Servers, Site, running_proxied_site
from tests.support import eventually
from tests.support.proxy import Cut, Proxy

UPLOADERS = 4
MOST_UNFINISHED = 40
"""The clients wait while so many videos are unfinished, so that videos come during the whole run."""
CHECK_SECONDS = 30.0
"""Time between two looks of the checker during the run."""
CUT_SECONDS = 5.0
"""Time within which a request that shall be cut must come. Otherwise the fault is not counted."""
CLOCK_SECONDS = 600.0
"""How far the clock of a worker is wrong."""

ANSWERS: Mapping[str, bytes] = {
    "receive": b"ReceiveMessage",
    "delete": b"DeleteMessage",
    "send": b"SendMessageBatch",
    "commit": b"COMMIT\0",  # Without the NUL byte, the proxy would also find READ COMMITTED.
}
"""Calls whose answer can be lost, and what their request contains."""


@dataclass(slots=True)
class Report:
    """What happened in a run."""

    seed: int
    jobs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    """How many deliveries ended with each outcome. Deliveries whose worker died are not counted."""
    statuses: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    recovery: float = 0.0
    """Seconds from the end of the last fault until all jobs were over."""
    broken: list[str] = field(default_factory=list)
    """The violations that the checker found, during the run and at its end, and what ended a client or the checker."""

    def table(self) -> str:
        """Return the report as a table in Markdown."""
        absorbed = self.outcomes["dropped"] + self.outcomes["superseded"]
        rows: list[tuple[str, object]] = [
            ("seed", self.seed),
            ("jobs", self.jobs),
            *((f"jobs that ended as `{name}`", number) for name, number in sorted(self.statuses.items())),
            ("faults", self.faults.total()),
            *((f"- {kind}", number) for kind, number in self.faults.most_common()),
            ("deliveries that a worker handled to the end", self.outcomes.total()),
            ("duplicates and late deliveries absorbed", absorbed),
            ("duration", f"{self.seconds:.0f} s"),
            ("recovery: from the last fault until every job was over", f"{self.recovery:.0f} s"),
            ("violations", len(self.broken)),
        ]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


class Mixed:
    """One run. `tell` gets a line about the progress from time to time."""

    def __init__(
        self, site: Site, aws: Proxy, sql: Proxy, clip: bytes, *, workers: int, seed: int, tell: Callable[[str], None]
    ) -> None:
        self.site = site
        self.report = Report(seed)
        self._proxies = {"receive": aws, "delete": aws, "send": aws, "commit": sql}
        self._clip = clip
        self._tell = tell
        self._random = random.Random(f"{seed} targets")
        """Chooses what a fault hits. How often it is asked depends on the time, so it chooses nothing else."""
        self._calm = threading.Event()
        self._last: Evidence | None = None
        """What the checker saw last."""
        self._told = site.folder / "deaths"
        self._noting = threading.Lock()
        self._kinds: Mapping[str, Callable[[], bool]] = {
            "worker killed": lambda: self._kill(self._workers),
            "API killed": lambda: self._kill(self._apis),
            "all APIs away while a worker dies": self._no_api,
            "worker stopped with SIGTERM": self._terminate,
            "worker frozen past its lease": self._freeze,
            "database connections killed": self._kill_backends,
            "video cancelled": lambda: self._command("POST", "/cancel"),
            "video deleted": lambda: self._command("DELETE", ""),
            **{f"answer of {call} lost": lambda call=call: self._cut(call, Cut.AFTER) for call in ANSWERS},  # type: ignore[misc]
            **{f"request of {call} lost": lambda call=call: self._cut(call, Cut.BEFORE) for call in ANSWERS},  # type: ignore[misc]
        }
        self._calls = [
            call for call in steps.calls() if call.partition(".")[0] in {"store", "bucket", "queue", "writer"}
        ]
        self._apis = [site.api(self._faults("api", number)) for number in range(2)]
        self._workers = [site.worker(self._faults("worker", number)) for number in range(workers)]

    def run(self, jobs: int, *, pause: float) -> Report:
        """Let `jobs` videos be uploaded while faults happen, about one in `pause` seconds. Then let all end."""
        begun, order = monotonic(), random.Random(f"{self.report.seed} order")
        threads = ThreadPoolExecutor(UPLOADERS + 1)
        try:
            checker = threads.submit(self._watch, begun, jobs)
            uploads = [threads.submit(self._upload) for _ in range(jobs)]
            while not all(upload.done() for upload in uploads) or self.site.unfinished() > len(self._workers):
                self._calm.wait(order.uniform(0, 2 * pause))
                kind = order.choice(sorted(self._kinds))
                if self._kinds[kind]():
                    self._note(kind)
        finally:
            self._calm.set()
            threads.shutdown(cancel_futures=True)
        self._end(begun, jobs, [checker, *uploads])
        return self.report

    def _upload(self) -> None:
        eventually(lambda: self.site.unfinished() < MOST_UNFINISHED, within=600, every=0.5)
        self.site.upload(self._clip, within=300)

    def _end(self, begun: float, jobs: int, ended: Sequence[Future[None]]) -> None:
        broken = self.report.broken
        broken += [f"A client or the checker failed: {error!r}" for one in ended if (error := one.exception())]
        for program in (*self._apis, *self._workers):
            program.send(signal.SIGTERM)  # The next process has no faults.
        calm = monotonic()
        try:
            self.site.until_rest(within=600)
        except AssertionError as error:
            broken.append(f"L1: Some jobs or messages are left long after the last fault: {error}")
        self.report.recovery, self.report.seconds = monotonic() - calm, monotonic() - begun
        evidence = self.site.evidence()
        broken += map(str, violations(evidence, self.site.policy, at_rest=True, earlier=self._last))
        self.report.jobs = len(self.site.receipts)
        if self.report.jobs != jobs:
            broken.append(f"{jobs} videos were to be uploaded, but {self.report.jobs} were.")
        self.report.statuses = dict(Counter(str(record.job.status) for record in evidence.records))
        deaths = self._told.read_text().splitlines() if self._told.exists() else []
        for name in deaths:
            component = name.partition(":")[0]
            killed = "child of the engine" if component == "child" else component
            self._note(f"{killed} killed at a named step")
        for worker in self._workers:
            for line in worker.log.splitlines():
                if '"outcome"' in line:
                    self.report.outcomes[json.loads(line)["outcome"]] += 1

    def _watch(self, begun: float, jobs: int) -> None:
        """Let the checker look at the run from time to time, and tell the progress."""
        eventually(lambda: self.site.receipts, within=600)
        while not self._calm.wait(CHECK_SECONDS):
            evidence = self.site.evidence(queues=False)
            broken = [str(found) for found in violations(evidence, self.site.policy, earlier=self._last)]
            self.report.broken += broken
            self._last = evidence
            over = sum(record.job.status.terminal for record in evidence.records)
            self._tell(
                f"{monotonic() - begun:5.0f} s: {len(self.site.receipts)} of {jobs} videos uploaded, {over} over,"
                f" {self.report.faults.total()} faults, {len(self.report.broken)} violations"
            )
            for sentence in broken:
                self._tell(sentence)

    # -- faults

    def _faults(self, kind: str, number: int) -> Callable[[], Faults]:
        """Return a function that returns the faults of the next process of a program."""
        processes = count(1)
        return lambda: self._drawn(kind, random.Random(f"{self.report.seed} {kind} {number} {next(processes)}"))

    def _drawn(self, kind: str, source: random.Random) -> Faults:
        """Draw the faults of a process: it may die at one of some steps, or see a wrong time."""
        if self._calm.is_set():
            return {}
        faults: dict[str, object] = {"told": str(self._told)}
        chance = source.random()
        if chance < 0.3:
            components = (kind, "relay", "sweep")
            some = (source.choice(steps.around(call)) for call in source.sample(self._calls, 5))
            faults["die_at"] = [f"{source.choice(components)}: {name}" for name in some]
        elif chance < 0.5:
            faults["kill_child_at"] = [f"child: {source.choice(steps.ENGINE)}"]
            if kind == "worker":
                self._note("worker's clock wrong")
            faults["clock"] = source.choice((-CLOCK_SECONDS, CLOCK_SECONDS))
        elif chance < 0.7:
            faults["twice"] = True
            self._note("every message sent twice by a process")
        return faults

    def _note(self, kind: str) -> None:
        with self._noting:
            self.report.faults[kind] += 1

    # Each of these methods returns whether the fault happened.

    def _kill(self, programs: list[Program]) -> bool:
        return self._random.choice(programs).send(signal.SIGKILL)

    def _terminate(self) -> bool:
        return self._random.choice(self._workers).send(signal.SIGTERM)

    def _freeze(self) -> bool:
        worker = self._random.choice(self._workers)
        if not worker.send(signal.SIGSTOP):
            return False
        self._calm.wait(LEASE.total_seconds() + 2)
        return worker.send(signal.SIGCONT)

    def _no_api(self) -> bool:
        for api in self._apis:
            self.site.programs.stop(api, signal.SIGKILL)
        killed = self._kill(self._workers)
        self._calm.wait(3)
        for api in self._apis:
            self.site.programs.restart(api)
        return killed

    def _cut(self, call: str, when: Cut) -> bool:
        proxy = self._proxies[call]
        cuts = proxy.cuts
        proxy.cut(when, ANSWERS[call])
        deadline = monotonic() + CUT_SECONDS
        while proxy.cuts == cuts and monotonic() < deadline:
            self._calm.wait(0.05)
        return proxy.cuts > cuts

    def _kill_backends(self) -> bool:
        with psycopg.connect(self.site.servers.database_url.replace("+psycopg", ""), autocommit=True) as connection:
            killed = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND application_name <> %s AND pid <> pg_backend_pid()",
                [OURS],
            )
            return killed.rowcount > 0

    def _command(self, method: str, command: str) -> bool:
        if not self.site.receipts:
            return False
        video = self._random.choice(sorted(self.site.receipts))
        answer = self.site.request(method, f"/api/videos/{video}{command}")
        return answer is not None and answer.is_success


@contextmanager
def running_mixed(
    folder: Path,
    servers: Servers,
    cards_dir: Path,
    clip: bytes,
    *,
    workers: int,
    seed: int,
    tell: Callable[[str], None] = lambda _: None,
) -> Iterator[Mixed]:
    """Start the programs of a mixed run, whose database, bucket and queue are behind proxies."""
    with running_proxied_site(folder, servers, cards_dir) as (site, sql_proxy, aws_proxy):
        yield Mixed(site, aws_proxy, sql_proxy, clip, workers=workers, seed=seed, tell=tell)
