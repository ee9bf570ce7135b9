"""Tests of rules for all routes: methods, HEAD, OPTIONS, unknown paths, and headers."""

import pytest
from structlog.testing import capture_logs

from tests.unit.api.conftest import World, code_of, process


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", (404, "route_not_found")),
        ("GET", "/api/videos/", (404, "route_not_found")),
        ("GET", "/docs", (404, "route_not_found")),
        ("POST", "/api/videos/v1/explode", (404, "route_not_found")),
        ("PUT", "/api/videos/v1", (405, "method_not_allowed")),
        ("POST", "/healthz", (405, "method_not_allowed")),
    ],
)
def test_wrong_addresses_and_methods_are_problems_too(
    world: World, method: str, path: str, expected: tuple[int, str]
) -> None:
    assert code_of(world.client.request(method, path)) == expected


def test_a_wrong_method_is_answered_with_all_allowed_methods(world: World) -> None:
    answer = world.client.put("/api/videos/v1")

    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS"
    assert "DELETE, GET, HEAD, OPTIONS" in answer.json()["detail"]
    assert world.client.put("/openapi.json").headers["allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/api/videos", "GET, HEAD, OPTIONS"),
        ("/api/videos/v1", "DELETE, GET, HEAD, OPTIONS"),
        ("/api/videos/upload", "OPTIONS, POST"),
        ("/api/videos/v1/retry", "OPTIONS, POST"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/healthz", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_tell_what_an_address_takes_without_a_token(world: World, path: str, allow: str) -> None:
    answer = world.client.request("OPTIONS", path)

    assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allow, b"")


def test_options_of_an_unknown_path_are_not_found(world: World) -> None:
    assert code_of(world.client.request("OPTIONS", "/nowhere")) == (404, "route_not_found")


def test_head_answers_like_get_without_a_body_wherever_there_is_a_get(world: World, world_routes: set[str]) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    process(world, video_id)
    paths = [
        route.removeprefix("GET ").format(video_id=video_id, dead_letter_id=1)
        for route in world_routes
        if route.startswith("GET ")
    ]
    assert len(paths) > 6

    for path in [*paths, "/openapi.json", "/nowhere", "/api/videos/unknown", "/api/videos?limit=0"]:
        of_get, of_head = (world.client.request(method, path, headers=ana) for method in ("GET", "HEAD"))
        assert of_head.content == b"", path
        assert (of_head.status_code, set(of_head.headers)) == (of_get.status_code, set(of_get.headers)), path
        assert of_head.headers.get("content-type") == of_get.headers.get("content-type"), path


def test_a_head_of_events_does_not_wait_for_one(world: World) -> None:
    ana = world.caller("ana")
    path = f"/api/videos/{world.upload(ana)}/events"

    answer = world.client.request("HEAD", path, headers=ana, timeout=5)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store, no-transform", "no")


def test_a_head_where_only_post_is_taken_is_refused(world: World) -> None:
    assert world.client.request("HEAD", "/api/videos/v1/retry").status_code == 405


def test_every_answer_carries_the_security_headers(world: World) -> None:
    ana = world.caller("ana")
    world.upload(ana)
    answers = [
        world.client.get("/api/videos", headers=ana),
        world.client.get("/api/videos"),
        world.client.get("/nowhere"),
        world.client.get("/healthz"),
        world.client.get("/metrics"),
    ]
    with capture_logs():
        world.store.fault = ZeroDivisionError()
        answers.append(world.client.get("/api/videos", headers=ana))
        world.store.fault = None

    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers
