"""MiniStack, for as long as the parent holds our standard input open. Run by the emulator's interpreter, not imported.

A parent that is killed can't stop its children; but its end of the pipe is closed, and MiniStack stops as if asked.
"""

import os
import signal
import sys
import threading

from ministack.app import main


def _stop_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=_stop_with_parent, daemon=True).start()
main()
