import asyncio
import threading

import pytest

from anb_api.checks import Answer, PartCheck
from anb_core.domain.errors import Unavailable


class Hanging:
    """A fake database, bucket or queue. `ping` returns when the test sets `go`. `asked` counts the calls of `ping`."""

    def __init__(self) -> None:
        self.asked = 0
        self.go = threading.Event()

    def ping(self) -> None:
        self.asked += 1
        assert self.go.wait(30)


def test_a_part_that_hangs_is_asked_once_for_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anb_api.checks.OPTIONAL_PATIENCE_SECONDS", 0.01)
    part = Hanging()
    check = PartCheck("queue", part.ping, required=False)

    async def ask_often() -> list[Answer]:
        return [answer for _ in range(3) for answer in await asyncio.gather(*(check.ask() for _ in range(20)))]

    try:
        answers = asyncio.run(ask_often())
    finally:
        part.go.set()
        check.close()

    assert set(answers) == {Answer("queue", required=False, detail="The queue does not answer.")}
    assert part.asked == 1


def test_a_part_is_asked_anew_once_it_has_answered() -> None:
    part = Hanging()
    part.go.set()
    check = PartCheck("database", part.ping, required=True)

    async def ask_twice() -> list[Answer]:
        return [await check.ask(), await check.ask()]

    answers = asyncio.run(ask_twice())
    check.close()

    assert answers == [Answer("database", required=True, detail=None)] * 2
    assert part.asked == 2


def test_the_reason_why_a_part_does_not_answer_is_shown_to_no_client() -> None:
    def ping() -> None:
        raise Unavailable("bucket", "secret.host is away.")

    check = PartCheck("bucket", ping, required=True)
    answer = asyncio.run(check.ask())
    check.close()

    assert answer == Answer("bucket", required=True, detail="The bucket does not answer.")
