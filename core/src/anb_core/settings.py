"""What the environment says, read once at start.

`python -m anb_core.settings docs/configuration.md` writes the table of these settings into that document.
"""

import re
import socket
import sys
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args
from urllib.parse import urlencode, urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from anb_core.domain.retry import RetryPolicy

SECOND = timedelta(seconds=1)
DAY = 24 * 3600
SQS_MAX_WAIT_SECONDS = 20
SQS_MAX_VISIBILITY_SECONDS = 12 * 3600
SQS_MAX_RECEIVES = 1000
S3_MAX_PRESIGNED_SECONDS = 7 * DAY
S3_MAX_OBJECT_BYTES = 80_000 * 1024 * 1024
"""8 MB parts, 10,000 of them."""

MIN_TOKEN_LENGTH = 16
"""What nobody guesses; the tokens that we make are longer."""

EXIT_MISCONFIGURED = 2
TABLE_BEGIN = "<!-- settings: begin (written by `python -m anb_core.settings docs/configuration.md`) -->"
TABLE_END = "<!-- settings: end -->"


class Misconfigured(ValueError):
    """The environment can't be worked with; `problems` has one sentence for each thing that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _plain(value: object) -> object:
    """As it stands in the environment."""
    return int(value.total_seconds()) if isinstance(value, timedelta) else value


def _number(value: object, least: int, most: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise ValueError(f"it must be a whole number from {least} to {most}")
    return number


def whole(least: int, most: int) -> BeforeValidator:
    """Takes whole numbers within these bounds."""
    return BeforeValidator(lambda value: _number(value, least, most))


def seconds(least: int, most: int) -> BeforeValidator:
    """Takes whole seconds within these bounds, for a timedelta."""

    def parse(value: object) -> timedelta:
        return _number(_plain(value), least, most) * SECOND

    return BeforeValidator(parse)


def matching(pattern: str, sentence: str) -> AfterValidator:
    """Takes what is wholly of this pattern; `sentence` says what that is."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(sentence)
        return value

    return AfterValidator(check)


def _comma_separated(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _database_url(given: SecretStr) -> SecretStr:
    """SQLAlchemy wants to hear the driver's name, people and platforms leave it out."""
    try:
        # What comes out of a file or a Secret often ends with a line break.
        url = make_url(_with_hosts_apart(given.get_secret_value().strip()))
    except (ArgumentError, ValueError):
        raise ValueError(
            "it must be a URL such as postgresql://user:password@host:5432/name or sqlite:///path"
        ) from None
    if "@" in (url.host or ""):
        # The rest of the password would be told as the name of a host.
        raise ValueError("it has more than one @: write one that belongs to the user or the password as %40")
    match url.drivername:
        case "postgres" | "postgresql" | "postgresql+psycopg":
            url = _checked_postgresql(url.set(drivername="postgresql+psycopg"))
        case "sqlite" | "sqlite+pysqlite":
            if url.database in {None, "", ":memory:"}:
                raise ValueError("SQLite needs a file (sqlite:///path): processes cannot share a database in memory")
            url = url.set(drivername="sqlite+pysqlite")
        case driver:
            raise ValueError(f"{driver!r} is not supported, only postgresql and sqlite are")
    return SecretStr(url.render_as_string(hide_password=False))


def _with_hosts_apart(url: str) -> str:
    """SQLAlchemy wants several hosts after the question mark, libpq and people write them where one would be."""
    parts = re.fullmatch(r"(?P<before>postgres[\w+]*://([^@]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>([/?].*)?)", url)
    if parts is None:
        return url
    # An address of IPv6 stands in brackets.
    found = [re.fullmatch(r"\[?((?<=\[)[^\]]*|[^:\[\]]*)\]?(?::(\d*))?", host) for host in parts["hosts"].split(",")]
    if not all(found):
        return url
    hosts, ports = zip(*(host.groups("") for host in found if host), strict=True)
    query = urlencode({"host": ",".join(hosts), "port": ",".join(ports)})
    return f"{parts['before']}{parts['after']}{'&' if '?' in parts['after'] else '?'}{query}"


def _checked_postgresql(url: URL) -> URL:
    wanted = url.query.get("target_session_attrs", "read-write")
    if wanted not in {"read-write", "primary", "any"}:
        raise ValueError("its target_session_attrs must be read-write: all that asks the database writes, too")
    try:
        url.get_dialect()().create_connect_args(url)
    except ArgumentError as error:
        raise ValueError(f"its hosts can't be used: {error}") from None
    return url


def address(value: str) -> str:
    """Takes HOST:PORT."""
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 2**16):
        raise ValueError("it must be HOST:PORT, such as 127.0.0.1:8000")
    return value


_QueueUrl = Annotated[
    str,
    matching(
        r"https?://[^/@\s]+/(\S+/)?[A-Za-z0-9_-]{1,80}(\.fifo)?",
        "it must be a queue's URL, such as https://sqs.us-east-1.amazonaws.com/123456789012/anb-video-processing-queue",
    ),
]
_HttpUrl = Annotated[
    str,
    matching(r"https?://[^/@\s?#]+/?", "it must be an http or https URL without a path"),
    AfterValidator(lambda url: url.rstrip("/")),
]
_PathPrefix = Annotated[
    str,
    matching(r"(/[A-Za-z0-9._~-]+)*/?", "it must be a path, such as /video"),
    AfterValidator(lambda path: path.rstrip("/")),
]
_Prefix = Annotated[str, matching(r"[^/\s]\S*/", "each prefix must end with a slash and not begin with one")]


class DatabaseSettings(BaseSettings):
    """What migrations and the token commands need. A field's alias is its name in the environment."""

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, env_ignore_empty=True, extra="ignore")

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] = Field(
        alias="DATABASE_URL",
        description="The database: `postgresql://user:password@host:5432/name` (`host1:5432,host2:5432` for several"
        " of which one takes writes) or `sqlite:///path`.",
    )
    bootstrap_token: SecretStr | None = Field(
        None,
        alias="ANB_BOOTSTRAP_TOKEN",
        description="A first API token with scope `ops`, recorded by the migration. A new one revokes the one before.",
    )
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", alias="ANB_LOG_FORMAT", description="`json`, `text`, or `auto`: text in a terminal, JSON elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info",
        alias="ANB_LOG_LEVEL",
        description="The least important lines that are logged: `debug`, `info`, `warning`, `error`.",
    )

    @field_validator("bootstrap_token")
    @classmethod
    def _a_token(cls, given: SecretStr | None) -> SecretStr | None:
        if given is None:
            return None
        # What comes out of a file or a Secret often ends with a line break, which no request could send.
        token = given.get_secret_value().strip()
        if len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(f"it must have at least {MIN_TOKEN_LENGTH} characters")
        for place, letter in enumerate(token, start=1):
            if not "!" <= letter <= "~":
                raise ValueError(f"no request can send its character {place} of {len(token)}, U+{ord(letter):04X}")
        return SecretStr(token)


class Settings(DatabaseSettings):
    """What API and workers need."""

    database_connections: Annotated[int, whole(3, 1000)] = Field(
        5,
        alias="ANB_DATABASE_CONNECTIONS",
        description="Connections that this process may open to PostgreSQL.",
    )
    database_connections_in_all: Annotated[int, whole(3, 100_000)] | None = Field(
        None,
        alias="ANB_DATABASE_CONNECTIONS_IN_ALL",
        description="Those of all processes together. The log warns at the start when the server allows fewer. "
        "Default: those of this process.",
    )

    s3_bucket: Annotated[
        str,
        matching(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "it must be a bucket's name: 3 to 63 lower-case letters, digits, dots, hyphens",
        ),
    ] = Field(alias="S3_BUCKET", description="The bucket for uploads, results and resources.")
    s3_public_endpoint: _HttpUrl | None = Field(
        None,
        alias="ANB_S3_PUBLIC_ENDPOINT",
        description="Where people reach the bucket's service, where we don't. For download URLs only.",
    )
    aws_region: str | None = Field(
        None,
        alias="AWS_REGION",
        validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"),
        description="The region of the bucket, and of the queue if nothing else tells.",
    )

    sqs_queue_url: _QueueUrl = Field(
        alias="SQS_QUEUE_URL", description="The queue that wakes the workers. FIFO if its name ends in `.fifo`."
    )
    sqs_region: str = Field(
        "", alias="SQS_REGION", description="The queue's region. Default: told by the queue's URL, else `AWS_REGION`."
    )
    sqs_dlq_url: _QueueUrl = Field(
        "",
        alias="SQS_DLQ_URL",
        description="The dead-letter queue, for creating it. Default: `-dlq` after the queue's name.",
    )
    visibility_timeout: Annotated[timedelta, seconds(1, SQS_MAX_VISIBILITY_SECONDS)] = Field(
        300 * SECOND,
        alias="SQS_VISIBILITY_TIMEOUT",
        description="Seconds for which a received message stays hidden; the worker renews it.",
    )
    max_receive_count: Annotated[int, whole(1, SQS_MAX_RECEIVES)] = Field(
        3,
        alias="SQS_MAX_RECEIVE_COUNT",
        description="Receives after which the queue moves a message to the dead-letter queue.",
    )
    wait_time: Annotated[timedelta, seconds(0, SQS_MAX_WAIT_SECONDS)] = Field(
        20 * SECOND,
        alias="SQS_WAIT_TIME_SECONDS",
        description="Seconds for which a worker waits for a message in one call.",
    )
    create_resources: bool = Field(
        default=False,
        alias="ANB_CREATE_RESOURCES",
        description="Whether bucket and queues may be created when missing. Not for production.",
    )

    lease: Annotated[timedelta, seconds(3, 3600)] = Field(
        60 * SECOND,
        alias="ANB_LEASE_SECONDS",
        description="Seconds after which a silent worker loses its job. Less than `SQS_VISIBILITY_TIMEOUT`.",
    )
    heartbeat: Annotated[timedelta, seconds(1, 1200)] = Field(
        20 * SECOND,
        alias="ANB_HEARTBEAT_SECONDS",
        description="Seconds between renewals of a lease. At most a third of `ANB_LEASE_SECONDS`.",
    )
    drain: Annotated[timedelta, seconds(0, DAY)] = Field(
        120 * SECOND,
        alias="ANB_DRAIN_SECONDS",
        description="Seconds for which a worker that is told to stop may finish its job before it hands it on.",
    )
    max_failures: Annotated[int, whole(1, 100)] = Field(
        3, alias="ANB_MAX_FAILURES", description="Failed attempts after which a job is dead-lettered."
    )
    max_lost: Annotated[int, whole(1, 100)] = Field(
        5, alias="ANB_MAX_LOST", description="Attempts lost with their worker after which a job is dead-lettered."
    )
    backoff_base: Annotated[timedelta, seconds(0, 3600)] = Field(
        10 * SECOND,
        alias="ANB_BACKOFF_SECONDS",
        description="The longest wait in seconds after the first failure; it doubles with each one.",
    )
    backoff_cap: Annotated[timedelta, seconds(0, DAY)] = Field(
        600 * SECOND,
        alias="ANB_BACKOFF_CAP_SECONDS",
        description="The longest wait in seconds after any failure. At least `ANB_BACKOFF_SECONDS`.",
    )
    sweep_interval: Annotated[timedelta, seconds(1, 3600)] = Field(
        10 * SECOND,
        alias="ANB_SWEEP_SECONDS",
        description="Seconds between two looks for expired leases, dead uploads and forgotten jobs.",
    )
    worker_name: str = Field(
        default_factory=socket.gethostname,
        alias="ANB_WORKER_NAME",
        description="What attempts call their worker. Default: the host's name.",
    )

    scratch_limit: Annotated[int, whole(2**28, 2**50)] | None = Field(
        None,
        alias="ANB_SCRATCH_BYTES",
        description="What all workers of a machine may use of its disk, below `TMPDIR`. Default: what is free.",
    )

    sandbox: Literal["prefer", "require"] = Field(
        "prefer",
        alias="ANB_SANDBOX",
        description="Whether a worker does without what the system can't keep a stranger's file from (`prefer`), or "
        "does not start there (`require`).",
    )

    max_upload_bytes: Annotated[int, whole(1, S3_MAX_OBJECT_BYTES)] = Field(
        2 * 1024**3, alias="ANB_MAX_UPLOAD_BYTES", description="The largest upload, in bytes."
    )
    max_duration: Annotated[timedelta, seconds(1, DAY)] = Field(
        4 * 3600 * SECOND, alias="ANB_MAX_DURATION_SECONDS", description="The longest uploaded video, in seconds."
    )
    source_prefixes: Annotated[tuple[_Prefix, ...], NoDecode, BeforeValidator(_comma_separated)] = Field(
        (),
        alias="ANB_SOURCE_PREFIXES",
        description="Where else than in `uploads/` objects may be submitted from, separated by commas. Never deleted.",
    )
    adopt_owner: str | None = Field(
        None,
        alias="ANB_ADOPT_OWNER",
        description="Who owns videos that only an older producer's message tells of. Default: dead letters.",
    )
    download_url_lifetime: Annotated[timedelta, seconds(1, S3_MAX_PRESIGNED_SECONDS)] = Field(
        900 * SECOND, alias="ANB_DOWNLOAD_URL_SECONDS", description="Seconds for which a download URL is good."
    )
    idempotency_lifetime: Annotated[timedelta, seconds(60, 30 * DAY)] = Field(
        DAY * SECOND,
        alias="ANB_IDEMPOTENCY_SECONDS",
        description="Seconds for which an `Idempotency-Key` is remembered.",
    )
    api_listen: Annotated[str, AfterValidator(address)] = Field(
        "127.0.0.1:8000", alias="ANB_API_LISTEN", description="Where the API listens, as `HOST:PORT`."
    )
    api_prefix: _PathPrefix = Field(
        "",
        alias="ANB_API_PREFIX",
        description="The path under which a proxy shows the API, such as `/video`; goes before links. "
        "A request's `X-Forwarded-Prefix` goes before this.",
    )
    worker_listen: Annotated[str, AfterValidator(address)] | None = Field(
        None,
        alias="ANB_WORKER_LISTEN",
        description="Where a worker shows `/metrics`, `/healthz` and `/readyz`, as `HOST:PORT`. Default: nowhere.",
    )

    @property
    def retry_policy(self) -> RetryPolicy:
        """How patient we are with attempts."""
        return RetryPolicy(
            max_failures=self.max_failures,
            max_lost=self.max_lost,
            backoff_base=self.backoff_base,
            backoff_cap=self.backoff_cap,
        )

    @field_validator("sqs_region", mode="before")
    @classmethod
    def _region_of_queue(cls, value: str, info: ValidationInfo) -> str:
        host = urlsplit(info.data.get("sqs_queue_url", "")).hostname or ""
        told = re.search(r"(?:^|\.)((?:[a-z]{2}|eusc)(?:-[a-z]+)+-\d)\.", host)
        region = value or (told and told[1]) or info.data.get("aws_region")
        if not region and host:
            raise ValueError("the queue's URL does not tell its region: set SQS_REGION or AWS_REGION")
        return region or ""

    @field_validator("sqs_dlq_url", mode="before")
    @classmethod
    def _dlq_beside_queue(cls, value: str, info: ValidationInfo) -> str:
        if value:
            return value
        # Without a queue there is a problem already; its placeholder must not make another.
        return re.sub(r"(\.fifo)?$", r"-dlq\1", info.data.get("sqs_queue_url", "http://unknown/queue"), count=1)

    @field_validator("sqs_dlq_url")
    @classmethod
    def _dlq_fits(cls, value: str, info: ValidationInfo) -> str:
        queue = info.data.get("sqs_queue_url", value)
        if value.endswith(".fifo") != queue.endswith(".fifo"):
            raise ValueError(f"it and SQS_QUEUE_URL ({queue}) must both be FIFO queues (.fifo), or neither")
        return value

    @field_validator("lease")
    @classmethod
    def _lease_within_visibility(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        visibility = info.data.get("visibility_timeout")
        if visibility and value >= visibility:
            raise ValueError(f"it must be less than SQS_VISIBILITY_TIMEOUT ({_plain(visibility)})")
        return value

    @field_validator("heartbeat")
    @classmethod
    def _heartbeat_within_lease(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        lease = info.data.get("lease")
        if lease and 3 * value > lease:
            raise ValueError(
                f"it must be at most a third of ANB_LEASE_SECONDS ({_plain(lease)}), so that two renewals may fail"
            )
        return value

    @field_validator("backoff_cap")
    @classmethod
    def _cap_above_base(cls, value: timedelta, info: ValidationInfo) -> timedelta:
        base = info.data.get("backoff_base")
        if base and value < base:
            raise ValueError(f"it must be at least ANB_BACKOFF_SECONDS ({_plain(base)})")
        return value


S = TypeVar("S", bound=BaseSettings)


def load(kind: type[S]) -> S:
    """Read the environment.

    Raises:
        Misconfigured: with a sentence for each wrong variable.
    """
    try:
        return kind()
    except ValidationError as error:
        raise Misconfigured([_sentence(kind, detail) for detail in error.errors()]) from None


def load_or_exit(kind: type[S]) -> S:
    """Read the environment, or say on stderr what is wrong with it and exit with 2."""
    try:
        return load(kind)
    except Misconfigured as error:
        for problem in error.problems:
            sys.stderr.write(f"configuration: {problem}\n")
        raise SystemExit(EXIT_MISCONFIGURED) from None


def _sentence(kind: type[BaseSettings], detail: ErrorDetails) -> str:
    # A default that does not fit is located by the field's name, a given value by its alias.
    field = next(field for name, field in kind.model_fields.items() if detail["loc"][0] in {name, field.alias})
    if detail["type"] == "missing":
        return f"{field.alias} is not set. {field.description}"
    told = str(detail.get("ctx", {}).get("error", detail["msg"][:1].lower() + detail["msg"][1:]))
    given = _plain(detail["input"])
    # Before an @ there may be a password.
    if SecretStr in (field.annotation, *get_args(field.annotation)) or "@" in str(given):
        return f"{field.alias} can't be used: {told}."
    return f"{field.alias} is {given}: {told}." if given else f"{field.alias} is not set: {told}."


def table(fields: Iterable[FieldInfo] = Settings.model_fields.values()) -> str:
    """Settings as a Markdown table."""
    rows = ["| Variable | Default | Meaning |", "|---|---|---|"]
    for field in fields:
        default = "required" if field.is_required() else _default(field.default)
        rows.append(f"| `{field.alias}` | {default} | {field.description} |")
    return "\n".join(rows)


def _default(value: object) -> str:
    match value:
        case bool():
            return f"`{value}`".lower()
        case int() | str() | timedelta() if value:
            return f"`{_plain(value)}`"
    return ""


def with_table(document: str) -> str:
    """The document with the table between its two markers."""
    before, begin, rest = document.partition(TABLE_BEGIN)
    _, end, after = rest.partition(TABLE_END)
    if not (begin and end):
        raise ValueError(f"the document has no lines {TABLE_BEGIN} and {TABLE_END}")
    return f"{before}{begin}\n\n{table()}\n\n{end}{after}"


if __name__ == "__main__":
    document = Path(sys.argv[1])
    document.write_text(with_table(document.read_text(encoding="utf-8")), encoding="utf-8")
