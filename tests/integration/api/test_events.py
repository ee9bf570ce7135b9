import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest

from anb_api import events
from anb_core.adapters.system import new_id
from anb_core.domain.model import Lease, Result
from anb_core.domain.retry import RetryPolicy
from anb_core.ports.store import Claimed
from tests.support import eventually
from tests.support.api import VIDEO, Api


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    name: str
    data: dict[str, Any]


class Stream:
    """Parses the lines of an event stream into events."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self._lines = answer.iter_lines()

    def __iter__(self) -> Iterator[Event]:
        fields: dict[str, str] = {}
        for line in self._lines:
            name, _, value = line.partition(": ")
            if not line and fields:
                yield Event(fields["id"], fields["event"], json.loads(fields["data"]))
                fields = {}
            elif line:
                fields[name] = value

    def next(self) -> Event:
        return next(iter(self))

    def line(self) -> str:
        return next(self._lines)


class World:
    """An uploaded video, its owner's API client, and methods that change the video as a worker does."""

    def __init__(self, api: Api, client: httpx.Client) -> None:
        self.api = api
        self.client = client
        answer = self.client.post("/api/videos/upload", data={"title": "T"}, files={"video_file": ("a.mp4", VIDEO)})
        self.video_id: str = answer.json()["video_id"]

    @contextmanager
    def stream(self, last_event_id: str | None = None) -> Iterator[Stream]:
        headers = {"Last-Event-ID": last_event_id} if last_event_id is not None else {}
        with self.client.stream("GET", f"/api/videos/{self.video_id}/events", headers=headers) as answer:
            yield Stream(answer)

    def claim(self) -> Lease:
        claimed = self.api.context.store.claim(
            self.video_id,
            generation=None,
            attempt_id=new_id(),
            worker="w",
            lease=timedelta(minutes=1),
            policy=RetryPolicy(),
        )
        assert isinstance(claimed, Claimed)
        return claimed.lease

    def progress(self, lease: Lease, value: float) -> None:
        assert self.api.context.store.report_progress(lease, value)

    def publish(self, lease: Lease) -> None:
        assert self.api.context.store.publish(lease, Result(lease.result_key, 10, "ab", 1280, 720, 35.5, 1065))


@pytest.fixture
def world(api: Api, request: pytest.FixtureRequest) -> Iterator[World]:
    with api.client(request.node.name) as client:
        yield World(api, client)


def test_the_first_event_tells_the_present_status_and_the_last_one_ends_the_stream(world: World) -> None:
    with world.stream() as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        first = stream.next()
        assert (first.name, first.data["status"]) == ("status", "uploaded")

        lease = world.claim()
        assert (stream.next().data["status"]) == "processing"
        for value in (0.25, 0.5):
            world.progress(lease, value)
            event = stream.next()
            assert (event.name, event.data["progress"]) == ("progress", value)
        world.publish(lease)

        rest = list(stream)
        assert [(event.name, event.data["status"], event.data["progress"]) for event in rest] == [
            ("status", "processed", 1.0)
        ]


def test_a_reader_that_lost_its_connection_resumes_without_a_gap_or_a_repeat(world: World) -> None:
    lease = world.claim()
    with world.stream() as stream:
        stream.next()
        world.progress(lease, 0.1)
        seen = stream.next()
    for value in (0.2, 0.3):
        world.progress(lease, value)

    with world.stream(seen.id) as stream:
        assert [stream.next().data["progress"] for _ in range(2)] == [0.2, 0.3]
        world.publish(lease)
        rest = list(stream)

    assert [event.data["status"] for event in rest] == ["processed"]
    assert int(rest[0].id) > int(seen.id)


def test_a_reader_that_has_seen_the_end_is_told_not_to_come_back(world: World) -> None:
    with world.stream() as stream:
        stream.next()
        world.client.post(f"/api/videos/{world.video_id}/cancel")
        (last,) = stream

    with world.stream(last.id) as stream:
        assert stream.answer.status_code == 204


def test_a_reader_that_missed_the_end_gets_it(world: World) -> None:
    with world.stream() as stream:
        seen = stream.next()
    world.client.post(f"/api/videos/{world.video_id}/cancel")

    with world.stream(seen.id) as stream:
        assert [event.data["status"] for event in stream] == ["cancelled"]


def test_a_retry_can_be_followed_from_the_end_before_it(world: World) -> None:
    with world.stream() as stream:
        stream.next()
        world.client.post(f"/api/videos/{world.video_id}/cancel")
        (last,) = stream
    world.client.post(f"/api/videos/{world.video_id}/retry")

    with world.stream(last.id) as stream:
        assert stream.next().data["status"] == "uploaded"


def test_the_stream_of_a_finished_video_tells_its_status_and_ends(world: World) -> None:
    world.client.post(f"/api/videos/{world.video_id}/cancel")

    with world.stream() as stream:
        assert [event.data["status"] for event in stream] == ["cancelled"]


def test_deleting_a_video_ends_its_stream(world: World) -> None:
    with world.stream() as stream:
        stream.next()
        world.client.delete(f"/api/videos/{world.video_id}")

        assert [event.name for event in stream] == ["deleted"]


def test_a_silent_stream_is_kept_open_by_comments(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.01)
    with world.stream() as stream:
        stream.next()
        assert stream.line() == ": still here"


def test_a_reader_that_disconnects_is_unsubscribed(world: World) -> None:
    hub = world.api.context.hub
    with world.stream() as stream:
        stream.next()
        assert hub.watched == 1

    eventually(lambda: hub.watched == 0)


@pytest.mark.parametrize("last_event_id", ["-1", "x", "1.5", str(2**63)])
def test_an_invalid_event_id_is_refused(world: World, last_event_id: str) -> None:
    with world.stream(last_event_id) as stream:
        assert stream.answer.status_code == 422


def test_an_event_id_that_is_not_in_the_feed_does_no_harm(world: World) -> None:
    with world.stream(str(2**62)) as stream:
        assert stream.next().data["status"] == "uploaded"


def test_another_owners_video_cannot_be_followed(world: World, api: Api) -> None:
    with api.client("somebody-else") as client:
        assert client.get(f"/api/videos/{world.video_id}/events").status_code == 404
