"""The baseline of importing people: a plain ``executemany`` of the same rows into two SQLite tables.

`python -m bench.people_baseline FILE.csv NEW.db` prints the seconds it took. One table has a row per person with
the identifiers, the other a row per person with the attributes as JSON: the same shape as the state, but nothing
that the product promises about them (no times of values, no conflicts, no history, no segments, no undo).
"""

import csv
import itertools
import json
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHUNK_ROWS = 10_000


def load(source: Path, database: Path) -> float:
    """Seconds to read the CSV file and have it committed to a new database."""
    started = time.perf_counter()
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE person (number INTEGER PRIMARY KEY, id TEXT UNIQUE, email TEXT)")
    connection.execute("CREATE TABLE document (number INTEGER PRIMARY KEY, body TEXT)")
    with source.open(newline="", encoding="utf-8") as file, connection:
        reader = csv.reader(file)
        names = next(reader)[2:]
        for rows in _chunks(enumerate(reader)):
            connection.executemany("INSERT INTO person VALUES (?, ?, ?)", ((i, row[0], row[1]) for i, row in rows))
            connection.executemany(
                "INSERT INTO document VALUES (?, ?)",
                ((i, json.dumps(dict(zip(names, row[2:], strict=True)))) for i, row in rows),
            )
    connection.close()
    return time.perf_counter() - started


def _chunks(rows: Iterator[tuple[int, list[str]]]) -> Iterator[list[tuple[int, list[str]]]]:
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        yield chunk


if __name__ == "__main__":
    print(load(Path(sys.argv[1]), Path(sys.argv[2])))
