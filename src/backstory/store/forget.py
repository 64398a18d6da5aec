"""Forgetting: what ``state.db`` holds of people who were suppressed, made unreadable, row by row.

Their log becomes anonymous entries that say only that something was forgotten. What lies in parts is left out by all
readers, as the people do not exist any more.
"""

import sqlite3
from collections.abc import Iterable

import msgspec

from backstory.store.tail import Tail

FORGOTTEN = '{"forgotten":true}'


def forget(db: sqlite3.Connection, tail: Tail, people: Iterable[int], names: Iterable[tuple[str, str]]) -> None:
    """Inside the loop's transaction, with the tail flushed: these people, and who was called by these names."""
    for kind, value in names:
        db.execute("DELETE FROM unrelated WHERE kind = ? AND value = ?", (kind, value))
        # Traces of calls that named them when they were nobody.
        quoted = msgspec.json.encode(value).decode()
        redacted = "UPDATE activity SET data = ? WHERE person IS NULL AND instr(data, ?)"
        db.execute(redacted, (FORGOTTEN, quoted))
    for person in people:
        events = tail.take_events(person)
        db.executemany(
            "INSERT INTO activity VALUES (?, NULL, ?, ?, ?, ?, NULL)",
            [(row[0], row[3], row[4], row[5], FORGOTTEN) for row in events if not row[10]],
        )
        redacted = "UPDATE activity SET person = NULL, data = ?, delivery_id = NULL WHERE person = ?"
        db.execute(redacted, (FORGOTTEN, person))
        db.execute("DELETE FROM attribute_write WHERE person = ?", (person,))
        db.execute("DELETE FROM future WHERE person = ?", (person,))
        db.execute(
            "DELETE FROM decision WHERE journey_id IN (SELECT journey_id FROM journey WHERE person = ?)", (person,)
        )
        db.execute("DELETE FROM journey WHERE person = ?", (person,))
        db.execute(
            "UPDATE delivery SET body = CAST('{}' AS BLOB), trigger_event_id = NULL,"
            " failure = CASE WHEN failure IS NOT NULL THEN 'forgotten' END WHERE person = ?",
            (person,),
        )
