"""What the S3 and SQS adapters share: clients that do not wait for long, and errors in our vocabulary.

Credentials, profiles and `AWS_ENDPOINT_URL` are left to boto3, which finds them where every AWS tool does.
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
"""Connections kept; every upload uses two at a time."""

_NO_ROOM = frozenset({"InsufficientStorage", "XMinioStorageFull", "QuotaExceeded", "507"})
"""How the embedded emulator, MinIO and Ceph say it; S3 itself always has room."""


def client_config(patience: timedelta, *, wait: timedelta = timedelta(0)) -> Config:
    """A call with all its tries and pauses ends within `patience`; one that may `wait` for an answer is tried once."""
    # The pauses between the tries are 1 s and 2 s at most: from 12 s of patience on they fit into the fourth quarter.
    answer = patience.total_seconds() / (TRIES + 1)
    return Config(
        connect_timeout=min(CONNECT_SECONDS, answer),
        read_timeout=wait.total_seconds() + answer,
        retries={"mode": "standard", "total_max_attempts": 1 if wait else TRIES},
        max_pool_connections=POOL,
        tcp_keepalive=True,
    )


def error_code(error: ClientError) -> str:
    """S3's and SQS's word for what went wrong; for an answer without a body its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def answering(part: str, place: str) -> Iterator[None]:
    """Turn every failure to get an answer from `place`, such as "Bucket videos at https://...", into `Unavailable`."""
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
