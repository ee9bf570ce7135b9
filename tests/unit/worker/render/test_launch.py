import ctypes
import sys
from typing import Any

import pytest

from anb_worker.render import launch

REFUSED, LANDLOCK_VERSION = -1, 6


class Kernel:
    """Answers every call with 0 but those it refuses, and tells Landlock's version when asked for it."""

    def __init__(self, refuses: object) -> None:
        self.refuses = refuses
        self.forbidden: list[object] = []

    def syscall(self, number: int, *arguments: Any) -> int:
        if number == launch._LANDLOCK_CREATE and arguments[0] is None:
            return LANDLOCK_VERSION
        return self._answer(number)

    def prctl(self, option: int, *_: Any) -> int:
        return self._answer(option)

    def _answer(self, what: int) -> int:
        self.forbidden.append(what)
        return REFUSED if what == self.refuses else sys.stderr.fileno() + 1000


@pytest.mark.parametrize("refuses", [launch._LANDLOCK_CREATE, launch._LANDLOCK_RESTRICT])
def test_a_child_that_can_still_see_other_files_does_not_begin(refuses: int) -> None:
    ctypes.set_errno(1)
    with pytest.raises(SystemExit, match="could not be forbidden other files: Operation not permitted"):
        launch._forbid_other_files(Kernel(refuses), [], [])  # type: ignore[arg-type]


def test_a_child_that_can_still_make_sockets_does_not_begin() -> None:
    with pytest.raises(SystemExit, match="could not be forbidden sockets"):
        launch._forbid_sockets(Kernel(launch._PR_SET_SECCOMP))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("platform", "missing"), [("darwin", {"the network", "other files", "a life after the worker's"})]
)
def test_what_a_system_cannot_take_away_is_said(
    monkeypatch: pytest.MonkeyPatch, platform: str, missing: set[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    assert set(launch.missing_protections()) == missing
