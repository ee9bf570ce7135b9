"""Computes what a deployment of deploy/aws costs, from measured figures and from prices that a person gives.

`measure` reads the processed videos of a deployment from its API. `bill` prints the costs of one more video, and of a
month with 1,000, 100,000 and 10 million videos. docs/aws.md has an example.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from math import ceil
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

import httpx
import yaml

from anb_cli.connection import connection
from anb_cli.errors import CliError
from anb_core.adapters.s3 import PART_BYTES
from anb_core.domain.status import Status
from tools.aws import FOLDER, Json, Mistake, cluster, outputs_of, plan

MONTH_HOURS = 730.0
MONTH_DAYS = MONTH_HOURS / 24
VOLUMES = (1_000, 100_000, 10_000_000)
NEWEST = 100
"""Number of videos that `measure` reads."""

REQUEST_GB = 4e-6
"""Size of a request to SQS or CloudWatch with its answer: 4 KB. It is an estimate, and goes through a NAT gateway."""

BASELINE_CPUS = 0.4
"""CPUs that a t3.medium may use all the time without extra costs: 20 % of each of its two CPUs."""

API_CPUS = 1.0
"""CPUs that a system node has for the API, on average. The rest of its two CPUs is for the other pods and for peaks."""

HEARTBEAT_SECONDS = 20
"""Default of ANB_HEARTBEAT_SECONDS. With each heartbeat, a worker hides its message again."""

WORKER_READS = 2
"""Requests of a worker for a video. It looks at the bucket before it receives the message, and it reads the upload."""

LISTINGS = 2
"""Listings for a video: the worker lists the deployment's own parts, and the deletion the unfinished uploads."""

QUEUE_CALLS = 3
"""Requests to the queue for a video: its message is sent, received and deleted."""

SWEEP_CALLS = 3
"""Requests to the queue for one pass of the sweep."""

READY_CHECKS = 3600 // 5
"""Readiness checks of the operator an hour. Each makes a request to the bucket. The API's pods are asked only when they
start."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one deployment, as means for each video."""

    upload_mb: float
    result_mb: float
    wait_seconds: float
    """Median time from the beginning of an upload to its first attempt. It costs nothing by itself, but a low
    utilisation makes it short."""
    worker_seconds: float
    """Time for which a worker is busy, in all attempts together."""
    worker_cpu_seconds: float
    api_cpu_seconds: float
    utilisation: float
    """Part of their time for which the workers are busy, above 0 and at most 1."""
    downloads: float
    days_kept: float
    log_kb: float
    """Size of the logs that are sent to CloudWatch. 0 if no program sends them."""


class Line(NamedTuple):
    """One line of a bill: the name of its price in prices.yaml, a quantity in the unit of this price, and its parts."""

    price: str
    quantity: float
    made_of: str


@dataclass(frozen=True, slots=True)
class Site:
    """What exists all the time, from the templates, the cluster file and the chart's defaults."""

    nat_gateways: int
    addresses: int
    database_gb: int
    alarm_metrics: int
    system_nodes: int
    node_disk_gb: int
    least_workers: int
    most_workers: int


def planned_site(values: Path | None = None) -> Site:
    """Return the site of the templates, the cluster file and the chart with their default values.

    `values` is a file with other values of the chart.

    Raises:
        Mistake: `values` can't be read.
    """
    stacks = plan({})
    resources = [resource for stack in stacks for resource in stack.resources.values()]
    alarms = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::CloudWatch::Alarm"]
    [database] = [resource["Properties"] for resource in resources if resource["Type"] == "AWS::RDS::DBInstance"]
    groups = {group["name"]: group for group in yaml.safe_load(cluster(outputs_of(stacks)))["managedNodeGroups"]}
    chart = FOLDER.parents[1] / "charts" / "anb-video" / "values.yaml"
    scaling: Json = {}
    for path in (chart, values) if values else (chart,):
        scaling |= _read(path).get("worker", {}).get("autoscaling", {})
    gateways = sum(resource["Type"] == "AWS::EC2::NatGateway" for resource in resources)
    return Site(
        nat_gateways=gateways,
        # The load balancer has an address in each of its two subnets.
        addresses=gateways + 2,
        database_gb=int(database["AllocatedStorage"]),
        alarm_metrics=sum(sum("MetricStat" in query for query in alarm.get("Metrics", [])) or 1 for alarm in alarms),
        system_nodes=groups["system"]["minSize"],
        node_disk_gb=groups["system"]["volumeSize"],
        least_workers=scaling["minReplicas"],
        most_workers=scaling["maxReplicas"],
    )


def bill(measured: Measured, site: Site, videos: int, hours: float = MONTH_HOURS) -> list[Line]:
    """Return the lines of a bill for a number of videos in a number of hours.

    With 0 hours, the bill has only what the videos add, and nothing that exists all the time.
    """
    busy = videos * measured.worker_seconds / 3600 / measured.utilisation
    worker_hours = max(site.least_workers * hours, busy)
    system_hours = max(site.system_nodes * hours, videos * measured.api_cpu_seconds / 3600 / API_CPUS)
    nodes = worker_hours + system_hours
    months = hours / MONTH_HOURS
    uploaded, stored = (videos * mb / 1000 for mb in (measured.upload_mb, measured.upload_mb + measured.result_mb))
    queue = _queue_requests(measured, videos, hours, worker_hours)
    puts_each = _puts(measured.upload_mb) + _puts(measured.result_mb) + LISTINGS
    gets_each = WORKER_READS + measured.downloads
    return [
        Line("cluster_hour", hours, "the control plane"),
        Line("node_hour", system_hours, f"nodes for the system: at least {site.system_nodes}"),
        Line(
            "node_hour",
            worker_hours,
            f"nodes for workers: at least {site.least_workers}; {measured.worker_seconds:g} s a video, busy for "
            f"{measured.utilisation:.0%} of the time",
        ),
        Line("cpu_credits_hour", _surplus(measured, videos, worker_hours, system_hours), "CPU time above the baseline"),
        Line("disk_gb_month", site.node_disk_gb * nodes / MONTH_HOURS, f"{site.node_disk_gb} GB for each node"),
        Line("nat_hour", site.nat_gateways * hours, f"{site.nat_gateways} NAT gateways"),
        Line("nat_gb", (queue + 60 * hours) * REQUEST_GB, "requests to SQS and CloudWatch; S3 has a free way"),
        Line("address_hour", site.addresses * hours, f"{site.addresses} addresses: NAT gateways, load balancer"),
        Line("balancer_hour", hours, "the load balancer"),
        Line("balancer_unit_hour", uploaded, f"uploads of {measured.upload_mb:g} MB: 1 GB is one unit for an hour"),
        Line("database_hour", hours, "the database"),
        Line("database_gb_month", site.database_gb * months, f"{site.database_gb} GB"),
        Line("secret_month", months, "the master password"),
        Line(
            "storage_gb_month",
            stored * measured.days_kept / MONTH_DAYS,
            f"upload and result, {measured.upload_mb + measured.result_mb:g} MB, for {measured.days_kept:g} days",
        ),
        Line(
            "put_thousand", videos * puts_each / 1000, f"{puts_each} a video: parts of 8 MiB, and {LISTINGS} listings"
        ),
        Line(
            "get_thousand",
            (videos * gets_each + READY_CHECKS * hours) / 1000,
            f"{gets_each:g} a video, and checks of readiness",
        ),
        Line(
            "internet_gb",
            videos * measured.downloads * measured.result_mb / 1000,
            f"{measured.downloads:g} downloads a video",
        ),
        Line("queue_million", queue / 1e6, "messages, empty polls, the sweep, and KEDA"),
        Line("metric_month", 4 * months, "the operator's metrics"),
        Line("metric_request_thousand", 60 * hours / 1000, "one request a minute"),
        Line("alarm_month", site.alarm_metrics * months, f"{site.alarm_metrics} metrics of alarms"),
        Line("log_gb", videos * measured.log_kb / 1e6, f"{measured.log_kb:g} KB a video"),
    ]


def _puts(megabytes: float) -> int:
    """Return the number of requests that write an object: one for a small object, else its parts, begin and end."""
    size = megabytes * 1e6
    return 1 if size < PART_BYTES else ceil(size / PART_BYTES) + 2


def _queue_requests(measured: Measured, videos: int, hours: float, worker_hours: float) -> float:
    """Return the number of requests to both queues."""
    each = QUEUE_CALLS + measured.worker_seconds // HEARTBEAT_SECONDS
    # Without a message, a worker's poll takes 20 s, and the operator's poll of the dead-letter queue takes 1 s.
    idle_hours = worker_hours - videos * measured.worker_seconds / 3600
    polls = idle_hours * 180 + hours * 3600
    # Two API pods and each worker sweep every 10 s.
    sweeps = (2 * hours + worker_hours) * 360 * SWEEP_CALLS
    # KEDA reads two counters every 30 s, and the autoscaler asks KEDA for both every 15 s.
    keda = 12 * 60 * hours
    return videos * each + polls + sweeps + keda


def _surplus(measured: Measured, videos: int, worker_hours: float, system_hours: float) -> float:
    """Return the CPU hours above the baseline of the nodes."""
    workers, api = (videos * used / 3600 for used in (measured.worker_cpu_seconds, measured.api_cpu_seconds))
    return max(0.0, workers - BASELINE_CPUS * worker_hours) + max(0.0, api - BASELINE_CPUS * system_hours)


def show(measured: Measured, site: Site, prices: Mapping[str, float]) -> str:
    """Return the bills as text."""
    parts = [
        "Each line has the name of a price, a quantity, the price, the costs, and what the quantity is made of.",
        f"A video waited {measured.wait_seconds:g} s for a worker, from the beginning of its upload.",
    ]
    parts.append(_table("One more video, without what exists all the time", bill(measured, site, 1, 0), prices, 6))
    for videos in VOLUMES:
        lines = bill(measured, site, videos)
        parts.append(_table(f"A month with {videos:,} videos", lines, prices, 2))
        total = sum(line.quantity * prices[line.price] for line in lines)
        parts.append(f"  {total / videos:.6f} for each video. {_size(lines, site)}")
    return "\n\n".join(parts) + "\n"


def _table(title: str, lines: Sequence[Line], prices: Mapping[str, float], digits: int) -> str:
    rows = [
        f"  {line.price:24}{line.quantity:16,.{digits}f} x {prices[line.price]:<10g}"
        f"{line.quantity * prices[line.price]:14,.{digits}f}  {line.made_of}"
        for line in lines
        if line.quantity
    ]
    total = sum(line.quantity * prices[line.price] for line in lines)
    return "\n".join([title, *rows, f"  {'total':53}{total:14,.{digits}f}"])


def _size(lines: Sequence[Line], site: Site) -> str:
    """Say how many nodes the bill has on average, and what must be changed if these are more than are allowed."""
    system, workers = (line.quantity / MONTH_HOURS for line in lines if line.price == "node_hour")
    text = f"On average there are {workers:.1f} nodes for workers and {system:.1f} for the system."
    if workers > site.most_workers:
        text += (
            f" The default values allow {site.most_workers} workers: raise maxReplicas, the maxSize of the node groups,"
            " and the size of the database, because each worker opens connections."
        )
    return text


def measure(videos: Sequence[Json]) -> Json:
    """Return the figures of `Measured` for processed videos with their histories. What they do not tell is None.

    Raises:
        Mistake: there are no videos.
    """
    if not videos:
        raise Mistake("This deployment has no processed videos to measure.")
    attempts = [
        (a["worker"], _time(a["started_at"]), _time(a["ended_at"])) for video in videos for a in video["history"]
    ]
    busy = sum(end - start for _, start, end in attempts)
    spans: dict[str, tuple[float, float]] = {}
    for worker, start, end in attempts:
        first, last = spans.get(worker, (start, end))
        spans[worker] = (min(first, start), max(last, end))
    return {
        "upload_mb": round(fmean(video["source"]["size"] for video in videos) / 1e6, 2),
        "result_mb": round(fmean(video["result"]["size"] for video in videos) / 1e6, 2),
        "wait_seconds": round(median(_time(v["history"][0]["started_at"]) - _time(v["created_at"]) for v in videos), 1),
        "worker_seconds": round(busy / len(videos), 1),
        "utilisation": round(busy / sum(last - first for first, last in spans.values()), 2),
        **dict.fromkeys(("worker_cpu_seconds", "api_cpu_seconds", "downloads", "days_kept", "log_kb")),
    }


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def read_videos(client: httpx.Client) -> Iterator[Json]:
    """Yield the newest processed videos of a deployment, with their histories.

    Raises:
        httpx.HTTPError: the API does not answer, or refuses a request.
    """
    listed = client.get("/api/videos", params={"status": Status.PROCESSED.value, "limit": NEWEST}).raise_for_status()
    for video in listed.json()["videos"]:
        yield client.get(f"/api/videos/{video['video_id']}").raise_for_status().json()


def _numbers(path: Path, names: Sequence[str]) -> dict[str, float]:
    """Return the numbers in a YAML file. Every name must have a number.

    Raises:
        Mistake: the file can't be read, or lacks a number.
    """
    given = _read(path)
    numbers = {name: value for name, value in given.items() if isinstance(value, int | float) and value >= 0}
    if missing := [name for name in names if name not in numbers]:
        raise Mistake(f'{path} has no number for {", ".join(missing)}. See "Costs" in docs/aws.md.')
    if unknown := sorted(given.keys() - set(names)):
        raise Mistake(f"{path} has unknown names: {', '.join(unknown)}.")
    return numbers


def _read(path: Path) -> Json:
    try:
        found: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise Mistake(f"{path} can't be read: {error}") from error
    return found if isinstance(found, dict) else {}


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code."""
    try:
        sys.stdout.write(_run(arguments))
    except (Mistake, CliError, httpx.HTTPError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _run(arguments: Sequence[str]) -> str:
    match arguments:
        case ["bill", measured, prices, *values] if len(values) <= 1:
            figures = Measured(**_numbers(Path(measured), [field.name for field in fields(Measured)]))
            if not 0 < figures.utilisation <= 1:
                raise Mistake(f"{measured}: the utilisation is above 0 and at most 1, not {figures.utilisation:g}.")
            site = planned_site(*map(Path, values))
            wanted = sorted({line.price for line in bill(figures, site, 1)})
            return show(figures, site, _numbers(Path(prices), wanted))
        case ["measure"]:
            to = connection(os.environ)
            with httpx.Client(base_url=to.url, headers={"Authorization": f"Bearer {to.token}"}) as client:
                return yaml.safe_dump(measure(list(read_videos(client))), sort_keys=False)
        case _:
            raise Mistake("Usage: python -m tools.costs bill MEASURED.yaml PRICES.yaml [VALUES.yaml] | measure")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
