"""Tests of tools/costs.py, which computes what a deployment on AWS costs. All figures and prices here are invented."""

import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tools import costs
from tools.aws import FOLDER, Mistake

MEASURED = costs.Measured(
    upload_mb=100,
    result_mb=10,
    wait_seconds=12,
    worker_seconds=36,
    worker_cpu_seconds=72,
    api_cpu_seconds=1.8,
    utilisation=0.5,
    downloads=3,
    days_kept=365 / 12,
    log_kb=5,
)
SITE = costs.Site(
    nat_gateways=2,
    addresses=4,
    database_gb=20,
    alarm_metrics=8,
    system_nodes=2,
    node_disk_gb=20,
    least_workers=1,
    most_workers=3,
)


def quantities(videos: int, hours: float = 730, measured: costs.Measured = MEASURED) -> dict[str, list[float]]:
    """Return the quantities of a bill by the names of their prices."""
    found: dict[str, list[float]] = {}
    for line in costs.bill(measured, SITE, videos, hours):
        found.setdefault(line.price, []).append(line.quantity)
    return found


def test_a_month_without_videos_costs_what_exists_all_the_time() -> None:
    assert quantities(0) == {
        "cluster_hour": [730],
        # Two nodes for the system, and one for the least number of workers.
        "node_hour": [1460, 730],
        "cpu_credits_hour": [0],
        "disk_gb_month": [60],
        "nat_hour": [1460],
        "nat_gb": [pytest.approx((5_650_200 + 43_800) * 4 / 1e6)],
        "address_hour": [2920],
        "balancer_hour": [730],
        "balancer_unit_hour": [0],
        "database_hour": [730],
        "database_gb_month": [20],
        "secret_month": [1],
        "storage_gb_month": [0],
        "put_thousand": [0],
        # A minute has 12 checks of the operator.
        "get_thousand": [pytest.approx(730 * 60 * 12 / 1000)],
        "internet_gb": [0],
        # In an hour: 180 polls of the worker, 3600 of the operator, 3 sweepers with 1080 requests each, and 720 of
        # KEDA. In a month 5,650,200.
        "queue_million": [pytest.approx(730 * (180 + 3600 + 3240 + 720) / 1e6)],
        "metric_month": [4],
        "metric_request_thousand": [pytest.approx(43.8)],
        "alarm_month": [8],
        "log_gb": [0],
    }


def test_a_video_adds_its_work_bytes_and_requests() -> None:
    added = {name: sum(amounts) for name, amounts in quantities(1000, hours=0).items() if sum(amounts)}

    assert added == {
        # 36 s for 1,000 videos are 10 hours. Workers are busy for half of their time, so 20 hours. The API uses 0.5.
        "node_hour": pytest.approx(20.5),
        # 20 CPU hours of the workers, less the baseline of 0.4 CPUs; 0.5 of the API, less 0.4 times 0.5 hours.
        "cpu_credits_hour": pytest.approx((20 - 8) + (0.5 - 0.2)),
        "disk_gb_month": pytest.approx(20 * 20.5 / 730),
        "nat_gb": pytest.approx((4000 + 1800 + 21_600) * 4 / 1e6),
        "balancer_unit_hour": 100,
        "storage_gb_month": pytest.approx(110),
        # 100 MB are 12 parts, 10 MB are 2 parts. Each has a begin and an end, and there are two listings.
        "put_thousand": 14 + 4 + 2,
        "get_thousand": 2 + 3,
        "internet_gb": 30,
        # Sent, received, deleted, and one heartbeat: 4,000. 180 polls in each of 10 idle hours. 1080 requests of the
        # sweep in each of 20 hours.
        "queue_million": pytest.approx((4000 + 1800 + 21_600) / 1e6),
        "log_gb": pytest.approx(0.005),
    }


def test_few_videos_need_no_more_workers_than_there_are_all_the_time() -> None:
    # 36,500 videos keep one worker busy for half of a month.
    assert quantities(36_500)["node_hour"][1] == 730
    assert quantities(73_000)["node_hour"][1] == pytest.approx(1460)


def test_a_small_object_is_written_by_one_request() -> None:
    small = replace(MEASURED, upload_mb=8, result_mb=8.388608)

    assert quantities(1000, hours=0, measured=small)["put_thousand"] == [1 + 3 + 2]


def test_the_site_is_that_of_the_templates() -> None:
    assert costs.planned_site() == SITE


def test_only_the_operator_looks_at_the_bucket_again_and_again_to_be_ready() -> None:
    templates = FOLDER.parents[1] / "charts" / "anb-video" / "templates"
    probes = [
        (path.parent.name, name, int(seconds))
        for path in templates.glob("*/*.yaml")
        for name, address, seconds in re.findall(
            r"(\w+Probe):\n.*\"(/\w+)\".*\n +periodSeconds: (\d+)", path.read_text(encoding="utf-8")
        )
        if address == "/readyz"
    ]
    assert sorted(probes) == [("api", "startupProbe", 2), ("operator", "readinessProbe", 5)]
    assert "/readyz" not in (templates / "api" / "ingress.yaml").read_text(encoding="utf-8")
    assert costs.READY_CHECKS == 3600 / 5


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """A file with the figures, and a file in which every price is 1."""
    measured, prices = tmp_path / "measured.yaml", tmp_path / "prices.yaml"
    values = {name: getattr(MEASURED, name) for name in costs.Measured.__slots__}
    measured.write_text(yaml.safe_dump(values), encoding="utf-8")
    names = yaml.safe_load((FOLDER / "prices.yaml").read_text(encoding="utf-8"))
    prices.write_text(yaml.safe_dump(dict.fromkeys(names, 1)), encoding="utf-8")
    return [str(measured), str(prices)]


def test_the_bills_show_each_line_and_its_total(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert costs.main(["bill", *files]) == 0
    shown = capsys.readouterr().out

    assert "A video waited 12 s" in shown
    one, *months = re.split(r"\n\nA month with ", shown)
    assert [month.split(maxsplit=1)[0] for month in months] == ["1,000", "100,000", "10,000,000"]
    assert re.search(r"cluster_hour +730\.00 x 1 +730\.00  the control plane", months[0])
    assert "cluster_hour" not in one
    for part in (one, *months):
        *lines, total = [float(row.replace(",", "")) for row in re.findall(r"^  [a-z].{53}(.{13})", part, re.MULTILINE)]
        assert total == pytest.approx(sum(lines), abs=0.2)


def test_a_bill_with_other_values_of_the_chart_has_their_number_of_workers(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    preset = FOLDER.parents[1] / "charts" / "anb-video" / "ci" / "two-zones-values.yaml"

    assert costs.main(["bill", *files, str(preset)]) == 0

    assert "On average there are 2.0 nodes for workers and 2.0 for the system." in capsys.readouterr().out


def test_a_month_that_needs_more_workers_than_are_allowed_says_so(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert costs.main(["bill", *files]) == 0
    few, some, many = re.findall(r"On average .*", capsys.readouterr().out)

    assert few == "On average there are 1.0 nodes for workers and 2.0 for the system."
    assert some.endswith("2.7 nodes for workers and 2.0 for the system.")
    assert "274.0 nodes for workers and 6.8 for the system. The default values allow 3 workers: raise" in many


def test_a_month_may_need_all_workers_that_are_allowed_but_no_more() -> None:
    prices = {line.price: 1.0 for line in costs.bill(MEASURED, SITE, 1)}
    # 100,000 videos need 2.7 workers.
    assert [
        costs.show(MEASURED, replace(SITE, most_workers=most), prices).count("values allow") for most in (2, 3)
    ] == [
        2,
        1,
    ]


def test_the_repository_has_no_prices_but_names_the_page_of_each_price() -> None:
    text = (FOLDER / "prices.yaml").read_text(encoding="utf-8")
    names = yaml.safe_load(text)

    assert names.keys() == {line.price for line in costs.bill(MEASURED, SITE, 1)}
    assert set(names.values()) == {None}
    for number, line in enumerate(lines := text.splitlines()):
        if line and not line.startswith("#"):
            above = [found for found in lines[:number] if found.startswith("# https://")]
            assert re.fullmatch(r"# https://aws\.amazon\.com/.+/pricing/.*", above[-1])


def test_the_example_in_the_guide_is_that_of_the_example_file(
    files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    prices = Path(files[1])
    prices.write_text(prices.read_text(encoding="utf-8").replace("storage_gb_month: 1", "storage_gb_month: 0.02"))
    guide = (FOLDER.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")
    [example] = re.findall(r"^    (  storage_gb_month .*)$", guide, re.MULTILINE)

    assert costs.main(["bill", str(FOLDER / "measured.yaml"), str(prices)]) == 0
    [_, month, _] = capsys.readouterr().out.split("A month with ")[1:]
    assert example in month.splitlines()


@pytest.mark.parametrize(
    ("arguments", "change", "message"),
    [
        ([], "", "Usage:"),
        (["bill", "{measured}", "{missing}"], "", "missing.yaml can't be read: "),
        (["bill", "{measured}", "{measured}", "{missing}"], "", "missing.yaml can't be read: "),
        (["bill", "{measured}", "{prices}"], "node_hour: ", "prices.yaml has no number for node_hour. See"),
        (["bill", "{measured}", "{prices}"], "node_hour: -1", "prices.yaml has no number for node_hour. See"),
        (["bill", "{measured}", "{prices}"], "gold_gram: 1", "prices.yaml has unknown names: gold_gram."),
        (["bill", "{measured}", "{measured}"], "utilisation: 0", "measured.yaml: the utilisation is above 0 and at"),
        (["bill", "{measured}", "{measured}"], "utilisation: 1.1", "measured.yaml: the utilisation is above 0 and at"),
    ],
)
def test_a_mistake_is_explained(
    arguments: list[str], change: str, message: str, files: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    measured, prices = map(Path, files)
    changed = measured if "utilisation" in change else prices
    values: dict[str, Any] = yaml.safe_load(changed.read_text(encoding="utf-8")) | (yaml.safe_load(change) or {})
    changed.write_text(yaml.safe_dump(values), encoding="utf-8")
    paths = {"measured": measured, "prices": prices, "missing": prices.parent / "missing.yaml"}

    assert costs.main([argument.format(**paths) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""


def video(number: int, *attempts: tuple[str, int, int]) -> dict[str, Any]:
    """Return a processed video as the API shows it. An attempt is its worker, its first and its last second."""
    return {
        "video_id": str(number),
        "created_at": "2026-01-01T12:00:00Z",
        "source": {"size": 40_000_000 * number},
        "result": {"size": 5_000_000},
        "history": [
            {
                "worker": worker,
                "started_at": f"2026-01-01T12:00:{start:02}Z",
                "ended_at": f"2026-01-01T12:00:{end:02}.5Z",
            }
            for worker, start, end in attempts
        ],
    }


def test_the_measurement_counts_all_attempts_and_the_pauses_between_them() -> None:
    # Worker a is busy for 10.5 s and 20.5 s between the seconds 5 and 45.5, worker b for 8.5 s and 10.5 s between the
    # seconds 20 and 39.5. The API lists the newest video first.
    measured = costs.measure([video(3, ("b", 29, 39)), video(2, ("a", 25, 45)), video(1, ("a", 5, 15), ("b", 20, 28))])

    assert measured == {
        "upload_mb": 80,
        "result_mb": 5,
        "wait_seconds": 25,
        "worker_seconds": 16.7,
        "utilisation": round(50 / (40.5 + 19.5), 2),
        "worker_cpu_seconds": None,
        "api_cpu_seconds": None,
        "downloads": None,
        "days_kept": None,
        "log_kb": None,
    }
    assert measured.keys() == set(costs.Measured.__slots__)


def test_without_processed_videos_there_is_nothing_to_measure() -> None:
    with pytest.raises(Mistake, match="no processed videos"):
        costs.measure([])


def test_the_measurement_reads_the_histories_of_the_newest_processed_videos(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANB_URL", "https://videos.example.com")
    monkeypatch.setenv("ANB_TOKEN", "a-token-for-the-test")

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer a-token-for-the-test"
        if request.url.path == "/api/videos":
            assert dict(request.url.params) == {"status": "processed", "limit": "100"}
            return httpx.Response(200, json={"videos": [{"video_id": "7"}], "next_cursor": None})
        assert request.url.path == "/api/videos/7"
        return httpx.Response(200, json=video(7, ("a", 5, 15)))

    def client(**options: Any) -> httpx.Client:
        return real(transport=httpx.MockTransport(answer), **options)

    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", client)

    assert costs.main(["measure"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["worker_seconds"] == 10.5


def test_a_deployment_that_is_not_named_is_a_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANB_URL", "https://videos.example.com")
    monkeypatch.setenv("ANB_TOKEN", "")

    assert costs.main(["measure"]) == 2
    assert "ANB_TOKEN" in capsys.readouterr().err


def test_the_module_is_a_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["costs.py"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(costs.__file__, run_name="__main__")

    assert ended.value.code == 2
    assert "Usage" in capsys.readouterr().err
