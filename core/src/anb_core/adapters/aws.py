"""Code that the S3, SQS and SNS adapters share: timeouts of the clients, and the translation of boto3's errors.

boto3 itself reads credentials, profiles and `AWS_ENDPOINT_URL` from the environment and from AWS's files.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from anb_core.domain.errors import Full, Unavailable

TRIES = 3
CONNECT_SECONDS = 2.0
POOL = 50
"""Maximum number of connections in a client's pool. Every upload uses two connections at the same time."""

_NO_ROOM = frozenset({"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "507"})
"""Error codes for a full disk or quota, from the embedded emulator, MinIO and Ceph. S3 of AWS has no such codes."""


def client_config(patience: timedelta, *, wait: timedelta = timedelta(0)) -> Config:
    """Return timeouts and retries for a client. Every call ends within `patience`, including its retries and pauses.

    `wait` is the duration of a long poll, or 0 for a client that makes other calls.
    A long poll takes up to `wait` longer, and is not retried.
    """
    # A quarter of `patience` is reserved for the two pauses between the tries, which take at most 3 s together.
    # This quarter is enough if `patience` is at least 12 s.
    answer = patience.total_seconds() / (TRIES + 1)
    return Config(
        connect_timeout=min(CONNECT_SECONDS, answer),
        read_timeout=wait.total_seconds() + answer,
        retries={"mode": "standard", "total_max_attempts": 1 if wait else TRIES},
        max_pool_connections=POOL,
        tcp_keepalive=True,
    )


def error_code(error: ClientError) -> str:
    """Return the error code in a response of AWS. The error code of a response without a body is its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def answering(part: str, place: str) -> Iterator[None]:
    """Translate boto3's errors into `Unavailable`, or into `Full` if the disk or quota is full.

    `place` names the service in the error message, such as "Bucket videos at https://...".
    """
    try:
        yield
    except ParamValidationError:
        raise
    except ClientError as error:
        details = error.response.get("Error", {})
        what = f"{details.get('Code', 'no code')}, {details.get('Message') or 'without a reason'}".rstrip(".")
        kind = Full if error_code(error) in _NO_ROOM else Unavailable
        raise kind(part, f"{place} refuses {error.operation_name}: {what}.") from error
    except BotoCoreError as error:
        raise Unavailable(part, f"{place} does not answer: {str(error).rstrip('.')}.") from error
