"""``state.db``: the truth as of the position applied; one transaction per micro-batch is the only commit point.

Commits are not synced one by one: after a power cut the journal replays what was lost. ``sync`` makes all commits
so far durable; effects are handed over, and journal rows dropped, only past a synced commit.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from backstory.core.error import StorageError
from backstory.store.database import connect, sync_file, sync_folder, transaction
from backstory.store.schema import FORMAT_VERSION, TABLES

T = TypeVar("T")
# The pages that one commit changes, with some to spare, so that none is written twice.
CACHE_KB = 8_000
# A log of so many pages (64 MB) is to begin anew; whoever writes moves so many of them itself (4 MB).
LOG_PAGES = 16_384
REST_PAGES = 1_024
# So often what came meanwhile is moved, too, until that is so little.
PASSES = 4


class State:
    """The writer's connection, the counters of the last commit, and connections for readers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # False in a replica: nothing is synced, no checksum is asked for.
        self.lasting = True
        self.log_pages = LOG_PAGES
        self.db = connect(path, synchronous="NORMAL")
        self.db.execute(f"PRAGMA cache_size = -{CACHE_KB}")
        self._readers = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._guard = threading.Lock()
        self._open()
        self.position = self.meta("position", 0)
        self.now_us = self.meta("now_us", 0)
        self.next_seq = self.meta("next_seq", 1)
        self.next_person = self.meta("next_person", 0)

    def _open(self) -> None:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with transaction(self.db):
                for statement in TABLES.split(";\n"):
                    if statement.strip():
                        self.db.execute(statement)
                self.db.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
        elif version != FORMAT_VERSION:
            raise StorageError(
                f"{self.path} has format {version}, this version of Backstory reads format {FORMAT_VERSION}: "
                "install the version that wrote it"
            )

    def meta(self, name: str, default: int) -> int:
        row = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else default

    def set_meta(self, name: str, value: int) -> None:
        """Inside a transaction."""
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))

    def write_counters(self) -> None:
        """Inside a transaction: the position applied and the counters that go with it."""
        self.db.execute(
            "INSERT OR REPLACE INTO meta VALUES ('position', ?), ('now_us', ?), ('next_seq', ?), ('next_person', ?)",
            (self.position, self.now_us, self.next_seq, self.next_person),
        )

    def give_up(self) -> None:
        """Take back the transaction under way, if the disk still lets us; closing takes it back in any case."""
        try:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
        except sqlite3.Error:
            pass

    def reload_counters(self) -> None:
        """After a transaction was rolled back: the counters of the last commit."""
        self.position = self.meta("position", 0)
        self.now_us = self.meta("now_us", 0)
        self.next_seq = self.meta("next_seq", 1)
        self.next_person = self.meta("next_person", 0)

    def take_seq(self, count: int = 1) -> int:
        """The first of ``count`` new sequence numbers."""
        first = self.next_seq
        self.next_seq += count
        return first

    def sync(self) -> None:
        """Make every commit so far durable."""
        if not self.lasting:
            return
        wal = self.path.with_name(self.path.name + "-wal")
        try:
            if wal.exists():
                sync_file(wal)
                # SQLite makes the log durable as a file, but its name only with a commit that it syncs itself.
                sync_folder(wal.parent)
        except OSError as error:
            raise StorageError(f"cannot sync {wal}: {error}") from error

    def checkpoint(self) -> bool:
        """Move the log into the database file as far as readers allow; from any thread, on its own connection.

        SQLite writes a log from its beginning again once all of it was moved, which it never is beside a writer who
        goes on. True: it is long, and so little is left of it that the writer should move that (``end_log``).
        """
        db = connect(self.path, synchronous="FULL")
        try:
            pages = _move_log(db)
            if pages < self.log_pages:
                return False
            for _ in range(PASSES):
                before, pages = pages, _move_log(db)
                if pages - before <= REST_PAGES:
                    return True
            return False
        except sqlite3.Error as error:
            raise StorageError(f"the log of {self.path} cannot be moved into it: {error}") from error
        finally:
            db.close()

    def end_log(self) -> None:
        """On the writer's thread, between transactions: move the rest of the log; the next commit begins it anew.

        Over what is there already commits are written at three quarters of the cost: the system need not make room.
        """
        try:
            _move_log(self.db)
        except sqlite3.Error:
            pass  # Nothing is lost while the log stays; the next commit meets the same disk and tells.

    def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Run a query on this thread's own read-only connection, in one short snapshot.

        What it put into temporary tables goes with the snapshot.
        """
        db: sqlite3.Connection | None = getattr(self._readers, "db", None)
        if db is None:
            db = connect(self.path, synchronous="NORMAL", read_only=True)
            self._readers.db = db
            with self._guard:
                self._opened.append(db)
        try:
            db.execute("BEGIN")
            try:
                return query(db)
            finally:
                db.execute("ROLLBACK")
        except sqlite3.Error as error:
            # Its snapshot may still be open: the next read gets a new connection.
            self._readers.db = None
            with self._guard:
                self._opened.remove(db)
            db.close()
            raise StorageError(f"the state cannot be read: {error}") from error

    def rows(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        """All rows of one query, on this thread's own connection."""
        return self.read(lambda db: db.execute(sql, parameters).fetchall())

    def close(self) -> None:
        with self._guard:
            for db in self._opened:
                db.close()
            self._opened.clear()
        try:
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            pass  # The log stays, and is read at the next start.
        self.db.close()


def _move_log(db: sqlite3.Connection) -> int:
    """Move the log into the database file without waiting for anybody; returns how many pages the log has."""
    _, pages, _ = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    return pages
