"""The store on PostgreSQL or SQLite: one repository a port, joined by `SqlStore`; `upgrade` makes its schema."""

from anb_core.adapters.database.migrations import upgrade
from anb_core.adapters.database.store import SqlStore

__all__ = ["SqlStore", "upgrade"]
