from datetime import UTC, datetime, timedelta

import pytest

from anb_core.domain.overdue import ATTEMPT_LIMIT, Waiting, overdue, unexplained_after

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
SLACK = timedelta(minutes=5)


def ago(duration: timedelta) -> datetime:
    return NOW - duration


def waiting(job_id: str, since: timedelta, sent: timedelta | None = None) -> Waiting:
    return Waiting(job_id, since=ago(since), sent=ago(since if sent is None else sent))


@pytest.mark.parametrize(
    ("ahead", "workers", "turns"),
    [(0, 0, 0), (0, 3, 0), (1, 0, 1), (1, 1, 1), (1, 3, 1), (3, 3, 1), (4, 3, 2), (9, 1, 9)],
)
def test_work_ahead_explains_as_many_turns_as_the_workers_need_for_it(ahead: int, workers: int, turns: int) -> None:
    assert unexplained_after(ahead, workers, SLACK) == SLACK + turns * ATTEMPT_LIMIT


def test_with_nothing_ahead_a_job_is_overdue_as_soon_as_no_dead_worker_can_have_its_message() -> None:
    assert overdue([waiting("a", SLACK)], [], NOW, SLACK) == []
    assert overdue([waiting("a", SLACK + SECOND)], [], NOW, SLACK) == ["a"]


def test_a_job_that_others_have_overtaken_does_not_wait_for_them() -> None:
    lost = waiting("lost", SLACK + SECOND)
    assert overdue([lost], [ago(SLACK)], NOW, SLACK) == ["lost"]
    assert overdue([lost], [ago(2 * SLACK)], NOW, SLACK) == []


def test_a_job_behind_others_has_to_wait_for_them() -> None:
    jobs = [waiting("third", 3 * SLACK), waiting("first", 5 * SLACK), waiting("second", 4 * SLACK)]
    assert overdue(jobs, [], NOW, SLACK) == ["first"]
    later = NOW + 2 * ATTEMPT_LIMIT
    assert overdue(jobs, [], later, SLACK) == ["first", "second", "third"]
    assert overdue(jobs, [], later - 2 * SLACK - SECOND, SLACK) == ["first", "second"]


def test_a_job_that_was_sent_again_waits_anew_and_keeps_its_place() -> None:
    jobs = [waiting("first", 2 * ATTEMPT_LIMIT, sent=SECOND), waiting("second", ATTEMPT_LIMIT)]
    assert overdue(jobs, [], NOW, SLACK) == []
    assert overdue(jobs, [], NOW + SLACK, SLACK) == ["first"]
    assert overdue(jobs, [], NOW + SLACK + SECOND, SLACK) == ["first", "second"]


def test_while_no_worker_runs_few_messages_are_added_however_many_jobs_wait() -> None:
    """While a thousand jobs wait two days without a worker, the sweeps requeue fewer than a thousand messages."""
    jobs = [waiting(f"{number:04}", timedelta(hours=1) - number * SECOND) for number in range(1000)]
    sent = 0
    for minute in range(2 * 24 * 60):
        now = NOW + timedelta(minutes=minute)
        late = set(overdue(jobs[:60], [], now, SLACK))
        sent += len(late)
        jobs = [Waiting(job.job_id, job.since, now) if job.job_id in late else job for job in jobs]
    assert sent < 1000
