"""Tests of the route /api/reconciliations."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from anb_core.domain.errors import Unavailable
from anb_core.domain.model import Scope
from anb_core.domain.object_notes import note_of_upload
from tests.support.given import new_video
from tests.unit.api.conftest import World, code_of, running_api


@pytest.fixture
def restored() -> Iterator[World]:
    """An API with an uploaded file that its database does not know."""
    with running_api() as world:
        lost = new_video("id-1")
        world.objects.put(lost.source_key, b"upload", note=note_of_upload(lost))
        yield world


def reconcile(world: World, **order: Any) -> httpx.Response:
    return world.client.post("/api/reconciliations", headers=world.caller("olga", Scope.OPS), json=order)


def test_without_an_order_it_is_a_dry_run_of_the_first_part(restored: World) -> None:
    report = reconcile(restored).json()
    assert report == {
        "dry_run": True,
        "examined": 1,
        "findings": [
            {
                "action": "restore_upload",
                "video_id": "id-1",
                "key": "uploads/id-1.mp4",
                "message": "The video 'Holidays' of ada is not in the database.",
                "changes": True,
            }
        ],
        "next_after": "processed/",
    }
    assert restored.store.listing(owner=None) == []

    assert reconcile(restored, dry_run=False).json() == report | {"dry_run": False}
    assert [record.video.id for record in restored.store.listing(owner="ada")] == ["id-1"]
    assert reconcile(restored, after="processed/").json()["next_after"] == "videos/"
    assert reconcile(restored, after="videos/").json() == {
        "dry_run": True, "examined": 1, "findings": [], "next_after": None
    }  # fmt: skip


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"after": "camera/"}, "cursor_invalid"),
        ({"after": ""}, "request_invalid"),
        ({"dry_run": "no"}, "request_invalid"),
        ({"apply": True}, "request_invalid"),
    ],
    ids=str,
)
def test_an_order_that_can_not_be_carried_out_is_refused(restored: World, order: dict[str, Any], code: str) -> None:
    assert code_of(reconcile(restored, **order)) == (422, code)


def test_others_reconcile_nothing_and_an_outage_of_the_bucket_is_503(restored: World) -> None:
    assert code_of(restored.client.post("/api/reconciliations", json={})) == (401, "token_missing")
    answer = restored.client.post("/api/reconciliations", headers=restored.caller("ana"), json={})
    assert code_of(answer) == (403, "scope_missing")
    restored.objects.fault = Unavailable("bucket", "The bucket is away.")
    assert code_of(reconcile(restored)) == (503, "bucket_unavailable")
