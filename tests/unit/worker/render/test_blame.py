import signal

import pytest

from anb_core.domain.errors import AnbError, BadInput, Transient, Unavailable
from anb_worker.render.drop_rights import NOT_STARTED
from anb_worker.render.sandbox import Finished, blame


def finished(*, code: int = 1, exhausted: bool = False, stderr: str = "") -> Finished:
    return Finished(code, exhausted, "", stderr)


@pytest.mark.parametrize(
    ("child", "code"),
    [
        (finished(exhausted=True), "too_demanding"),
        (finished(code=-signal.SIGXCPU, exhausted=True), "too_demanding"),
        (finished(stderr="Error: Cannot allocate memory"), "too_demanding"),
        (finished(stderr="Error opening input"), "corrupt"),
        (finished(code=69), "corrupt"),
        (finished(stderr="clip.mp4: Input/output error"), "corrupt"),
        (finished(code=-signal.SIGSEGV), "corrupt"),
        (finished(code=-signal.SIGABRT), "corrupt"),
        (finished(code=-signal.SIGFPE), "corrupt"),
    ],
)
def test_an_upload_is_at_fault_for_every_failure_that_its_bytes_can_cause(child: Finished, code: str) -> None:
    error = blame(child, "rendering the picture", of_upload=True)
    assert (type(error), error.code) == (BadInput, code)
    assert error.message.endswith(".")


@pytest.mark.parametrize(
    ("child", "kind", "code"),
    [
        (finished(stderr="main.mp4: No space left on device"), Unavailable, "scratch_unavailable"),
        (finished(code=-signal.SIGKILL), Transient, "killed"),
        (finished(code=-signal.SIGXFSZ), Transient, "killed"),
        (finished(code=NOT_STARTED, stderr="this child could not be denied sockets"), Transient, "child_failed"),
        (finished(stderr="w.png: No such file or directory"), Transient, "child_failed"),
        (finished(stderr="w.png: Permission denied"), Transient, "child_failed"),
        (finished(stderr="Too many open files"), Transient, "child_failed"),
        (finished(stderr="pthread_create: Resource temporarily unavailable"), Transient, "out_of_memory"),
    ],
)
def test_no_upload_is_at_fault_for_a_failure_that_bytes_can_not_cause(
    child: Finished, kind: type[AnbError], code: str
) -> None:
    error = blame(child, "rendering the picture", of_upload=True)
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    ("child", "code"),
    [
        (finished(exhausted=True), "timed_out"),
        (finished(stderr="Cannot allocate memory"), "out_of_memory"),
        (finished(code=-signal.SIGSEGV), "killed"),
        (finished(), "child_failed"),
    ],
)
def test_no_upload_is_at_fault_when_the_child_read_our_own_files(child: Finished, code: str) -> None:
    error = blame(child, "joining the parts")
    assert (type(error), error.code) == (Transient, code)


def test_the_error_output_of_a_child_is_for_the_log_alone() -> None:
    for of_upload in (False, True):
        error = blame(finished(stderr="/tmp/anb-worker/secret: Invalid data"), "rendering", of_upload=of_upload)
        assert "secret" not in error.message
