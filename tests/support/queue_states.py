"""Examples of the state of a queue in the JSON format of the API."""

from typing import Any


def a_queue_state(**changes: Any) -> dict[str, Any]:
    """Return the state of a current queue. Keyword arguments replace fields."""
    return {
        "name": "https://sqs.us-east-1.amazonaws.com/123456789012/anb",
        "kind": "sqs",
        "role": "current",
        "waiting": 3,
        "in_flight": 1,
        "delayed": 0,
        "consumers": None,
        "outage": None,
        "jobs_waiting": 4,
        "jobs_running": 1,
        "oldest_seconds": 130.5,
        "may_be_switched_off": False,
        "reasons": ["New work goes to this queue."],
        **changes,
    }
