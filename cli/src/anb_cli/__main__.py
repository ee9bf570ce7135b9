"""The `anb` command. Errors end as one sentence on stderr and an exit code, never as a traceback."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and os.path.isdir(sys.path[0]):  # noqa: PTH112
    # `python -m` puts the current folder first: nothing that lies there is ours. No import may come before this.
    del sys.path[0]

from collections.abc import Sequence

INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments name, and end the process."""
    try:
        import signal  # noqa: PLC0415 - Ctrl-C may come while anything is imported
        import threading  # noqa: PLC0415 - see above

        # Nothing is held before a command runs: what is imported until then has nothing to clear up.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end_at_once)
        from anb_cli import streams  # noqa: PLC0415 - see above

        sys.unraisablehook = _pass_over
        threading.excepthook = lambda fault: _say(f"A thread ended early, please report it: {fault.exc_type.__name__}.")
        streams.prepare()
        streams.end(perform(sys.argv[1:]))
    except KeyboardInterrupt:
        os._exit(INTERRUPTED)


def perform(arguments: Sequence[str]) -> int:
    """Run a command to its end; the exit code. What went wrong has been said."""
    import signal  # noqa: PLC0415 - see main

    from anb_cli.errors import CliError, Exit, describe  # noqa: PLC0415 - see main
    from anb_cli.usage import complaint  # noqa: PLC0415 - see main

    try:
        from anb_cli.options import build  # noqa: PLC0415 - see main

        if signal.getsignal(signal.SIGINT) is _end_at_once:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        ended = build()(list(arguments), prog_name="anb", standalone_mode=False)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else Exit.WRONG_USE
    except ModuleNotFoundError as error:
        _say(f"{error.name} is not installed, install anb-cli[stack] to run a stack on this machine.")
        return Exit.STACK_TROUBLE
    except CliError as error:
        _say(str(error))
        return error.exit
    except Exception as error:  # noqa: BLE001 - the last resort, so that a person sees a sentence all the same
        wrong = complaint(error)
        code, sentence = describe(error) if wrong is None else (Exit.WRONG_USE, wrong)
        _say(sentence)
        return code
    return ended if isinstance(ended, int) else Exit.OK


def _say(sentence: str) -> None:
    if sentence:
        sys.stderr.write(f"{sentence}\n" if sentence.startswith("Usage:") else f"anb: {sentence}\n")


def _end_at_once(*_: object) -> None:
    os._exit(INTERRUPTED)


def _pass_over(unraisable: "sys.UnraisableHookArgs") -> None:
    """Python would print a traceback for what is raised where nobody can catch it, such as Ctrl-C in a callback."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        os._exit(INTERRUPTED)


if __name__ == "__main__":
    main()
