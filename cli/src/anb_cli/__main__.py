"""The entry point of the `anb` command. On an error, the command prints a message on stderr, not a traceback."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and os.path.isdir(sys.path[0]):  # noqa: PTH112
    # `python -m` puts the current folder first in sys.path. Remove this entry, so that no import reads the folder.
    del sys.path[0]

from collections.abc import Sequence

INTERRUPTED = 130


def main() -> None:
    """Run the command that the user typed, then exit the process."""
    try:
        import signal  # noqa: PLC0415 - Ctrl-C may come during any import
        import threading  # noqa: PLC0415 - see above

        # Let Ctrl-C exit the process at once, because the process has nothing to clean up before a command runs.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _exit_at_once)
        from anb_cli import streams  # noqa: PLC0415 - see above

        sys.unraisablehook = _ignore_unraisable
        threading.excepthook = lambda crash: _print_error(
            f"A thread ended early, please report it: {crash.exc_type.__name__}."
        )
        streams.prepare()
        streams.end(perform(sys.argv[1:]))
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def perform(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. If the command fails, print an error message on stderr."""
    import signal  # noqa: PLC0415 - see main

    from anb_cli.errors import CliError, Exit, describe  # noqa: PLC0415 - see main
    from anb_cli.usage import usage_message  # noqa: PLC0415 - see main

    try:
        from anb_cli.options import build  # noqa: PLC0415 - see main

        if signal.getsignal(signal.SIGINT) is _exit_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        result = build()(list(arguments), prog_name="anb", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else Exit.WRONG_USE
    except ModuleNotFoundError as error:
        _print_error(f"{error.name} is not installed, install anb-cli[stack] to run a stack on this machine.")
        return Exit.STACK_TROUBLE
    except CliError as error:
        _print_error(str(error))
        return error.exit
    except Exception as error:  # noqa: BLE001 - any other error must end as a sentence too
        usage_error = usage_message(error)
        code, sentence = describe(error) if usage_error is None else (Exit.WRONG_USE, usage_error)
        _print_error(sentence)
        return code
    return result if isinstance(result, int) else Exit.OK


def _print_error(sentence: str) -> None:
    if sentence:
        sys.stderr.write(f"{sentence}\n" if sentence.startswith("Usage:") else f"anb: {sentence}\n")


def _exit_at_once(*_: object) -> None:
    os._exit(INTERRUPTED)


def _ignore_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Handle an exception that was raised where no caller can catch it, for example in a destructor.

    Shows no traceback. Exits on Ctrl-C.
    """
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
