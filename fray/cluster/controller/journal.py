"""The ledger's journal: every command that changed something, and now and then a snapshot.

A ledger's owner appends what was applied, waits until that is durable before anybody hears of it,
and starts anew from what its store recovers. The stores are in `store` and `sqlite_store`.
"""

from fray.cluster.controller.codec import decode_command, decode_tables
from fray.cluster.controller.sqlite_store import SqliteStore
from fray.cluster.controller.state import Ledger
from fray.cluster.controller.store import Entry, MemoryDisk, MemoryStore, Recovered, Store
from fray.errors import ClusterError


def recover(recovered: Recovered) -> Ledger:
    """Builds a ledger as it was.

    Args:
        recovered: What its store had.

    Raises:
        ClusterError: The journal does not lead where it led when it was written.
        InvalidRequestError: Some part of it cannot be read.
    """
    ledger = Ledger(decode_tables(recovered.snapshot) if recovered.snapshot is not None else None)
    for entry in recovered.entries:
        ledger.apply(decode_command(entry.command), entry.now)
        if ledger.revision != entry.revision:
            raise ClusterError(
                f"the journal does not replay: its entry for revision {entry.revision} led to "
                f"{ledger.revision}; use the version of fray that wrote it"
            )
    return ledger


__all__ = [
    "Entry",
    "MemoryDisk",
    "MemoryStore",
    "Recovered",
    "SqliteStore",
    "Store",
    "recover",
]
