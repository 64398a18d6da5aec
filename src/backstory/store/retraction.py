"""Taking an import's rows out of history, or back into it: files made aside, which one commit then names.

Rows that do not count any more lie in parts and runs of keys of their own, marked in the manifest; no reader looks at
those. So nothing has to be left out row by row wherever history is read. Parts that hold rows of others too are cut
in two. What repeats such a row elsewhere counts in its place: which rows count is found anew for the keys that the
import shares with others (design section 7).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.error import StorageError
from backstory.store.keyrun import Keys, OpenRun, PeopleArray, map_run, order_by_key, write_run
from backstory.store.part import GROUP_ROWS, write_part, write_tables
from backstory.store.part_file import File
from backstory.store.rewrite import COLUMNS, ORDERS, hold_against, union_of

if TYPE_CHECKING:
    from backstory.store.manifest import KeyRun, Part

Seqs = NDArray[np.int64]

# What an import was before, once its rows have gone for good.
PURGED = "purged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraction:
    """An import taken back, or on the way: ``stage`` is begun, taken (its rows are out of history) or done.

    ``returning``: on its way back in. ``was`` is the import's state before.
    """

    import_id: int
    at_us: int
    stage: str
    was: str
    returning: bool


def read_retractions(db: sqlite3.Connection) -> dict[int, Retraction]:
    rows = db.execute("SELECT import_id, at_us, stage, was, back FROM retraction")
    return {
        row[0]: Retraction(import_id=row[0], at_us=row[1], stage=row[2], was=row[3], returning=bool(row[4]))
        for row in rows
    }


def put_retraction(db: sqlite3.Connection, one: Retraction) -> None:
    """Inside a transaction."""
    db.execute(
        "INSERT OR REPLACE INTO retraction VALUES (?, ?, ?, ?, ?)",
        (one.import_id, one.at_us, one.stage, one.was, one.returning),
    )


def drop_retraction(db: sqlite3.Connection, import_id: int) -> None:
    """Inside a transaction: the import counts again."""
    db.execute("DELETE FROM retraction WHERE import_id = ?", (import_id,))


# -- which rows count -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Change:
    """A row that comes to count, or (``duplicate``) does not any more."""

    seq: int
    import_id: int
    key: int
    person: int
    duplicate: bool
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class Recount:
    """What changes for keys shared with others; ``made`` are rows of which only keys were kept, without a seq."""

    changes: list[Change]
    made: pa.Table | None
    # How many of them are known of no more than their keys, because what they repeated was purged.
    lost: int = 0


# Of equal ids the first accepted counts; of equal contents as many as the fullest source has, those that do so first.
_RANKED = """
    WITH most AS (SELECT key, person, max(n) AS n FROM sources GROUP BY ALL),
    ranked AS (
        SELECT held.*, CASE WHEN has_id THEN 1 ELSE n END AS room, row_number() OVER (
            PARTITION BY key, person ORDER BY CASE WHEN has_id THEN 0 ELSE duplicate::INTEGER END, commit_seq, seq
        ) AS place FROM held JOIN most USING (key, person)
    )
"""
_CHANGES = f"""{_RANKED} SELECT seq, import_id, key, person, place > room, kind, name FROM ranked
    WHERE duplicate <> (place > room) ORDER BY seq"""
# Keys of which the fullest source has more than there are rows, and that source.
_MISSING = """
    SELECT key, person, arg_max(import_id, n) AS source, max(n) - coalesce(max(rows), 0) AS count
    FROM sources LEFT JOIN (SELECT key, person, count(*) AS rows FROM held GROUP BY ALL) USING (key, person)
    GROUP BY key, person HAVING count > 0
"""


def shared_keys(mine: Sequence[OpenRun], others: Sequence[OpenRun]) -> tuple[Keys, PeopleArray]:
    """The keys, with their people, that an import's runs and those of others have both; each once."""
    if not mine or not others:
        return np.empty(0, np.int64), np.empty(0, np.uint32)
    keys, people = np.concatenate([run.keys for run in mine]), np.concatenate([run.people for run in mine])
    order = order_by_key(keys, people)
    keys, people = keys[order], people[order]
    hit = np.zeros(len(keys), bool)
    for run in others:
        hit |= run.count_many(keys, people) > 0
    hit[1:] &= (keys[1:] != keys[:-1]) | (people[1:] != people[:-1])
    return keys[hit], people[hit]


def recount(
    duck: duckdb.DuckDBPyConnection,
    folder: Path,
    shared: tuple[Keys, PeopleArray],
    runs: Sequence[OpenRun],
    counting: Sequence[Part],
    every: Sequence[Part],
    leave_out: int = -1,
) -> Recount:
    """Which rows of the ``counting`` parts and ``runs`` count, for shared keys, but for those of one import.

    ``every`` part may tell what a row said of which only the key was kept. The caller numbers the rows made.
    """
    keys, people = shared
    duck.register("shared", pa.table({"key": pa.array(keys), "person": pa.array(people)}))
    sources: list[pa.Table] = []
    for run in runs:
        counts = run.count_many(keys, people)
        some = counts > 0
        sources.append(
            pa.table(
                {
                    "key": pa.array(keys[some]),
                    "person": pa.array(people[some]),
                    "import_id": pa.array(np.full(int(some.sum()), run.run.import_id, np.int64)),
                    "n": pa.array(counts[some]),
                }
            )
        )
    duck.register("by_run", pa.concat_tables(sources))
    duck.execute(
        "CREATE TEMP TABLE sources AS SELECT key, person, import_id, sum(n)::BIGINT AS n FROM by_run GROUP BY ALL"
    )
    columns = "key, person, seq, commit_seq, import_id, duplicate, event_id IS NOT NULL AS has_id, kind, name"
    # Of no part at all the columns are those of any.
    parts = union_of(folder, "event", counting or every)
    duck.execute(
        f"CREATE TEMP TABLE held AS SELECT {columns} FROM {parts} SEMI JOIN shared USING (key, person)"
        f" WHERE import_id <> {int(leave_out)} AND {'true' if counting else 'false'}"
    )
    changes = [Change(*row) for row in duck.execute(_CHANGES).fetchall()]
    missing = duck.execute(_MISSING).fetchall()
    if not missing:
        return Recount(changes, None)
    made = _made(duck, folder, missing, every)
    return Recount(changes, made if made.num_rows else None, sum(row[3] for row in missing) - made.num_rows)


def _made(
    duck: duckdb.DuckDBPyConnection, folder: Path, missing: list[tuple[int, ...]], every: Sequence[Part]
) -> pa.Table:
    """Rows for what only keys are known of: they say what the row said that they repeated."""
    kinds = (("key", pa.int64()), ("person", pa.uint32()), ("source", pa.int32()), ("count", pa.int64()))
    columns = zip(*missing, strict=True)
    duck.register(
        "missing", pa.table({name: pa.array(list(one), kind) for (name, kind), one in zip(kinds, columns, strict=True)})
    )
    wanted = ", ".join(name for name in COLUMNS["event"] if name not in ("key", "person", "import_id", "duplicate"))
    found = (
        f"SELECT {wanted}, key, person, source AS import_id, false AS duplicate, unnest(range(count)) AS again FROM"
        f" (SELECT * EXCLUDE (import_id, duplicate), row_number() OVER (PARTITION BY key, person ORDER BY seq) AS place"
        f" FROM {union_of(folder, 'event', every)} JOIN missing USING (key, person)) WHERE place = 1"
    )
    return duck.sql(found).to_arrow_table().drop_columns(["again"])


# -- parts ------------------------------------------------------------------------------------------------------------


def rows_of_import(folder: Path, part: Part, import_id: int) -> Truth:
    """Which rows of a part came with an import."""
    if part.import_id:
        return np.full(part.rows, part.import_id == import_id)
    return np.asarray(pq.read_table(folder / part.path, columns=["import_id"]).column(0).to_numpy()) == import_id


def rows_with_seq(folder: Path, part: Part, seqs: Seqs) -> Truth:
    """Which rows of a part have one of these (sorted) seqs."""
    held = np.asarray(pq.read_table(folder / part.path, columns=["seq"]).column(0).to_numpy(), np.int64)
    return np.isin(held, seqs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """How rows are rewritten: ``flips`` count or not, the other way round than before.

    Rows that come to count are known since ``at_us``.
    """

    flips: Truth
    at_us: int


def rewritten(folder: Path, part: Part, name: str, keep: Truth, edit: Edit) -> File | None:
    """The kept rows of a part as another one, edited; None when none is kept. Raises ``StorageError`` for damage."""
    if not keep.any():
        return None
    hold_against(folder / part.path, part.checksum)
    kinds = COLUMNS[part.kind]
    schema = pa.schema([*kinds.items(), ("commit_seq", pa.int64())])
    bounds: list[tuple[int, int, int]] = []

    def tables() -> Iterator[pa.Table]:
        low = 0
        with pq.ParquetFile(folder / part.path) as file:
            for batch in file.iter_batches(GROUP_ROWS):
                high = low + batch.num_rows
                table = _edited(pa.Table.from_batches([batch]), part, edit, edit.flips[low:high])
                table = table.filter(pa.array(keep[low:high]))
                low = high
                if table.num_rows:
                    times_us = pc.min_max(table.column("time_us")).as_py()
                    bounds.append((times_us["min"], times_us["max"], pc.max(table.column("commit_seq")).as_py()))
                    yield table

    written = write_tables(folder, name, schema, tables(), int(keep.sum()))
    return File.of_part(
        written,
        low_us=min(one[0] for one in bounds),
        high_us=max(one[1] for one in bounds),
        seq=max(one[2] for one in bounds),
    )


def _edited(table: pa.Table, part: Part, edit: Edit, flips: Truth) -> pa.Table:
    if not part.mixed:
        table = table.append_column("commit_seq", pa.array(np.full(table.num_rows, part.seq, np.int64)))
    if flips.any():
        duplicate = np.asarray(table.column("duplicate").to_numpy(), bool)
        accept_us = np.asarray(table.column("accept_us").to_numpy(), np.int64)
        table = _put(table, "accept_us", pa.array(np.where(flips & duplicate, edit.at_us, accept_us)))
        table = _put(table, "duplicate", pa.array(duplicate ^ flips))
    return table


def _put(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def write_made(folder: Path, name: str, made: pa.Table, first_seq: int, at_us: int) -> File:
    """Rows that were made as a part; they are numbered from ``first_seq`` on and known since ``at_us``."""
    count = made.num_rows
    seqs = np.arange(first_seq, first_seq + count, dtype=np.int64)
    made = _put(made, "seq", pa.array(seqs))
    made = _put(made, "accept_us", pa.array(np.full(count, at_us, np.int64)))
    made = made.append_column("commit_seq", pa.array(seqs))
    schema = pa.schema([*COLUMNS["event"].items(), ("commit_seq", pa.int64())])
    order = [(one.strip(), "ascending") for one in ORDERS["event"].split(",")]
    written = write_part(folder, name, made.select(schema.names).cast(schema).sort_by(order))
    times_us = pc.min_max(made.column("time_us")).as_py()
    return File.of_part(written, low_us=times_us["min"], high_us=times_us["max"], seq=int(seqs[-1]))


# -- runs of keys -----------------------------------------------------------------------------------------------------


def moved_runs(
    folder: Path, name: str, runs: Sequence[KeyRun], moves: Sequence[tuple[int, int, int, bool]]
) -> tuple[list[KeyRun], list[File]]:
    """Keys that count now and did not, or the other way round: (import, key, person, duplicate now).

    Returns the runs that go and the files that take their place.
    """
    gone: list[KeyRun] = []
    files: list[File] = []
    for import_id in sorted({move[0] for move in moves}):
        for flag in (False, True):
            leaving = [(move[1], move[2]) for move in moves if move[0] == import_id and move[3] != flag]
            coming = [(move[1], move[2]) for move in moves if move[0] == import_id and move[3] == flag]
            if not leaving and not coming:
                continue
            some = [run for run in runs if run.import_id == import_id and run.duplicate == flag]
            keys, people = _without(folder, some, leaving)
            keys = np.concatenate([keys, np.array([one[0] for one in coming], np.int64)])
            people = np.concatenate([people, np.array([one[1] for one in coming], np.uint32)])
            gone += some
            if len(keys):
                files.append(_run(folder, f"{name}-{import_id}-{int(flag)}", keys, people, import_id, flag))
    return gone, files


def _without(
    folder: Path, runs: Sequence[KeyRun], leaving: Sequence[tuple[int, int]]
) -> tuple[Keys, PeopleArray]:
    """All keys of some runs, but for those; each leaves once for each time it is named."""
    if not runs:
        return np.empty(0, np.int64), np.empty(0, np.uint32)
    opened = [map_run(folder, run) for run in runs]
    keys, people = np.concatenate([run.keys for run in opened]), np.concatenate([run.people for run in opened])
    order = order_by_key(keys, people)
    keys, people = keys[order], people[order]
    keep = np.ones(len(keys), bool)
    taken: dict[tuple[int, int], int] = {}
    for key, person in leaving:
        again = taken.get((key, person), 0)
        taken[key, person] = again + 1
        low, high = int(keys.searchsorted(key)), int(keys.searchsorted(key, side="right"))
        at = low + int(people[low:high].searchsorted(np.uint32(person))) + again
        if at < high and people[at] == person:
            keep[at] = False
    return keys[keep], people[keep]


def _run(folder: Path, name: str, keys: Keys, people: PeopleArray, import_id: int, flag: bool) -> File:
    order = order_by_key(keys, people)
    path, checksum = write_run(folder, name, keys[order], people[order])
    return File(path=path, rows=len(keys), checksum=checksum, import_id=import_id, duplicate=flag)


def check_seqs(changes: Sequence[Change]) -> Seqs:
    """The seqs of rows that change, sorted."""
    seqs = np.array(sorted(change.seq for change in changes), np.int64)
    if len(np.unique(seqs)) != len(seqs):
        raise StorageError("two rows of history have the same number")
    return seqs
