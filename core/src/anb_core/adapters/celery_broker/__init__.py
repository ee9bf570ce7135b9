"""The queue on a Celery broker (Redis or RabbitMQ), through the library kombu. Messages have Celery's wire format.

- `queue` has the code for both brokers. `redis` and `rabbitmq` have the code for one broker each.
- `line` is a connection to a broker, which is opened again after an error.
"""

from datetime import timedelta
from urllib.parse import urlsplit

from anb_core.adapters.celery_broker.queue import KombuQueue
from anb_core.adapters.celery_broker.rabbitmq import RabbitMqQueue
from anb_core.adapters.celery_broker.redis import RedisQueue

__all__ = ["CELERY_QUEUE", "KombuQueue", "celery_queue"]

CELERY_QUEUE = "celery"
"""Name of the queue that Celery uses by default."""


def celery_queue(url: str, *, patience: timedelta, visibility: timedelta, queue: str = CELERY_QUEUE) -> KombuQueue:
    """Return the queue with the name `queue` on the broker at `url`. The first call opens a connection.

    The scheme of `url` is redis, rediss, amqp or amqps.
    A call ends within about `patience`. `receive` may also wait for a message as long as its argument `wait` says.
    """
    kind = RedisQueue if urlsplit(url).scheme in {"redis", "rediss"} else RabbitMqQueue
    return kind(url, queue=queue, patience=patience, visibility=visibility)
