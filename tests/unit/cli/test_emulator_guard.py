"""Tests that the emulator's guard forwards only signed requests. The tests sign requests with boto3."""

import asyncio
import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, NoReturn
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.session import get_session

from anb_cli.emulator_guard import (
    LONGEST_SKEW,
    MOST_UNHASHED,
    Guard,
    Message,
    Receive,
    Send,
    WriteFailureResponder,
    checked_persist,
    main,
)
from tests.support import eventually

SECRET = "of this start"
SESSION = get_session()
Change = Callable[[Message], Message]


@dataclass
class Answered:
    """A response, with its status and headers. `seen` lists the requests and bodies that the app received."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[Message, bytes]] = field(default_factory=list)


class Sent(Exception):
    """An exception that stops boto3 before boto3 sends a request."""


@cache
def client(service: str, secret: str) -> Any:
    config = Config(signature_version="s3v4" if service == "s3" else None, retries={"total_max_attempts": 1})
    return SESSION.create_client(
        service,
        region_name="us-east-1",
        endpoint_url="http://127.0.0.1:4566",
        aws_access_key_id="anb",
        aws_secret_access_key=secret,
        config=config,
    )


def signed(service: str, call: Callable[[Any], object], secret: str = SECRET) -> tuple[Message, bytes]:
    """Return the ASGI scope and the body of the request that boto3 sends for a call."""
    sent: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> NoReturn:
        sent.append(request)
        raise Sent

    aws = client(service, secret)
    aws.meta.events.register("before-send", keep, unique_id="keep")
    with pytest.raises(Sent):
        call(aws)
    aws.meta.events.unregister("before-send", unique_id="keep")
    body: Any = sent[0].body or b""
    whole = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else body.read()
    return scope(sent[0].method, sent[0].url, dict(sent[0].headers)), whole


def scope(method: str, url: str, headers: dict[str, Any] | None = None) -> Message:
    """Return the ASGI scope of a request, as the HTTP server passes the scope to the guard."""
    parts = urlsplit(url)
    named = {"host": parts.netloc} | {name.lower(): value for name, value in (headers or {}).items()}
    raw = [(n.encode(), v if isinstance(v, bytes) else str(v).encode()) for n, v in named.items()]
    return {
        "type": "http",
        "method": method,
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": raw,
    }


def presigned(secret: str = SECRET, life: int = 60) -> Message:
    parameters = {
        "Bucket": "videos",
        "Key": "a b/ü.mp4",
        "ResponseContentDisposition": 'attachment; filename="a b.mp4"',
    }
    return scope("GET", client("s3", secret).generate_presigned_url("get_object", Params=parameters, ExpiresIn=life))


def ask(asked: Message, body: bytes = b"", *, clock: float = 0.0, pieces: int = 2) -> Answered:
    """Send a request through a guard whose clock is `clock` seconds ahead of the client's clock."""
    answered = Answered()
    cuts = [len(body) * n // pieces for n in range(pieces + 1)]
    messages = [
        {"type": "http.request", "body": body[begin:end], "more_body": end < len(body)}
        for begin, end in pairwise(cuts)
        if begin < end
    ] or [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if "status" in message:
            answered.status = message["status"]
            answered.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}

    async def app(seen: Message, receive: Callable[[], Any], send: Callable[[Message], Any]) -> None:
        received, more = b"", True
        while more:
            message = await receive()
            assert message["type"] == "http.request"
            received, more = received + message["body"], message["more_body"]
        answered.seen.append((seen, received))
        headers = [(b"Access-Control-Allow-Origin", b"*"), (b"etag", b"x")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    asyncio.run(Guard(app, secret=SECRET, clock=lambda: time.time() + clock)(asked, receive, send))
    return answered


def with_header(name: str, value: str) -> Change:
    return lambda asked: (
        asked
        | {
            "headers": [pair for pair in asked["headers"] if pair[0] != name.encode()]
            + [(name.encode(), value.encode())]
        }
    )


PUT = ("s3", lambda s3: s3.put_object(Bucket="videos", Key="a b/ü~*.mp4", Body=b"frames" * 99, Metadata={"a": "b  c"}))
CALLS = [
    PUT,
    ("s3", lambda s3: s3.list_objects_v2(Bucket="videos", Prefix="uploads/ü &=+", MaxKeys=5)),
    ("s3", lambda s3: s3.create_multipart_upload(Bucket="videos", Key="k")),
    ("s3", lambda s3: s3.upload_part(Bucket="videos", Key="k", UploadId="u/+", PartNumber=1, Body=b"x" * 100_000)),
    ("s3", lambda s3: s3.delete_objects(Bucket="videos", Delete={"Objects": [{"Key": "k"}]})),
    ("s3", lambda s3: s3.get_object(Bucket="videos", Key="//twice", Range="bytes=0-5")),
    ("sqs", lambda sqs: sqs.send_message(QueueUrl="http://127.0.0.1:4566/0/q", MessageBody="{}")),
    ("sqs", lambda sqs: sqs.receive_message(QueueUrl="http://127.0.0.1:4566/0/q", WaitTimeSeconds=1)),
    ("sns", lambda sns: sns.publish(TopicArn="arn:aws:sns:us-east-1:000000000000:t", Message="ü")),
]


@pytest.mark.parametrize(("service", "call"), CALLS)
def test_a_request_that_is_signed_with_the_secret_comes_through_unchanged(
    service: str, call: Callable[[Any], object]
) -> None:
    asked, body = signed(service, call)
    answered = ask(asked, body)
    assert answered.status == 200
    assert answered.seen == [(asked, body)]


@pytest.mark.parametrize(("service", "call"), CALLS)
def test_another_secret_opens_nothing(service: str, call: Callable[[Any], object]) -> None:
    asked, body = signed(service, call, secret="of the start before")
    answered = ask(asked, body)
    assert (answered.status, answered.seen) == (403, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked | {"method": "DELETE"},
        lambda asked: asked | {"path": "/other", "raw_path": b"/other"},
        lambda asked: asked | {"query_string": b"acl"},
        lambda asked: asked | {"headers": [pair for pair in asked["headers"] if pair[0] != b"authorization"]},
        with_header("authorization", "Basic YTpi"),
        with_header("authorization", "AWS4-HMAC-SHA256"),
        with_header("authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=ü"),
        with_header("host", "127.0.0.1:1"),
        with_header("host", "elsewhere.example"),
        with_header("x-amz-copy-source", "/videos/another"),
        with_header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"),
        with_header("x-amz-date", "yesterday"),
        with_header("x-amz-date", "20260101T000000Z"),
    ],
)
def test_a_request_that_was_changed_is_refused(change: Change) -> None:
    asked, body = signed(*PUT)
    assert ask(change(asked), body).seen == []
    assert ask(change(asked), body).status == 403


def test_a_body_that_differs_from_the_signed_one_never_arrives_whole() -> None:
    asked, body = signed(*PUT)
    answered = ask(asked, body[:-1] + b"!")
    assert (answered.status, answered.seen) == (403, [])


def test_a_body_without_its_hash_is_part_of_the_signature() -> None:
    asked, body = signed(*CALLS[6])
    answered = ask(asked, body.replace(b"{}", b"[]"))
    assert (answered.status, answered.seen) == (403, [])


def test_a_body_without_its_hash_is_not_kept_whatever_its_length() -> None:
    asked, _ = signed(*CALLS[6])
    assert ask(asked, bytes(MOST_UNHASHED + 1), pieces=9).status == 403


@pytest.mark.parametrize(("clock", "status"), [(LONGEST_SKEW - 60, 200), (LONGEST_SKEW + 60, 403), (-1000, 403)])
def test_a_signature_holds_for_a_quarter_of_an_hour(clock: float, status: int) -> None:
    assert ask(*signed(*PUT), clock=clock).status == status


@pytest.mark.parametrize(
    ("life", "clock", "status"),
    [(60, 50, 200), (60, 70, 403), (3600, 3500, 200), (60, -1000, 403), (9_999_999, 700_000, 403)],
)
def test_a_presigned_url_holds_as_long_as_it_says(life: int, clock: float, status: int) -> None:
    assert ask(presigned(life=life), clock=clock).status == status


def test_a_presigned_url_comes_through_as_a_signed_request_whatever_else_it_brings() -> None:
    answered = ask(with_header("authorization", "Bearer of another server")(presigned()))
    [(seen, _)] = answered.seen
    assert dict(seen["headers"])[b"authorization"].startswith(b"AWS4-HMAC-SHA256 Credential=anb/")
    assert seen["query_string"].startswith(b"response-content-disposition=")
    assert b"X-Amz-" not in seen["query_string"]


@pytest.mark.parametrize(
    "change",
    [
        lambda asked: asked | {"method": "DELETE"},
        lambda asked: asked | {"query_string": asked["query_string"] + b"&versionId=1"},
        lambda asked: asked | {"query_string": asked["query_string"].replace(b"Expires=60", b"Expires=6000")},
        lambda asked: asked | {"query_string": asked["query_string"].replace(b"Expires=60", b"Expires=-1")},
        lambda asked: asked | {"path": "/videos/other", "raw_path": b"/videos/other"},
        with_header("x-amz-copy-source", "/videos/another"),
    ],
)
def test_a_presigned_url_that_was_changed_is_refused(change: Change) -> None:
    assert ask(change(presigned())).status == 403


def test_a_presigned_url_of_another_start_is_refused() -> None:
    assert ask(presigned(secret="of the start before")).status == 403


def own_address(method: str, path: str) -> Message:
    request = AWSRequest(method, f"http://127.0.0.1:4566{path}")
    S3SigV4Auth(Credentials("anb", SECRET), "s3", "us-east-1").add_auth(request)
    return scope(method, f"http://127.0.0.1:4566{path}", dict(request.headers))


@pytest.mark.parametrize(
    "path", ["/_ministack/reset", "/_ministack/config", "//_ministack/reset", "/_aws/x", "/_localstack/health"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_the_emulators_own_addresses_are_closed_even_to_those_who_sign(path: str, method: str) -> None:
    asked = own_address(method, path)
    assert ask(asked).status == 403


def test_only_signed_requests_learn_whether_the_emulator_is_ready() -> None:
    assert ask(own_address("GET", "/_ministack/ready")).status == 200
    assert ask(scope("GET", "http://127.0.0.1:4566/_ministack/ready")).status == 403


def test_no_answer_may_be_read_by_pages_of_other_origins() -> None:
    asked, body = signed(*PUT)
    assert ask(with_header("origin", "https://elsewhere.example")(asked), body).headers == {"etag": "x"}
    preflight = scope("OPTIONS", "http://127.0.0.1:4566/videos", {"Origin": "https://elsewhere.example"})
    refused = ask(preflight)
    assert refused.status == 403
    assert not [name for name in refused.headers if name.startswith("access-control-")]


def test_a_websocket_is_closed_and_lifespan_events_reach_the_app() -> None:
    seen: list[str] = []
    sent: list[Message] = []

    async def app(asked: Message, *_: object) -> None:
        seen.append(asked["type"])

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        sent.append(message)

    for kind in ("websocket", "lifespan"):
        asyncio.run(Guard(app, secret=SECRET)({"type": kind}, receive, send))
    assert seen == ["lifespan"]
    assert sent == [{"type": "websocket.close"}]


class MiniStackS3:
    """A fake of MiniStack's S3 module, with the parts that the guard uses. If `full` is true, the disk is full."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.buckets: dict[str, Any] = {"videos": {"objects": {}}}
        self._buckets = self.buckets
        self.deleted: list[str] = []

    def _persist_object(self, bucket: str, key: str, record: Message) -> None:
        assert self._buckets[bucket]["objects"][key] is record
        if not self.full:
            record["body"] = None

    def _delete_persisted_object(self, _bucket: str, key: str) -> None:
        self.deleted.append(key)


@pytest.mark.parametrize(("full", "status"), [(False, 200), (True, 507)])
def test_an_object_that_was_not_written_to_the_disk_is_no_success(full: bool, status: int) -> None:  # noqa: FBT001
    s3 = MiniStackS3(full=full)
    persist = checked_persist(s3)
    answers: list[Message] = []

    async def put(_scope: Message, _receive: Receive, send: Send) -> None:
        record = s3.buckets["videos"]["objects"]["a<b"] = {"body": b"x"}
        with contextlib.suppress(Exception):  # Suppress all errors, as MiniStack does.
            persist("videos", "a<b", record)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive() -> Message:
        return {}

    async def send(message: Message) -> None:
        answers.append(message)

    asyncio.run(WriteFailureResponder(put)({"type": "http"}, receive, send))
    assert answers[0]["status"] == status
    assert list(s3.buckets["videos"]["objects"]) == ([] if full else ["a<b"])
    assert s3.deleted == (["a<b"] if full else [])


def test_ministack_is_served_behind_the_guard_until_the_parent_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[object] = []
    stopped: list[tuple[int, int]] = []
    app = SimpleNamespace(app=None)
    app.main = lambda: served.append(app.app)
    services = SimpleNamespace(s3=MiniStackS3(full=False), sqs=SimpleNamespace(esm_wake=threading.Event()))
    monkeypatch.setitem(sys.modules, "ministack", SimpleNamespace(app=app, services=services))
    monkeypatch.setitem(sys.modules, "ministack.services", services)
    monkeypatch.setattr(os, "kill", lambda *told: stopped.append(told))
    monkeypatch.setenv("ANB_EMULATOR_SECRET", SECRET)
    read, write = os.pipe()
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        main()
        assert [type(behind) for behind in served] == [Guard]
        assert "ANB_EMULATOR_SECRET" not in os.environ
        assert stopped == []
        os.close(write)
        eventually(lambda: stopped == [(os.getpid(), signal.SIGTERM)])
