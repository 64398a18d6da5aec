"""The manifest in ``state.db``: imports, the files that history consists of, checkpoints of leaves."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from backstory.core.checksum import crc32
from backstory.core.error import StorageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One immutable file of history. ``low_us`` and ``high_us`` bound its times.

    Its rows count from the commit that has the number ``seq``; the rows of a ``mixed`` part come from many commits, say
    from which in a column ``commit_seq``, and ``seq`` is the last of them. ``import_id`` is 0 where the rows came by
    other ways or by many: each row has its own. All rows of a ``retracted`` part
    came with one import that was taken back.
    """

    part_id: int
    kind: str
    path: str
    rows: int
    checksum: str
    bytes: int
    low_us: int
    high_us: int
    import_id: int
    seq: int
    mixed: bool = False
    retracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRun:
    """Sorted keys of events in parts, of one import (0: live); ``duplicate`` runs hold those that did not count."""

    run_id: int
    path: str
    rows: int
    checksum: str
    import_id: int
    duplicate: bool
    retracted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafMark:
    """What a stored leaf was told: facts up to ``seq`` with times up to ``now_us``, people below ``next_person``."""

    seq: int = 0
    now_us: int = 0
    next_person: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRow:
    """``progress`` and ``options`` are JSON."""

    import_id: int
    fingerprint: str
    options: str
    state: str
    accept_us: int
    updated_us: int
    progress: str
    error: str


def read_parts(db: sqlite3.Connection, kind: str | None = None, *, retracted: bool | None = False) -> list[Part]:
    """The parts that count; ``retracted`` ones instead, or (None) both."""
    rows = db.execute(
        "SELECT part_id, kind, path, rows, checksum, bytes, low_us, high_us, import_id, seq, mixed, retracted"
        " FROM part WHERE (?1 IS NULL OR kind = ?1) AND (?2 IS NULL OR retracted = ?2) ORDER BY part_id",
        (kind, retracted),
    )
    return [
        Part(
            part_id=row[0], kind=row[1], path=row[2], rows=row[3], checksum=row[4], bytes=row[5], low_us=row[6],
            high_us=row[7], import_id=row[8], seq=row[9], mixed=bool(row[10]), retracted=bool(row[11]),
        )
        for row in rows
    ]


def read_key_runs(db: sqlite3.Connection, *, retracted: bool | None = False) -> list[KeyRun]:
    """The runs that count; ``retracted`` ones instead, or (None) both."""
    rows = db.execute(
        "SELECT run_id, path, rows, checksum, import_id, duplicate, retracted FROM key_run"
        " WHERE ?1 IS NULL OR retracted = ?1 ORDER BY run_id",
        (retracted,),
    )
    return [
        KeyRun(
            run_id=row[0], path=row[1], rows=row[2], checksum=row[3], import_id=row[4], duplicate=bool(row[5]),
            retracted=bool(row[6]),
        )
        for row in rows
    ]


def read_files(db: sqlite3.Connection) -> list[str]:
    """The names of all files there must be, retracted ones too."""
    runs = read_key_runs(db, retracted=None)
    return [part.path for part in read_parts(db, retracted=None)] + [run.path for run in runs]


_IMPORTS = "SELECT import_id, fingerprint, options, state, accept_us, updated_us, progress, error FROM import"


def read_imports(db: sqlite3.Connection) -> list[ImportRow]:
    return [_import_row(row) for row in db.execute(f"{_IMPORTS} ORDER BY 1")]


def find_import(db: sqlite3.Connection, import_id: int) -> ImportRow | None:
    """One import; its progress may be large, so the others are not read for it."""
    row = db.execute(f"{_IMPORTS} WHERE import_id = ?", (import_id,)).fetchone()
    return None if row is None else _import_row(row)


def _import_row(row: tuple[Any, ...]) -> ImportRow:
    return ImportRow(
        import_id=row[0], fingerprint=row[1], options=row[2], state=row[3], accept_us=row[4], updated_us=row[5],
        progress=row[6], error=row[7],
    )  # fmt: skip


def read_drift(db: sqlite3.Connection) -> dict[int, int]:
    """By import, how many events more than it made lie in parts: copies that merges made, less what was purged."""
    return dict(db.execute("SELECT import_id, events FROM import_drift").fetchall())


def read_leaf_marks(db: sqlite3.Connection) -> dict[str, LeafMark]:
    """Stored leaves and what each was told."""
    rows = db.execute("SELECT key, seq, now_us, next_person FROM leaf")
    return {row[0]: LeafMark(seq=row[1], now_us=row[2], next_person=row[3]) for row in rows}


def read_leaf_pages(db: sqlite3.Connection, key: str) -> list[tuple[int, bytes]]:
    """A leaf's pages; raises ``StorageError`` when one is damaged."""
    rows = db.execute(
        "SELECT page, checksum, body FROM leaf_page JOIN leaf USING (leaf_id) WHERE key = ? ORDER BY page", (key,)
    ).fetchall()
    for number, checksum, body in rows:
        if crc32(body) != checksum:
            raise StorageError(f"page {number} of a stored leaf is damaged")
    return [(row[0], row[2]) for row in rows]


class Manifest:
    """Writes, inside the loop's transaction."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def add_part(self, part: Part) -> None:
        self._db.execute(
            "INSERT INTO part VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                part.part_id, part.kind, part.path, part.rows, part.checksum, part.bytes, part.low_us, part.high_us,
                part.import_id, part.seq, part.mixed, part.retracted,
            ),
        )

    def next_part_id(self) -> int:
        return self._db.execute("SELECT coalesce(max(part_id), 0) + 1 FROM part").fetchone()[0]

    def next_run_id(self) -> int:
        return self._db.execute("SELECT coalesce(max(run_id), 0) + 1 FROM key_run").fetchone()[0]

    def remove_parts(self, part_ids: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM part WHERE part_id = ?", [(part_id,) for part_id in part_ids])

    def add_key_run(self, run: KeyRun) -> None:
        self._db.execute(
            "INSERT INTO key_run VALUES (?, ?, ?, ?, ?, ?, ?)",
            (run.run_id, run.path, run.rows, run.checksum, run.import_id, run.duplicate, run.retracted),
        )

    def remove_key_runs(self, run_ids: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM key_run WHERE run_id = ?", [(run_id,) for run_id in run_ids])

    def drift(self, import_id: int, events: int) -> None:
        """So many events of an import more than it made (or fewer) lie in parts from this commit on."""
        self._db.execute(
            "INSERT INTO import_drift VALUES (?, ?)"
            " ON CONFLICT (import_id) DO UPDATE SET events = events + excluded.events",
            (import_id, events),
        )

    def put_import(self, row: ImportRow) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO import VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.import_id, row.fingerprint, row.options, row.state, row.accept_us, row.updated_us, row.progress,
                row.error,
            ),
        )

    # -- leaves: derived, so a damaged one is simply built again -------------------------------------------------

    def put_leaf(self, key: str, mark: LeafMark, pages: Iterable[tuple[int, bytes]]) -> None:
        """Store some pages of a leaf and up to where the whole leaf is right."""
        self._db.execute(
            "INSERT INTO leaf (key, seq, now_us, next_person) VALUES (?, ?, ?, ?) ON CONFLICT (key)"
            " DO UPDATE SET seq = excluded.seq, now_us = excluded.now_us, next_person = excluded.next_person",
            (key, mark.seq, mark.now_us, mark.next_person),
        )
        leaf_id = self._db.execute("SELECT leaf_id FROM leaf WHERE key = ?", (key,)).fetchone()[0]
        self._db.executemany(
            "INSERT OR REPLACE INTO leaf_page VALUES (?, ?, ?, ?)",
            [(leaf_id, number, crc32(body), body) for number, body in pages],
        )

    def drop_leaf(self, key: str) -> None:
        self._db.execute("DELETE FROM leaf_page WHERE leaf_id IN (SELECT leaf_id FROM leaf WHERE key = ?)", (key,))
        self._db.execute("DELETE FROM leaf WHERE key = ?", (key,))
