import pickle
from datetime import timedelta

import pytest

from anb_core.domain.limits import LONGEST_WAIT, Cap, Excess, Limits, Usage, find_excess, halved, refusal, upload_of


@pytest.mark.parametrize(
    ("limits", "owner", "in_all", "code"),
    [
        (Limits(), Usage(10**6, 10**15), Usage(10**6, 10**15), None),
        (Limits(per_owner=Cap(unfinished=5)), Usage(5, 9), Usage(50, 90), None),
        (Limits(per_owner=Cap(unfinished=5)), Usage(6, 9), Usage(6, 9), "backlog_full"),
        (Limits(in_all=Cap(unfinished=5)), Usage(1, 9), Usage(5, 9), None),
        (Limits(in_all=Cap(unfinished=5)), Usage(1, 9), Usage(6, 9), "backlog_full"),
        (Limits(per_owner=Cap(stored_bytes=9)), Usage(1, 9), Usage(1, 90), None),
        (Limits(per_owner=Cap(stored_bytes=9)), Usage(1, 10), Usage(1, 10), "quota_exceeded"),
        (Limits(in_all=Cap(stored_bytes=9)), Usage(1, 1), Usage(1, 9), None),
        (Limits(in_all=Cap(stored_bytes=9)), Usage(1, 1), Usage(1, 10), "quota_exceeded"),
        # The upload exceeds both limits. The limit for bytes is reported, because waiting does not help there.
        (Limits(Cap(stored_bytes=9), Cap(unfinished=5)), Usage(6, 10), Usage(6, 10), "quota_exceeded"),
    ],
)
def test_an_upload_is_refused_only_above_a_limit(limits: Limits, owner: Usage, in_all: Usage, code: str | None) -> None:
    excess = find_excess(limits, owner=owner, in_all=in_all)
    assert (excess.code if excess else None) == code


@pytest.mark.parametrize(
    ("limits", "unfinished", "begin"),
    [
        (Limits(per_owner=Cap(unfinished=0)), 0, "You have 0 unfinished videos, and one owner may have at most 0: "),
        (Limits(per_owner=Cap(unfinished=1)), 1, "You have 1 unfinished video, and one owner may have at most 1: "),
        (Limits(in_all=Cap(unfinished=1)), 1, "1 video of all owners is unfinished, and at most 1 may be: "),
    ],
)
def test_a_limit_is_named_in_the_right_grammatical_number(limits: Limits, unfinished: int, begin: str) -> None:
    usage = Usage(unfinished + 1)
    excess = find_excess(limits, owner=usage, in_all=usage)
    assert excess
    assert excess.message.startswith(begin)


@pytest.mark.parametrize(
    ("places", "begun", "seconds"),
    [(1, 0, 60), (1, 1, 60), (1, 7, 9), (3, 60, 3), (100, 60, 60), (1, 10_000, 1), (0, 60, 60)],
)
def test_the_wait_is_the_time_in_which_the_workers_get_so_far(places: int, begun: int, seconds: int) -> None:
    error = refusal(Excess("backlog_full", "Full.", places), begun)
    assert error.wait == timedelta(seconds=seconds)
    assert seconds <= LONGEST_WAIT


def test_a_refusal_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(refusal(Excess("quota_exceeded", "Full."), 0)))  # noqa: S301 - our own bytes
    assert (error.code, error.message, error.wait) == ("quota_exceeded", "Full.", timedelta(minutes=1))


@pytest.mark.parametrize(("size", "stored"), [(None, 1), (0, 1), (5000, 5000)])
def test_an_upload_counts_with_its_announced_size(size: int | None, stored: int) -> None:
    assert upload_of(size) == Usage(1, stored)


@pytest.mark.parametrize(("unfinished", "half"), [(None, None), (1, 1), (2, 1), (5, 3), (1000, 500)])
def test_half_of_the_limits_for_unfinished_videos_is_left_and_bytes_are_not_divided(
    unfinished: int | None, half: int | None
) -> None:
    limits = Limits(Cap(unfinished, 9), Cap(unfinished))
    assert halved(limits) == Limits(Cap(half, 9), Cap(half))
