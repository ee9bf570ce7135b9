import threading
from datetime import timedelta
from typing import NoReturn

import pytest
from structlog.testing import capture_logs

from anb_api.multipart import OVERHEAD_BYTES
from anb_api.schemas import read_cursor, write_cursor
from anb_core.adapters.system import new_id
from anb_core.domain.errors import Full, Invalid, Unavailable
from anb_core.domain.model import Counters, Problem, Result, Scope
from anb_core.domain.retry import RetryPolicy, plan_outage
from anb_core.domain.status import Status
from anb_core.ports.store import Claimed, Page
from tests.unit.api.conftest import VIDEO, World, code_of, running_api

MEMBERS = ["", "/events", "/download"]
COMMANDS = ["/cancel", "/retry"]


def process(world: World, video_id: str) -> None:
    claimed = world.store.claim(
        video_id, generation=1, attempt_id=new_id(), worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
    )
    assert isinstance(claimed, Claimed)
    result = Result(claimed.lease.result_key, 10, "ab", 1280, 720, 35.5, 1065)
    assert world.store.publish(claimed.lease, result)


def test_every_route_needs_a_token(world: World) -> None:
    for method, path in [
        ("POST", "/api/videos/upload"),
        ("GET", "/api/videos"),
        *(("GET", f"/api/videos/v1{member}") for member in MEMBERS),
        *(("POST", f"/api/videos/v1{command}") for command in COMMANDS),
        ("DELETE", "/api/videos/v1"),
    ]:
        answer = world.client.request(method, path)
        assert code_of(answer) == (401, "token_missing"), path
        assert answer.headers["www-authenticate"] == 'Bearer realm="anb-video"'


@pytest.mark.parametrize("value", ["Bearer wrong", "bearer wrong", "Bearer \xff"])
def test_a_wrong_token_gets_another_code_than_a_missing_one(world: World, value: str) -> None:
    answer = world.client.get("/api/videos", headers={"Authorization": value.encode("latin-1")})

    assert code_of(answer) == (401, "token_invalid")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("value", ["Basic YTpi", "Bearer", "token"])
def test_other_ways_to_authenticate_count_as_none(world: World, value: str) -> None:
    assert code_of(world.client.get("/api/videos", headers={"Authorization": value})) == (401, "token_missing")


def test_another_owners_video_does_not_exist(world: World) -> None:
    video_id = world.upload(world.caller("ana"))
    bob = world.caller("bob")

    for method, path in [
        *(("GET", member) for member in MEMBERS),
        *(("POST", command) for command in COMMANDS),
        ("DELETE", ""),
    ]:
        theirs = world.client.request(method, f"/api/videos/{video_id}{path}", headers=bob)
        nobodys = world.client.request(method, f"/api/videos/{'0' * 36}{path}", headers=bob)
        assert code_of(theirs) == code_of(nobodys) == (404, "video_not_found")
        assert theirs.text.replace(video_id, "0" * 36) == nobodys.text

    assert world.client.get("/api/videos", headers=bob).json() == {"videos": [], "next_cursor": None}


def test_ops_see_and_do_what_owners_can(world: World) -> None:
    video_id = world.upload(world.caller("ana"))
    ops = world.caller("olga", Scope.OPS)

    assert world.client.get(f"/api/videos/{video_id}", headers=ops).json()["owner"] == "ana"
    assert [video["video_id"] for video in world.client.get("/api/videos", headers=ops).json()["videos"]] == [video_id]
    assert world.client.post(f"/api/videos/{video_id}/cancel", headers=ops).status_code == 200


def test_a_receipt_tells_where_the_video_is(world: World) -> None:
    ana = world.caller("ana")
    answer = world.client.post(
        "/api/videos/upload",
        headers=ana,
        data={"title": "Día", "edit": '{"trim": {"start": 2}}'},
        files={"video_file": ("../../clip.mp4", b"\0\0\0\x18ftypisom")},
    )

    receipt = answer.json()
    assert (answer.status_code, receipt["status"]) == (202, "uploaded")
    video = world.client.get(answer.headers["location"], headers=ana).json()
    assert (video["video_id"], video["task_id"]) == (receipt["video_id"], receipt["task_id"])
    assert (video["title"], video["file_name"], video["edit"]["trim"]) == (
        "Día",
        "clip.mp4",
        {"start": 2, "length": 30},
    )
    assert video["links"] == receipt["links"]
    assert (video["source"]["size"], video["history"]) == (12, [])


def test_an_upload_wakes_the_relay_which_sends_the_message(world: World) -> None:
    video_id = world.upload(world.caller("ana"))

    delivery = world.queue.receive(wait=timedelta(seconds=5))

    assert delivery is not None
    assert video_id in delivery.body


def test_the_relay_and_the_sweep_run_as_long_as_the_api() -> None:
    before = set(threading.enumerate())
    with running_api():
        loops = {thread.name: thread for thread in threading.enumerate() if thread not in before}
        assert {"relay", "sweep"} <= loops.keys()
    assert not loops["relay"].is_alive()
    assert not loops["sweep"].is_alive()


def test_links_lead_only_where_the_status_allows_it(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)

    def allowed() -> set[str]:
        links = world.client.get(f"/api/videos/{video_id}", headers=ana).json()["links"]
        return {name for name in ("download", "cancel", "retry") if links[name]}

    assert allowed() == {"cancel"}
    world.client.post(f"/api/videos/{video_id}/cancel", headers=ana)
    assert allowed() == {"retry"}
    world.client.post(f"/api/videos/{video_id}/retry", headers=ana)
    assert allowed() == {"cancel"}


def test_a_processed_video_tells_its_result_and_redirects_to_it(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    assert code_of(world.client.get(f"/api/videos/{video_id}/download", headers=ana)) == (409, "not_processed")

    process(world, video_id)

    video = world.client.get(f"/api/videos/{video_id}", headers=ana).json()
    assert (video["status"], video["progress"], video["attempts"]) == ("processed", 1.0, 1)
    assert video["result"] == {
        "size": 10,
        "sha256": "ab",
        "width": 1280,
        "height": 720,
        "duration": 35.5,
        "frames": 1065,
    }
    assert [attempt["ending"] for attempt in video["history"]] == ["processed"]
    answer = world.client.get(video["links"]["download"], headers=ana)
    assert answer.status_code == 307
    assert answer.headers["location"].startswith(f"https://{world.objects.bucket}.invalid/processed/{video_id}/1-")
    assert "file_name=clip-processed.mp4" in answer.headers["location"]
    assert answer.headers["cache-control"] == "no-store"


def test_commands_in_the_wrong_status_are_conflicts(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)

    assert code_of(world.client.post(f"/api/videos/{video_id}/retry", headers=ana)) == (409, "wrong_status")
    assert world.client.post(f"/api/videos/{video_id}/cancel", headers=ana).json()["status"] == "cancelled"
    assert code_of(world.client.post(f"/api/videos/{video_id}/cancel", headers=ana)) == (409, "wrong_status")
    world.objects.contents.clear()
    assert code_of(world.client.post(f"/api/videos/{video_id}/retry", headers=ana)) == (409, "source_missing")


def test_a_deleted_video_is_gone(world: World) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)

    assert world.client.delete(f"/api/videos/{video_id}", headers=ana).status_code == 204
    assert code_of(world.client.get(f"/api/videos/{video_id}", headers=ana)) == (404, "video_not_found")
    assert code_of(world.client.delete(f"/api/videos/{video_id}", headers=ana)) == (404, "video_not_found")


def test_pages_follow_one_another_to_the_end(world: World) -> None:
    ana = world.caller("ana")
    uploaded = [world.upload(ana, title=f"No. {number}") for number in range(5)]

    seen: list[str] = []
    query: dict[str, str] = {"limit": "2"}
    while True:
        page = world.client.get("/api/videos", headers=ana, params=query).json()
        seen += [video["video_id"] for video in page["videos"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert seen == uploaded[::-1]


def test_a_listing_can_be_limited_to_several_statuses(world: World) -> None:
    ana = world.caller("ana")
    cancelled, processed, _ = (world.upload(ana) for _ in range(3))
    world.client.post(f"/api/videos/{cancelled}/cancel", headers=ana)
    process(world, processed)

    answer = world.client.get("/api/videos?status=cancelled&status=processed", headers=ana).json()

    assert {video["video_id"] for video in answer["videos"]} == {cancelled, processed}


def test_what_the_log_says_of_an_attempt_is_told_to_ops_alone_and_only_if_asked_for(world: World) -> None:
    ana, ops = world.caller("ana"), world.caller("ops", Scope.OPS)
    video_id = world.upload(ana)
    claimed = world.store.claim(
        video_id, generation=None, attempt_id=new_id(), worker="w", lease=timedelta(minutes=1), policy=RetryPolicy()
    )
    assert isinstance(claimed, Claimed)
    problem = Problem("bucket_unavailable", "The bucket did not answer.", "http://secret.host:9000 refuses")
    world.store.settle(claimed.lease, plan_outage(Counters(), problem, RetryPolicy(), jitter=0.5))

    for headers, query, detail in (
        (ana, "", None),
        (ana, "?detail=true", None),
        (ops, "", None),
        (ops, "?detail=true", "http://secret.host:9000 refuses"),
    ):
        [attempt] = world.client.get(f"/api/videos/{video_id}{query}", headers=headers).json()["history"]
        assert attempt["error"] == {
            "code": "bucket_unavailable",
            "message": "The bucket did not answer.",
            "detail": detail,
        }


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "status=done", "cursor=" + "x" * 301, "status="])
def test_a_wrong_query_is_refused_with_the_parameter_named(world: World, query: str) -> None:
    answer = world.client.get(f"/api/videos?{query}", headers=world.caller("ana"))

    assert code_of(answer) == (422, "request_invalid")
    assert f"query.{query.partition('=')[0]}" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "detail"),
    [
        ("/api/videos?limit=x", 'query.limit: it must be a whole number (it is "x").'),
        ("/api/videos?limit=0&limit=101", 'query.limit: it must be at most 100 (it is "101").'),
        (
            "/api/videos?status=done",
            'query.status.0: it must be %s (it is "done").',
        ),
        (
            "/api/videos?cursor=" + "x" * 301,
            f'query.cursor: it must have at most 300 characters (it is "{"x" * 59}...).',
        ),
        (
            "/api/videos/a%0Ab",
            'path.video_id: it has a character that is not allowed, or too many characters (it is "a\\nb").',
        ),
    ],
)
def test_a_wrong_parameter_is_explained_in_our_own_words(world: World, path: str, detail: str) -> None:
    answer = world.client.get(path, headers=world.caller("ana"))

    detail = detail.replace("%s", f"{', '.join(map(repr, map(str, [*Status][:-1])))} or {str([*Status][-1])!r}")
    assert (code_of(answer), answer.json()["detail"]) == ((422, "request_invalid"), detail)


@pytest.mark.parametrize("cursor", ["", "x", "!!", "bnVsbA", "WzEsMl0", "WzFlOTk5LCAiYSJd", "W10", "ZG9n", "é"])
def test_an_invalid_cursor_is_refused(world: World, cursor: str) -> None:
    answer = world.client.get("/api/videos", params={"cursor": cursor}, headers=world.caller("ana"))

    assert code_of(answer) == (422, "cursor_invalid")


def test_a_cursor_can_be_read_back_exactly(world: World) -> None:
    world.upload(world.caller("ana"))
    (record,) = world.store.listing(owner=None)

    page = Page(record.video.created_at, record.video.id)
    assert read_cursor(write_cursor(page)) == page
    with pytest.raises(Invalid):
        read_cursor(write_cursor(Page(page.created_at, "../etc")))


@pytest.mark.parametrize("video_id", ["a%00b", "%2e%2e", "a b", "x" * 129, "ü"])
def test_an_id_that_cannot_be_one_is_refused(world: World, video_id: str) -> None:
    answer = world.client.get(f"/api/videos/{video_id}", headers=world.caller("ana"))

    assert code_of(answer)[0] in {404, 422}


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
    paths = [route.removeprefix("GET ").format(video_id=video_id) for route in world_routes if route.startswith("GET ")]
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


def test_the_functions_of_generated_clients_have_names_of_their_own(world: World) -> None:
    paths = world.client.get("/openapi.json").json()["paths"]

    names = [operation["operationId"] for methods in paths.values() for operation in methods.values()]
    assert sorted(names) == [
        "cancel_video",
        "check_health",
        "check_readiness",
        "delete_video",
        "download_video",
        "follow_video",
        "list_videos",
        "read_metrics",
        "retry_video",
        "show_video",
        "upload_video",
    ]


def test_the_schema_describes_events_as_text_and_the_file_as_the_last_field(world: World) -> None:
    paths = world.client.get("/openapi.json").json()["paths"]

    content = paths["/api/videos/{video_id}/events"]["get"]["responses"]["200"]["content"]
    assert content == {"text/event-stream": {"schema": {"type": "string"}}}
    form = paths["/api/videos/upload"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert list(form["properties"]) == ["title", "edit", "video_file"]


class TestBehindAPrefix:
    @pytest.fixture(params=["setting", "header", "both"])
    def headers(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
        if request.param in {"setting", "both"}:
            monkeypatch.setenv("ANB_API_PREFIX", "/elsewhere" if request.param == "both" else "/video/")
        return {"X-Forwarded-Prefix": "/video"} if request.param in {"header", "both"} else {}

    @pytest.fixture
    def ana(self, headers: dict[str, str], world: World) -> dict[str, str]:
        return {**world.caller("ana"), **headers}

    def test_every_link_leads_back_through_it(self, ana: dict[str, str], world: World) -> None:
        receipt = world.client.post(
            "/api/videos/upload", headers=ana, data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)}
        )
        here = f"/video/api/videos/{receipt.json()['video_id']}"

        assert receipt.headers["location"] == receipt.json()["links"]["self"] == here
        listed = world.client.get("/api/videos", headers=ana).json()["videos"][0]
        shown = world.client.get(here.removeprefix("/video"), headers=ana).json()
        cancelled = world.client.post(f"{here.removeprefix('/video')}/cancel", headers=ana).json()
        assert listed["links"] == shown["links"] == receipt.json()["links"]
        assert cancelled["links"]["retry"] == f"{here}/retry"
        retried = world.client.post(f"{here.removeprefix('/video')}/retry", headers=ana).json()
        assert retried["links"]["events"] == f"{here}/events"

    def test_the_schema_tells_of_it(self, ana: dict[str, str], world: World) -> None:
        assert world.client.get("/openapi.json", headers=ana).json()["servers"] == [{"url": "/video"}]

    @pytest.mark.parametrize("path", ["/api/videos", "/healthz", "/openapi.json"])
    def test_a_proxy_may_leave_it_on(self, ana: dict[str, str], world: World, path: str) -> None:
        assert world.client.get(f"/video{path}", headers=ana).status_code == 200


@pytest.mark.parametrize(
    "prefix", ["//evil.example", "/a b", "video", "/a?b", "/a\\b", "https://evil.example", "/%0d%0a"]
)
def test_a_prefix_that_could_lead_elsewhere_is_passed_over(world: World, prefix: str) -> None:
    ana = world.caller("ana")
    world.upload(ana)

    answer = world.client.get("/api/videos", headers={**ana, "X-Forwarded-Prefix": prefix}).json()

    assert answer["videos"][0]["links"]["self"].startswith("/api/videos/")


@pytest.mark.parametrize(("header", "prefix"), [("/a, /b/", "/a/b"), ("/", ""), ("", ""), ("/api", "/api")])
def test_prefixes_of_several_proxies_are_joined(world: World, header: str, prefix: str) -> None:
    ana = world.caller("ana")
    world.upload(ana)

    answer = world.client.get("/api/videos", headers={**ana, "X-Forwarded-Prefix": header}).json()

    assert answer["videos"][0]["links"]["self"].startswith(f"{prefix}/api/videos/")


@pytest.mark.parametrize(("part", "code"), [("database", "database_unavailable"), ("bucket", "bucket_unavailable")])
def test_an_unavailable_part_is_named_with_the_time_to_try_again(world: World, part: str, code: str) -> None:
    ana = world.caller("ana")
    video_id = world.upload(ana)
    world.client.post(f"/api/videos/{video_id}/cancel", headers=ana)
    broken = world.store if part == "database" else world.objects
    broken.fault = Unavailable(part, f"The {part} is away.")

    answer = world.client.post(f"/api/videos/{video_id}/retry", headers=ana)
    broken.fault = None

    assert code_of(answer) == (503, code)
    assert answer.headers["retry-after"] == "5"


@pytest.mark.parametrize("part", ["database", "bucket"])
def test_an_upload_for_which_there_is_no_room_is_not_taken(world: World, part: str) -> None:
    ana = world.caller("ana")
    broken = world.store if part == "database" else world.objects

    def full_from_the_first_byte_on(*_: object, **__: object) -> NoReturn:
        raise Full(part, "Bucket videos at http://secret.host:4566 refuses PutObject: InsufficientStorage.")

    with pytest.MonkeyPatch.context() as patch:
        method = "begin_upload" if part == "database" else "writing"
        patch.setattr(type(broken), method, full_from_the_first_byte_on)
        answer = world.client.post(
            "/api/videos/upload", headers=ana, data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)}
        )

    assert code_of(answer) == (507, "storage_full")
    assert answer.json()["detail"] == (
        f"The {part} has no space left, so nothing was stored: free space on its disk, then retry."
    )
    assert "retry-after" not in answer.headers
    assert world.client.get("/api/videos", headers=ana).json()["videos"] == []


def test_a_video_that_this_version_cannot_read_is_reported_and_hides_no_other(world: World) -> None:
    ana = world.caller("ana")
    bad, good = world.upload(ana), world.upload(ana)
    world.store.unreadable.add(bad)

    listed = world.client.get("/api/videos", headers=ana).json()["videos"]
    for answer in (
        world.client.get(f"/api/videos/{bad}", headers=ana),
        world.client.get(f"/api/videos/{bad}/events", headers=ana),
        world.client.post(f"/api/videos/{bad}/cancel", headers=ana),
    ):
        assert code_of(answer) == (503, "video_unreadable")
        assert bad in answer.json()["detail"]
        assert answer.headers["retry-after"] == "5"

    assert [video["video_id"] for video in listed] == [good]


def test_an_unexpected_error_is_a_problem_without_internal_details(world: World) -> None:
    ana = world.caller("ana")
    world.store.fault = ZeroDivisionError("secret detail")

    with capture_logs() as logs:
        answer = world.client.get("/api/videos", headers=ana)
    world.store.fault = None

    assert code_of(answer) == (500, "internal_error")
    assert "secret" not in answer.text
    assert [log["path"] for log in logs if log["event"] == "request failed"] == ["/api/videos"]


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


def test_readiness_names_what_does_not_answer_and_does_without_the_queue(world: World) -> None:
    def readiness() -> tuple[int, bool, set[str]]:
        answer = world.client.get("/readyz")
        body = answer.json()
        return answer.status_code, body["ready"], {part for part, check in body["checks"].items() if not check["ok"]}

    assert readiness() == (200, True, set())
    world.queue.fault = Unavailable("queue", "secret.host is away.")
    assert readiness() == (200, True, {"queue"})
    world.objects.fault = Unavailable("bucket", "secret.host is away.")
    assert readiness() == (503, False, {"queue", "bucket"})
    world.objects.fault = None
    world.store.fault = Unavailable("database", "secret.host is away.")
    assert readiness() == (503, False, {"queue", "database"})
    assert "secret" not in world.client.get("/readyz").text
    world.store.fault = None


def test_the_process_is_alive_whatever_else_is_not(world: World) -> None:
    world.store.fault = world.objects.fault = Unavailable("database", "The database is away.")

    assert world.client.get("/healthz").json() == {"status": "ok"}
    world.store.fault = None


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


@pytest.mark.parametrize("key", ["", "x" * 256, "två", "a b"])
def test_an_invalid_idempotency_key_is_refused_before_the_body_is_read(world: World, key: str) -> None:
    answer = world.client.post(
        "/api/videos/upload", headers={**world.caller("ana"), "Idempotency-Key": key.encode()}, content=b"unread"
    )

    # The body is not a form. An API that read the body before the header would answer with another error.
    assert code_of(answer) == (422, "request_invalid")
    assert "header.idempotency-key: it has a character that is not allowed" in answer.json()["detail"].lower()


@pytest.mark.parametrize(
    ("length", "answered"),
    [(10_000 + OVERHEAD_BYTES, (400, "form_malformed")), (10_001 + OVERHEAD_BYTES, (413, "file_too_large"))],
)
def test_a_body_that_must_hold_too_large_a_file_is_refused_by_its_length(
    world: World, length: int, answered: tuple[int, str]
) -> None:
    headers = {"Content-Length": str(length), "Content-Type": "multipart/form-data; boundary=x"}

    answer = world.client.post("/api/videos/upload", headers=world.caller("ana") | headers, content=b"no form at all")

    assert code_of(answer) == answered


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, gzip", "GZIP"])
def test_a_compressed_upload_is_refused_with_the_encoding_named(world: World, encoding: str) -> None:
    headers = {**world.caller("ana"), "Content-Encoding": encoding, "Content-Type": "multipart/form-data; boundary=x"}

    answer = world.client.post("/api/videos/upload", headers=headers, content=b"unread")

    assert code_of(answer) == (415, "encoding_unsupported")
    assert encoding.removeprefix("identity, ") in answer.json()["detail"]


def test_an_upload_with_the_encoding_identity_is_accepted(world: World) -> None:
    answer = world.client.post(
        "/api/videos/upload",
        headers={**world.caller("ana"), "Content-Encoding": "identity"},
        data={"title": "T", "edit": ""},
        files={"video_file": ("a.mp4", VIDEO)},
    )

    assert answer.status_code == 202


def test_the_error_text_of_a_part_is_shown_to_no_client(world: World) -> None:
    ana = world.caller("ana")
    world.store.fault = Unavailable("database", 'connection to "secret.host" failed for user "anb".')

    answer = world.client.get("/api/videos", headers=ana)

    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.json()["detail"] == "The database does not answer; try again in a moment."
    assert "Retry-After" in answer.headers
    world.store.fault = None
