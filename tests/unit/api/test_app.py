"""Tests of the start and the end of the API's app."""

import threading

from tests.unit.api.conftest import running_api


def test_the_relay_and_the_sweep_run_as_long_as_the_api() -> None:
    before = set(threading.enumerate())
    with running_api():
        loops = {thread.name: thread for thread in threading.enumerate() if thread not in before}
        assert {"relay", "sweep"} <= loops.keys()
    assert not loops["relay"].is_alive()
    assert not loops["sweep"].is_alive()
