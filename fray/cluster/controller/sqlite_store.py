"""The ledger's store in one SQLite file."""

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fray.cluster.controller.store import Entry, Recovered, check_order
from fray.errors import ClusterError

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS owner (generation INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS entries (revision INTEGER PRIMARY KEY, now REAL, command BLOB);
CREATE TABLE IF NOT EXISTS snapshots (revision INTEGER PRIMARY KEY, data BLOB);
"""


class SqliteStore:
    """A store in one SQLite file, with a write-ahead log beside it.

    All work is done on one thread of its own. While that commits, appends queue up, and the next
    commit takes them all: the more there are, the fewer times the disk is waited for.

    Args:
        path: The file; it is made, for its owner's eyes only, if there is none. Not on a network
            file system.
        power_safe: Whether an append survives a power failure (``synchronous=FULL``); otherwise
            it survives the death of the process only.
    """

    def __init__(self, path: Path | str, *, power_safe: bool = True) -> None:
        self._path = Path(path)
        self._power_safe = power_safe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="fray-journal")
        self._db: sqlite3.Connection | None = None
        self._generation = 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[Sequence[Entry], asyncio.Future[None]]] = []
        self._broken: BaseException | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<SqliteStore {self._path} generation {self._generation}>"

    async def load(self) -> Recovered:
        """See `Store.load`."""
        return await self._run(self._load)

    async def append(self, entries: Sequence[Entry]) -> None:
        """See `Store.append`."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            self._waiting.append((entries, done))
            first = len(self._waiting) == 1
        if first:
            self._thread.submit(self._commit_waiting, loop)
        await done

    async def snapshot(self, revision: int, data: bytes) -> None:
        """See `Store.snapshot`."""
        await self._run(lambda: self._snapshot(revision, data))

    async def close(self) -> None:
        """See `Store.close`."""
        if not self._closed:
            self._closed = True
            await self._run(self._close)
            self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError) as exc:
            raise ClusterError(f"the journal {self._path} failed: {exc}") from exc

    # On the store's thread:

    def _load(self) -> Recovered:
        if self._db is None:
            self._db = self._open()
        with _Transaction(self._db):
            row = self._db.execute("SELECT generation FROM owner").fetchone()
            self._generation = (row[0] if row else 0) + 1
            self._db.execute("DELETE FROM owner")
            self._db.execute("INSERT INTO owner VALUES (?)", (self._generation,))
            snapshot = self._db.execute("SELECT data FROM snapshots").fetchone()
            rows = self._db.execute("SELECT revision, now, command FROM entries ORDER BY revision")
            entries = tuple(Entry(*row) for row in rows)
        self._broken = None
        return Recovered(self._generation, snapshot[0] if snapshot else None, entries)

    def _open(self) -> sqlite3.Connection:
        # What is in it are the names of all that users run.
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self._path, isolation_level=None, timeout=10)
        try:
            db.execute("PRAGMA auto_vacuum=INCREMENTAL")
            db.execute("PRAGMA journal_mode=WAL")
            db.execute(f"PRAGMA synchronous={'FULL' if self._power_safe else 'NORMAL'}")
            db.executescript(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db

    def _owned(self) -> sqlite3.Connection:
        if self._db is None:
            raise ClusterError(f"the journal {self._path} has not been loaded, or was closed")
        row = self._db.execute("SELECT generation FROM owner").fetchone()
        if row is None or row[0] != self._generation:
            raise ClusterError(f"another controller has taken over the journal {self._path}")
        return self._db

    def _commit_waiting(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            batch, self._waiting = self._waiting, []
        error = self._broken
        if error is None:
            try:
                self._write([entry for entries, _ in batch for entry in entries])
            except Exception as exc:  # whatever it is, those who wait must hear of it
                error = self._broken = exc
        loop.call_soon_threadsafe(self._tell, [done for _, done in batch], error)

    def _write(self, entries: Sequence[Entry]) -> None:
        if self._db is None:
            raise ClusterError(f"the journal {self._path} has not been loaded, or was closed")
        with _Transaction(self._db):
            db = self._owned()
            check_order(self._last(db) + 1, entries)
            db.executemany("INSERT INTO entries VALUES (?, ?, ?)", entries)

    def _last(self, db: sqlite3.Connection) -> int:
        query = "SELECT max((SELECT ifnull(max(revision), 0) FROM entries), "
        query += "(SELECT ifnull(max(revision), 0) FROM snapshots))"
        return int(db.execute(query).fetchone()[0])

    def _tell(self, waiting: list[asyncio.Future[None]], error: BaseException | None) -> None:
        for done in waiting:
            if done.done():  # whoever waited was cancelled
                continue
            if error is None:
                done.set_result(None)
            else:
                told = ClusterError(f"the journal {self._path} keeps nothing more: {error}")
                told.__cause__ = error
                done.set_exception(told)

    def _snapshot(self, revision: int, data: bytes) -> None:
        if self._db is None:
            raise ClusterError(f"the journal {self._path} has not been loaded, or was closed")
        with _Transaction(self._db):
            db = self._owned()
            if revision > self._last(db):
                raise ClusterError(f"a snapshot of revision {revision} does not fit the journal")
            db.execute("DELETE FROM snapshots")
            db.execute("INSERT INTO snapshots VALUES (?, ?)", (revision, data))
            db.execute("DELETE FROM entries WHERE revision <= ?", (revision,))
        # Give the room back, or the log grows with the busiest hour and stays so.
        db.executescript("PRAGMA incremental_vacuum")  # as one statement it frees one page only
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class _Transaction:
    """All or nothing; it locks out other writers from its start."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:  # it failed, or its commit did
                self._db.execute("ROLLBACK")


__all__ = ["SqliteStore"]
