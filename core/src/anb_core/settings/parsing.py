"""The forms of values: each takes a variable's text, or raises a ValueError that says what would be right."""

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
"""In seconds."""

MIN_TOKEN_LENGTH = 16
"""Characters that nobody guesses; the tokens that we make are longer."""


def plain(value: object) -> object:
    """The value as it stands in the environment."""
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
        return _number(plain(value), least, most) * SECOND

    return BeforeValidator(parse)


@dataclass(frozen=True, slots=True)
class Form:
    """Takes what is wholly of this pattern; `sentence` says what that is.

    The chart checks some forms, too, so a pattern has nothing that Go's regular expressions lack.
    """

    pattern: str
    sentence: str

    def __call__(self, value: str) -> str:
        """The same value."""
        if not re.fullmatch(self.pattern, value):
            raise ValueError(self.sentence)
        return value


def matching(pattern: str, sentence: str) -> AfterValidator:
    """Takes what is wholly of this pattern; `sentence` says what that is."""
    return AfterValidator(Form(pattern, sentence))


QUEUE_URL = Form(
    r"https?://[^/@\s]+/(\S+/)?[A-Za-z0-9_-]{1,80}(\.fifo)?",
    "it must be a queue's URL, such as https://sqs.us-east-1.amazonaws.com/123456789012/anb-video-processing-queue",
)
BUCKET_NAME = Form(
    "[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "it must be a bucket's name: 3 to 63 lower-case letters, digits, dots, hyphens"
)
HTTP_URL = Form(r"https?://[^/@\s?#]+/?", "it must be an http or https URL without a path")
PATH_PREFIX = Form("(/[A-Za-z0-9._~-]+)*/?", "it must be a path, such as /video")
REGION = Form("(?:[a-z]{2}|eusc)(?:-[a-z]+)+-[0-9]", "it must be a region, such as us-east-1")


def comma_separated(value: object) -> object:
    """The parts of a text, without spaces around them and without empty ones; what is no text is left alone."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _address(value: str) -> str:
    """Takes HOST:PORT."""
    host, colon, port = value.rpartition(":")
    if not (host and colon and port.isdecimal() and int(port) < 2**16):
        raise ValueError("it must be HOST:PORT, such as 127.0.0.1:8000")
    return value


def _token(given: SecretStr) -> SecretStr:
    """Takes an API token that a request can send."""
    # What comes out of a file or a Secret often ends with a line break, which no request could send.
    text = given.get_secret_value().strip()
    if len(text) < MIN_TOKEN_LENGTH:
        raise ValueError(f"it must have at least {MIN_TOKEN_LENGTH} characters")
    for place, letter in enumerate(text, start=1):
        if not "!" <= letter <= "~":
            raise ValueError(f"no request can send its character {place} of {len(text)}, U+{ord(letter):04X}")
    return SecretStr(text)


def region_in(url: str) -> str | None:
    """The AWS region that the host of a URL names, as sqs.us-east-1.amazonaws.com does."""
    named = re.search(rf"(?:^|\.)({REGION.pattern})\.", urlsplit(url).hostname or "")
    return named and named[1]


def _database_url(given: SecretStr) -> SecretStr:
    """Takes a database's URL as people and platforms write it; SQLAlchemy wants the driver's name in it, too."""
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


Address = Annotated[str, AfterValidator(_address)]
Token = Annotated[SecretStr, AfterValidator(_token)]
DatabaseUrl = Annotated[SecretStr, AfterValidator(_database_url)]
QueueUrl = Annotated[str, AfterValidator(QUEUE_URL)]
BucketName = Annotated[str, AfterValidator(BUCKET_NAME)]
HttpUrl = Annotated[str, AfterValidator(HTTP_URL), AfterValidator(lambda url: url.rstrip("/"))]
PathPrefix = Annotated[str, AfterValidator(PATH_PREFIX), AfterValidator(lambda path: path.rstrip("/"))]
KeyPrefix = Annotated[str, matching(r"[^/\s]\S*/", "each prefix must end with a slash and not begin with one")]
