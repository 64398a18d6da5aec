"""History: parts and tail as one. DuckDB reads the parts; the tail comes out of ``state.db``.

It answers scans (every event of a name, for building leaves), one person's history, and pages of the activity log.
It knows nothing of conditions or of the loop.

Rows move from the tail into parts, and from parts into larger ones, while others read. So whoever reads both does it
under ``reading``, and takes the manifest and the tail out of one transaction of ``state.db`` (``stored``): then each
row is seen once, and the files are there until the reading ends.
"""

import sqlite3
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.error import StorageError
from backstory.core.wildcard import glob_of, is_wildcard, like_of
from backstory.store.database import among
from backstory.store.duck import Choice, Duck, at_keys, paths_of
from backstory.store.knowledge import Knowledge, parts_for, told_by
from backstory.store.manifest import Part, read_parts
from backstory.store.reading import NotWritten, Readings
from backstory.store.state import State
from backstory.store.write_block import blocks_of, table_of_writes

Numbers = NDArray[Any]
NEVER_BEFORE_US = -(1 << 62)
NO_END_SEQ = (1 << 63) - 1
# A stored event, as the tail has it.
ROW_COLUMNS = "seq, person, name, kind, time_us, accept_us, data, event_id, key, import_id, duplicate"
# Stands in a query over parts for the condition that tells which rows count by their seq.
COUNTED = "{counted}"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Events of one name, sorted by person, then time."""

    people: NDArray[np.uint32]
    times_us: NDArray[np.int64]


class History:
    """Reads over the parts the manifest names and the tail. ``parts`` is the loop's own view of the manifest."""

    def __init__(self, folder: Path, state: State, duck: Duck) -> None:
        self.folder = folder
        self._state = state
        self.duck = duck
        self.parts: tuple[Part, ...] = ()
        # False in a replica whose history nobody reads: imports name the parts of events there, and do not write them.
        self.kept = True
        self.readings = Readings()

    def reading(self) -> AbstractContextManager[None]:
        """While this is open no file goes that the manifest names now, or comes to name."""
        return self.readings.one()

    def stored(
        self, sql: str, parameters: tuple[Any, ...] = (), known: Knowledge | None = None
    ) -> tuple[list[Part], list[Any]]:
        """What one commit says: the parts there are, or were known, and rows of the tail."""
        return self._state.read(lambda db: (parts_for(db, known), db.execute(sql, parameters).fetchall()))

    def stored_writes(
        self,
        sql: str,
        parameters: tuple[Any, ...] = (),
        known: Knowledge | None = None,
        people: Collection[int] | None = None,
    ) -> tuple[list[Part], list[Any]]:
        """The same about attribute writes (of these ``people``): {written} in ``sql`` is where the tail has them."""

        def read(db: sqlite3.Connection) -> tuple[list[Part], list[Any]]:
            asked = sql.format(written=table_of_writes(db, people))
            return parts_for(db, known), db.execute(asked, parameters).fetchall()

        return self._state.read(read)

    def files(self, parts: Sequence[Part], kind: str) -> list[str]:
        """The files of a kind; those whose rows have a column more come last, so that it is not asked of the others.

        Raises ``NotWritten`` where there is none of one of them.
        """
        if any(part.kind == kind and not part.bytes for part in parts):
            raise NotWritten
        chosen = sorted((part for part in parts if part.kind == kind), key=lambda part: part.mixed)
        return [str(self.folder / part.path) for part in chosen]

    def query(self, sql: str, files: list[str], parameters: Sequence[Any] = ()) -> duckdb.DuckDBPyConnection:
        """Run a query whose first parameter is the list of files."""
        try:
            return self.duck.cursor().execute(sql, [files, *parameters])
        except duckdb.Error as error:
            raise StorageError(f"history cannot be read: {error}") from error

    def table(self, sql: str, files: list[str], parameters: Sequence[Any] = ()) -> pa.Table:
        """All rows of such a query as Arrow."""
        try:
            return self.duck.cursor().sql(sql, params=[files, *parameters]).to_arrow_table()
        except duckdb.Error as error:
            raise StorageError(f"history cannot be read: {error}") from error

    def rows(self, sql: str, files: list[str], parameters: Sequence[Any] = ()) -> list[Any]:
        """All rows of such a query."""
        try:
            return self.duck.cursor().execute(sql, [files, *parameters]).fetchall()
        except duckdb.Error as error:
            raise StorageError(f"history cannot be read: {error}") from error

    def between(
        self,
        ask: Callable[[str, list[str], Sequence[Any]], T],
        sql: str,
        parts: Sequence[Part],
        kind: str,
        seqs: tuple[int, int],
        parameters: Sequence[Any] = (),
    ) -> list[T]:
        """Ask (``table`` or ``rows``) about the rows of parts that count from a seq after the first up to the second.

        The rows of an import's chunk count from the commit of their part: they were numbered before it. Where rows of
        many commits lie in one part, each says from when it counts; ``sql`` has ``COUNTED`` for that condition.
        """
        since_seq, until_seq = seqs
        newer = [part for part in parts if part.seq > since_seq]
        whole = [part for part in newer if part.seq <= until_seq and (not part.mixed or not since_seq)]
        cut = [part for part in newer if part.mixed and part not in whole]
        each = f"commit_seq > {since_seq} AND commit_seq <= {until_seq}"
        return [
            ask(sql.replace(COUNTED, counted), files, parameters)
            for files, counted in ((self.files(whole, kind), "true"), (self.files(cut, kind), each))
            if files
        ]

    def events_named(
        self,
        kind: str,
        name: str,
        *,
        until_us: int,
        until_seq: int,
        choice: Choice | None = None,
        since_seq: int = 0,
        since_us: int | None = None,
        known: Knowledge | None = None,
        timed: bool = True,
    ) -> Rows:
        """Every event of a name (or of those it stands for) that counts, or those of them that are chosen.

        Their times are <= ``until_us``, their seq after ``since_seq`` and up to ``until_seq``.

        With ``since_us`` only events after that time, with ``known`` only those known then. Not ``timed``: their times
        do not matter and are told as zero, which saves sorting by them.
        """
        keys = choice.keys if choice else ()
        low_us = NEVER_BEFORE_US if since_us is None else since_us
        columns = ", ".join(["person", "time_us", *([at_keys(keys, 6)] if keys else [])])
        wildcard = is_wildcard(name)
        named = "name LIKE $2 ESCAPE '\\'" if wildcard else "name = $2"
        told = told_by(known)
        with self.reading():
            parts, rows = self.stored(
                f"SELECT person, time_us, {'data' if choice else 'NULL'} FROM event WHERE seq > ? AND seq <= ?"
                f" AND name {'GLOB' if wildcard else '='} ? AND kind = ? AND time_us > ? AND time_us <= ?"
                f" AND NOT duplicate{told}",
                (since_seq, until_seq, glob_of(name) if wildcard else name, kind, low_us, until_us),
                known,
            )
            tables = self.between(
                self.table,
                f"SELECT {columns} FROM read_parquet($1) WHERE {named} AND kind = $3 AND time_us > $4"
                f" AND time_us <= $5 AND NOT duplicate{told} AND {COUNTED}",
                parts,
                "event",
                (since_seq, until_seq),
                (like_of(name) if wildcard else name, kind, low_us, until_us, *paths_of(keys)),
            )
        tables.append(self._tail_texts(rows, keys))
        table = pa.concat_tables(tables) if len(tables) > 1 else tables[0]
        if choice is not None:
            # Before sorting: of what is not chosen no text is moved.
            mask = choice.holds(table.columns[2:], numpy_of(table.column("time_us"), np.int64))
            table = table.select(["person", "time_us"]).filter(pa.array(mask))
        return sorted_rows(table) if timed else _by_person(table)

    def _tail_texts(self, rows: list[Any], keys: Sequence[str | None]) -> pa.Table:
        """Rows (person, time, data) of the tail as a table of (person, time, what is at each key)."""
        table = _tail_table(rows)
        data = pa.chunked_array([pa.array([row[2] for row in rows], pa.string())])
        for place, column in enumerate(self.duck.texts_at(keys, data)):
            table = table.append_column(f"at_{place}", column)
        return table

    def _of_people(
        self, kind: str, columns: str, people: Sequence[int], counting: str = "", parameters: Sequence[Any] = ()
    ) -> list[Any]:
        """Rows of some people in parts; the tail is the caller's. On the loop's thread."""
        files = self.files(self.parts, kind)
        if not files or not people:
            return []
        if len(people) == 1:
            who = f"person = {people[0]}"
        else:
            who = f"person BETWEEN {min(people)} AND {max(people)} AND {among(people, 'person')}"
        return self.rows(f"SELECT {columns} FROM read_parquet($1) WHERE {who}{counting}", files, parameters)

    def people_events(self, people: Sequence[int], names: Collection[str]) -> list[tuple[int, str, str, int, str]]:
        """(person, kind, name, time, data) of the events in parts that count, of these people and under these names, or
        one name with wildcards. On the loop's thread."""
        columns, first = "person, kind, name, time_us, data", next(iter(names))
        if len(names) == 1 and is_wildcard(first):
            named, asked = "name LIKE $2 ESCAPE '\\'", [like_of(first)]
        else:
            named, asked = f"name IN ({', '.join(f'${at + 2}' for at in range(len(names)))})", list(names)
        return self._of_people("event", columns, people, f" AND NOT duplicate AND {named}", asked)

    def people_writes(self, people: Sequence[int]) -> list[tuple[int, int, str]]:
        """(person, time, attributes) of these people's writes in parts. On the loop's thread."""
        return self._of_people("write", "person, time_us, attributes", people)

    def person_rows(self, person: int) -> list[tuple[Any, ...]]:
        """All of a person's events, duplicates too, as the tail has them."""
        return self._of_people("event", ROW_COLUMNS, [person])

    def write_rows(self, person: int) -> list[tuple[int, int, str, int]]:
        """(time, accept time, attributes, import id) of a person's writes."""
        return self._of_people("write", "time_us, accept_us, attributes, import_id", [person])

    def events_of(self, people: Sequence[int]) -> list[tuple[int, str, str, int, str]]:
        """(person, kind, name, time, data) of these people's events that count, as far as they are committed."""
        marks = ", ".join("?" * len(people))
        with self.reading():
            parts, rows = self.stored(
                f"SELECT person, kind, name, time_us, data FROM event WHERE person IN ({marks}) AND NOT duplicate",
                tuple(people),
            )
            files = self.files(parts, "event")
            if files:
                rows += self.rows(
                    "SELECT person, kind, name, time_us, data FROM read_parquet($1)"
                    " WHERE person IN (SELECT unnest($2)) AND NOT duplicate",
                    files,
                    (list(people),),
                )
        return rows

    def writes_of(self, people: Sequence[int]) -> list[tuple[int, int, str]]:
        """(person, time, attributes) of these people's writes, as far as they are committed."""
        marks = ", ".join("?" * len(people))
        with self.reading():
            parts, rows = self.stored_writes(
                "SELECT person, time_us, attributes FROM {written} " + f"WHERE person IN ({marks})",
                tuple(people),
                people=people,
            )
            files = self.files(parts, "write")
            if files:
                rows += self.rows(
                    "SELECT person, time_us, attributes FROM read_parquet($1) WHERE person IN (SELECT unnest($2))",
                    files,
                    (list(people),),
                )
        return rows

    def people_since(self, since_us: int) -> list[int]:
        """People with an event that counts or a write at or after a moment."""
        with self.reading():
            stored, rows = self._state.read(lambda db: _people_since(db, since_us))
            parts = [part for part in stored if part.high_us >= since_us]
            for kind, counting in (("event", "AND NOT duplicate"), ("write", "")):
                files = self.files(parts, kind)
                if files:
                    found = f"SELECT DISTINCT person FROM read_parquet($1) WHERE time_us >= $2 {counting}"
                    rows += self.rows(found, files, (since_us,))
        return [row[0] for row in rows]

    def writers_since(self, seq: int) -> list[int]:
        """People with attribute writes after ``seq``, in the tail and in parts."""
        with self.reading():
            parts, rows = self.stored_writes("SELECT DISTINCT person FROM {written} WHERE seq > ?", (seq,))
            sql = f"SELECT DISTINCT person FROM read_parquet($1) WHERE {COUNTED}"
            for found in self.between(self.rows, sql, parts, "write", (seq, NO_END_SEQ)):
                rows += found
        return sorted({row[0] for row in rows})

    def earliest_since(
        self, seq: int, *, until_seq: int = NO_END_SEQ, known: Knowledge | None = None
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The earliest time of each person's facts with ``seq`` < seq <= ``until_seq`` that count.

        Returns (people sorted, times). With ``known`` only of facts known then.
        """
        told = told_by(known)
        tables: list[pa.Table] = []
        with self.reading():
            parts, rows = self.stored_writes(
                "SELECT person, min(time_us) FROM (SELECT person, time_us FROM event WHERE seq > ?1 AND seq <= ?2"
                f" AND NOT duplicate{told} UNION ALL SELECT person, time_us FROM {{written}}"
                f" WHERE seq > ?1 AND seq <= ?2{told}) GROUP BY person",
                (seq, until_seq),
                known,
            )
            for kind, counting in (("event", "NOT duplicate"), ("write", "true")):
                found = (
                    "SELECT person, min(time_us) AS time_us FROM read_parquet($1)"
                    f" WHERE {counting}{told} AND {COUNTED} GROUP BY person"
                )
                tables += self.between(self.table, found, parts, kind, (seq, until_seq))
        tables.append(_tail_table(rows))
        merged = sorted_rows(pa.concat_tables(tables))
        first = runs(merged.people)
        return merged.people[first], merged.times_us[first]


def _people_since(db: sqlite3.Connection, since_us: int) -> tuple[list[Part], list[tuple[int]]]:
    """The parts there are, and who has an event that counts or a write since then in the tail."""
    rows = db.execute(
        "SELECT person FROM event WHERE time_us >= ?1 AND NOT duplicate"
        " UNION SELECT person FROM attribute_write WHERE time_us >= ?1",
        (since_us,),
    ).fetchall()
    for block in blocks_of(db):
        table = block.table()
        since = np.asarray(table.column("time_us").to_numpy(), np.int64) >= since_us
        rows += [(person,) for person in np.asarray(table.column("person").to_numpy())[since].tolist()]
    return read_parts(db), rows


def _tail_table(rows: list[Any]) -> pa.Table:
    people, times_us = [row[0] for row in rows], [row[1] for row in rows]
    return pa.table({"person": pa.array(people, pa.uint32()), "time_us": pa.array(times_us, pa.int64())})


def sorted_rows(table: pa.Table) -> Rows:
    """Sort by person, then time."""
    people = numpy_of(table.column("person"), np.uint32)
    times_us = numpy_of(table.column("time_us"), np.int64)
    packed = _packed(people, times_us)
    if packed is not None:
        keys, bits, unit_us, low_us = packed
        keys.sort()
        people = (keys >> bits).astype(np.uint32)
        return Rows(people=people, times_us=(keys & ((1 << bits) - 1)) * unit_us + low_us)
    order = np.lexsort((times_us, people)) if len(people) else np.empty(0, np.int64)
    return Rows(people=people[order], times_us=times_us[order])


def order_of(people: NDArray[np.int64], times_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """The order by person, then time, of rows that mostly stand in it; equal ones keep theirs."""
    packed = _packed(people, times_us)
    return np.lexsort((times_us, people)) if packed is None else np.argsort(packed[0], kind="stable")


def _by_person(table: pa.Table) -> Rows:
    people = np.sort(numpy_of(table.column("person"), np.uint32))
    return Rows(people=people, times_us=np.zeros(len(people), np.int64))


def _packed(people: Numbers, times_us: Numbers) -> tuple[Numbers, int, int, int] | None:
    """Person and time as one number each, which sorts ten times as fast as the pair: (numbers, bits, unit, lowest).

    None where they do not fit into 63 bits. Times are mostly whole seconds or milliseconds, which can save bits.
    """
    if not len(people):
        return None
    low_us = int(times_us.min())
    since, unit_us = times_us - low_us, 1
    room = 63 - int(people.max()).bit_length()
    for unit in (1_000_000, 1000):
        if int(since.max()).bit_length() <= room:
            break
        units, rest = np.divmod(times_us - low_us, unit)
        if not rest.any():
            since, unit_us = units, unit
    bits = int(since.max()).bit_length()
    return None if bits > room else ((people.astype(np.int64) << bits) | since, bits, unit_us, low_us)


def numpy_of(column: pa.ChunkedArray, kind: Any) -> NDArray[Any]:
    """A column without nulls as an array."""
    return np.asarray(column.to_numpy(), dtype=kind)


def runs(people: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where each person's run begins in sorted people."""
    if not len(people):
        return np.empty(0, np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.nonzero(people[1:] != people[:-1])[0] + 1])
