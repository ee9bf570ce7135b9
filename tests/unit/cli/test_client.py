import pytest

from anb_cli.client import (
    PATIENCE,
    PATIENCE_AT_FIRST,
    PATIENCE_WHILE_HELD,
    PATIENCE_WITH_BACKLOG,
    http_client,
    is_loopback,
    plan_resend,
)
from anb_cli.errors import CliError, NotOurs, Refused, Unreachable, WrongUse

AWAY = Unreachable("away")


def refused(code: str, status: int, retry_after: float | None = None) -> Refused:
    return Refused("no", code=code, status=status, retry_after=retry_after)


HELD = refused("upload_in_progress", 409)


@pytest.mark.parametrize(
    ("tries", "error", "pause"),
    [
        (1, AWAY, 1.0),
        (2, AWAY, 2.0),
        (3, AWAY, 4.0),
        (1, HELD, 2.0),
        (9, HELD, 8.0),
        (1, refused("upload_in_progress", 409, 61.0), 61.0),
        (1, refused("upload_in_progress", 409, 0.0), 1.0),
        (1, refused("too_many_requests", 429), 2.0),
        (1, refused("too_many_requests", 429, 30.0), 30.0),
        (1, refused("backlog_full", 429), 2.0),
        (1, refused("backlog_full", 429, 60.0), 60.0),
        (1, refused("quota_exceeded", 429, 60.0), None),
        (1, Unreachable("busy", retry_after=5.0), 5.0),
        (1, refused("too_large", 413), None),
        (1, refused("token_invalid", 401), None),
        (1, refused("disk_full", 507), None),
        (1, WrongUse("no such file"), None),
        (1, NotOurs("a web page"), None),
    ],
)
def test_an_upload_is_sent_again_only_when_that_may_help(tries: int, error: CliError, pause: float | None) -> None:
    assert plan_resend(tries, 0.0, error, begun=False) == pause


def waited(error: CliError, *, begun: bool) -> float:
    """Return the total wait, in seconds, if each try of an upload fails with the given error."""
    seconds, tries = 0.0, 1
    while (pause := plan_resend(tries, seconds, error, begun=begun)) is not None:
        seconds, tries = seconds + pause, tries + 1
    return seconds


def test_a_deployment_that_was_never_there_is_given_up_soon() -> None:
    assert waited(AWAY, begun=False) == PATIENCE_AT_FIRST


def test_a_deployment_that_took_a_part_is_waited_for_as_long_as_a_network_needs_to_change() -> None:
    assert PATIENCE - 8 < waited(AWAY, begun=True) <= PATIENCE


@pytest.mark.parametrize("retry_after", [None, 1.0, 62.0])
def test_an_upload_that_is_held_for_a_minute_is_waited_for(retry_after: float | None) -> None:
    held = refused("upload_in_progress", 409, retry_after)
    assert 62 <= waited(held, begun=True) <= PATIENCE_WHILE_HELD


def test_a_full_backlog_is_waited_for_as_long_as_workers_need_to_make_room() -> None:
    assert PATIENCE_WITH_BACKLOG - 60 < waited(refused("backlog_full", 429, 60.0), begun=True) <= PATIENCE_WITH_BACKLOG


def test_a_pause_until_tomorrow_is_not_waited_for() -> None:
    assert plan_resend(1, 0.0, refused("too_many_requests", 429, 86_400.0), begun=True) is None


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("ALL_PROXY", "socks5://me:secret@127.0.0.1:9", "ALL_PROXY names a proxy of the kind 'socks5'"),
        ("https_proxy", "ftp://me:secret@127.0.0.1:9", "HTTPS_PROXY names a proxy of the kind 'ftp'"),
        ("HTTP_PROXY", "http://me:secret@[::1", "look at ALL_PROXY"),
        ("SSL_CERT_FILE", "/nowhere/secret.pem", "SSL_CERT_FILE"),
    ],
)
def test_an_unusable_environment_is_reported_without_its_secrets(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WrongUse, match=sentence) as wrong:
        http_client("https://videos.example")
    assert "secret" not in str(wrong.value)
    http_client("http://127.0.0.1:1").close()


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
