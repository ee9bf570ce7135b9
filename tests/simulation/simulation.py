"""Runs one schedule to its end, and shrinks a schedule that violates a property."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

from anb_core.domain.retry import LONGEST_PAUSE
from anb_core.usecases.gate import LONGEST_WAIT
from anb_core.usecases.relay import HOLD, IDLE, RESEND_CAP
from anb_core.usecases.sweep import EMPTY_WINDOW
from tests.simulation.actors import LEASE, POLICY, SWEEP, VISIBILITY, api, operator, worker
from tests.simulation.faults import Call, Chance, Focus, Kind, Place, Plan, Replay, Schedule, faults_at
from tests.simulation.mirror import Mirror, shown, shows_all
from tests.simulation.properties import CONDITIONS, Properties
from tests.simulation.scheduler import Process
from tests.simulation.setup import Setup
from tests.simulation.steps import NAMES as OF_STEPS
from tests.simulation.world import World

ROUNDING = timedelta(seconds=1)
"""A render takes a little more than its seconds, because each call takes some time."""

UPLOADED_WITHIN = 300.0
"""Seconds after the last fault within which a client has its answer. A dead process keeps its upload for 3 minutes."""

DEAD_LETTERS = Focus((*[Kind.FAIL] * 6, Kind.REDRIVE, Kind.DISCARD, Kind.DISCARD), ("render",))
VIDEOJOBS = Focus(
    (*[Kind.WATCH_DIES, Kind.CONFLICT, Kind.LOSE_ANSWER] * 2, Kind.DIE_AFTER, Kind.FAIL, Kind.DELETE),
    ("create_videojob", "patch_status", "delete_videojob", "render"),
    mirrored=True,
)
BROKERS = Focus((Kind.DIE_BEFORE, Kind.DIE_AFTER, Kind.FREEZE, Kind.LATE), ("claim", "receive", "mark_sent"), moves=3)
LEASES = Focus((Kind.WAIT, Kind.LATE, Kind.OUTAGE, Kind.LOCK), ("renew",))

FOCUSES = {0: DEAD_LETTERS, 3: VIDEOJOBS, 5: DEAD_LETTERS, 7: BROKERS, 9: LEASES}
"""The focus of seeds whose last digit is the key. Otherwise hardly any run would show these parts."""

LATER = 25 * 3600.0 + 60.0
"""Seconds after which also the objects of attempts without a result are deleted."""

NAMES = (*CONDITIONS, *OF_STEPS)
"""The names of all conditions."""

ENOUGH = 1000
"""So many runs with different seeds must show all conditions."""


@dataclass(frozen=True, slots=True)
class Run:
    """What happened in one run."""

    seed: int
    setup: Setup
    schedule: Schedule
    violations: Sequence[str]
    """The violated properties. Empty if the run is good."""
    seen: Counter[str]
    """How often the condition of each property occurred."""
    calls: Sequence[Call]
    switches: int
    seconds: float
    """Duration of the run in simulated time."""
    story: Sequence[str] = ()


def run(
    seed: int,
    schedule: Schedule | None = None,
    *,
    setup: Setup | None = None,
    focus: Focus | None = None,
    story: bool = False,
    judged_from: Place | None = None,
) -> Run:
    """Run with the faults of a schedule. The seed chooses the schedule and the setup, if they are not given.

    The properties are checked from the call `judged_from` on.
    """
    chance = random.Random(seed)
    random.seed(seed)
    focus = focus or FOCUSES.get(seed % 10)
    drawn = _drawn(chance, focus)
    plan: Plan = Chance(chance, focus) if schedule is None else Replay(schedule)
    setup = setup or drawn
    world = World(seed, setup, plan, Properties(POLICY), LEASE.total_seconds(), VISIBILITY)
    world.story = [] if story else None
    world.judged_from = judged_from
    for name in ("worker-1", "worker-2"):
        world.launch(name, partial(worker, world))
    world.launch("api", partial(api, world))
    world.launch("operator", partial(operator, world))
    if setup.mirrored:
        world.videojobs, world.mirrored = shown, shows_all
        world.launch("mirror", lambda process: Mirror(world, process).run())
    if setup.moves:
        world.scheduler.start(Process("rollout"), "rollout", world.move)
    try:
        _finish(world)
    finally:
        world.scheduler.close()
    return Run(
        seed,
        setup,
        plan.taken if isinstance(plan, Chance) else schedule or {},
        [*map(str, world.properties.found), *(f"an unexpected error: {error}" for error in world.errors)],
        world.properties.seen,
        world.calls,
        world.scheduler.switches,
        world.scheduler.now,
        world.story or (),
    )


def _drawn(chance: random.Random, focus: Focus | None) -> Setup:
    """Draw a setup. The focus of the run may say what must be a part of it."""
    drawn = Setup(
        uploads=chance.choice((1, 1, 2)),
        fifo=chance.random() < 0.2,
        queue_limit=chance.choice((None, None, 1)),
        no_sweep_before=chance.choice((0.0, 0.0, 100.0)),
        render_seconds=chance.choice((3, 3, 3, 12)),
        delay_seconds=chance.choice((0, 0, 0, 5)),
        process_after=chance.choice((None, None, None, 30)),
        mirrored=chance.random() < 0.03,
        keyed=chance.random() < 0.7,
        moves=chance.choice((*[0] * 37, 1, 2, 3)),
    )
    if focus and focus.moves is not None:
        drawn = replace(drawn, moves=focus.moves)
    if focus and focus.mirrored is not None:
        drawn = replace(drawn, mirrored=focus.mirrored)
    return drawn


def stated_time(setup: Setup, jobs: int) -> float:
    """Return the time in seconds after the last fault within which every job ends: T of docs/reliability.md.

    No try fails after the last fault, so F is 1. With the least `queue_limit`, each of the `jobs` takes W and A.
    """
    delay = timedelta(seconds=setup.delay_seconds)
    found = max(max(VISIBILITY, LONGEST_PAUSE) + delay, LEASE, EMPTY_WINDOW) + SWEEP
    wait = found + max(HOLD, RESEND_CAP) + IDLE + delay + LONGEST_WAIT
    attempt = timedelta(seconds=setup.render_seconds) + ROUNDING
    return (POLICY.backoff_cap + jobs * (wait + attempt)).total_seconds()


def _finish(world: World) -> None:
    """Let the world run until all work is done. Then check what must be true at rest, and again a day later."""

    def done() -> bool:
        return bool(world.properties.found or world.errors) or (
            len(world.answered) == world.setup.uploads and world.idle
        )

    def until() -> float:
        answered = len(world.answered) == world.setup.uploads
        jobs = max(world.setup.uploads, len(world.store.rows))
        return world.disturbed_until + stated_time(world.setup, jobs) + (0.0 if answered else UPLOADED_WITHIN)

    while world.scheduler.now < until():
        if world.scheduler.run(until(), done):
            break
    if not world.properties.found:
        world.check(at_rest=True)
        world.steps.emptied(world.queues)
    if not world.properties.found:
        calls = len(world.calls)
        world.plan = Replay({})
        world.scheduler.skip(LATER)
        world.scheduler.run(world.scheduler.now + 600.0, lambda: bool(world.errors) or not world.has_work_for_the_sweep)
        world.check(at_rest=True)
        world.steps.left(world.store, world.objects)
        del world.calls[calls:]


def each_single_fault(base: Schedule) -> Iterator[Run]:
    """Run with each single fault at each call of a run of one video. The faults of `base` happen in each run, too."""
    for call in run(0, base, setup=Setup()).calls:
        if call.place not in base and call.method != "ping":
            for fault in faults_at(call):
                yield run(0, {**base, call.place: fault}, setup=Setup())


def shrink(found: Run) -> Run:
    """Return a run with as few faults as possible that violates a property of the same promise, with its story."""
    schedule, promise = dict(found.schedule), _promise(found)
    for place in sorted(schedule, reverse=True):
        fewer = {other: fault for other, fault in schedule.items() if other != place}
        if _promise(run(found.seed, fewer, setup=found.setup)) == promise:
            schedule = fewer
    return run(found.seed, schedule, setup=found.setup, story=True)


def _promise(found: Run) -> str:
    return found.violations[0].partition(":")[0] if found.violations else ""


def told(found: Run) -> str:
    """Return a run as text: its violations, its faults, and its story."""
    faults = [f"  {place}: {fault}" for place, fault in found.schedule.items()]
    return "\n".join(
        [f"seed {found.seed}, {found.setup}", *found.violations, "faults:", *faults, "story:", *found.story]
    )
