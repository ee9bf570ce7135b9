"""Validators for values of environment variables. Each validator raises a ValueError that describes a valid value."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlencode, urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

SECOND = timedelta(seconds=1)
DAY = 24 * 3600
"""Seconds in a day."""

MIN_TOKEN_LENGTH = 16
"""Minimum length of an API token in the environment, in characters. An attacker could guess a shorter token."""


def plain(value: object) -> object:
    """Convert a value to its form in an environment variable. A duration is converted to whole seconds."""
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
    """Return a validator for whole numbers from `least` to `most`."""
    return BeforeValidator(lambda value: _number(value, least, most))


def seconds(least: int, most: int) -> BeforeValidator:
    """Return a validator for whole seconds from `least` to `most`. The validator returns a timedelta."""

    def parse(value: object) -> timedelta:
        return _number(plain(value), least, most) * SECOND

    return BeforeValidator(parse)


@dataclass(frozen=True, slots=True)
class Form:
    """A validator for texts. The whole text must match `pattern`. `sentence` is the error message.

    The chart uses some of these patterns, too. Therefore they must be valid regular expressions of Go (RE2).
    """

    pattern: str
    sentence: str

    def __call__(self, value: str) -> str:
        """Return the value if it matches the pattern. Otherwise raise a ValueError."""
        if not re.fullmatch(self.pattern, value):
            raise ValueError(self.sentence)
        return value


def matching(pattern: str, sentence: str) -> AfterValidator:
    """Return a `Form` as a validator for pydantic."""
    return AfterValidator(Form(pattern, sentence))


QUEUE_URL = Form(
    r"https?://[^/@\s]+/(\S+/)?[A-Za-z0-9_-]{1,80}(\.fifo)?",
    "it must be a queue's URL, such as https://sqs.us-east-1.amazonaws.com/123456789012/anb-video-processing-queue",
)
BUCKET_NAME = Form(
    "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "it must be a bucket's name: 3 to 63 lower-case letters, digits, dots, hyphens"
)
HTTP_URL = Form(r"https?://[^/@\s?#]+/?", "it must be an http or https URL without a path")
_BROKER = r"([^/?#@;\s]*@)?([^/?#@:\s,;]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?"
BROKER_URL = Form(
    # kombu accepts more forms. But it raises no readable error for an option that it does not know, and the option
    # ssl_cert_reqs could switch off the check of the certificate.
    rf"redis://{_BROKER}(/[0-9]*)?|rediss://{_BROKER}(/[0-9]*)?(\?ssl_cert_reqs=(CERT_REQUIRED|required))?"
    rf"|(amqp|pyamqp|amqps)://{_BROKER}(/[^?#@;\s]*)?",
    "it must be a broker's URL without options (?name=value), such as redis://:password@host:6379/0 or"
    " amqp://user:password@host:5672//. Write @, /, ? and # in the user or the password as %40, %2F, %3F and %23",
)
CELERY_QUEUE_NAME = Form("[A-Za-z0-9_.:-]{1,128}", "it must be a queue's name, such as celery")
PATH_PREFIX = Form("(/[A-Za-z0-9._~-]+)*/?", "it must be a path, such as /video")
REGION = Form("(?:[a-z]{2}|eusc)(?:-[a-z]+)+-[0-9]", "it must be a region, such as us-east-1")

TOPIC_ARN = Form(
    rf"arn:aws[a-z-]*:sns:{REGION.pattern}:[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}}",
    "it must be the ARN of a standard SNS topic, such as arn:aws:sns:us-east-1:123456789012:anb-alerts",
)

CLOUDWATCH_NAMESPACE = Form(
    "[A-Za-z0-9._/#-]{1,255}", "it must be a namespace of CloudWatch: letters, digits and . _ / # -, such as ANBVideo"
)


def _broker_url(given: SecretStr) -> SecretStr:
    """Validate the URL of a Celery broker, and remove white space at its ends. An empty text means no broker."""
    # The text of a file or a Secret often ends with a line break.
    text = given.get_secret_value().strip()
    parts = urlsplit(text and BROKER_URL(text))
    try:
        parts.port  # noqa: B018 - it raises an error if the port is too large
    except ValueError:
        raise ValueError("it has a port above 65535") from None
    return SecretStr(text)


def comma_separated(value: object) -> object:
    """Split a text at its commas. Remove spaces around the items, and empty items. Return any other value unchanged."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _address(value: str) -> str:
    """Validate an address of the form HOST:PORT."""
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 2**16):
        raise ValueError("it must be HOST:PORT, such as 127.0.0.1:8000")
    return value


def _token(given: SecretStr) -> SecretStr:
    """Validate an API token. It must consist of characters that can be sent in an HTTP header."""
    # Remove the line break with which the content of a file or of a Secret often ends.
    text = given.get_secret_value().strip()
    if len(text) < MIN_TOKEN_LENGTH:
        raise ValueError(f"it must have at least {MIN_TOKEN_LENGTH} characters")
    for place, letter in enumerate(text, start=1):
        if not "!" <= letter <= "~":
            raise ValueError(f"no request can send its character {place} of {len(text)}, U+{ord(letter):04X}")
    return SecretStr(text)


def region_in(url: str) -> str | None:
    """Return the AWS region in the host of a URL, such as us-east-1 in sqs.us-east-1.amazonaws.com, or None."""
    named = re.search(rf"(?:^|\.)({REGION.pattern})\.", urlsplit(url).hostname or "")
    return named and named[1]


def _database_url(given: SecretStr) -> SecretStr:
    """Validate a database URL, and convert it to the form of SQLAlchemy, which contains the name of the driver."""
    try:
        # Remove the line break with which the content of a file or of a Secret often ends.
        url = make_url(_with_hosts_apart(given.get_secret_value().strip()))
    except (ArgumentError, ValueError):
        raise ValueError(
            "it must be a URL such as postgresql://user:password@host:5432/name or sqlite:///path"
        ) from None
    if "@" in (url.host or ""):
        # Refuse a second @. Otherwise error messages would show a part of the password as the name of the host.
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
    """If a URL has several hosts, move them to the query parameters, where SQLAlchemy expects them.

    A URL with only one host is returned unchanged.
    """
    parts = re.fullmatch(r"(?P<before>postgres[\w+]*://([^@]*@)?)(?P<hosts>[^/?@]*,[^/?@]*)(?P<after>([/?].*)?)", url)
    if parts is None:
        return url
    # An IPv6 address in a URL is enclosed in brackets.
    found = [re.fullmatch(r"\[?((?<=\[)[^\]]*|[^:\[\]]*)\]?(?::(\d*))?", host) for host in parts["hosts"].split(",")]
    if not all(found):
        return url
    hosts, ports = zip(*(host.groups("") for host in found if host), strict=True)
    query = urlencode({"host": ",".join(hosts), "port": ",".join(ports)})
    return f"{parts['before']}{parts['after']}{'&' if '?' in parts['after'] else '?'}{query}"


def _checked_postgresql(url: URL) -> URL:
    wanted = url.query.get("target_session_attrs", "read-write")
    if wanted not in {"read-write", "primary", "any"}:
        raise ValueError("its target_session_attrs must be read-write: every program also writes to the database")
    try:
        url.get_dialect()().create_connect_args(url)
    except ArgumentError as error:
        raise ValueError(f"its hosts can't be used: {error}") from None
    return url


Address = Annotated[str, AfterValidator(_address)]
Token = Annotated[SecretStr, AfterValidator(_token)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
QueueUrl = Annotated[str, AfterValidator(lambda url: url and QUEUE_URL(url))]
BrokerUrl = Annotated[SecretStr, AfterValidator(_broker_url)]
CeleryQueueName = Annotated[str, AfterValidator(CELERY_QUEUE_NAME)]
TopicArn = Annotated[str, AfterValidator(TOPIC_ARN)]
CloudWatchNamespace = Annotated[str, AfterValidator(CLOUDWATCH_NAMESPACE)]
BucketName = Annotated[str, AfterValidator(BUCKET_NAME)]
HttpUrl = Annotated[str, AfterValidator(HTTP_URL), AfterValidator(lambda url: url.rstrip("/"))]
PathPrefix = Annotated[str, AfterValidator(PATH_PREFIX), AfterValidator(lambda path: path.rstrip("/"))]
KeyPrefix = Annotated[str, matching(r"[^/\s]\S*/", "each prefix must end with a slash and not begin with one")]
