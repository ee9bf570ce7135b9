import ctypes
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from anb_worker.render import drop_rights

REFUSED, LANDLOCK_VERSION = -1, 6


class Kernel:
    """A fake libc. The call `refuses` fails, all others succeed. `landlock` is Landlock's version (-1 if missing)."""

    def __init__(self, refuses: object, landlock: int = LANDLOCK_VERSION) -> None:
        self.refuses = refuses
        self.landlock = landlock
        self.forbidden: list[object] = []

    def syscall(self, number: int, *arguments: Any) -> int:
        if number == drop_rights.LANDLOCK_CREATE and arguments[0] is None:
            return self.landlock
        return self._answer(number)

    def prctl(self, option: int, *_: Any) -> int:
        return self._answer(option)

    def _answer(self, call: int) -> int:
        self.forbidden.append(call)
        return REFUSED if call == self.refuses else sys.stderr.fileno() + 1000


@pytest.mark.parametrize("refuses", [drop_rights.LANDLOCK_CREATE, drop_rights.LANDLOCK_RESTRICT])
def test_a_child_that_can_still_see_other_files_does_not_begin(refuses: int) -> None:
    ctypes.set_errno(1)
    with pytest.raises(SystemExit, match="could not be denied other files: Operation not permitted"):
        drop_rights.forbid_other_files(Kernel(refuses), [], [])  # type: ignore[arg-type]


def test_a_child_that_can_still_make_sockets_does_not_begin() -> None:
    with pytest.raises(SystemExit, match="could not be denied sockets"):
        drop_rights.filter_calls(Kernel(drop_rights.PR_SET_SECCOMP))  # type: ignore[arg-type]


def test_on_other_systems_than_linux_no_protection_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert drop_rights.protections() == {"files": False, "network": False, "escape": False, "survival": False}


@pytest.mark.parametrize(
    ("refuses", "machine", "lacks"),
    [
        (None, "x86_64", set()),
        (None, "aarch64", set()),
        (None, "riscv64", {"network", "escape"}),
        (drop_rights.PR_GET_SECCOMP, "x86_64", {"network", "escape"}),
    ],
)
@pytest.mark.parametrize("landlock", [-1, 1, 6])
def test_protections_that_this_linux_lacks_are_reported(
    monkeypatch: pytest.MonkeyPatch, refuses: object, machine: str, lacks: set[str], landlock: int
) -> None:
    kernel = Kernel(refuses, landlock=landlock)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: kernel)
    monkeypatch.setattr("os.uname", lambda: SimpleNamespace(machine=machine))
    missing = {name for name, possible in drop_rights.protections().items() if not possible}
    assert missing == (lacks if landlock > 0 else lacks | {"files"})
