"""Tests of the metrics of the API."""

from tests.unit.api.conftest import World


def test_metrics_count_jobs_and_requests_by_route_and_not_by_address(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    world.client.get(f"/api/videos/{video_id}", headers=ana)
    world.client.get("/wp-admin.php")

    text = world.client.get("/metrics").text

    assert 'anb_jobs{status="uploaded"} 1.0' in text
    assert 'anb_http_requests_total{method="GET",route="/api/videos/{video_id}",status="200"} 1.0' in text
    assert 'anb_http_requests_total{method="GET",route="unknown",status="404"} 1.0' in text
    assert video_id not in text
    assert "wp-admin" not in text
