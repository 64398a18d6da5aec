"""Forgetting: what ``state.db`` holds of people who were suppressed, made unreadable, row by row.

Their log becomes anonymous entries that say only that something was forgotten. What lies in parts is left out by all
readers, as the people do not exist any more. ``forget_some`` is how a purge takes out what is left of anybody gone.
"""

import sqlite3
from collections.abc import Iterable

import msgspec

from backstory.store.provenance import CONFIRMED
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
            "INSERT INTO activity VALUES (?, NULL, ?, ?, ?, ?, NULL, 0)",
            [(row[0], row[3], row[4], row[5], FORGOTTEN) for row in events if not row[10]],
        )
        redacted = "UPDATE activity SET person = NULL, data = ?, delivery_id = NULL WHERE person = ?"
        db.execute(redacted, (FORGOTTEN, person))
        tail.drop_writes(person)
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


# A person's rows by table, each with what tells them apart from others of the person.
_ROWS = (
    ("activity", "seq", "person = ?1"),
    ("transition", "seq", "person = ?1"),
    ("future", "seq", "person = ?1"),
    ("record_write", "seq", "person = ?1"),
    ("retracted_write", "seq", "person = ?1"),
    ("retracted_placement", "seq", "person = ?1"),
    ("decision", "seq", "journey_id IN (SELECT journey_id FROM journey WHERE person = ?1)"),
    ("journey", "journey_id", "person = ?1 AND NOT EXISTS (SELECT 1 FROM decision USING_JOURNEY)"),
)


def forget_some(db: sqlite3.Connection, tail: Tail, person: int, rows_max: int) -> int:
    """Inside the loop's transaction: up to about ``rows_max`` rows of somebody gone; returns how many there were.

    Fewer than ``rows_max``: nothing is left of them in these tables; blocks of transitions are another matter
    (``transition.drop_from_blocks``). A message stays as a number in counts of
    campaigns, without its content.
    """
    count = tail.drop_events(person, rows_max)
    if count < rows_max:
        count += tail.drop_writes(person, rows_max - count)
    for table, key, where in _ROWS:
        if count >= rows_max:
            return count
        where = where.replace("USING_JOURNEY", "WHERE decision.journey_id = journey.journey_id")
        chosen = f"SELECT {key} FROM {table} WHERE {where} LIMIT ?2"
        count += db.execute(f"DELETE FROM {table} WHERE {key} IN ({chosen})", (person, rows_max - count)).rowcount
    for table in ("device", "relationship", *CONFIRMED):
        count += db.execute(f"DELETE FROM {table} WHERE person = ?", (person,)).rowcount
    if count < rows_max:
        count += _empty_messages(db, person, rows_max - count)
        db.execute(
            "DELETE FROM unrelated WHERE (kind, value) IN (SELECT kind, value FROM tombstone WHERE person = ?1)"
            " AND gone_us <= (SELECT deleted_us FROM deleted WHERE person = ?1)",
            (person,),
        )
    return count


def _empty_messages(db: sqlite3.Connection, person: int, rows_max: int) -> int:
    """Nothing is left of messages but that there was one, and what came of it."""
    chosen = (
        "SELECT delivery_id FROM delivery WHERE person = ?1 AND (body <> CAST('{}' AS BLOB)"
        " OR failure <> 'forgotten' OR trigger_event_id IS NOT NULL) LIMIT ?2"
    )
    return db.execute(
        "UPDATE delivery SET body = CAST('{}' AS BLOB), trigger_event_id = NULL,"
        f" failure = CASE WHEN failure IS NOT NULL THEN 'forgotten' END WHERE delivery_id IN ({chosen})",
        (person, rows_max),
    ).rowcount
