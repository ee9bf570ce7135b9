"""What a mutant is, and how a guard is weakened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import pytest

from anb_core.domain import lifecycle
from tests.simulation.faults import Focus, Kind

Patch = Callable[[pytest.MonkeyPatch], None]

DELAYS = (Kind.WAIT, Kind.LATE, Kind.FREEZE)
DEATHS = (Kind.DIE_BEFORE, Kind.DIE_AFTER)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A weakened guard."""

    guard: str
    """The guard, in words."""
    where: str
    """The function that has the guard."""
    promises: Sequence[str]
    """The promises whose rules may notice the mutant first."""
    weaken: Patch
    focus: Focus | None = None
    """The faults that show the defect. None if any faults do, or none at all."""


def wrapped(owner: Any, name: str, wrapper: Callable[..., Any]) -> Patch:
    """Return a patch that replaces a function. The new function gets the old one as its first argument."""
    old = getattr(owner, name)

    @wraps(old)
    def new(*args: Any, **options: Any) -> Any:
        return wrapper(old, *args, **options)

    return lambda patch: patch.setattr(owner, name, new)


def both(*patches: Patch) -> Patch:
    def apply(patch: pytest.MonkeyPatch) -> None:
        for one in patches:
            one(patch)

    return apply


def changed(name: str, **changes: Any) -> Patch:
    """Return a patch with which a change of a job has other effects."""

    def change(old: Callable[..., Any], *args: Any, **options: Any) -> Any:
        effect = old(*args, **options)
        return effect and replace(effect, **changes)

    return wrapped(lifecycle, name, change)
