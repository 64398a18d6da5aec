"""Blocks: attribute writes that an import made in one step, as one row of the tail, until many of them become a part.

A row of its own for each write costs as much as the person it is about, and leaves the tail one by one. A block is
durable with the commit of its step all the same. Whoever reads writes of the tail asks ``table_of_writes`` where.
Blocks never change: they go when a part has their rows, or when their rows become rows of the tail (``unfold``).
"""

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
from numpy.typing import NDArray

from backstory.store.database import among, insert_rows

# Two numbers of every write: its own, and the one before for a second trace of it.
SEQ_STEP = 2
BODY = pa.schema(
    [
        ("person", pa.uint32()),
        ("time_us", pa.int64()),
        ("attributes", pa.string()),
        ("changes", pa.string()),
        ("created", pa.bool_()),
    ]
)
_COLUMNS = "seq, person, time_us, accept_us, attributes, changes, created, import_id"
_VALUES = "(?, ?, ?, ?, ?, ?, ?, ?)"
_BLOCK = "seq, accept_us, import_id, body"
# Of each connection its own, filled anew by each question.
_UNPACKED = f"CREATE TEMP TABLE IF NOT EXISTS unpacked ({_COLUMNS})"
_WRITTEN = (
    f"CREATE TEMP VIEW IF NOT EXISTS written AS SELECT {_COLUMNS} FROM main.attribute_write"
    f" UNION ALL SELECT {_COLUMNS} FROM temp.unpacked"
)


@dataclass(frozen=True, slots=True)
class WriteBlock:
    """Writes that are numbered from ``seq`` on, each ``SEQ_STEP`` more; ``body`` is packed."""

    seq: int
    accept_us: int
    import_id: int
    body: bytes

    def people(self) -> NDArray[np.uint32]:
        """Whom the writes are about."""
        found = ipc.open_stream(self.body, options=ipc.IpcReadOptions(included_fields=[0])).read_all()
        return np.asarray(found.column(0).to_numpy(), np.uint32)

    def table(self, places: NDArray[np.int64] | None = None) -> pa.Table:
        """The writes at these places, None: all, with all that a write of history has."""
        body = ipc.open_stream(self.body).read_all()
        table = _whole(body, seq=self.seq, accept_us=self.accept_us, import_id=self.import_id)
        return table if places is None else table.take(pa.array(places))


def writes(
    people: NDArray[np.uint32], times_us: NDArray[np.int64], attributes: pa.Array, changes: str | None, created: bool
) -> pa.Table:
    """Writes as the body of a block; what they change, and whether they made somebody, is the same of all."""
    count = len(people)
    columns = [
        pa.array(people, pa.uint32()),
        pa.array(times_us, pa.int64()),
        attributes,
        pa.nulls(count, pa.string()) if changes is None else pa.repeat(pa.scalar(changes), count),
        pa.repeat(pa.scalar(created), count),
    ]
    return pa.table(columns, schema=BODY)


def rows_of(body: pa.Table, *, seq: int, accept_us: int, import_id: int) -> list[tuple[Any, ...]]:
    """The same writes as rows of ``attribute_write``."""
    return _rows(_whole(body, seq=seq, accept_us=accept_us, import_id=import_id))


def _whole(body: pa.Table, *, seq: int, accept_us: int, import_id: int) -> pa.Table:
    """With all that a write of history has."""
    count = body.num_rows
    seqs = seq + SEQ_STEP * np.arange(count, dtype=np.int64)
    table = body.append_column("seq", pa.array(seqs))
    table = table.append_column("accept_us", pa.repeat(pa.scalar(accept_us, pa.int64()), count))
    return table.append_column("import_id", pa.repeat(pa.scalar(import_id, pa.int32()), count))


# -- inside the loop's transaction ------------------------------------------------------------------------------------


def add_block(db: sqlite3.Connection, body: pa.Table, *, seq: int, accept_us: int, import_id: int) -> None:
    """Write a block of at least one write."""
    sink = pa.BufferOutputStream()
    with ipc.new_stream(sink, BODY) as writer:
        writer.write_table(body)
    people = pc.min_max(body.column("person")).as_py()
    db.execute(
        "INSERT INTO write_block VALUES (?, ?, ?, ?, ?, ?, ?)",
        (seq, body.num_rows, accept_us, import_id, people["min"], people["max"], sink.getvalue()),
    )


def unfold(db: sqlite3.Connection, person: int) -> list[tuple[Any, ...]]:
    """Take the blocks that tell of somebody away, so that theirs can go; the rows are for the caller to keep."""
    rows: list[tuple[Any, ...]] = []
    for block in _blocks(db, (person,)):
        if person in block.people():
            rows += _rows(block.table())
            drop_blocks(db, [block])
    return rows


def drop_blocks(db: sqlite3.Connection, blocks: Sequence[WriteBlock]) -> bool:
    """Let blocks go; False, and none goes, where one is gone already."""
    chosen = f"FROM write_block WHERE seq IN ({', '.join(str(block.seq) for block in blocks)})"
    if db.execute(f"SELECT count(*) {chosen}").fetchone()[0] != len(blocks):
        return False
    db.execute(f"DELETE {chosen}")
    return True


# -- inside a transaction ---------------------------------------------------------------------------------------------


def table_of_writes(
    db: sqlite3.Connection, people: Collection[int] | None = None, seqs: Collection[int] | None = None
) -> str:
    """The table in which this connection finds the writes of the tail about these people (None: all).

    It has the columns of ``attribute_write``, and perhaps others' writes too. ``seqs`` are those of theirs that lie in
    no block (``Tail.write_seqs``), without which all of the table is looked through. What was found in it must be
    fetched before the next question of this kind.
    """
    rows = "attribute_write"
    if seqs is not None:
        rows = f"(SELECT {_COLUMNS} FROM main.attribute_write WHERE {among(seqs)})"
    tables = list(_about(db, people)) if people is None or people else []
    if not tables:
        return rows
    db.execute(_UNPACKED)
    db.execute(_WRITTEN)
    db.execute("DELETE FROM temp.unpacked")
    for table in tables:
        insert_rows(db, "INSERT INTO temp.unpacked", _VALUES, _rows(table))
    return "written" if seqs is None else f"(SELECT * FROM {rows} UNION ALL SELECT {_COLUMNS} FROM temp.unpacked)"


def oldest_blocks(db: sqlite3.Connection, rows_max: int, bytes_max: int) -> list[WriteBlock]:
    """The oldest blocks of one import, together no more than so many rows and bytes; the first in any case."""
    sizes = db.execute(
        "SELECT import_id, seq, rows, length(body) FROM write_block WHERE import_id ="
        " (SELECT import_id FROM write_block ORDER BY seq LIMIT 1) ORDER BY seq"
    ).fetchall()
    rows = size_bytes = count = 0
    for _, _, more, more_bytes in sizes:
        rows += more
        size_bytes += more_bytes
        if count and (rows > rows_max or size_bytes > bytes_max):
            break
        count += 1
    if not count:
        return []
    import_id, last = sizes[count - 1][:2]
    query = f"SELECT {_BLOCK} FROM write_block WHERE import_id = ? AND seq <= ? ORDER BY seq"
    return [WriteBlock(*row) for row in db.execute(query, (import_id, last))]


def blocks_of(db: sqlite3.Connection, import_id: int | None = None) -> Iterator[WriteBlock]:
    """All blocks of an import, or of all, one after the other: for those who look at each row once."""
    query = f"SELECT {_BLOCK} FROM write_block WHERE ?1 IS NULL OR import_id = ?1 ORDER BY seq"
    for row in db.execute(query, (import_id,)):
        yield WriteBlock(*row)


def held_in_blocks(db: sqlite3.Connection, import_id: int | None = None) -> tuple[int, int]:
    """How many writes lie in blocks, and how many bytes these are, of one import or of all."""
    query = (
        "SELECT coalesce(sum(rows), 0), coalesce(sum(length(body)), 0) FROM write_block"
        " WHERE ?1 IS NULL OR import_id = ?1"
    )
    rows, size_bytes = db.execute(query, (import_id,)).fetchone()
    return rows, size_bytes


def rows_about(db: sqlite3.Connection, people: Collection[int]) -> int:
    """How many writes in blocks are about these people."""
    return sum(table.num_rows for table in _about(db, people)) if people else 0


def _blocks(db: sqlite3.Connection, people: Collection[int] | None) -> Iterator[WriteBlock]:
    """The blocks that may tell of these people."""
    low, high = (0, 1 << 32) if people is None else (min(people), max(people))
    query = f"SELECT {_BLOCK} FROM write_block WHERE low_person <= ? AND high_person >= ? ORDER BY seq"
    for row in db.execute(query, (high, low)).fetchall():
        yield WriteBlock(*row)


def _about(db: sqlite3.Connection, people: Collection[int] | None) -> Iterator[pa.Table]:
    """The writes in blocks about these people, and of a range of them those about everybody in its blocks."""
    whole = people is None or isinstance(people, range)
    asked = np.empty(0, np.uint32) if people is None or whole else np.array(list(people), np.uint32)
    for block in _blocks(db, people):
        if whole:
            yield block.table()
            continue
        places = np.flatnonzero(np.isin(block.people(), asked))
        if len(places):
            yield block.table(places)


def _rows(table: pa.Table) -> list[tuple[Any, ...]]:
    columns = [table.column(name.strip()).to_pylist() for name in _COLUMNS.split(",")]
    return list(zip(*columns, strict=True))
