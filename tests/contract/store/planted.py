"""Deliberate violations of promises, for tests of the checker in `anb_core.testing.promises`.

A test makes a correct run, breaks a promise in it, and expects that the checker finds the broken promise.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from anb_core.testing.promises import violations
from tests.contract.store.one_run import Run
from tests.support.given import POLICY

Changes = dict[str, Any]
Edit = Callable[[Run], Changes | None]


class Planted(NamedTuple):
    """A deliberate violation of a promise, which the checker must find."""

    promise: str
    words: str
    """Words that the checker's sentence about the violation must contain."""
    edit: Edit
    """A function that makes a correct run and then breaks the promise. The function may return changed evidence."""
    at_rest: bool


class Plants:
    """Collects deliberate violations. An instance is used as a decorator of the functions that break a promise."""

    def __init__(self) -> None:
        self.all: list[Planted] = []

    def __call__(self, promise: str, words: str, *, at_rest: bool = False) -> Callable[[Edit], Edit]:
        def register(edit: Edit) -> Edit:
            self.all.append(Planted(promise, words, edit, at_rest))
            return edit

        return register


def name_of(planted: Planted) -> str:
    return planted.edit.__name__


def check_named(run: Run, planted: Planted) -> None:
    """Break the promise, and check that `violations` finds the broken promise."""
    changes = planted.edit(run) or {}
    earlier = changes.pop("earlier", None)
    found = violations(run.evidence(**changes), POLICY, at_rest=planted.at_rest, earlier=earlier)
    assert [one for one in found if one.promise == planted.promise and planted.words in one.sentence], found
