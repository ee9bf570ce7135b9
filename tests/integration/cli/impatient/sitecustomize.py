"""Shortens a wait of the sweep for tests of `anb up`. Python imports the file because of the tests' PYTHONPATH.

The sweep waits two minutes before it accepts that a queue is empty, because the message counts of SQS are delayed.
The emulator's message counts are not delayed, so the tests need no wait.
"""

import sys
from datetime import timedelta

if "anb_api" in sys.orig_argv:
    from anb_core.usecases import sweep

    sweep.EMPTY_WINDOW = timedelta(seconds=3)
