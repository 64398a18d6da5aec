"""DuckDB, in memory: how it is opened, and what it takes out of JSON texts."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows are asked for, by what their data have at some keys.

    ``holds`` is told (columns of JSON texts, null where there is nothing, one for each key; times).
    A key is taken as it is, without quotes, backslashes and stars; None: all of the data.
    """

    keys: Sequence[str | None]
    holds: Callable[[Sequence[pa.ChunkedArray], NDArray[np.int64]], NDArray[np.bool_]]


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

    def texts_at(self, keys: Sequence[str | None], data: pa.ChunkedArray) -> list[pa.ChunkedArray]:
        """The JSON texts at keys of JSON objects, a column for each key as in ``Choice``."""
        if not len(data) or not any(keys):
            return [data for _ in keys]
        cursor = self.cursor()
        cursor.register("json_objects", pa.table({"data": data}))
        try:
            found = cursor.sql(f"SELECT {at_keys(keys, 1)} FROM json_objects", params=paths_of(keys)).to_arrow_table()
        finally:
            cursor.unregister("json_objects")
        return found.columns

    def close(self) -> None:
        self._root.close()


def at_keys(keys: Sequence[str | None], first: int) -> str:
    """Columns of SQL: the JSON texts at keys, whose paths are parameters from a number on."""
    numbers = itertools.count(first)
    return ", ".join(
        ("data" if key is None else f"CAST(json_extract(data, ${next(numbers)}) AS VARCHAR)") + f" AS at_{place}"
        for place, key in enumerate(keys)
    )


def paths_of(keys: Sequence[str | None]) -> list[str]:
    """The parameters of ``at_keys``."""
    return [f'$."{key}"' for key in keys if key is not None]
