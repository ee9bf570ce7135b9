"""The `anb` command. Errors end as one sentence on stderr and an exit code, never as a traceback."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and os.path.isdir(sys.path[0]):  # noqa: PTH112
    # `python -m` puts the current folder first: nothing that lies there is ours.
    del sys.path[0]

from anb_cli.errors import CliError, Exit


def main() -> None:
    """Run the command that the arguments name."""
    try:
        from anb_cli.commands import build  # noqa: PLC0415 - Ctrl-C may come while this takes its time, too

        build()()
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f"anb: {error.name} is not installed, install anb-cli[stack] to run a stack on this machine.\n"
        )
        sys.exit(Exit.STACK_TROUBLE)
    except CliError as error:
        sys.stderr.write(f"anb: {error}\n")
        sys.exit(error.exit)


if __name__ == "__main__":
    main()
