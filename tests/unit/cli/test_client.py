import pytest

from anb_cli.client import SEND_TRIES, is_loopback, plan_resend
from anb_cli.errors import CliError, Refused, Unreachable, WrongUse

AWAY = Unreachable("away")


def refused(code: str, status: int) -> Refused:
    return Refused("no", code=code, status=status)


@pytest.mark.parametrize(
    ("tries", "error", "delay"),
    [
        (1, AWAY, 1.0),
        (2, AWAY, 2.0),
        (3, AWAY, 4.0),
        (SEND_TRIES, AWAY, None),
        (1, refused("upload_in_progress", 409), 2.0),
        (1, refused("too_many_requests", 429), 2.0),
        (SEND_TRIES, refused("upload_in_progress", 409), None),
        (1, refused("too_large", 413), None),
        (1, refused("token_invalid", 401), None),
        (1, WrongUse("no such file"), None),
    ],
)
def test_an_upload_is_sent_again_only_when_that_may_help(tries: int, error: CliError, delay: float | None) -> None:
    assert plan_resend(tries, error) == delay


@pytest.mark.parametrize(
    ("url", "answer"),
    [
        ("http://127.0.0.1:8000", True),
        ("http://localhost/x", True),
        ("http://[::1]:1", True),
        ("https://videos.example", False),
        ("https://127.0.0.1.example", False),
    ],
)
def test_proxies_are_for_other_machines(url: str, *, answer: bool) -> None:
    assert is_loopback(url) is answer
