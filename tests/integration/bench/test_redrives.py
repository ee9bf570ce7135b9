import re
import sys
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from bench import redrives
from bench.redrives import LIMIT_SECONDS, RATE, highest_rate
from tests.support.postgres import Postgres


def run(monkeypatch: pytest.MonkeyPatch, number: int) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.redrives", "--dead-letters", str(number)])
    return redrives.main()


def times(*seconds: float) -> list[datetime]:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    return [begin + timedelta(seconds=second) for second in seconds]


def test_a_short_run_prints_how_long_the_redrives_took_and_how_fast_messages_were_sent(
    postgres: Postgres, moto_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(redrives, "running_postgres", lambda: nullcontext(postgres))
    monkeypatch.setattr(redrives, "running_moto", lambda: nullcontext(moto_url))

    assert run(monkeypatch, 20) == 0

    assert re.fullmatch(
        r"20 of 20 dead letters redriven in \d+\.\d s; allowed are 10 s\. "
        r"At most 2 messages a second were sent over 10 s; allowed are 50\.\n",
        capsys.readouterr().out,
    )


@pytest.mark.parametrize(
    ("seconds", "redriven", "rate", "code"),
    [
        (LIMIT_SECONDS - 0.1, 3, RATE, 0),
        (LIMIT_SECONDS, 3, RATE, 1),
        (1.0, 2, RATE, 1),
        (1.0, 3, RATE + 1, 1),
    ],
    ids=["within the limits", "too slow", "not all redriven", "sent too fast"],
)
def test_a_run_beyond_a_limit_fails(
    seconds: float, redriven: int, rate: int, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = times(*(number / rate for number in range(10 * rate)))
    postgres = SimpleNamespace(create_database=lambda: "sqlite://")
    monkeypatch.setattr(redrives, "running_postgres", lambda: nullcontext(postgres))
    monkeypatch.setattr(redrives, "running_moto", lambda: nullcontext("http://moto"))
    monkeypatch.setattr(redrives, "running", lambda *_, **__: nullcontext(None))
    monkeypatch.setattr(redrives, "dead_letter", lambda _: "video")
    monkeypatch.setattr(redrives, "redrive", lambda _: (seconds, redriven))
    monkeypatch.setattr(redrives, "sent", lambda *_: sent)

    assert run(monkeypatch, 3) == code


def test_the_rate_is_that_of_the_busiest_ten_seconds() -> None:
    assert highest_rate(times(0, 20, 21, 29.9, 30, 60)) == 0.3
