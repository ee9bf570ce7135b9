"""Tests of the message and the exit code of a command whose HTTP server fails."""

from collections.abc import Callable

import pytest

from anb_cli.errors import Exit
from tests.integration.cli.conftest import run
from tests.support.deployments import Answer, Deployment, problem

pytestmark = pytest.mark.usefixtures("pauses")


@pytest.mark.parametrize(
    ("answer", "code", "sentence"),
    [
        (problem(404, "not_found"), Exit.REFUSED, "anb: It is not_found. (not_found)"),
        (problem(503, "database_unavailable"), Exit.UNREACHABLE, "It is database_unavailable."),
        (lambda request: request.reply(502, b"<html>"), Exit.UNREACHABLE, "is the address right?"),
        (lambda request: request.reply(200, b"<html>"), Exit.UNREACHABLE, "is the address right?"),
    ],
)
def test_a_command_ends_with_one_sentence_and_the_right_code(
    deploy: Callable[..., Deployment],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    answer: Answer,
    code: Exit,
    sentence: str,
) -> None:
    monkeypatch.setenv("ANB_URL", deploy(answer).url)
    assert run(monkeypatch, "list") == code
    _expect_one_line(capsys, sentence)


def test_a_server_that_does_not_listen_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANB_URL", "http://127.0.0.1:9")
    assert run(monkeypatch, "cancel", "0" * 36) == Exit.UNREACHABLE
    _expect_one_line(capsys, "Nothing answers at http://127.0.0.1:")


def _expect_one_line(capsys: pytest.CaptureFixture[str], sentence: str) -> None:
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
