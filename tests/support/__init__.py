"""What the tests of all rooms share: waiting for a condition, and real servers."""

from tests.support.waiting import eventually

__all__ = ["eventually"]
