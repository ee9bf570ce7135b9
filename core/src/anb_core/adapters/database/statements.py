"""Statements that are built only once, because building them anew for every change of a job would take CPU time."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Delete, Insert, Table, Update, bindparam


class Change(NamedTuple):
    """A statement and the values of its parameters."""

    statement: Insert | Update | Delete
    values: dict[str, Any]


def bound(prefix: str, table: Table, *names: str) -> dict[str, BindParameter[Any]]:
    """Return a parameter for each column. Its name begins with `prefix`, so that no two statements share a name."""
    return {name: bindparam(f"{prefix}_{name}", type_=table.c[name].type) for name in names}


def named(prefix: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the parameters that `bound` has made."""
    return {f"{prefix}_{name}": value for name, value in values.items()}
