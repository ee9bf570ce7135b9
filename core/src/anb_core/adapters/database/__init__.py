"""The store on PostgreSQL or SQLite.

Each port of `anb_core.ports.store` has its repository; `SqlStore` joins them all. `upgrade` migrates the schema.
"""

from anb_core.adapters.database.migrations import upgrade
from anb_core.adapters.database.store import SqlStore

__all__ = ["SqlStore", "upgrade"]
