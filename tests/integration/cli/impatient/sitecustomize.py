"""Found by Python through PYTHONPATH in the API that a test's `anb up` starts.

The sweep takes two minutes to believe that the queue has forgotten what it held. The emulator's counts do not lag, and
a test has less time.
"""

import sys
from datetime import timedelta

if "anb_api" in sys.orig_argv:
    from anb_core.usecases import sweep

    sweep.EMPTY_WINDOW = timedelta(seconds=3)
