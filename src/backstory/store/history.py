"""History: parts and tail as one. DuckDB reads the parts; the tail comes out of ``state.db``.

It answers scans (every event of a name, for building leaves), one person's history, and pages of the activity log.
It knows nothing of conditions or of the loop.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.error import StorageError
from backstory.core.wildcard import glob_of, is_wildcard, like_of
from backstory.store.manifest import Part
from backstory.store.state import State

EVENT_COLUMNS = "seq, person, name, kind, time_us, accept_us, data, event_id, key, import_id, duplicate"
WRITE_COLUMNS = "seq, person, time_us, accept_us, attributes, changes, created, import_id"
NEVER_BEFORE_US = -(1 << 62)
NO_END_SEQ = (1 << 63) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Events of one name, sorted by person, then time; ``data`` is JSON text when it was asked for."""

    people: NDArray[np.uint32]
    times_us: NDArray[np.int64]
    data: pa.ChunkedArray | None


class Duck:
    """One in-memory DuckDB, a cursor per thread. Memory, threads and the temporary folder have limits."""

    def __init__(self, *, memory_mb: int, threads: int, temporary: Path) -> None:
        self._root = duckdb.connect(
            config={
                "memory_limit": f"{memory_mb}MB",
                "threads": str(threads),
                "temp_directory": str(temporary),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            }
        )
        self._root.execute("SET preserve_insertion_order = true")
        self._local = threading.local()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """This thread's own connection."""
        cursor: duckdb.DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._root.cursor()
            self._local.cursor = cursor
        return cursor

    def fresh(self) -> duckdb.DuckDBPyConnection:
        """A connection of the caller's own, with its own temporary tables."""
        return self._root.cursor()

    def close(self) -> None:
        self._root.close()


class History:
    """Reads over the parts the manifest names (``parts`` is replaced as a whole by the loop) and the tail."""

    def __init__(self, folder: Path, state: State, duck: Duck) -> None:
        self.folder = folder
        self._state = state
        self.duck = duck
        self.parts: tuple[Part, ...] = ()

    def files(self, parts: Sequence[Part], kind: str) -> list[str]:
        return [str(self.folder / part.path) for part in parts if part.kind == kind]

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

    def events_named(
        self,
        kind: str,
        name: str,
        *,
        until_us: int,
        until_seq: int,
        with_data: bool,
        parts: Sequence[Part] | None = None,
        since_seq: int = 0,
        since_us: int | None = None,
        known_at_us: int | None = None,
    ) -> Rows:
        """Every event of a name (or of those it stands for) that counts.

        Its time is <= ``until_us``, its seq after ``since_seq`` and up to ``until_seq``.

        A part counts as a whole, by its own seq: its rows were numbered before it was committed. With ``since_us``
        only events after that time, with ``known_at_us`` only those accepted by then.
        """
        low_us = NEVER_BEFORE_US if since_us is None else since_us
        chosen = [p for p in (self.parts if parts is None else parts) if since_seq < p.seq <= until_seq]
        files = self.files(chosen, "event")
        columns = "person, time_us, data" if with_data else "person, time_us"
        named = "name LIKE $2 ESCAPE '\\'" if is_wildcard(name) else "name = $2"
        known = "" if known_at_us is None else f" AND accept_us <= {int(known_at_us)}"
        tables: list[pa.Table] = []
        if files:
            tables.append(
                self.table(
                    f"SELECT {columns} FROM read_parquet($1) WHERE {named} AND kind = $3 AND time_us > $4"
                    f" AND time_us <= $5 AND NOT duplicate{known}",
                    files,
                    (like_of(name) if is_wildcard(name) else name, kind, low_us, until_us),
                )
            )
        tables.append(self._tail_named(kind, name, (low_us, until_us), (since_seq, until_seq), known, with_data))
        table = pa.concat_tables(tables) if len(tables) > 1 else tables[0]
        return sorted_rows(table, with_data)

    def _tail_named(
        self, kind: str, name: str, times_us: tuple[int, int], seqs: tuple[int, int], known: str, with_data: bool
    ) -> pa.Table:
        wildcard = is_wildcard(name)
        rows = self._state.rows(
            f"SELECT person, time_us, {'data' if with_data else 'NULL'} FROM event WHERE seq > ? AND seq <= ?"
            f" AND name {'GLOB' if wildcard else '='} ? AND kind = ? AND time_us > ? AND time_us <= ?"
            f" AND NOT duplicate{known}",
            (*seqs, glob_of(name) if wildcard else name, kind, *times_us),
        )
        columns: dict[str, pa.Array] = {
            "person": pa.array([row[0] for row in rows], pa.uint32()),
            "time_us": pa.array([row[1] for row in rows], pa.int64()),
        }
        if with_data:
            columns["data"] = pa.array([row[2] for row in rows], pa.string())
        return pa.table(columns)

    def person_events(self, person: int) -> list[tuple[str, str, int, str]]:
        """(kind, name, time, data) of a person's events in parts; the tail is the caller's."""
        files = self.files(self.parts, "event")
        if not files:
            return []
        return self.rows(
            "SELECT kind, name, time_us, data FROM read_parquet($1) WHERE person = $2 AND NOT duplicate",
            files,
            (person,),
        )

    def person_writes(self, person: int) -> list[tuple[int, str]]:
        """(time, attributes) of a person's writes in parts; the tail is the caller's."""
        files = self.files(self.parts, "write")
        if not files:
            return []
        return self.rows("SELECT time_us, attributes FROM read_parquet($1) WHERE person = $2", files, (person,))

    def events_of(self, people: Sequence[int]) -> list[tuple[int, str, str, int, str]]:
        """(person, kind, name, time, data) of these people's events that count, as far as they are committed."""
        marks = ", ".join("?" * len(people))
        rows = self._state.rows(
            f"SELECT person, kind, name, time_us, data FROM event WHERE person IN ({marks}) AND NOT duplicate",
            tuple(people),
        )
        files = self.files(self.parts, "event")
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
        rows = self._state.rows(
            f"SELECT person, time_us, attributes FROM attribute_write WHERE person IN ({marks})", tuple(people)
        )
        files = self.files(self.parts, "write")
        if files:
            rows += self.rows(
                "SELECT person, time_us, attributes FROM read_parquet($1) WHERE person IN (SELECT unnest($2))",
                files,
                (list(people),),
            )
        return rows

    def people_since(self, since_us: int) -> list[int]:
        """People with an event that counts or a write at or after a moment."""
        rows = self._state.rows(
            "SELECT person FROM event WHERE time_us >= ?1 AND NOT duplicate"
            " UNION SELECT person FROM attribute_write WHERE time_us >= ?1",
            (since_us,),
        )
        for kind, counting in (("event", "AND NOT duplicate"), ("write", "")):
            files = self.files([part for part in self.parts if part.high_us >= since_us], kind)
            if files:
                found = f"SELECT DISTINCT person FROM read_parquet($1) WHERE time_us >= $2 {counting}"
                rows += self.rows(found, files, (since_us,))
        return [row[0] for row in rows]

    def writers_since(self, seq: int) -> list[int]:
        """People with attribute writes after ``seq``, in the tail and in parts."""
        rows = self._state.rows("SELECT DISTINCT person FROM attribute_write WHERE seq > ?", (seq,))
        people = {row[0] for row in rows}
        files = self.files([part for part in self.parts if part.seq > seq], "write")
        if files:
            people.update(row[0] for row in self.rows("SELECT DISTINCT person FROM read_parquet($1)", files))
        return sorted(people)

    def earliest_since(
        self, seq: int, *, until_seq: int = NO_END_SEQ, known_at_us: int | None = None
    ) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The earliest time of each person's facts with ``seq`` < seq <= ``until_seq`` that count.

        Returns (people sorted, times). With ``known_at_us`` only of facts accepted by then.
        """
        known = NO_END_SEQ if known_at_us is None else known_at_us
        tables: list[pa.Table] = []
        chosen = [part for part in self.parts if seq < part.seq <= until_seq]
        for kind, counting in (("event", " AND NOT duplicate"), ("write", "")):
            files = self.files(chosen, kind)
            if files:
                found = "SELECT person, min(time_us) AS time_us FROM read_parquet($1) WHERE accept_us <= $2"
                tables.append(self.table(f"{found}{counting} GROUP BY person", files, (known,)))
        rows = self._state.rows(
            "SELECT person, min(time_us) FROM (SELECT person, time_us FROM event WHERE seq > ?1 AND seq <= ?2"
            " AND NOT duplicate AND accept_us <= ?3 UNION ALL SELECT person, time_us FROM attribute_write"
            " WHERE seq > ?1 AND seq <= ?2 AND accept_us <= ?3) GROUP BY person",
            (seq, until_seq, known),
        )
        tables.append(
            pa.table(
                {
                    "person": pa.array([row[0] for row in rows], pa.uint32()),
                    "time_us": pa.array([row[1] for row in rows], pa.int64()),
                }
            )
        )
        merged = sorted_rows(pa.concat_tables(tables), False)
        first = runs(merged.people)
        return merged.people[first], merged.times_us[first]


def sorted_rows(table: pa.Table, with_data: bool) -> Rows:
    """Sort by person, then time."""
    people = numpy_of(table.column("person"), np.uint32)
    times_us = numpy_of(table.column("time_us"), np.int64)
    order = np.lexsort((times_us, people)) if len(people) else np.empty(0, np.int64)
    # Offsets of 64 bits: taking rows puts all texts into one array.
    data = table.column("data").cast(pa.large_string()).take(pa.array(order)) if with_data else None
    return Rows(people=people[order], times_us=times_us[order], data=data)


def numpy_of(column: pa.ChunkedArray, kind: Any) -> NDArray[Any]:
    """A column without nulls as an array."""
    return np.asarray(column.to_numpy(), dtype=kind)


def runs(people: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Where each person's run begins in sorted people."""
    if not len(people):
        return np.empty(0, np.int64)
    return np.concatenate([np.zeros(1, np.int64), np.nonzero(people[1:] != people[:-1])[0] + 1])
