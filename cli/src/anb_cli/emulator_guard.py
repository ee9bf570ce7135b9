"""MiniStack behind a guard, for as long as the parent holds our standard input open. Run by the emulator's interpreter.

A parent that is killed can't stop its children; but its end of the pipe is closed, and MiniStack stops as if asked.

MiniStack believes everybody: each user of this machine, and each web page that a browser on it shows. The guard lets
through what is signed with the secret of this start (AWS Signature Version 4, in headers or as a presigned URL), and of
MiniStack's own addresses, some of which empty it, only the one that tells whether it is ready.
"""

import calendar
import hashlib
import hmac
import os
import signal
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

READY = "/_ministack/ready"
ALGORITHM = "AWS4-HMAC-SHA256"

HOSTS = ("127.0.0.1", "localhost")
"""Another name was made to lead here, by a page that a browser shows."""

LONGEST_SKEW = 15 * 60
"""Seconds that a signature's time may differ from ours, as on AWS."""

LONGEST_LIFE = 7 * 24 * 3600
"""Seconds that a presigned URL may hold, as on AWS."""

MOST_UNHASHED = 4 * 1024 * 1024
"""Bytes of a body that is read before its signature is known to be right: a message of SQS has 1 MiB at most."""

NOT_HASHED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""What a signed request says instead of its body's hash."""

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """A request that is not let through, and why."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about its signature: `scope` is key id, date, region, service and `aws4_request`."""

    scope: tuple[str, ...]
    signed: frozenset[str]
    signature: str
    moment: str
    life: int | None = None
    """Seconds that a presigned URL holds; None for a signature in the headers."""

    @classmethod
    def of(cls, headers: dict[str, str], query: str) -> "Claim":
        """Raises Refused when there is none."""
        asked = dict(parse_qsl(query, keep_blank_values=True))
        if "X-Amz-Signature" in asked:
            fields = {name.removeprefix("X-Amz-"): value for name, value in asked.items()}
            algorithm, moment, life = fields.get("Algorithm"), fields.get("Date", ""), fields.get("Expires", "")
            if not (life.isascii() and life.isdigit()):
                raise Refused("The URL does not say for how many seconds it holds.")
        else:
            algorithm, _, rest = headers.get("authorization", "").partition(" ")
            fields = dict(part.strip().partition("=")[::2] for part in rest.split(","))
            moment, life = headers.get("x-amz-date", ""), ""
        if algorithm != ALGORITHM:
            raise Refused("The request is not signed.")
        return cls(
            tuple(fields.get("Credential", "").split("/")),
            frozenset(fields.get("SignedHeaders", "").split(";")),
            fields.get("Signature", ""),
            moment,
            int(life[:9]) if life else None,
        )

    def check(self, headers: dict[str, str], now: float) -> None:
        """Raises Refused where it is malformed, not of this time, or leaves out what S3 and SQS go by."""
        if len(self.scope) != 5 or self.scope[1] != self.moment[:8] or self.scope[4] != "aws4_request":  # noqa: PLR2004
            raise Refused("The credential is not of the form ID/DATE/REGION/SERVICE/aws4_request.")
        try:
            signed_at = calendar.timegm(time.strptime(self.moment, "%Y%m%dT%H%M%SZ"))
        except ValueError as error:
            raise Refused("The time of the signature can't be read.") from error
        past = LONGEST_SKEW if self.life is None else min(self.life, LONGEST_LIFE)
        if not now - past <= signed_at <= now + LONGEST_SKEW:
            raise Refused("The signature is of another time.")
        unsigned = {name for name in headers if name == "host" or name.startswith("x-amz-")} - self.signed
        if unsigned:
            raise Refused(f"These headers are not signed: {', '.join(sorted(unsigned))}.")


class Guard:
    """ASGI middleware before `app`, which only this machine reaches. `clock` gives seconds of the epoch."""

    def __init__(self, app: App, *, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._secret = secret
        self._clock = clock

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Let one request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        try:
            await self._app(*await self._admitted(scope, receive), _without_cors(send))
        except Refused as refusal:
            await _answer(send, 403, "AccessDenied", str(refusal), empty=scope["method"] == "HEAD")

    async def _admitted(self, scope: Message, receive: Receive) -> tuple[Message, Receive]:
        """The request as the app is to see it. Raises Refused; so does its `receive`, if another body was signed."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host", "").partition(":")[0] not in HOSTS:
            raise Refused(f"This server is called {' or '.join(HOSTS)}.")
        path = scope["path"]
        if path.lstrip("/").startswith("_") and (scope["method"], path) != ("GET", READY):
            raise Refused("The emulator's own addresses are closed.")
        query = scope["query_string"].decode("latin-1")
        claim = Claim.of(headers, query)
        claim.check(headers, self._clock())
        hashed = headers.get("x-amz-content-sha256")
        body = b"" if hashed or claim.life is not None else await _whole(receive)
        if not hmac.compare_digest(self._signature(claim, scope, query, body).encode(), claim.signature.encode()):
            raise Refused("The signature is not ours.")
        if claim.life is not None:
            # As if signed in the headers: MiniStack would judge the URL by a secret of its own.
            return _plainly_signed(scope, claim, query), receive
        if hashed is None:
            return scope, _again(body)
        return scope, receive if hashed in NOT_HASHED else _checking(receive, hashed)

    def _signature(self, claim: Claim, scope: Message, query: str, body: bytes) -> str:
        _, _, region, service, _ = claim.scope
        signer = SigV4Auth if service != "s3" else S3SigV4Auth if claim.life is None else S3SigV4QueryAuth
        asked = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
        url = f"http://{HOSTS[0]}{scope['raw_path'].decode('latin-1')}{'?' if asked else ''}{asked}"
        request = AWSRequest(method=scope["method"], url=url, data=body)
        for name, value in scope["headers"]:
            if (known := name.decode("latin-1").lower()) in claim.signed:
                request.headers[known] = value.decode("latin-1")
        request.context["timestamp"] = claim.moment
        auth = signer(Credentials("", self._secret), service, region)
        signature: str = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        return signature


async def _whole(receive: Receive) -> bytes:
    """A body that says nothing of its hash. Raises Refused when it is too long or breaks off."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("The request broke off.")
        body += message.get("body", b"")
        if len(body) > MOST_UNHASHED:
            raise Refused("The request is too long for one without its body's hash.")
        more = message.get("more_body", False)
    return bytes(body)


def _again(body: bytes) -> Receive:
    """Gives a body that was read already."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _checking(receive: Receive, wanted: str) -> Receive:
    """Hands a body on; its last piece only when the whole is what was signed."""
    digest = hashlib.sha256()

    async def checked() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            digest.update(message.get("body", b""))
            if not message.get("more_body", False) and digest.hexdigest() != wanted:
                raise Refused("The body is not the one that was signed.")
        return message

    return checked


def _plainly_signed(scope: Message, claim: Claim, query: str) -> Message:
    """The request of a presigned URL with its signature in a header instead."""
    credential, signed = "/".join(claim.scope), ";".join(sorted(claim.signed))
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={claim.signature}"
    headers = [pair for pair in scope["headers"] if pair[0].lower() != b"authorization"]
    rest = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-"))
    return scope | {
        "headers": [*headers, (b"authorization", authorization.encode("latin-1"))],
        "query_string": rest.encode("latin-1"),
    }


def _without_cors(send: Send) -> Send:
    """No page of another origin may read an answer."""

    async def passing(message: Message) -> None:
        if "headers" in message:
            kept = [pair for pair in message["headers"] if not pair[0].lower().startswith(b"access-control-")]
            message = message | {"headers": kept}
        await send(message)

    return passing


async def _answer(send: Send, status: int, code: str, message: str, *, empty: bool = False) -> None:
    body = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>".encode()
    headers = [(b"content-type", b"application/xml"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if empty else body})


class NotKept(BaseException):
    """An object could not be written to the disk. MiniStack goes on after every Exception, and says all is well."""


class Honest:
    """ASGI middleware: what is not on the disk was not stored, whatever `app` says of what it has in memory."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer as the app does, but where an object was not kept."""
        try:
            await self._app(scope, receive, send)
        except NotKept as error:
            await _answer(send, 507, "InsufficientStorage", str(error))


def keeping(s3: Any) -> Callable[[str, str, Message], None]:  # noqa: ANN401 - MiniStack has no types
    """MiniStack's function that writes an object to the disk, for its module `s3`, made to raise NotKept when it can't.

    Its own takes the body out of memory when it is on the disk, and warns in its log when it could not be written.
    """
    persist = s3._persist_object  # noqa: SLF001 - it has no other place for this, and its version is locked

    def kept(bucket: str, key: str, record: Message) -> None:
        persist(bucket, key, record)
        if record.get("body") is not None:
            del s3._buckets[bucket]["objects"][key]  # noqa: SLF001
            s3._delete_persisted_object(bucket, key)  # noqa: SLF001
            raise NotKept(f"The object {key} could not be written: is there room on the disk?")

    return kept


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve until SIGTERM."""
    from ministack import app as ministack  # noqa: PLC0415 - the guard is tested where there is no MiniStack
    from ministack.services import s3  # noqa: PLC0415

    threading.Thread(target=_stop_with_parent, daemon=True).start()
    s3._persist_object = keeping(s3)  # noqa: SLF001
    ministack.app = Guard(Honest(ministack.app), secret=os.environ.pop("ANB_EMULATOR_SECRET"))
    ministack.main()


if __name__ == "__main__":
    main()
