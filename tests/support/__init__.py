"""Helpers that all tests share: the function `eventually`, fakes, and real servers."""

from tests.support.waiting import eventually

__all__ = ["eventually"]
