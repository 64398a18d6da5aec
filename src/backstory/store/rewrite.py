"""Rewriting history: rows of the tail as a part, several parts or runs of keys as one.

Nothing here changes what is true: the files count once a commit names them, in the place of what they were made of.
What is merged is held against its checksum first, so that no damage is taken over as if it were right.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backstory.core.error import StorageError
from backstory.store.history import order_of
from backstory.store.keyrun import checksum_of, map_run, order_by_key, write_run
from backstory.store.manifest import KeyRun, Part
from backstory.store.part import write_part, write_tables
from backstory.store.part_file import File
from backstory.store.write_block import WriteBlock

EVENT_COLUMNS = {
    "seq": pa.int64(),
    "person": pa.uint32(),
    "name": pa.string(),
    "kind": pa.string(),
    "time_us": pa.int64(),
    "accept_us": pa.int64(),
    "data": pa.string(),
    "event_id": pa.string(),
    "key": pa.int64(),
    "import_id": pa.int32(),
    "duplicate": pa.bool_(),
}
WRITE_COLUMNS = {
    "seq": pa.int64(),
    "person": pa.uint32(),
    "time_us": pa.int64(),
    "accept_us": pa.int64(),
    "attributes": pa.string(),
    "changes": pa.string(),
    "created": pa.bool_(),
    "import_id": pa.int32(),
}
COLUMNS = {"event": EVENT_COLUMNS, "write": WRITE_COLUMNS}
TABLES = {"event": "event", "write": "attribute_write"}
_decode = msgspec.json.Decoder().decode
# In which order the rows of a part lie: by name where they have one, person, time.
ORDERS = {"event": "kind, name, person, time_us, seq", "write": "person, time_us, seq"}
# Texts that may be long; so many of the longest are far less together than the billion bytes that SQLite hands out.
_LONG = ("data", "attributes", "changes")
ROWS_AT_ONCE = 1_000
# How much is in memory when parts are merged: rows, and bytes as they lie in the file.
STRETCH_ROWS = 65_536
STRETCH_BYTES = 8 << 20
# So many bits of a person's number are left out where stretches begin and end.
PEOPLE_BITS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Oldest:
    """Rows of a kind that leave the tail: those with a seq up to ``seq``, all of them, in order of seq."""

    kind: str
    table: pa.Table

    @property
    def first_seq(self) -> int:
        return self.table["seq"][0].as_py()

    @property
    def seq(self) -> int:
        return self.table["seq"][-1].as_py()

    def imported_events(self) -> dict[int, int]:
        """How many events that count are there of each import."""
        imports = np.asarray(self.table["import_id"].to_numpy(), np.int64)
        some = imports[(imports > 0) & ~np.asarray(self.table["duplicate"].to_numpy(), np.bool_)]
        ids, counts = np.unique(some, return_counts=True)
        return dict(zip(ids.tolist(), counts.tolist(), strict=True))


def oldest_rows(db: sqlite3.Connection, kind: str, count: int) -> Oldest | None:
    """Inside a transaction: the oldest rows of a kind in the tail."""
    tables: list[pa.Table] = []
    last = -1
    for left in range(count, 0, -ROWS_AT_ONCE):
        table = _rows_after(db, kind, last, min(left, ROWS_AT_ONCE))
        if table is None:
            break
        tables.append(table)
        last = table["seq"][-1].as_py()
    return Oldest(kind=kind, table=pa.concat_tables(tables)) if tables else None


def _rows_after(db: sqlite3.Connection, kind: str, seq: int, count: int) -> pa.Table | None:
    """The next rows after a seq, a column as one value: a row of its own for each lets go of the interpreter lock.

    Columns come as lists of JSON, long texts as one text and how long each is.
    """
    kinds = COLUMNS[kind]
    asked = [
        f"CAST(group_concat({name}, '') AS BLOB), json_group_array(length(CAST({name} AS BLOB)))"
        if name in _LONG
        else f"json_group_array({name}), NULL"
        for name in kinds
    ]
    found = db.execute(
        f"SELECT {', '.join(asked)} FROM (SELECT {', '.join(kinds)} FROM {TABLES[kind]} WHERE seq > ?"
        " ORDER BY seq LIMIT ?)",
        (seq, count),
    ).fetchone()
    pairs = zip(kinds.items(), found[::2], found[1::2], strict=True)
    table = pa.table({name: _column(body, sizes, made) for (name, made), body, sizes in pairs})
    return table if table.num_rows else None


def _column(body: str | bytes | None, sizes: str | None, made: pa.DataType) -> pa.Array:
    if sizes is None:
        values = _decode(body or "[]")
        return pa.array(values, pa.int64()).cast(made) if made == pa.bool_() else pa.array(values, made)
    lengths = pa.array(_decode(sizes), pa.int32())
    ends = np.cumsum(np.asarray(lengths.fill_null(0).to_numpy(), np.int32), dtype=np.int32)
    offsets = pa.py_buffer(np.append(np.int32(0), ends))
    texts = pa.Array.from_buffers(pa.string(), len(lengths), [None, offsets, pa.py_buffer(body or b"")])
    return pc.if_else(lengths.is_valid(), texts, pa.scalar(None, pa.string())) if lengths.null_count else texts


def write_moved(folder: Path, oldest: Oldest) -> tuple[File, list[File]]:
    """Rows of the tail as a part, and their keys as runs: of those that count, and of duplicates."""
    table = oldest.table.append_column("commit_seq", oldest.table["seq"])
    order = [(name.strip(), "ascending") for name in ORDERS[oldest.kind].split(",")]
    name = f"tail-{oldest.kind}-{oldest.first_seq}-{oldest.seq}"
    written = write_part(folder, name, table.sort_by(order))
    times_us = np.asarray(table["time_us"].to_numpy(), np.int64)
    part = File.of_part(written, low_us=int(times_us.min()), high_us=int(times_us.max()), seq=oldest.seq)
    return part, _runs_of(folder, name, table) if oldest.kind == "event" else []


def write_blocks(folder: Path, blocks: Sequence[WriteBlock]) -> File:
    """Blocks of one import, in the order of their seqs, as a part."""
    table = pa.concat_tables([block.table() for block in blocks])
    people, times_us, seqs = (
        np.asarray(table.column(name).to_numpy(), np.int64) for name in ("person", "time_us", "seq")
    )
    table = table.select([*WRITE_COLUMNS]).append_column("commit_seq", pa.array(seqs))
    order = order_of(people, times_us)
    if (order[1:] < order[:-1]).any():
        table = table.take(pa.array(order))
    import_id, last = blocks[0].import_id, int(seqs[-1])
    written = write_part(folder, f"import-write-{import_id}-{blocks[0].seq}-{last}", table)
    low_us, high_us = int(times_us.min()), int(times_us.max())
    return File.of_part(written, low_us=low_us, high_us=high_us, seq=last, import_id=import_id)


def _runs_of(folder: Path, name: str, table: pa.Table) -> list[File]:
    has_key = np.asarray(table.column("key").is_valid().to_numpy())
    keys = np.asarray(table.column("key").fill_null(0).to_numpy(), np.int64)
    people = np.asarray(table.column("person").to_numpy(), np.uint32)
    duplicate = np.asarray(table.column("duplicate").to_numpy(), np.bool_)
    imports = np.asarray(table.column("import_id").to_numpy(), np.int64)
    files: list[File] = []
    for import_id in np.unique(imports).tolist():
        for flag in (False, True):
            some = np.nonzero(has_key & (duplicate == flag) & (imports == import_id))[0]
            if len(some):
                some = some[order_by_key(keys[some], people[some])]
                path, checksum = write_run(folder, f"{name}-{import_id}-{int(flag)}", keys[some], people[some])
                files.append(
                    File(path=path, rows=len(some), checksum=checksum, import_id=import_id, duplicate=flag)
                )
    return files


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """Which rows are not written again: those of some people."""

    people: Sequence[int] = ()

    def table(self, duck: duckdb.DuckDBPyConnection) -> None:
        """Make these known to a connection; the condition ``LEFT_OUT`` asks for them."""
        duck.register("numbers", pa.table({"number": pa.array(self.people, pa.int64())}))
        duck.execute("CREATE OR REPLACE TEMP TABLE left_out AS SELECT * FROM numbers")
        duck.unregister("numbers")


LEFT_OUT = "person IN (SELECT number FROM left_out)"
EVERYTHING = LeaveOut()


def count_left_out(
    duck: duckdb.DuckDBPyConnection, folder: Path, part: Part, leave_out: LeaveOut
) -> tuple[int, dict[int, int]]:
    """How many rows of a part would go, and how many events that count of each import. Raises ``StorageError``."""
    counted = "count(*) FILTER (NOT duplicate)" if part.kind == "event" else "0"
    source = f"read_parquet('{_quoted(folder / part.path)}')"
    try:
        leave_out.table(duck)
        rows = duck.execute(
            f"SELECT import_id, count(*), {counted} FROM {source} WHERE {LEFT_OUT} GROUP BY import_id"
        ).fetchall()
    except duckdb.Error as error:
        raise StorageError(f"history cannot be read: {error}") from error
    return sum(row[1] for row in rows), {row[0]: row[2] for row in rows if row[0] and row[2]}


def merge_parts(
    duck: duckdb.DuckDBPyConnection, folder: Path, parts: Sequence[Part], leave_out: LeaveOut = EVERYTHING
) -> File:
    """Parts of one kind as one. Raises ``StorageError`` for a part that is not what was written.

    Stretch by stretch of the order the rows lie in, so that it takes little memory, whatever the size of the parts.
    Some rows may be left out; nothing is written, and the file has no name, where none would be left.
    """
    kind = parts[0].kind
    for part in parts:
        hold_against(folder / part.path, part.checksum)
    union = union_of(folder, kind, parts)
    rows = sum(part.rows for part in parts)
    if leave_out != EVERYTHING:
        leave_out.table(duck)
        union = f"(SELECT * FROM {union} WHERE NOT {LEFT_OUT})"
        rows = _count(duck, union)
        if not rows:
            return File(path="", rows=0, checksum="")
    in_memory = STRETCH_BYTES * sum(part.rows for part in parts) // sum(part.bytes for part in parts)
    stretch_rows = max(min(STRETCH_ROWS, in_memory), 1)
    schema = pa.schema([*COLUMNS[kind].items(), ("commit_seq", pa.int64())])
    tables = _stretches(duck, kind, union, stretch_rows)
    how = "merged" if leave_out == EVERYTHING else "purged"
    name = f"{how}-{kind}-{parts[0].part_id}-{parts[-1].part_id}"
    written = write_tables(folder, name, schema, tables, rows)
    imports = {part.import_id for part in parts}
    return File.of_part(
        written,
        low_us=min(part.low_us for part in parts),
        high_us=max(part.high_us for part in parts),
        seq=max(part.seq for part in parts),
        import_id=imports.pop() if len(imports) == 1 else 0,
    )


def _count(duck: duckdb.DuckDBPyConnection, union: str) -> int:
    try:
        found = duck.execute(f"SELECT count(*) FROM {union}").fetchone()
    except duckdb.Error as error:
        raise StorageError(f"history cannot be read: {error}") from error
    assert found is not None
    return found[0]


def union_of(folder: Path, kind: str, parts: Sequence[Part]) -> str:
    """The rows of all parts, each with the commit from which it counts."""
    columns = ", ".join(COLUMNS[kind])
    each = [
        f"SELECT {columns}, {'commit_seq' if part.mixed else f'{part.seq}::BIGINT AS commit_seq'}"
        f" FROM read_parquet('{_quoted(folder / part.path)}')"
        for part in parts
    ]
    return f"({' UNION ALL '.join(each)})"


def _stretches(duck: duckdb.DuckDBPyConnection, kind: str, union: str, rows_max: int) -> Iterator[pa.Table]:
    """All rows in order, about ``rows_max`` at a time; people whose numbers lie together stay together."""
    names = ["kind", "name"] if kind == "event" else []
    keys = ", ".join([*names, f"person >> {PEOPLE_BITS} AS some"])
    groups = duck.execute(f"SELECT {keys}, count(*) FROM {union} GROUP BY ALL ORDER BY ALL").fetchall()
    order = [(name.strip(), "ascending") for name in ORDERS[kind].split(",")]
    stretch: list[tuple[Any, ...]] = []
    rows = 0
    for group in groups:
        if stretch and rows + group[-1] > rows_max:
            yield _stretch(duck, union, names, stretch[0], stretch[-1]).sort_by(order)
            stretch, rows = [], 0
        stretch.append(group)
        rows += group[-1]
    if stretch:
        yield _stretch(duck, union, names, stretch[0], stretch[-1]).sort_by(order)


def _stretch(
    duck: duckdb.DuckDBPyConnection, union: str, names: list[str], first: tuple[Any, ...], last: tuple[Any, ...]
) -> pa.Table:
    """The rows from one group to another, in any order; what can be told by bounds of columns is told so first."""
    columns = [*names, f"person >> {PEOPLE_BITS}"]
    bounds = [_beyond(columns, ">"), _beyond(columns, "<")]
    values = [*_twice(first[:-1]), *_twice(last[:-1])]
    same = 0
    while same < len(names) and first[same] == last[same]:
        same += 1
    for at, column in enumerate(names[: same + 1]):
        bounds.append(f"{column} BETWEEN ? AND ?")
        values += [first[at], last[at]]
    if same == len(names):
        bounds.append("person BETWEEN ? AND ?")
        values += [first[-2] << PEOPLE_BITS, (last[-2] + 1 << PEOPLE_BITS) - 1]
    try:
        return duck.sql(f"SELECT * FROM {union} WHERE {' AND '.join(bounds)}", params=values).to_arrow_table()
    except duckdb.Error as error:
        raise StorageError(f"history cannot be read: {error}") from error


def _beyond(columns: Sequence[str], side: str) -> str:
    """A comparison of several columns in order: is the row at, or beyond, what stands there?"""
    text = f"{columns[-1]} {side}= ?"
    for column in reversed(columns[:-1]):
        text = f"({column} {side} ? OR ({column} = ? AND {text}))"
    return text


def _twice(key: Sequence[Any]) -> list[Any]:
    """The values of such a comparison."""
    return [one for value in key[:-1] for one in (value, value)] + [key[-1]]


def merge_runs(folder: Path, runs: Sequence[KeyRun]) -> File:
    """Runs of one import as one. Raises ``StorageError`` for a run that is not what was written."""
    for run in runs:
        hold_against(folder / run.path, run.checksum)
    opened = [map_run(folder, run) for run in runs]
    keys = np.concatenate([run.keys for run in opened])
    people = np.concatenate([run.people for run in opened])
    order = order_by_key(keys, people)
    first = runs[0]
    name = f"merged-keys-{first.run_id}-{runs[-1].run_id}"
    path, checksum = write_run(folder, name, keys[order], people[order])
    return File(
        path=path, rows=len(keys), checksum=checksum, import_id=first.import_id, duplicate=first.duplicate
    )


def run_without(folder: Path, run: KeyRun, people: NDArray[np.uint32]) -> File | None:
    """A run without the keys of some people (sorted); None where it has none of theirs.

    The file has no name where nothing would be left. Raises ``StorageError`` for a run that is not what was written.
    """
    opened = map_run(folder, run)
    kept = ~np.isin(opened.people, people)
    rows = int(kept.sum())
    if rows == len(opened.people):
        return None
    hold_against(folder / run.path, run.checksum)
    if not rows:
        return File(path="", rows=0, checksum="")
    path, checksum = write_run(folder, f"purged-keys-{run.run_id}", opened.keys[kept], opened.people[kept])
    return File(path=path, rows=rows, checksum=checksum, import_id=run.import_id, duplicate=run.duplicate)


def hold_against(path: Path, checksum: str) -> None:
    """Raises ``StorageError`` when a file does not have the checksum it was written with."""
    if checksum_of(path) != checksum:
        raise StorageError(f"{path.name} does not have the checksum it was written with; restore it from a backup")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
