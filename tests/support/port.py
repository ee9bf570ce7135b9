"""Puts something around each call of a port."""

from collections.abc import Callable
from typing import Any

CONTEXTS = {"writing", "exclusively"}
"""Methods of ports that return a context manager."""


class PortAround:
    """Passes all calls on to a port, through functions that `around` makes. Other attributes are those of the port."""

    def __init__(self, part: str, target: object) -> None:
        self._part = part
        self._target = target

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(self._target, name)
        if not callable(attribute):
            return attribute
        made = self.around(name, attribute)
        setattr(self, name, made)
        return made

    def around(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function that is called instead of a method of the port."""
        raise NotImplementedError
