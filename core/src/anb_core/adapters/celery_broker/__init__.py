"""The queue on a Celery broker, Redis or RabbitMQ, by kombu. It speaks Celery's wire format.

- `queue` has what both brokers share; `redis` and `rabbitmq` have what each broker does in its own way.
- `line` keeps one connection, and opens it again when the broker comes back.
"""

from datetime import timedelta
from urllib.parse import urlsplit

from anb_core.adapters.celery_broker.queue import KombuQueue
from anb_core.adapters.celery_broker.rabbitmq import RabbitMqQueue
from anb_core.adapters.celery_broker.redis import RedisQueue

__all__ = ["CELERY_QUEUE", "KombuQueue", "celery_queue"]

CELERY_QUEUE = "celery"
"""The queue that Celery itself uses if its settings name no other one."""


def celery_queue(url: str, *, patience: timedelta, visibility: timedelta, queue: str = CELERY_QUEUE) -> KombuQueue:
    """Return the queue `queue` on the broker at `url`: redis, rediss, amqp or amqps. It connects when first used.

    A call ends within about `patience`, apart from the wait for a message.
    """
    kind = RedisQueue if urlsplit(url).scheme in {"redis", "rediss"} else RabbitMqQueue
    return kind(url, queue=queue, patience=patience, visibility=visibility)
