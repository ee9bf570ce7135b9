"""Tests of the sentences that say where a video is, and what it waits for."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from anb_core.domain.dead_letters import DeadLetter, Resolution
from anb_core.domain.edit import EditSpec
from anb_core.domain.explanation import Surroundings, Unsent, explain, summary
from anb_core.domain.lifecycle import new_record
from anb_core.domain.model import (
    Attempt,
    Counters,
    DeadLetterCause,
    Ending,
    Job,
    NewVideo,
    Problem,
    Record,
    Source,
)
from anb_core.domain.status import Status

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
ERROR = Problem("timed_out", "It took too long.")
NEW = NewVideo("v1", "t1", "ana", "A title", EditSpec(), "uploads/v1.mp4", owned=True, file_name="a.mp4")
LETTER = DeadLetter(
    7, DeadLetterCause.FAILURES, ERROR.message, NOW, video_id="v1", generation=1, worker="w2", version="1.4.0"
)
ALONE = Surroundings(now=NOW, unsent=None, ahead=0, busy=0, last_claim=NOW - 5 * MINUTE)


def record(status: Status, *, source: bool = True, **fields: Any) -> Record:
    new = new_record(NEW, NOW - 10 * MINUTE, Source(5) if source else None)
    job = replace(new.job, status=status, **fields)
    return replace(new, job=job)


def attempt(ending: Ending | None = None, error: Problem | None = None) -> Attempt:
    ended = NOW - MINUTE if ending else None
    return Attempt("a1", "t1", 1, 1, "w1", "k", NOW - 2 * MINUTE, ended, ending, error)


def sent(status: Status = Status.UPLOADED, *, ago: timedelta = 2 * MINUTE, **fields: Any) -> Record:
    """Return a waiting job whose message was sent `ago`."""
    return record(status, enqueued_at=NOW - ago, enqueued_to="anb", **fields)


def told(
    of: Record,
    *attempts: Attempt,
    dead_letter: DeadLetter | None = None,
    unsent: Unsent | None = None,
    ahead: int = 0,
    busy: int = 0,
    last_claim: datetime | None = ALONE.last_claim,
) -> list[str]:
    around = replace(ALONE, unsent=unsent, ahead=ahead, busy=busy, last_claim=last_claim)
    return list(explain(of, attempts, dead_letter=dead_letter, surroundings=around))


SINCE = "Its message has been in the outbox since 2026-01-01"
REFUSED = "The queue has refused it 3 times; it is sent again after"
TURNS = "so that the owners of videos take turns."
STOPPED = "so the worker has stopped responding. Another attempt follows."
DISCARDED = "olga discarded it at 2026-01-01 12:00:00 UTC. The reason: A test."
IN_QUEUE = "Its message was sent to the queue anb at 2026-01-01 11:58:00 UTC."
NONE_AHEAD = "No job with an earlier message is waiting."
NO_WORKER = "No worker is busy, and none has taken a job since 2026-01-01 11:55:00 UTC: check whether workers run."
RUNNING: dict[str, Any] = {"attempts": 2, "lease_owner": "a1", "worker": "w1", "progress": 0.429}


@pytest.mark.parametrize(
    ("sentences", "expected"),
    [
        pytest.param(
            told(record(Status.UPLOADING, source=False)),
            [
                "The upload is under way.",
                "It began at 2026-01-01 11:50:00 UTC. Only a complete upload is processed.",
            ],
            id="an upload in progress",
        ),
        pytest.param(
            told(record(Status.UPLOADED), unsent=Unsent(NOW - SECOND, NOW, 0, 0)),
            [
                "It waits for a worker.",
                f"{SINCE} 11:59:59 UTC, and is the next to be sent to the queue.",
                "No worker is busy, so one should take it soon.",
            ],
            id="a message that is not sent yet",
        ),
        pytest.param(
            told(record(Status.UPLOADED), unsent=Unsent(NOW - MINUTE, NOW - MINUTE, 0, 7), busy=3),
            [
                "It waits for a worker.",
                f"{SINCE} 11:59:00 UTC. About 7 other messages are sent to the queue first, {TURNS}",
                "3 other jobs are being processed now.",
            ],
            id="a message behind others while the queue is full",
        ),
        pytest.param(
            told(record(Status.UPLOADED), unsent=Unsent(NOW - MINUTE, NOW - MINUTE, 0, 1)),
            [
                "It waits for a worker.",
                f"{SINCE} 11:59:00 UTC. About 1 other message is sent to the queue first, {TURNS}",
                NO_WORKER,
            ],
            id="a message in the outbox while no worker runs",
        ),
        pytest.param(
            told(record(Status.UPLOADED), unsent=Unsent(NOW - SECOND, NOW + 19 * SECOND, 0, 0)),
            [
                "It waits for a worker.",
                f"{SINCE} 11:59:59 UTC, and is sent to the queue after 2026-01-01 12:00:19 UTC.",
            ],
            id="a message of one of many redriven jobs",
        ),
        pytest.param(
            told(record(Status.UPLOADED), unsent=Unsent(NOW - MINUTE, NOW + 4 * SECOND, 3, 0)),
            [
                "It waits for a worker.",
                f"{SINCE} 11:59:00 UTC. {REFUSED} 2026-01-01 12:00:04 UTC. Check whether the queue answers.",
            ],
            id="a message that the queue refuses",
        ),
        pytest.param(
            told(record(Status.UPLOADED)),
            ["It waits for a worker.", "Its message was not sent yet. The sweep sends it soon."],
            id="a message that nobody knows of",
        ),
        pytest.param(
            told(sent(ago=59 * SECOND)),
            [
                "It waits for a worker.",
                "Its message was sent to the queue anb at 2026-01-01 11:59:01 UTC.",
                NONE_AHEAD,
                "No worker is busy, so one should take it soon.",
            ],
            id="a message that was just sent",
        ),
        pytest.param(
            told(sent()), ["It waits for a worker.", IN_QUEUE, NONE_AHEAD, NO_WORKER], id="no worker for a minute"
        ),
        pytest.param(
            told(sent(), last_claim=None),
            [
                "It waits for a worker.",
                IN_QUEUE,
                NONE_AHEAD,
                "No worker is busy, and none has ever taken a job: check whether workers run.",
            ],
            id="no worker ever",
        ),
        pytest.param(
            told(sent(), ahead=1, busy=1),
            [
                "It waits for a worker.",
                IN_QUEUE,
                "1 job with an earlier message is waiting, too.",
                "1 other job is being processed now.",
            ],
            id="one other job",
        ),
        pytest.param(
            told(sent(), ahead=12, busy=3),
            [
                "It waits for a worker.",
                IN_QUEUE,
                "12 jobs with an earlier message are waiting, too.",
                "3 other jobs are being processed now.",
            ],
            id="many other jobs",
        ),
        pytest.param(
            told(record(Status.PROCESSING, **RUNNING, lease_expires_at=NOW + MINUTE), attempt()),
            [
                "Attempt 2 runs on worker w1.",
                "It began at 2026-01-01 11:58:00 UTC, and 42% is done.",
                "Its lease lasts until 2026-01-01 12:01:00 UTC. The worker extends it until the attempt ends.",
            ],
            id="a running attempt",
        ),
        pytest.param(
            told(
                record(Status.PROCESSING, **RUNNING, lease_expires_at=NOW, counters=Counters(1, 2, 3)),
                attempt(),
            ),
            [
                "Attempt 2 runs on worker w1.",
                "It began at 2026-01-01 11:58:00 UTC, and 42% is done.",
                f"Its lease expired at 2026-01-01 12:00:00 UTC, {STOPPED}",
                "Attempts until now: 1 failed, 2 lost, 3 interrupted.",
            ],
            id="an expired lease",
        ),
        pytest.param(
            told(
                sent(Status.PROCESSING, attempts=1, not_before=NOW + 8 * SECOND, counters=Counters(failures=1)),
                attempt(Ending.FAILED, ERROR),
                unsent=Unsent(NOW, NOW + 8 * SECOND, 0, 0),
            ),
            [
                "Attempt 1 failed. The next one begins after 12:00:08 UTC.",
                "The last error: It took too long.",
                "Attempts until now: 1 failed.",
                "The pause before the next attempt lasts until 2026-01-01 12:00:08 UTC.",
            ],
            id="a pause after a failure",
        ),
        pytest.param(
            told(
                sent(Status.PROCESSING, attempts=1, not_before=NOW, counters=Counters(failures=1)),
                attempt(Ending.FAILED, ERROR),
            ),
            [
                "Attempt 1 failed. The next one begins after 12:00:00 UTC.",
                "The last error: It took too long.",
                "Attempts until now: 1 failed.",
                IN_QUEUE,
                NONE_AHEAD,
                NO_WORKER,
            ],
            id="a pause that is over",
        ),
        pytest.param(
            told(record(Status.UPLOADED, not_before=NOW + MINUTE), unsent=Unsent(NOW, NOW + MINUTE, 0, 0)),
            ["It is scheduled for 2026-01-01 12:01:00 UTC.", "Its message is sent to the queue at that time."],
            id="scheduled",
        ),
        pytest.param(
            told(sent(Status.UPLOADED, not_before=NOW - 3 * MINUTE)),
            ["It is scheduled for 2026-01-01 11:57:00 UTC.", IN_QUEUE, NONE_AHEAD, NO_WORKER],
            id="scheduled for a time that has passed",
        ),
        pytest.param(
            told(sent(Status.PROCESSING, attempts=1, counters=Counters(lost=1)), attempt(Ending.LOST), busy=1),
            [
                "Attempt 1 was lost, because its lease expired.",
                "Attempts until now: 1 lost.",
                IN_QUEUE,
                NONE_AHEAD,
                "1 other job is being processed now.",
            ],
            id="a lost attempt",
        ),
        pytest.param(
            told(
                sent(Status.PROCESSING, attempts=1, counters=Counters(interruptions=1)),
                attempt(Ending.INTERRUPTED),
                busy=1,
            )[:2],
            ["Attempt 1 was interrupted, and another attempt follows.", "Attempts until now: 1 interrupted."],
            id="an interrupted attempt",
        ),
        pytest.param(
            told(record(Status.PROCESSED, attempts=2), attempt(Ending.PROCESSED)),
            [
                "The finished video is in the bucket.",
                "It was finished at 2026-01-01 11:50:00 UTC, in attempt 2.",
            ],
            id="a finished video",
        ),
        pytest.param(
            told(record(Status.FAILED, error=Problem("corrupt", "Half of it can't be decoded."))),
            [
                "The uploaded video can't be processed.",
                "The error: Half of it can't be decoded.",
                "Another attempt would fail, too. Upload a better file as a new video.",
            ],
            id="bad input",
        ),
        pytest.param(
            told(record(Status.DEAD_LETTERED, error=ERROR, counters=Counters(failures=3)), dead_letter=LETTER),
            [
                "3 attempts failed. The last error: It took too long. A person has to redrive or discard it.",
                "The last attempt was on worker w2, which ran version 1.4.0.",
                "When the cause is gone, an operator can redrive it: anb dlq redrive 7",
            ],
            id="an open dead letter",
        ),
        pytest.param(
            told(
                record(Status.DEAD_LETTERED, error=ERROR, counters=Counters(failures=2, lost=1)),
                dead_letter=replace(LETTER, cause=DeadLetterCause.WORKER_LOST, version=None, worker=None),
            ),
            [
                "Workers lost the job 1 time. The last error: It took too long. A person has to redrive or discard it.",
                "When the cause is gone, an operator can redrive it: anb dlq redrive 7",
            ],
            id="a dead letter of lost workers",
        ),
        pytest.param(
            told(
                record(Status.DEAD_LETTERED, error=ERROR, counters=Counters(failures=1)),
                dead_letter=replace(
                    LETTER,
                    version=None,
                    resolution=Resolution.DISCARDED,
                    resolved_at=NOW,
                    resolved_by="olga",
                    reason="A test.",
                ),
            ),
            [
                f"1 attempt failed. The last error: It took too long. {DISCARDED}",
                "The last attempt was on worker w2.",
                "A retry begins it again: anb retry v1",
            ],
            id="a discarded dead letter",
        ),
        pytest.param(
            told(record(Status.DEAD_LETTERED)),
            ["The error is no longer known.", "A retry begins it again: anb retry v1"],
            id="a dead letter of an older program",
        ),
        pytest.param(
            told(record(Status.CANCELLED)),
            [
                "The work was cancelled.",
                "It was cancelled at 2026-01-01 11:50:00 UTC.",
                "A retry begins it again: anb retry v1",
            ],
            id="a cancelled job",
        ),
        pytest.param(
            told(record(Status.CANCELLED, source=False))[1:],
            ["It was cancelled at 2026-01-01 11:50:00 UTC.", "Its upload was not complete: upload it again."],
            id="a cancelled upload",
        ),
    ],
)
def test_sentences_say_where_a_video_is_and_what_it_waits_for(sentences: list[str], expected: list[str]) -> None:
    assert sentences == expected


@pytest.mark.parametrize(
    "name", ["anb", "https://sqs.eu-west-1.amazonaws.com/123456789012/anb", "redis://redis.internal:6379/0#anb"]
)
def test_owners_of_videos_see_the_name_of_the_queue_but_neither_host_nor_account(name: str) -> None:
    job = replace(sent().job, enqueued_to=name)
    assert told(replace(sent(), job=job))[1] == IN_QUEUE


@pytest.mark.parametrize("status", list(Status))
def test_every_status_has_a_summary_even_if_nothing_else_is_known(status: Status) -> None:
    bare: Job = record(status).job
    assert re.fullmatch(r"[A-Z].*\.", summary(bare, [], None))
    assert told(record(status))[0] == summary(bare, [], None)
