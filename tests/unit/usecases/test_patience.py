from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from anb_core.domain.errors import Busy, Interrupted, Refused, Unavailable
from anb_core.testing.clock import ManualClock
from anb_core.testing.runtime import ManualRuntime
from anb_core.usecases.patience import patiently

AWAY = Unavailable("database", "the database does not answer")
HELD = Busy("database", "another session holds what is needed")


@pytest.fixture
def runtime() -> ManualRuntime:
    return ManualRuntime(ManualClock())


def failing(*errors: Exception) -> Callable[[], str]:
    """Return a function that raises the given errors, one per call. Later calls return a result."""
    left = list(errors)

    def call() -> str:
        if left:
            raise left.pop(0)
        return "done"

    return call


def test_what_answers_at_once_is_not_waited_for(runtime: ManualRuntime) -> None:
    assert patiently(failing(), runtime, "tried again", until=0) == "done"
    assert runtime.monotonic() == 0


def test_what_is_away_is_tried_each_second_until_it_answers_and_the_log_says_so(runtime: ManualRuntime) -> None:
    with capture_logs() as logs:
        assert patiently(failing(*[AWAY] * 3), runtime, "publishing is tried again", video_id="v1") == "done"
    assert runtime.monotonic() == 3
    assert [(line["event"], line["reason"], line["video_id"]) for line in logs] == [
        ("publishing is tried again", AWAY.message, "v1")
    ] * 3


def test_nothing_is_tried_again_once_the_time_is_over(runtime: ManualRuntime) -> None:
    with pytest.raises(Unavailable) as raised:
        patiently(failing(*[AWAY] * 5), runtime, "tried again", until=2)
    assert raised.value is AWAY
    assert runtime.monotonic() == 2


def test_only_what_is_worthwhile_is_tried_again(runtime: ManualRuntime) -> None:
    with pytest.raises(Unavailable) as raised:
        patiently(failing(HELD, AWAY), runtime, "tried again", worthwhile=lambda error: isinstance(error, Busy))
    assert raised.value is AWAY
    assert runtime.monotonic() == 1


def test_the_pauses_that_are_given_are_all_there_are(runtime: ManualRuntime) -> None:
    assert patiently(failing(AWAY, AWAY), runtime, "tried again", pauses=(0.5, 4)) == "done"
    assert runtime.monotonic() == 4.5
    with pytest.raises(Unavailable):
        patiently(failing(*[AWAY] * 3), runtime, "tried again", pauses=(0.5, 4))


def test_whoever_has_to_stop_is_asked_after_each_pause_and_before_the_next_try(runtime: ManualRuntime) -> None:
    def check() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        patiently(failing(AWAY), runtime, "tried again", check=check)
    assert runtime.monotonic() == 1


def test_a_refusal_is_an_answer(runtime: ManualRuntime) -> None:
    with pytest.raises(Refused):
        patiently(failing(Refused("wrong_status", "It is over.")), runtime, "tried again")
    assert runtime.monotonic() == 0
