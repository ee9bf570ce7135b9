import pytest

from anb_core.domain.errors import AnbError, BadInput, Transient, Unavailable
from anb_worker.render.sandbox import Finished, blame


def finished(*, code: int = 1, exhausted: bool = False, complaint: str = "") -> Finished:
    return Finished(code, exhausted, "", complaint)


@pytest.mark.parametrize(
    ("child", "kind", "code"),
    [
        (finished(exhausted=True), BadInput, "too_demanding"),
        (finished(complaint="main.mp4: No space left on device"), Unavailable, "scratch_unavailable"),
        (finished(complaint="Cannot allocate memory"), Transient, "out_of_memory"),
        (finished(code=-9), Transient, "killed"),
        (finished(complaint="Error opening input"), Transient, "child_failed"),
    ],
)
def test_an_upload_is_at_fault_only_when_it_used_up_the_processor(
    child: Finished, kind: type[AnbError], code: str
) -> None:
    error = blame(child, "rendering the picture", of_upload=True)
    assert (type(error), error.code) == (kind, code)


def test_no_upload_is_at_fault_where_a_child_read_our_own_files() -> None:
    error = blame(finished(exhausted=True), "joining the parts")
    assert (type(error), error.code) == (Transient, "timed_out")


def test_what_a_child_complains_of_is_for_the_log_alone() -> None:
    error = blame(finished(complaint="/tmp/anb-worker/secret: Invalid data"), "rendering the picture")
    assert "secret" not in error.message
