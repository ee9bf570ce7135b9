"""Tests of the responses to wrong parameters in a query or path."""

import pytest

from anb_core.domain.status import Status
from tests.unit.api.conftest import World, code_of


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


@pytest.mark.parametrize("video_id", ["a%00b", "%2e%2e", "a b", "x" * 129, "ü"])
def test_an_id_that_cannot_be_one_is_refused(world: World, video_id: str) -> None:
    answer = world.client.get(f"/api/videos/{video_id}", headers=world.caller("ana"))

    assert code_of(answer)[0] in {404, 422}
