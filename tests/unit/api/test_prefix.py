"""Tests of the API behind a proxy that adds a prefix to the API's paths."""

import pytest

from tests.unit.api.conftest import VIDEO, World


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
