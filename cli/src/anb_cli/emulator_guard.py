"""Runs MiniStack behind a guard that checks signatures. This script runs in MiniStack's virtual environment.

The script stops when its standard input closes, so the emulator stops even if its parent process is killed.

MiniStack itself accepts requests from every user of the machine, and from every web page in a browser.
The guard accepts only requests that are signed with the secret of the emulator (AWS Signature Version 4).
The signature of a request is in the headers, or in the query of a presigned URL.
MiniStack's administration paths can delete all data, so the guard refuses them, except the readiness check.
"""

import asyncio
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
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

READY = "/_ministack/ready"
ALGORITHM = "AWS4-HMAC-SHA256"

HOSTS = ("127.0.0.1", "localhost")
"""Accepted host names. A request with another host name may come from a web page that uses DNS rebinding."""

LONGEST_SKEW = 15 * 60
"""Maximum difference between a signature's time and the clock, in seconds. AWS has the same limit."""

LONGEST_LIFE = 7 * 24 * 3600
"""Maximum lifetime of a presigned URL, in seconds. AWS has the same limit."""

MOST_UNHASHED = 4 * 1024 * 1024
"""Maximum size of a body that is read before its signature is checked, in bytes. An SQS message has at most 1 MiB."""

NOT_HASHED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""Values of the header x-amz-content-sha256 for a body whose hash is not signed."""

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class Refused(Exception):
    """The guard refuses the request. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The unverified signature of a request."""

    scope: tuple[str, ...]
    """The signature's scope: access key id, date, region, service and the word `aws4_request`."""
    signed: frozenset[str]
    """Names of the signed headers, in lower case."""
    signature: str
    """The signature as hexadecimal digits."""
    moment: str
    """Time of the signature, as YYYYMMDDTHHMMSSZ."""
    life: int | None = None
    """Lifetime of a presigned URL in seconds, or None if the signature is in the headers."""

    @classmethod
    def of(cls, headers: dict[str, str], query: str) -> "Claim":
        """Read the signature from the request's query or headers.

        Raises:
            Refused: the request is not signed, or the URL's lifetime is not a number.
        """
        parameters = dict(parse_qsl(query, keep_blank_values=True))
        if "X-Amz-Signature" in parameters:
            fields = {name.removeprefix("X-Amz-"): value for name, value in parameters.items()}
            algorithm, moment, life = fields.get("Algorithm"), fields.get("Date", ""), fields.get("Expires", "")
            if not (life.isascii() and life.isdigit()):
                raise Refused("The URL does not give its lifetime in seconds.")
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
        """Check the format, the time and the header names of the signature. `now` is a Unix time in seconds.

        Raises:
            Refused: the signature is malformed or expired, or leaves out a header that S3 or SQS uses.
        """
        if len(self.scope) != 5 or self.scope[1] != self.moment[:8] or self.scope[4] != "aws4_request":  # noqa: PLR2004
            raise Refused("The credential is not of the form ID/DATE/REGION/SERVICE/aws4_request.")
        try:
            signed_at = calendar.timegm(time.strptime(self.moment, "%Y%m%dT%H%M%SZ"))
        except ValueError as error:
            raise Refused("The time of the signature can't be read.") from error
        past = LONGEST_SKEW if self.life is None else min(self.life, LONGEST_LIFE)
        if not now - past <= signed_at <= now + LONGEST_SKEW:
            raise Refused("The signature has expired, or its time is in the future.")
        unsigned = {name for name in headers if name == "host" or name.startswith("x-amz-")} - self.signed
        if unsigned:
            raise Refused(f"These headers are not signed: {', '.join(sorted(unsigned))}.")


class Guard:
    """ASGI middleware that passes only correctly signed requests to `app`. `clock` returns seconds since the epoch."""

    def __init__(self, app: App, *, secret: str, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._secret = secret
        self._clock = clock

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a correctly signed request to the app. Respond to other requests with status 403."""
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
        """Verify a request, and return the ASGI `scope` and `receive` for the app.

        Raises:
            Refused: the signature is wrong. The returned `receive` raises Refused if the hash of the body is wrong.
        """
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host", "").partition(":")[0] not in HOSTS:
            raise Refused(f"The host name of this server must be {' or '.join(HOSTS)}.")
        path = scope["path"]
        if path.lstrip("/").startswith("_") and (scope["method"], path) != ("GET", READY):
            raise Refused("The emulator's administration paths are closed.")
        query = scope["query_string"].decode("latin-1")
        claim = Claim.of(headers, query)
        claim.check(headers, self._clock())
        hashed = headers.get("x-amz-content-sha256")
        body = b"" if hashed or claim.life is not None else await _whole(receive)
        if not hmac.compare_digest(self._signature(claim, scope, query, body).encode(), claim.signature.encode()):
            raise Refused("The signature does not match.")
        if claim.life is not None:
            # Move the signature to the headers, because MiniStack checks presigned URLs with its own secret.
            return _signed_in_headers(scope, claim, query), receive
        if hashed is None:
            return scope, _replay(body)
        return scope, receive if hashed in NOT_HASHED else _checking(receive, hashed)

    def _signature(self, claim: Claim, scope: Message, query: str, body: bytes) -> str:
        _, _, region, service, _ = claim.scope
        signer = SigV4Auth if service != "s3" else S3SigV4Auth if claim.life is None else S3SigV4QueryAuth
        signed_query = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-Signature="))
        url = f"http://{HOSTS[0]}{scope['raw_path'].decode('latin-1')}{'?' if signed_query else ''}{signed_query}"
        request = AWSRequest(method=scope["method"], url=url, data=body)
        for name, value in scope["headers"]:
            if (header := name.decode("latin-1").lower()) in claim.signed:
                request.headers[header] = value.decode("latin-1")
        request.context["timestamp"] = claim.moment
        auth = signer(Credentials("", self._secret), service, region)
        signature: str = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        return signature


async def _whole(receive: Receive) -> bytes:
    """Read the complete body of a request. The guard needs the body if the request gives no hash of the body.

    Raises:
        Refused: the body is too long, or the connection broke.
    """
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("The connection broke before the end of the request.")
        body += message.get("body", b"")
        if len(body) > MOST_UNHASHED:
            raise Refused("The body is too long for a request without a hash of its body.")
        more = message.get("more_body", False)
    return bytes(body)


def _replay(body: bytes) -> Receive:
    """Return a `receive` function that returns an already received body."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _checking(receive: Receive, wanted: str) -> Receive:
    """Return a `receive` function that also checks the hash of the body.

    At the end of the body, the function raises Refused if the body's SHA-256 is not `wanted`.
    """
    digest = hashlib.sha256()

    async def checked() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            digest.update(message.get("body", b""))
            if not message.get("more_body", False) and digest.hexdigest() != wanted:
                raise Refused("The body is not the one that was signed.")
        return message

    return checked


def _signed_in_headers(scope: Message, claim: Claim, query: str) -> Message:
    """Return the request of a presigned URL with its signature moved from the query to the Authorization header."""
    credential, signed = "/".join(claim.scope), ";".join(sorted(claim.signed))
    authorization = f"{ALGORITHM} Credential={credential}, SignedHeaders={signed}, Signature={claim.signature}"
    headers = [pair for pair in scope["headers"] if pair[0].lower() != b"authorization"]
    rest = "&".join(pair for pair in query.split("&") if not pair.startswith("X-Amz-"))
    return scope | {
        "headers": [*headers, (b"authorization", authorization.encode("latin-1"))],
        "query_string": rest.encode("latin-1"),
    }


def _without_cors(send: Send) -> Send:
    """Return a `send` function that drops CORS headers, so that web pages of other origins can't read responses."""

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


class WriteFailed(BaseException):
    """The emulator could not write an object to the disk.

    Derives from BaseException, because MiniStack catches every Exception and reports success.
    """


class WriteFailureResponder:
    """ASGI middleware that responds with status 507 if the emulator can't write an object to the disk."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass one request to the app. If the app raises WriteFailed, respond with status 507."""
        try:
            await self._app(scope, receive, send)
        except WriteFailed as error:
            await _answer(send, 507, "InsufficientStorage", str(error))


def checked_persist(s3: Any) -> Callable[[str, str, Message], None]:  # noqa: ANN401 - MiniStack has no types
    """Return a replacement for MiniStack's function that writes an object to disk. The new function raises WriteFailed.

    If the write fails, MiniStack's own function only logs a warning and keeps the body in memory.
    """
    persist = s3._persist_object  # noqa: SLF001 - MiniStack has no public hook for this, and its version is locked

    def persist_or_raise(bucket: str, key: str, record: Message) -> None:
        persist(bucket, key, record)
        if record.get("body") is not None:
            del s3._buckets[bucket]["objects"][key]  # noqa: SLF001
            s3._delete_persisted_object(bucket, key)  # noqa: SLF001
            raise WriteFailed(f"The object {key} could not be written: is there room on the disk?")

    return persist_or_raise


class Arrivals:
    """Ends the pauses of long polls when a message arrives. MiniStack's own long polls look for messages every 0.1 s.

    `told` is MiniStack's own event, which is set, too.
    """

    def __init__(self, told: threading.Event) -> None:
        self._told = told
        self._pauses: set[asyncio.Future[None]] = set()

    async def sleep(self, seconds: float) -> None:
        """Sleep until a message arrives, but at most for `seconds`."""
        pause = asyncio.get_running_loop().create_future()
        self._pauses.add(pause)
        try:
            await asyncio.wait([pause], timeout=seconds)
        finally:
            self._pauses.discard(pause)

    def set(self) -> None:
        """End all pauses. MiniStack calls this method for each message, from any thread."""
        self._told.set()
        for pause in list(self._pauses):
            pause.get_loop().call_soon_threadsafe(_end, pause)


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)


def woken_by_messages(sqs: Any) -> None:  # noqa: ANN401 - MiniStack has no types
    """Make MiniStack's long polls return as soon as a message arrives."""
    # MiniStack has no public hook for this, and its version is locked. Its module uses these two names of asyncio.
    sqs.esm_wake = Arrivals(sqs.esm_wake)
    sqs.asyncio = SimpleNamespace(iscoroutine=asyncio.iscoroutine, sleep=sqs.esm_wake.sleep)


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """Serve requests until SIGTERM."""
    from ministack import app as ministack  # noqa: PLC0415 - unit tests import this module without MiniStack
    from ministack.services import s3, sqs  # noqa: PLC0415

    threading.Thread(target=_stop_with_parent, daemon=True).start()
    s3._persist_object = checked_persist(s3)  # noqa: SLF001
    woken_by_messages(sqs)
    ministack.app = Guard(WriteFailureResponder(ministack.app), secret=os.environ.pop("ANB_EMULATOR_SECRET"))
    ministack.main()


if __name__ == "__main__":
    main()
