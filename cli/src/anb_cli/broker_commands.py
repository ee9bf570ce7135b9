"""The commands under `anb broker`, for people who move a deployment from one broker to another."""

from collections.abc import Iterator, Mapping
from typing import Any

from anb_cli.terminal import Terminal
from anb_cli.video_commands import connect

KINDS = {"sqs": "SQS", "celery": "Celery"}


def status(*, as_json: bool) -> None:
    """Print the state of all queues."""
    terminal = Terminal(as_json=as_json)
    with connect() as api:
        overview = api.brokers()
    if as_json:
        terminal.record(overview)
    else:
        terminal.lines(describe(overview))


def describe(overview: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that describe the queues."""
    for broker in overview["brokers"]:
        yield f"The {broker['role']} queue, on {KINDS.get(broker['kind'], broker['kind'])}: {broker['name']}"
        messages = {
            "waiting": broker["waiting"],
            "in flight": broker["in_flight"],
            "delayed": broker["delayed"],
            "other receivers": broker["consumers"],
        }
        yield f"  messages             {_listed(messages)}"
        jobs = {"waiting": broker["jobs_waiting"], "running": broker["jobs_running"]}
        yield f"  jobs                 {_listed(jobs)}"
        if broker["oldest_seconds"] is not None:
            yield f"  oldest message sent  {_age(int(broker['oldest_seconds']))} ago"
        if broker["outage"] is not None:
            yield f"  error                {broker['outage']}"
        yield f"  may be switched off  {'yes' if broker['may_be_switched_off'] else 'no'}"
        yield from (f"    {reason}" for reason in broker["reasons"])
        yield ""
    yield f"Jobs whose message was not sent to a queue yet: {overview['unsent']}"


def _age(seconds: int) -> str:
    # A timedelta would raise an error if a faulty server returns a huge number.
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _listed(numbers: Mapping[str, int | None]) -> str:
    """Return the numbers with their names. Unknown numbers are left out."""
    return ", ".join(f"{number} {name}" for name, number in numbers.items() if number is not None) or "unknown"
