from collections.abc import Callable

import pytest

from anb_cli import options
from anb_cli.__main__ import perform
from anb_cli.errors import Exit


def fails(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    """Return the exit code of a command that raises the given error."""

    def build() -> Callable[..., object]:
        def command(*_: object, **__: object) -> object:
            raise error

        return command

    monkeypatch.setattr(options, "build", build)
    return perform(["up"])


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), Exit.INTERRUPTED, ""),
        (SystemExit(4), 4, ""),
        (SystemExit("words"), Exit.WRONG_USE, ""),
        (
            ModuleNotFoundError("No module", name="alembic"),
            Exit.STACK_TROUBLE,
            "anb: alembic is not installed, install anb-cli[stack] to run a stack on this machine.\n",
        ),
    ],
)
def test_whatever_ends_a_command_is_an_exit_code_and_at_most_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    assert fails(monkeypatch, error) == code
    assert capsys.readouterr() == ("", sentence)
