"""Tests with messages of Celery programs. The bodies were recorded from Celery 5.7 on Redis."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anb_core.domain.celery_message import JSON_TYPE, ReceivedTask, decode_task, encode_task
from anb_core.domain.message import UnreadableMessage, decode

VIDEO = "0197a5c2-7c1e-7d0a-9e5b-3f1f6a2b4c01"
FIELDS = {
    "video_id": VIDEO,
    "video_path": f"s3://anb/uploads/{VIDEO}.mp4",
    "task_id": "7",
    "created_at": "2026-01-02T03:04:05+00:00",
    "title": "¡Olé!",
}
TASK_ID = "7cf34aa4-ef30-496c-a667-4825cbc74cce"
HEADERS: dict[str, Any] = {
    "lang": "py",
    "task": "anb.process_video",
    "id": TASK_ID,
    "shadow": None,
    "eta": None,
    "expires": None,
    "group": None,
    "group_index": None,
    "retries": 0,
    "timelimit": [None, None],
    "root_id": TASK_ID,
    "parent_id": None,
    "argsrepr": "[...]",
    "kwargsrepr": "{}",
    "origin": "gen20151@vm",
    "ignore_result": None,
    "replaced_task_nesting": 0,
    "stamped_headers": None,
    "stamps": {},
}
ONE_OBJECT = (
    "W1t7InZpZGVvX2lkIjogIjAxOTdhNWMyLTdjMWUtN2QwYS05ZTViLTNmMWY2YTJiNGMwMSIsICJ2aWRlb19wYXRoIjogInMzOi8vYW5iL3VwbG9hZHMv"
    "MDE5N2E1YzItN2MxZS03ZDBhLTllNWItM2YxZjZhMmI0YzAxLm1wNCIsICJ0YXNrX2lkIjogIjciLCAiY3JlYXRlZF9hdCI6ICIyMDI2LTAxLTAyVDAz"
    "OjA0OjA1KzAwOjAwIiwgInRpdGxlIjogIlx1MDBhMU9sXHUwMGU5ISJ9XSwge30sIHsiY2FsbGJhY2tzIjogbnVsbCwgImVycmJhY2tzIjogbnVsbCwg"
    "ImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d"
)
KEYWORDS = (
    "W1tdLCB7InZpZGVvX2lkIjogIjAxOTdhNWMyLTdjMWUtN2QwYS05ZTViLTNmMWY2YTJiNGMwMSIsICJ2aWRlb19wYXRoIjogInMzOi8vYW5iL3VwbG9h"
    "ZHMvMDE5N2E1YzItN2MxZS03ZDBhLTllNWItM2YxZjZhMmI0YzAxLm1wNCIsICJ0YXNrX2lkIjogIjciLCAiY3JlYXRlZF9hdCI6ICIyMDI2LTAxLTAy"
    "VDAzOjA0OjA1KzAwOjAwIiwgInRpdGxlIjogIlx1MDBhMU9sXHUwMGU5ISJ9LCB7ImNhbGxiYWNrcyI6IG51bGwsICJlcnJiYWNrcyI6IG51bGwsICJj"
    "aGFpbiI6IG51bGwsICJjaG9yZCI6IG51bGx9XQ=="
)
ONE_TEXT = (
    "W1sie1widmlkZW9faWRcIjogXCIwMTk3YTVjMi03YzFlLTdkMGEtOWU1Yi0zZjFmNmEyYjRjMDFcIiwgXCJ2aWRlb19wYXRoXCI6IFwiczM6Ly9hbmIv"
    "dXBsb2Fkcy8wMTk3YTVjMi03YzFlLTdkMGEtOWU1Yi0zZjFmNmEyYjRjMDEubXA0XCIsIFwidGFza19pZFwiOiBcIjdcIiwgXCJjcmVhdGVkX2F0XCI6"
    "IFwiMjAyNi0wMS0wMlQwMzowNDowNSswMDowMFwiLCBcInRpdGxlXCI6IFwiXFx1MDBhMU9sXFx1MDBlOSFcIn0iXSwge30sIHsiY2FsbGJhY2tzIjog"
    "bnVsbCwgImVycmJhY2tzIjogbnVsbCwgImNoYWluIjogbnVsbCwgImNob3JkIjogbnVsbH1d"
)
PROTOCOL_1 = (
    "eyJ0YXNrIjogImFuYi5wcm9jZXNzX3ZpZGVvIiwgImlkIjogIjQ1ZDU4MjBkLTcxNzMtNDIwYS1iZjk5LTRiZGRlN2YxN2Y3MiIsICJhcmdzIjogW3si"
    "dmlkZW9faWQiOiAiMDE5N2E1YzItN2MxZS03ZDBhLTllNWItM2YxZjZhMmI0YzAxIn1dLCAia3dhcmdzIjoge30sICJncm91cCI6IG51bGwsICJncm91"
    "cF9pbmRleCI6IG51bGwsICJyZXRyaWVzIjogMCwgImV0YSI6IG51bGwsICJleHBpcmVzIjogbnVsbCwgInV0YyI6IHRydWUsICJjYWxsYmFja3MiOiBu"
    "dWxsLCAiZXJyYmFja3MiOiBudWxsLCAidGltZWxpbWl0IjogW251bGwsIG51bGxdLCAidGFza3NldCI6IG51bGwsICJjaG9yZCI6IG51bGx9"
)
PICKLED = (
    "gASV/wAAAAAAAABdlH2UKIwIdmlkZW9faWSUjCQwMTk3YTVjMi03YzFlLTdkMGEtOWU1Yi0zZjFmNmEyYjRjMDGUjAp2aWRlb19wYXRolIw5czM6Ly9h"
    "bmIvdXBsb2Fkcy8wMTk3YTVjMi03YzFlLTdkMGEtOWU1Yi0zZjFmNmEyYjRjMDEubXA0lIwHdGFza19pZJSMATeUjApjcmVhdGVkX2F0lIwZMjAyNi0w"
    "MS0wMlQwMzowNDowNSswMDowMJSMBXRpdGxllIwHwqFPbMOpIZR1YX2UfZQojAljYWxsYmFja3OUTowIZXJyYmFja3OUTowFY2hhaW6UTowFY2hvcmSU"
    "TnWHlC4="
)


def read(
    body: str | bytes, headers: dict[str, Any] | None = None, *, content_type: str | None = JSON_TYPE
) -> ReceivedTask:
    return decode_task(
        HEADERS if headers is None else headers,
        body.encode() if isinstance(body, str) else body,
        content_type=content_type,
    )


@pytest.mark.parametrize("recorded", [ONE_OBJECT, KEYWORDS, ONE_TEXT], ids=["one object", "keywords", "one text"])
def test_every_form_of_argument_of_a_real_producer_is_read(recorded: str) -> None:
    received = read(base64.b64decode(recorded))

    assert received.id == TASK_ID
    assert json.loads(received.body) == FIELDS
    assert decode(received.body).video_id == VIDEO


def test_a_task_of_protocol_1_of_a_real_producer_is_read() -> None:
    received = read(base64.b64decode(PROTOCOL_1), {})

    assert received == ReceivedTask("45d5820d-7173-420a-bf99-4bdde7f17f72", json.dumps({"video_id": VIDEO}))


def test_a_plain_message_of_ours_is_read() -> None:
    assert read(json.dumps(FIELDS), {}) == ReceivedTask(None, json.dumps(FIELDS))


@pytest.mark.parametrize(
    "task",
    [
        [[FIELDS, "more"], {}],
        [[FIELDS], {"more": 1}],
        [[], {}],
        [[7], {}],
        [[[VIDEO]], {}],
    ],
    ids=["two arguments", "an argument and a keyword", "nothing", "a number", "a list"],
)
def test_a_task_with_other_arguments_is_kept_for_people_to_read(task: list[Any]) -> None:
    received = read(json.dumps([*task, {}]))

    assert json.loads(received.body) == {"task": "anb.process_video", "args": task[0], "kwargs": task[1]}
    with pytest.raises(UnreadableMessage, match="the body has no video_id"):
        decode(received.body)


@pytest.mark.parametrize("headers", [HEADERS | {"task": "app.send_mail"}, {}], ids=["protocol 2", "protocol 1"])
def test_a_task_of_another_name_is_not_taken_for_ours(headers: dict[str, Any]) -> None:
    newer = [[FIELDS], {}, {}]
    older = {"task": "app.send_mail", "id": TASK_ID, "args": [FIELDS], "kwargs": {}}

    received = read(json.dumps(newer if headers else older), headers)

    assert received.id == TASK_ID
    assert json.loads(received.body) == {"task": "app.send_mail", "args": [FIELDS], "kwargs": {}}
    with pytest.raises(UnreadableMessage):
        decode(received.body)


def test_a_pickled_task_is_never_unpickled() -> None:
    received = read(base64.b64decode(PICKLED), content_type="application/x-python-serialize")

    assert json.loads(received.body) == {"content_type": "application/x-python-serialize", "content": PICKLED}
    with pytest.raises(UnreadableMessage):
        decode(received.body)


@pytest.mark.parametrize("body", [b"", b"\xff{", b"[[], {}, {}]", b"[" * 100_000, b"[]", b'{"task": 7}', b"null", b"7"])
def test_any_other_body_is_unreadable_and_no_error(body: bytes) -> None:
    with pytest.raises(UnreadableMessage):
        decode(read(body, {}).body)


@given(
    st.binary(), st.dictionaries(st.text(), st.none() | st.text() | st.integers()), st.sampled_from([None, JSON_TYPE])
)
def test_no_bytes_and_no_headers_raise_an_error(body: bytes, headers: dict[str, Any], content_type: str | None) -> None:
    read(body, headers, content_type=content_type)


def test_our_task_has_what_celerys_workers_read() -> None:
    sent = encode_task(json.dumps(FIELDS), default_id="17", origin="anb@pod")

    assert sent.id == "7"
    ours = {"lang": "py", "task": "anb.process_video", "id": "7", "root_id": "7", "retries": 0, "origin": "anb@pod"}
    assert sent.headers | ours == sent.headers
    args, kwargs, embed = json.loads(sent.body)
    assert (args, kwargs) == ([FIELDS], {})
    assert embed == {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def test_our_task_has_no_header_that_celerys_producers_do_not_send() -> None:
    sent = encode_task(json.dumps(FIELDS), default_id="17", origin="anb@pod")

    assert sent.headers.keys() <= HEADERS.keys()


@pytest.mark.parametrize("task_id", [None, "", 7], ids=["none", "empty", "a number"])
def test_a_body_without_a_task_id_gets_the_given_one(task_id: object) -> None:
    assert encode_task(json.dumps({"task_id": task_id}), default_id="17", origin="").id == "17"


@pytest.mark.parametrize("body", ["text", "[]", "", "¡Olé! 🎬", json.dumps(FIELDS, ensure_ascii=False)])
def test_what_we_send_we_read(body: str) -> None:
    sent = encode_task(body, default_id="17", origin="anb@pod")

    assert read(sent.body, sent.headers) == ReceivedTask(sent.id, body)
