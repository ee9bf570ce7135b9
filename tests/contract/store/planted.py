"""Violations of promises that tests plant into honest runs."""

from collections.abc import Callable
from typing import Any, NamedTuple

from anb_core.testing.promises import violations
from tests.contract.store.one_run import Run
from tests.support.given import POLICY

Changes = dict[str, Any]
Edit = Callable[[Run], Changes | None]


class Planted(NamedTuple):
    """A violation that a test plants."""

    promise: str
    words: str
    """Words of the checker's sentence."""
    edit: Edit
    """A function that makes an honest run and then breaks the promise. It may return changes of the evidence."""
    at_rest: bool


class Plants:
    """A decorator that collects functions which plant violations."""

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
    """Plant the violation, and check that the checker names it."""
    changes = planted.edit(run) or {}
    found = violations(run.evidence(**changes), POLICY, at_rest=planted.at_rest)
    assert [one for one in found if one.promise == planted.promise and planted.words in one.sentence], found
