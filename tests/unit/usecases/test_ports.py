"""Tests of the interfaces (ports) on which the use cases depend."""

import pkgutil
from importlib import import_module

from anb_core import usecases
from anb_core.ports.store import Store


def test_no_use_case_asks_for_the_whole_store() -> None:
    modules = [import_module(f"{usecases.__name__}.{found.name}") for found in pkgutil.iter_modules(usecases.__path__)]
    assert len(modules) > 1
    assert [module.__name__ for module in modules if Store in vars(module).values()] == []
