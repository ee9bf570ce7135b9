import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from anb_cli import answers
from anb_cli.__main__ import perform
from anb_cli.errors import CliError, Exit, NotOurs, Refused, Unreachable, describe

URL = "http://127.0.0.1:9/api/videos"


def answer(status: int, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, content=content, headers=headers, request=httpx.Request("GET", URL))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["list", "--limit", "x"],
            "anb: Invalid value for '--limit': it is not a whole number. See `anb list -h`.\n",
        ),
        (
            ["list", "--limit", "0"],
            "anb: Invalid value for '--limit': it must be 1 or more. See `anb list -h`.\n",
        ),
        (["nothing"], "anb: No such command 'nothing'. See `anb -h`.\n"),
    ],
)
def test_a_wrong_command_line_is_explained_in_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert perform(arguments) == Exit.WRONG_USE
    assert capsys.readouterr() == ("", sentence)


def test_an_error_of_the_system_names_its_file() -> None:
    assert describe(PermissionError(13, "Permission denied", "clip.mp4")) == (
        Exit.WRONG_USE,
        "clip.mp4: Permission denied.",
    )
    assert describe(OSError("the disk is gone")) == (Exit.WRONG_USE, "the disk is gone.")


def test_a_fault_of_our_own_is_reported_with_its_kind_and_place_but_never_its_text() -> None:
    with pytest.raises(KeyError) as caught:
        raise KeyError("a token")
    code, sentence = describe(caught.value)
    assert code == Exit.VIDEO_FAILED
    assert sentence.startswith("A fault of anb itself, please report it: KeyError (test_errors.py, line ")
    assert "token" not in sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (httpx.ConnectError("[SSL] certificate has expired"), "There is no secure connection to"),
        (httpx.ConnectError("refused"), "Nothing answers at"),
        (httpx.ConnectTimeout("slow"), "Nothing answers at"),
        (httpx.ReadTimeout("slow"), "took too long to answer"),
        (httpx.RemoteProtocolError("peer closed"), "broke: peer closed."),
        (httpx.RemoteProtocolError("It closed early."), "broke: It closed early."),
        (httpx.LocalProtocolError("Illegal header value b'Bearer secret'"), "broke: LocalProtocolError."),
        (httpx.ReadError(""), "broke: ReadError."),
    ],
)
def test_the_reason_of_a_failed_connection_is_given_without_text_that_may_quote_a_token(
    error: Exception, sentence: str
) -> None:
    message = str(answers.unreachable(URL, error))
    assert sentence in message
    assert ".." not in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("answered", "kind", "sentence"),
    [
        (answer(200, []), NotOurs, "is not from ANB Video"),
        (answer(200, b"<html>"), NotOurs, "is not from ANB Video"),
        (answer(302, {}, location="http://elsewhere/"), NotOurs, "redirects to http://elsewhere/"),
    ],
)
def test_an_answer_that_is_not_from_anb_video_is_reported_as_such(
    answered: httpx.Response, kind: type[CliError], sentence: str
) -> None:
    with pytest.raises(kind, match=sentence):
        answers.object_of(answered)


@pytest.mark.parametrize("said", [{}, {"videos": "all", "next_cursor": None}, {"videos": [], "next_cursor": 1}])
def test_a_page_that_is_not_from_anb_video_is_refused(said: answers.Json) -> None:
    with pytest.raises(NotOurs, match="not a list of ANB Video"):
        answers.page_of(said)


def test_a_video_and_a_receipt_that_are_not_from_anb_video_are_refused() -> None:
    with pytest.raises(NotOurs, match="not a video of ANB Video"):
        answers.video_of([])
    with pytest.raises(NotOurs, match="not an upload receipt of ANB Video"):
        answers.receipt_of({"video_id": "../etc"})


def test_a_page_without_videos_is_the_last() -> None:
    assert answers.page_of({"videos": [], "next_cursor": "more"}) == ([], None)


@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("7", 7, 7), ("-7", 0, 0), ("in an hour", 3500, 3600), ("soon", None, None), ("inf", None, None)],
)
def test_retry_after_is_read_in_seconds_or_as_a_time(header: str, least: float | None, most: float | None) -> None:
    if header == "in an hour":
        header = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
    refusal = answers.refusal_of(answer(503, {"code": "uploads_unavailable"}, **{"retry-after": header}))
    assert isinstance(refusal, Unreachable)
    if least is None or most is None:
        assert refusal.retry_after is None
    else:
        assert refusal.retry_after is not None
        assert least <= refusal.retry_after <= most


def test_an_answer_of_ours_is_distinguished_from_a_proxys() -> None:
    refused = answers.refusal_of(answer(409, {"code": "wrong_status", "detail": "Not\nnow."}))
    assert isinstance(refused, Refused)
    assert refused.as_json() == {"code": "wrong_status", "status": 409, "message": "Not now. (wrong_status)"}
    assert isinstance(answers.refusal_of(answer(404, b"nginx")), NotOurs)
    proxys = answers.refusal_of(answer(502, b"nginx"))
    assert isinstance(proxys, Unreachable)
    assert not isinstance(proxys, NotOurs)
