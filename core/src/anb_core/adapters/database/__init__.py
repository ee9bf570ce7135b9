"""The store on PostgreSQL or SQLite.

One repository implements each port of `anb_core.ports.store`. `SqlStore` combines them. `upgrade` migrates the schema.
"""

from anb_core.adapters.database.migrations import upgrade
from anb_core.adapters.database.store import SqlStore

__all__ = ["SqlStore", "upgrade"]
