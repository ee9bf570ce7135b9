import errno

import pytest

from anb_core.domain.ending import plan_ending
from anb_core.domain.errors import BadInput, Busy, Full, Interrupted, Transient, Unavailable, Withheld
from anb_core.domain.model import Counters, Ending
from anb_core.domain.retry import RetryPolicy

POLICY = RetryPolicy()


@pytest.mark.parametrize(
    ("error", "counters", "ending"),
    [
        (BadInput("no_video_stream", "x"), Counters(), Ending.REJECTED),
        (Transient("killed", "x"), Counters(failures=1), Ending.FAILED),
        (Interrupted(), Counters(interruptions=1), Ending.INTERRUPTED),
        (Unavailable("bucket", "x"), Counters(interruptions=1), Ending.INTERRUPTED),
        (Withheld("object_withheld", "x"), Counters(interruptions=1), Ending.INTERRUPTED),
        (OSError(errno.ENOSPC, "no space left"), Counters(interruptions=1), Ending.INTERRUPTED),
        (OSError(errno.EIO, "input/output error"), Counters(failures=1), Ending.FAILED),
        (MemoryError(), Counters(failures=1), Ending.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_follows_from_an_error(error: Exception, counters: Counters, ending: Ending) -> None:
    settlement = plan_ending(error, Counters(), POLICY, jitter=0.5)
    assert (settlement.counters, settlement.ending) == (counters, ending)


@pytest.mark.parametrize(
    "error",
    [
        *(
            kind(part, "Bucket b at http://secret.host:9000 (10.1.2.3) does not answer, says /secret/path.")
            for kind in (Unavailable, Busy, Full)
            for part in ("database", "bucket", "queue", "scratch")
        ),
        Withheld("object_withheld", "Bucket b at http://secret.host:9000 withholds it from 10.1.2.3 and /secret/path."),
        OSError(errno.ENOSPC, "no space left at secret.host, 10.1.2.3", "/secret/path"),
        RuntimeError("secret.host, 10.1.2.3, /secret/path"),
    ],
    ids=lambda error: f"{type(error).__name__}-{getattr(error, 'part', '')}",
)
def test_hosts_and_paths_are_told_to_those_who_run_the_system_alone(error: Exception) -> None:
    problem = plan_ending(error, Counters(), POLICY, jitter=0.5).error
    assert problem is not None
    assert not [word for word in ("secret", "10.", "/", "9000") if word in problem.message]
    assert problem.message.endswith(".")
    assert problem.detail is not None
    assert "secret.host" in problem.detail
    assert "/secret/path" in problem.detail


def test_why_an_object_is_withheld_is_told_to_those_who_run_the_system_in_the_buckets_own_words() -> None:
    withheld = Withheld("object_withheld", "Bucket b does not give us k.")
    withheld.__cause__ = RuntimeError("arn:aws:iam::123456789012:role/anb is not authorized")
    problem = plan_ending(withheld, Counters(), POLICY, jitter=0.5).error
    assert problem is not None
    assert "arn:" not in problem.message
    assert problem.detail is not None
    assert problem.detail.startswith("Withheld: Bucket b does not give us k.")
    assert "arn:aws:iam::123456789012:role/anb is not authorized" in problem.detail
