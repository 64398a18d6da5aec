"""The journal: accepted facts in order, one row per group commit, synced before anybody is told.

Four verbs (append, read from, position, trim), so that a replicated log can take its place. A position counts
facts; a row holds the facts from its position on. It knows nothing of what facts mean.
"""

import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from backstory.core import fact
from backstory.core.error import StorageError
from backstory.core.fact import Fact
from backstory.store.database import connect, transaction, write_alone

SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    position INTEGER PRIMARY KEY,
    accept_us INTEGER NOT NULL,
    facts INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    body BLOB NOT NULL
)
"""
MARK_SCHEMA = "CREATE TABLE IF NOT EXISTS mark (name TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One group commit. Fact ``i`` has position ``position + i`` and accept time ``accept_us + i``."""

    position: int
    accept_us: int
    facts: list[Fact]


class Journal(Protocol):
    """The contract every journal keeps (``tests/contract/test_journal.py``)."""

    def append(self, facts: list[Fact], accept_us: int) -> int:
        """Make facts durable, all or none; returns the position of the first. Raises ``StorageError``.

        No facts make no entry.
        """
        ...

    def read_from(self, position: int) -> Iterator[Entry]:
        """The entries that hold facts from ``position`` on; the first may begin before it."""
        ...

    def position(self) -> int:
        """The position the next fact will have."""
        ...

    def trim(self, position: int) -> None:
        """Let go of entries that lie wholly before ``position``."""
        ...

    def close(self) -> None: ...


class SqliteJournal:
    """The journal as one SQLite file with a synced write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._db = connect(path, synchronous="FULL")
        try:
            self._db.execute("PRAGMA wal_autocheckpoint = 2000")
            self._db.execute(SCHEMA)
            self._db.execute(MARK_SCHEMA)
            row = self._db.execute("SELECT position + facts FROM entry ORDER BY position DESC LIMIT 1").fetchone()
            mark = self._db.execute("SELECT position FROM mark WHERE name = 'trimmed'").fetchone()
        except sqlite3.Error as error:
            self._db.close()
            raise StorageError(f"cannot open {path}: {error}") from error
        self._next: int = max(row[0] if row else 0, mark[0] if mark else 0)

    def append(self, facts: list[Fact], accept_us: int) -> int:
        first = self._next
        if not facts:
            return first
        body = fact.encode(facts)
        write_alone(
            self._db,
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?)", (first, accept_us, len(facts), zlib.crc32(body), body)
        )
        self._next = first + len(facts)
        return first

    def read_from(self, position: int) -> Iterator[Entry]:
        try:
            rows = self._db.execute(
                "SELECT position, accept_us, checksum, body FROM entry WHERE position + facts > ? ORDER BY position",
                (position,),
            )
            for first, accept_us, checksum, body in rows:
                if zlib.crc32(body) != checksum:
                    raise StorageError(f"journal entry {first} is damaged: restore the folder from a backup")
                yield Entry(position=first, accept_us=accept_us, facts=fact.decode(body))
        except msgspec.DecodeError as error:
            raise StorageError(f"the journal holds facts this version cannot read: {error}") from error
        except sqlite3.Error as error:
            raise StorageError(f"the journal cannot be read: {error}") from error

    def position(self) -> int:
        return self._next

    def trim(self, position: int) -> None:
        with transaction(self._db):
            # Looked for by their key: what stays is not gone through.
            self._db.execute("DELETE FROM entry WHERE position < ?1 AND position + facts <= ?1", (position,))
            self._db.execute(
                "INSERT INTO mark VALUES ('trimmed', ?)"
                " ON CONFLICT (name) DO UPDATE SET position = max(position, excluded.position)",
                (min(position, self._next),),
            )

    def close(self) -> None:
        self._db.close()


class MemoryJournal:
    """A journal that forgets with its process: for previews and tests. ``position`` is where it begins."""

    def __init__(self, position: int = 0) -> None:
        self._entries: list[Entry] = []
        self._next = position

    def append(self, facts: list[Fact], accept_us: int) -> int:
        first = self._next
        if not facts:
            return first
        copied = fact.decode(fact.encode(facts))
        self._entries.append(Entry(position=first, accept_us=accept_us, facts=copied))
        self._next += len(facts)
        return first

    def read_from(self, position: int) -> Iterator[Entry]:
        yield from [entry for entry in self._entries if entry.position + len(entry.facts) > position]

    def position(self) -> int:
        return self._next

    def trim(self, position: int) -> None:
        self._entries = [entry for entry in self._entries if entry.position + len(entry.facts) > position]

    def close(self) -> None:
        pass
