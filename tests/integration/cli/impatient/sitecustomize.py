"""Shortens a pause of the sweep in the API that a test's `anb up` starts. Python imports it through PYTHONPATH.

The sweep waits two minutes before it trusts the queue's count of messages, because the counts of SQS lag. Those of the
emulator do not, and a test has less time.
"""

import sys
from datetime import timedelta

if "anb_api" in sys.orig_argv:
    from anb_core.usecases import sweep

    sweep.EMPTY_WINDOW = timedelta(seconds=3)
