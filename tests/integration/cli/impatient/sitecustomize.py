"""Shortens a pause of the sweep in the API that a test starts with `anb up`. PYTHONPATH makes Python import this file.

The sweep waits two minutes before it trusts the queue's count of messages, because the counts of SQS lag.
The message counts of the emulator do not lag, so the tests need no wait.
"""

import sys
from datetime import timedelta

if "anb_api" in sys.orig_argv:
    from anb_core.usecases import sweep

    sweep.EMPTY_WINDOW = timedelta(seconds=3)
