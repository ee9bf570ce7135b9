"""Tests which tokens the API accepts, and which videos each owner can see."""

import pytest

from anb_core.domain.model import Scope
from tests.unit.api.conftest import World, code_of

MEMBERS = ["", "/events", "/download"]
COMMANDS = ["/cancel", "/retry"]


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
