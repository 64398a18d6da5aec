"""The baseline of importing events: DuckDB reads the same JSON lines into a table of its own file, and checkpoints.

`python -m bench.event_baseline FILE.jsonl NEW.duckdb` prints the seconds it took. DuckDB does this without being asked
for anything else: no people, no duplicates found, no segments, no errors told, no undo.
"""

import sys
import time
from pathlib import Path

import duckdb


def load(source: Path, database: Path, *, threads: int | None = None) -> float:
    """Seconds to have the file's rows in a table of a new database, synced; all cores unless ``threads`` says fewer."""
    started = time.perf_counter()
    connection = duckdb.connect(str(database))
    if threads is not None:
        connection.execute(f"SET threads = {int(threads)}")
    connection.execute(
        "CREATE TABLE event AS SELECT * FROM read_json(?, format = 'newline_delimited')",
        [str(source)],
    )
    connection.execute("CHECKPOINT")
    connection.close()
    return time.perf_counter() - started


if __name__ == "__main__":
    print(load(Path(sys.argv[1]), Path(sys.argv[2])))
