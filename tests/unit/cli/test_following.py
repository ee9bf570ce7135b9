import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from httpx_sse import ServerSentEvent

from anb_cli.answers import Json
from anb_cli.errors import CliError, NotOurs, Refused, Unreachable
from anb_cli.following import PATIENCE, Update, follow, pause_after
from anb_core.domain.status import Status


def event(number: int, status: str, progress: float = 0.0, name: str = "status") -> ServerSentEvent:
    return ServerSentEvent(
        id=str(number), event=name, data=json.dumps({"status": status, "progress": progress, "error": None})
    )


def video(status: str, progress: float = 0.0, error: Json | None = None) -> Json:
    return {"status": status, "progress": progress, "error": error}


AWAY = Unreachable("away")
GONE = Refused("gone", code="video_not_found", status=404)


class Deployment:
    """A fake API that returns the given streams and states in order. If an item is an error, the error is raised.

    The API repeats the last state of `answers` forever. `now` is the time in seconds. `sleep` advances `now`.
    """

    def __init__(self, streams: list[list[ServerSentEvent | CliError]], answers: list[Json | CliError]) -> None:
        self.after: list[str | None] = []
        self.now = 0.0
        self._streams = streams
        self._answers = answers

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerSentEvent]:
        assert video_id == "v"
        self.after.append(after)
        for item in self._streams.pop(0) if self._streams else [AWAY]:
            if isinstance(item, CliError):
                raise item
            yield item

    def get(self, video_id: str) -> dict[str, Any]:
        assert video_id == "v"
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, CliError):
            raise answer
        return answer

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def follow(self) -> list[Update]:
        return list(follow(self, "v", sleep=self.sleep, monotonic=lambda: self.now))


def test_every_change_is_yielded_until_the_video_is_finished() -> None:
    api = Deployment(
        [[event(1, "uploaded"), event(2, "processing"), event(3, "processing", 0.5), event(4, "processed", 1.0)]], []
    )
    assert api.follow() == [
        Update(Status.UPLOADED, 0.0),
        Update(Status.PROCESSING, 0.0),
        Update(Status.PROCESSING, 0.5),
        Update(Status.PROCESSED, 1.0),
    ]


def test_a_stream_that_breaks_is_picked_up_where_it_broke() -> None:
    api = Deployment(
        [[event(1, "uploaded"), event(2, "processing", 0.2), AWAY], [event(3, "processed", 1.0)]],
        [video("processing", 0.2)],
    )
    assert [update.progress for update in api.follow()] == [0.0, 0.2, 1.0]
    assert api.after == [None, "2"]


def test_an_end_that_was_missed_is_asked_for() -> None:
    api = Deployment([[event(1, "processing"), AWAY]], [video("processed", 1.0)])
    assert api.follow()[-1] == Update(Status.PROCESSED, 1.0)


def test_where_no_events_come_through_the_api_is_asked_again_and_again() -> None:
    refused = Refused("no events here", code="http_405", status=405)
    api = Deployment(
        [[refused], [refused], [refused]],
        [video("uploaded"), video("processing", 0.4), video("processing", 0.4), video("processed", 1.0)],
    )
    assert [update.progress for update in api.follow()] == [0.0, 0.4, 1.0]


def test_a_deleted_video_has_no_status_any_more() -> None:
    assert Deployment([[event(1, "cancelled", name="deleted")]], []).follow() == [Update(None, 0.0)]


def test_the_reason_of_a_failure_is_yielded() -> None:
    api = Deployment([[]], [video("failed", 0.1, {"code": "corrupt", "message": "The picture is damaged."})])
    assert api.follow() == [Update(Status.FAILED, 0.1, "The picture is damaged. (corrupt)")]


def test_unknown_events_are_skipped() -> None:
    unknown = ServerSentEvent(id="1", event="applause", data="{}")
    api = Deployment(
        [[unknown, ServerSentEvent(id="2", event="status", data="no JSON"), event(3, "processed", 1.0)]], []
    )
    assert api.follow() == [Update(Status.PROCESSED, 1.0)]


def test_a_restart_of_the_api_is_waited_for() -> None:
    api = Deployment([[event(1, "uploaded"), AWAY]], [AWAY, AWAY, AWAY, video("processed", 1.0)])
    assert api.follow()[-1] == Update(Status.PROCESSED, 1.0)


def test_an_api_that_stays_away_is_given_up() -> None:
    api = Deployment([], [AWAY])
    with pytest.raises(Unreachable):
        api.follow()
    assert PATIENCE < api.now < 2 * PATIENCE


def at(second: int, status: str, progress: float = 0.0) -> dict[str, Any]:
    return {"status": status, "progress": progress, "error": None, "updated_at": f"2026-01-01T00:00:{second:02}+00:00"}


def event_at(number: int, second: int, status: str, progress: float = 0.0) -> ServerSentEvent:
    answer = at(second, status, progress)
    return ServerSentEvent(id=str(number), event="status", data=json.dumps({**answer, "at": answer["updated_at"]}))


class Withholding(Deployment):
    """A fake API behind a proxy that sends no events until the client has polled the video `until` times."""

    def __init__(self, events: list[ServerSentEvent | CliError], answers: list[Json | CliError], *, until: int) -> None:
        super().__init__([events], answers)
        self._left = until
        self.asked = threading.Event()

    def events(self, video_id: str, *, after: str | None) -> Iterator[ServerSentEvent]:
        assert self.asked.wait(10)
        return super().events(video_id, after=after)

    def get(self, video_id: str) -> dict[str, Any]:
        answer = super().get(video_id)
        self._left -= 1
        if self._left == 0:
            self.asked.set()
        return answer

    def follow(self) -> list[Update]:
        return list(follow(self, "v", sleep=self.sleep, monotonic=lambda: self.now, silence=0.01))


def test_behind_a_proxy_that_holds_events_back_the_api_is_asked() -> None:
    api = Withholding([], [video("uploaded"), video("processing"), video("processed", 1.0)], until=9)
    assert [update.status for update in api.follow()] == [Status.UPLOADED, Status.PROCESSING, Status.PROCESSED]
    api.asked.set()


def test_events_that_are_older_than_the_last_answer_of_the_api_are_skipped() -> None:
    late = [event_at(1, 1, "uploaded"), event_at(2, 2, "processing"), event_at(3, 4, "processed", 1.0)]
    api = Withholding([*late], [at(1, "uploaded"), at(3, "processing", 0.5)], until=2)
    assert [(update.status, update.progress) for update in api.follow()] == [
        (Status.UPLOADED, 0.0),
        (Status.PROCESSING, 0.5),
        (Status.PROCESSED, 1.0),
    ]


def test_a_silent_api_that_stays_away_is_given_up() -> None:
    api = Withholding([], [AWAY], until=10**9)
    api.now = -PATIENCE - 1

    def advance() -> float:
        api.now += 10.0
        return api.now

    with pytest.raises(Unreachable):
        list(follow(api, "v", sleep=api.sleep, monotonic=advance, silence=0.01))
    api.asked.set()


def test_a_status_that_this_program_does_not_know_is_reported() -> None:
    api = Deployment([[ServerSentEvent(id="1", event="status", data="[]"), event(2, "archived")]], [video("archived")])
    with pytest.raises(NotOurs, match="'archived', which this version of anb does not know"):
        api.follow()
    assert api.now == 0


def test_an_unexpected_error_of_a_stream_counts_as_a_break() -> None:
    class Closed(Deployment):
        def events(self, *_: Any, **__: Any) -> Iterator[ServerSentEvent]:
            raise RuntimeError("the client has been closed")

    assert Closed([], [video("processed", 1.0)]).follow() == [Update(Status.PROCESSED, 1.0)]


def test_a_video_that_is_not_there_is_not_waited_for() -> None:
    api = Deployment([[GONE]], [GONE])
    with pytest.raises(Refused):
        api.follow()
    assert api.now == 0


@pytest.mark.parametrize(("breaks", "pause"), [(0, 0.25), (1, 0.5), (2, 1.0), (5, 3.0), (10_000, 3.0)])
def test_pauses_grow_up_to_three_seconds(breaks: int, pause: float) -> None:
    assert pause_after(breaks) == pause
