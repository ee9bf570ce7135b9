"""The store on PostgreSQL or SQLite.

Each repository implements one port of `anb_core.ports.store`. `SqlStore` combines the repositories.
`upgrade` migrates the schema.
"""

from anb_core.adapters.database.migrations import upgrade
from anb_core.adapters.database.store import SqlStore

__all__ = ["SqlStore", "upgrade"]
