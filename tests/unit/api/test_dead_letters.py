"""Tests of the routes under /api/dead-letters."""

from typing import Any

import httpx
import pytest

from anb_core.domain.message import MAX_BODY_BYTES
from anb_core.domain.model import DeadLetterCause, Scope
from tests.support.given import FFMPEG_FAILED, dead_lettered, record_of
from tests.unit.api.conftest import World, code_of

LIST = "/api/dead-letters"
REDRIVE = f"{LIST}/redrive"


@pytest.fixture
def ops(world: World) -> dict[str, str]:
    return world.caller("olga", Scope.OPS)


def dead_letter(world: World, *, owner: str = "ana", version: str = "1.0") -> tuple[int, str]:
    """Create a dead letter whose uploaded file exists. Returns the ids of the dead letter and of the video."""
    video_id = dead_lettered(world.store, owner=owner, version=version)
    world.objects.put(record_of(world.store, video_id).video.source_key, b"video")
    return world.store.letters[-1].id, video_id


def message(world: World, body: str = "?") -> int:
    """Create a dead letter without a video, and return its id."""
    world.store.record_dead_letter(
        cause=DeadLetterCause.UNREADABLE, message_id=f"m{len(world.store.letters)}", body=body, detail="It is not JSON."
    )
    return world.store.letters[-1].id


def ids(answer: httpx.Response) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [letter["id"] for letter in answer.json()["dead_letters"]]


def test_every_route_refuses_a_token_that_is_not_of_scope_ops(world: World) -> None:
    ana, (letter, _) = world.caller("ana"), dead_letter(world)
    for method, path, body in (
        ("GET", LIST, None),
        ("GET", f"{LIST}/{letter}", None),
        ("POST", f"{LIST}/{letter}/redrive", None),
        ("POST", f"{LIST}/{letter}/discard", {"reason": "A test."}),
        ("POST", REDRIVE, {}),
    ):
        answer = world.client.request(method, path, headers=ana, json=body)
        assert code_of(answer) == (403, "scope_missing")
        assert code_of(world.client.request(method, path, json=body)) == (401, "token_missing")


def test_a_dead_letter_says_all_that_is_known_about_it(world: World, ops: dict[str, str]) -> None:
    letter, video_id = dead_letter(world, version="2.3")

    [listed] = world.client.get(LIST, headers=ops).json()["dead_letters"]

    assert listed.pop("created_at").endswith("+00:00")
    assert listed == {
        "id": letter,
        "cause": "failures",
        "detail": FFMPEG_FAILED.message,
        "code": FFMPEG_FAILED.code,
        "error_detail": FFMPEG_FAILED.detail,
        "video_id": video_id,
        "generation": 1,
        "owner": "ana",
        "worker": "worker-1",
        "version": "2.3",
        "failures": 1,
        "lost": 0,
        "message_id": None,
        "resolution": None,
        "resolved_at": None,
        "resolved_by": None,
        "reason": None,
    }
    shown = world.client.get(f"{LIST}/{letter}", headers=ops).json()
    assert (shown["body"], shown["body_bytes"]) == (None, None)
    [attempt] = shown["attempts"]
    assert (attempt["ending"], attempt["error"]["detail"]) == ("failed", FFMPEG_FAILED.detail)


def test_only_a_single_dead_letter_has_its_body_which_is_whole(world: World, ops: dict[str, str]) -> None:
    letter = message(world, "é" * (MAX_BODY_BYTES // 2))

    [listed] = world.client.get(LIST, headers=ops).json()["dead_letters"]
    shown = world.client.get(f"{LIST}/{letter}", headers=ops).json()

    assert "body" not in listed
    assert (shown["body"], shown["body_bytes"], shown["attempts"]) == ("é" * (MAX_BODY_BYTES // 2), MAX_BODY_BYTES, [])


def test_a_list_can_be_narrowed_and_paged(world: World, ops: dict[str, str]) -> None:
    (anas, _), (bobs, _) = dead_letter(world, version="1.0"), dead_letter(world, owner="bob", version="2.0")
    unreadable, discarded = message(world), message(world)
    world.client.post(f"{LIST}/{discarded}/discard", headers=ops, json={"reason": "A test."})

    for query, expected in {
        "": [unreadable, bobs, anas],
        "state=resolved": [discarded],
        "state=all": [discarded, unreadable, bobs, anas],
        "cause=failures": [bobs, anas],
        "cause=failures&cause=unreadable": [unreadable, bobs, anas],
        "owner=ana": [anas],
        "version=2.0": [bobs],
        "worker=worker-1": [bobs, anas],
        f"code={FFMPEG_FAILED.code}&code=timed_out": [bobs, anas],
        "code=timed_out": [],
        "owner=eve": [],
        "since=2100-01-01T00:00:00Z": [],
        "until=2100-01-01T00:00:00%2B01:00": [unreadable, bobs, anas],
        "owner=ana&version=2.0": [],
    }.items():
        assert ids(world.client.get(f"{LIST}?{query}", headers=ops)) == expected, query
    first = world.client.get(f"{LIST}?limit=2", headers=ops)
    second = world.client.get(f"{LIST}?limit=2&cursor={first.json()['next_cursor']}", headers=ops)
    assert (ids(first), ids(second), second.json()["next_cursor"]) == ([unreadable, bobs], [anas], None)


@pytest.mark.parametrize(
    "query",
    [
        *(
            "cause=lost",
            "state=dead",
            "limit=0",
            "limit=101",
            "since=yesterday",
            "until=2026-01-01",
            "since=7",
            "cursor=" + "x" * 301,
        ),
        "since=2026-01-01T00:00:00",
        "since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z",
    ],
)
def test_a_wrong_query_is_refused_with_the_parameter_named(world: World, ops: dict[str, str], query: str) -> None:
    answer = world.client.get(f"{LIST}?{query}", headers=ops)

    assert code_of(answer) == (422, "request_invalid")
    assert query.partition("=")[0] in answer.json()["detail"]


@pytest.mark.parametrize(
    "cursor", ["", "x", "WzEsICJ2MSJd", "WzEsIDBd", "WzEsIDFlOTld", "WzEsIDkyMjMzNzIwMzY4NTQ3NzU4MDhd"]
)
def test_a_cursor_that_is_not_ours_is_refused(world: World, ops: dict[str, str], cursor: str) -> None:
    """The last four cursors encode the invalid ids "v1", 0, 1e99 and 2**63."""
    assert code_of(world.client.get(f"{LIST}?cursor={cursor}", headers=ops)) == (422, "cursor_invalid")
    assert code_of(world.client.post(REDRIVE, headers=ops, json={"cursor": cursor})) == (422, "cursor_invalid")


@pytest.mark.parametrize(
    ("dead_letter_id", "expected"),
    [
        ("7", (404, "dead_letter_not_found")),
        (str(2**63 - 1), (404, "dead_letter_not_found")),
        *((wrong, (404, "route_not_found")) for wrong in ("x", "1.5", "-1", "1/2")),
        *((wrong, (422, "request_invalid")) for wrong in ("0", str(2**63))),
    ],
)
def test_a_dead_letter_that_does_not_exist_is_not_found(
    world: World, ops: dict[str, str], dead_letter_id: str, expected: tuple[int, str]
) -> None:
    path = f"{LIST}/{dead_letter_id}"
    assert code_of(world.client.get(path, headers=ops)) == expected
    assert code_of(world.client.post(f"{path}/redrive", headers=ops)) == expected
    assert code_of(world.client.post(f"{path}/discard", headers=ops, json={"reason": "A test."})) == expected


def test_a_redrive_begins_a_new_generation_and_sends_the_message(world: World, ops: dict[str, str]) -> None:
    letter, video_id = dead_letter(world)

    answer = world.client.post(f"{LIST}/{letter}/redrive", headers=ops)

    assert (answer.status_code, answer.json()["video_id"], answer.json()["generation"]) == (202, video_id, 2)
    again = world.client.post(f"{LIST}/{letter}/redrive", headers=ops)
    assert code_of(again) == (409, "dead_letter_resolved")
    assert "was redriven by olga at" in again.json()["detail"]


def test_a_redrive_that_cannot_be_is_a_conflict_with_the_reason(world: World, ops: dict[str, str]) -> None:
    without, (gone, _) = message(world), dead_letter(world)
    world.objects.contents.clear()

    assert code_of(world.client.post(f"{LIST}/{without}/redrive", headers=ops)) == (409, "dead_letter_without_video")
    assert code_of(world.client.post(f"{LIST}/{gone}/redrive", headers=ops)) == (409, "source_missing")


def test_a_discard_keeps_the_reason_and_leaves_the_video_as_it_is(world: World, ops: dict[str, str]) -> None:
    letter, video_id = dead_letter(world)

    answer = world.client.post(f"{LIST}/{letter}/discard", headers=ops, json={"reason": "An old test video, 🎬."})

    discarded = answer.json()
    assert (answer.status_code, discarded["resolution"], discarded["reason"], discarded["resolved_by"]) == (
        200,
        "discarded",
        "An old test video, 🎬.",
        "olga",
    )
    assert "body" not in discarded
    assert world.client.get(f"/api/videos/{video_id}", headers=ops).json()["status"] == "dead_lettered"
    again = world.client.post(f"{LIST}/{letter}/discard", headers=ops, json={"reason": "Again."})
    assert code_of(again) == (409, "dead_letter_resolved")


@pytest.mark.parametrize("reason", ["", " ", "\u200b", "a\nb", "\0", "x" * 501, 7, None])
def test_a_discard_needs_a_reason_of_one_line_that_can_be_seen(
    world: World, ops: dict[str, str], reason: object
) -> None:
    letter = message(world)

    answer = world.client.post(f"{LIST}/{letter}/discard", headers=ops, json={"reason": reason})

    assert code_of(answer) == (422, "request_invalid")
    assert "body.reason" in answer.json()["detail"]
    assert world.store.letters[0].open
    longest = world.client.post(f"{LIST}/{letter}/discard", headers=ops, json={"reason": "é" * 500})
    assert longest.status_code == 200


def test_a_redrive_of_many_reports_what_it_did_and_did_not(world: World, ops: dict[str, str]) -> None:
    (first, _), without, (second, _) = dead_letter(world), message(world), dead_letter(world)

    foretold = world.client.post(REDRIVE, headers=ops, json={"dry_run": True}).json()
    done = world.client.post(REDRIVE, headers=ops, json={}).json()

    assert done == {
        "dry_run": False,
        "matched": 3,
        "redriven": 2,
        "ids": [second, first],
        "skipped": [
            {
                "id": without,
                "code": "dead_letter_without_video",
                "message": f"Dead letter {without} can't be redriven. It belongs to no video. Discard it instead.",
            }
        ],
        "left": 0,
        "spread_seconds": 0.075,
        "next_cursor": None,
    }
    assert foretold == done | {"dry_run": True}


def test_a_redrive_of_many_goes_on_where_its_cap_ended_it(world: World, ops: dict[str, str]) -> None:
    letters = [dead_letter(world)[0] for _ in range(3)]

    first = world.client.post(REDRIVE, headers=ops, json={"cap": 2}).json()
    second = world.client.post(
        REDRIVE, headers=ops, json={"cap": 2, "cursor": first["next_cursor"], "delay": first["spread_seconds"]}
    ).json()

    assert (first["ids"], first["left"]) == (letters[:0:-1], 1)
    assert (second["ids"], second["left"], second["next_cursor"]) == ([letters[0]], 0, None)


def test_a_filter_that_selects_nothing_redrives_nothing(world: World, ops: dict[str, str]) -> None:
    letter, _ = dead_letter(world)
    span = {"since": "2026-01-01T00:00:00+02:00", "until": "2026-01-02T00:00:00Z"}
    for wanted in ({"owner": "eve"}, {"cause": ["unknown_job"]}, {"code": ["timed_out"]}, {"version": "9"}, span):
        report = world.client.post(REDRIVE, headers=ops, json=wanted).json()
        assert (report["matched"], report["redriven"], report["ids"], report["skipped"]) == (0, 0, [], []), wanted
    assert ids(world.client.get(LIST, headers=ops)) == [letter]


@pytest.mark.parametrize(
    ("order", "named"),
    [
        ({"cap": 0}, "body.cap"),
        ({"cap": 1001}, "body.cap"),
        ({"cap": True}, "body.cap"),
        ({"cause": ["lost"]}, "body.cause.0"),
        ({"causes": ["failures"]}, "body.causes: there is no such field"),
        ({"state": "all"}, "body.state: there is no such field"),
        ({"delay": -1}, "body.delay"),
        ({"delay": 86401}, "body.delay"),
        ({"dry_run": "yes"}, "body.dry_run"),
        ({"since": "yesterday"}, "body.since"),
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "since"),
        ([], "body: it must be an object"),
    ],
)
def test_a_wrong_order_is_refused_with_the_field_named(
    world: World, ops: dict[str, str], order: Any, named: str
) -> None:
    dead_letter(world)

    answer = world.client.post(REDRIVE, headers=ops, json=order)

    assert code_of(answer) == (422, "request_invalid")
    assert named in answer.json()["detail"]
    assert world.store.letters[0].open


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'{"owner": "\\ud800"}', b"{}{}"])
def test_a_body_that_is_not_json_is_refused(world: World, ops: dict[str, str], body: bytes) -> None:
    dead_letter(world)

    answer = world.client.post(REDRIVE, headers=ops, content=body)

    assert code_of(answer) == (422, "request_invalid")
    assert world.store.letters[0].open


def test_a_body_that_is_too_large_is_refused(world: World, ops: dict[str, str]) -> None:
    answer = world.client.post(REDRIVE, headers=ops, content=b'{"owner": "' + b"x" * 1024 * 1024 + b'"}')

    assert code_of(answer) == (413, "request_too_large")
