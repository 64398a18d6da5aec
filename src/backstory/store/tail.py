"""The tail: the newest history in ``state.db``, rows gathered in memory and written with their micro-batch."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from backstory.core.event import Event
from backstory.store.database import insert_rows
from backstory.store.recent import Block, RecentEvents
from backstory.store.sieve import Sieve

# The columns are the fields of an event, in their order; data is bytes there.
_EVENT = ("INSERT INTO event", "(?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)")
_WRITE = ("INSERT INTO attribute_write", "(?, ?, ?, ?, ?, ?, ?, ?)")
_ACTIVITY = ("INSERT INTO activity", "(?, ?, ?, ?, ?, ?, ?, ?)")
_TRANSITION = ("INSERT INTO transition", "(?, ?, ?, ?, ?, ?)")
_KEY = (
    "SELECT import_id, duplicate, count(*) FROM event_by_key JOIN event USING (seq)"
    " WHERE event_by_key.key = ? AND event_by_key.person = ? GROUP BY 1, 2"
)
# The seqs of one person's events (?1), indexed and not yet indexed.
PERSON_SEQS = (
    "SELECT seq FROM event_by_person WHERE person = ?1 UNION ALL SELECT seq FROM event"
    " WHERE seq > coalesce((SELECT value FROM meta WHERE name = 'indexed_seq'), 0) AND person = ?1"
)
INDEX_ROWS = 10_000
INDEX_ROWS_MAX = 50_000
SIEVED_ROWS = 100_000


class Tail:
    """Rows wait in lists until ``flush``; questions about keys see them too."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._events: list[tuple[Any, ...]] = []
        self._writes: list[tuple[Any, ...]] = []
        self._activities: list[tuple[Any, ...]] = []
        self._transitions: list[tuple[Any, ...]] = []
        # Events after ``indexed_seq``, whether written already or not.
        self._recent = RecentEvents()
        # Every key of the tail, so that most new ones are known to be new without a look into the index.
        self._sieve = Sieve()
        self._restore_keys()

    def _restore_keys(self) -> None:
        indexed = self._db.execute("SELECT key FROM event_by_key")
        while rows := indexed.fetchmany(SIEVED_ROWS):
            self._sieve.put_many(np.array(rows, np.int64)[:, 0])
        for row in self._db.execute(
            "SELECT * FROM event WHERE seq > coalesce((SELECT value FROM meta WHERE name = 'indexed_seq'), 0)"
            " ORDER BY seq"
        ):
            self._remember(event_of(row))

    def _remember(self, event: Event) -> None:
        """An event that is in no index yet."""
        self._recent.put(event)
        if event.key is not None:
            self._sieve.put(event.key)

    def wants_index(self, *, idle: bool) -> bool:
        """Are there enough new events to bring the indexes up to date? The more at once, the less each of them costs.

        ``idle``: there is nothing else to do.
        """
        new = self._recent.single + self._recent.together
        return self._recent.single >= INDEX_ROWS or new >= (INDEX_ROWS if idle else INDEX_ROWS_MAX)

    def index(self) -> None:
        """Inside a transaction: take the new events into the indexes, in the indexes' own order."""
        self.flush_events()
        since = "seq > coalesce((SELECT value FROM meta WHERE name = 'indexed_seq'), 0)"
        self._db.execute(f"INSERT INTO event_by_person SELECT person, seq FROM event WHERE {since} ORDER BY 1, 2")
        self._db.execute(
            f"INSERT INTO event_by_key SELECT key, person, seq FROM event WHERE {since} AND key IS NOT NULL "
            "ORDER BY 1, 2, 3"
        )
        self._db.execute(
            "INSERT OR REPLACE INTO meta SELECT 'indexed_seq', max(seq) FROM event HAVING max(seq) IS NOT NULL"
        )
        self._recent.clear()

    # -- what has become a part ---------------------------------------------------------------------------------------

    def let_go(self, kind: str, seq: int) -> None:
        """Inside the transaction that names the part: the rows of a kind up to a seq are no longer here.

        The indexes may name them for a while: what they lead to is gone. ``forget`` takes them out, some at a time.
        """
        self._db.execute(f"DELETE FROM {'event' if kind == 'event' else 'attribute_write'} WHERE seq <= ?", (seq,))
        if kind == "event":
            self._recent.let_go(seq)
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('gone_seq', ?)", (seq,))

    def forget(self, entries: Sequence[tuple[int, int, int | None]]) -> None:
        """Inside a transaction: take (person, seq, key) of events that are gone out of the indexes."""
        self._db.executemany(
            "DELETE FROM event_by_person WHERE person = ? AND seq = ?", sorted((one[0], one[1]) for one in entries)
        )
        keyed = sorted((key, person, seq) for person, seq, key in entries if key is not None)
        self._db.executemany("DELETE FROM event_by_key WHERE key = ? AND person = ? AND seq = ?", keyed)

    def forgotten(self) -> None:
        """Inside a transaction: the indexes name nothing any more that is gone."""
        self._db.execute("DELETE FROM meta WHERE name = 'gone_seq'")

    def forget_at_start(self) -> None:
        """Inside a transaction: what a crash left in the indexes of events that are gone."""
        row = self._db.execute("SELECT value FROM meta WHERE name = 'gone_seq'").fetchone()
        if row is not None:
            for table in ("event_by_person", "event_by_key"):
                self._db.execute(f"DELETE FROM {table} WHERE seq <= ?", (row[0],))
            self.forgotten()

    def add_event(self, event: Event) -> None:
        self._events.append(astuple(event))
        self._remember(event)

    def add_block(self, rows: list[tuple[Any, ...]], block: Block) -> None:
        """Live events that count and repeat none; ``rows`` are their fields, in order."""
        self._events += rows
        self._recent.put_block(block)
        self._sieve.put_many(block.keys)

    def add_transitions(self, rows: list[tuple[int, int, int, bool, int, int]]) -> None:
        """Many of what ``add_transition`` takes."""
        self._transitions += rows

    def add_write(self, seq: int, person: int, time_us: int, accept_us: int, attributes: str) -> None:
        self._writes.append((seq, person, time_us, accept_us, attributes, None, False, 0))

    def add_imported(self, rows: list[tuple[Any, ...]]) -> None:
        """Imported writes: (seq, person, time, accept time, attributes, changes, created, import id)."""
        self._writes += rows

    def add_activity(
        self,
        seq: int,
        person: int | None,
        kind: str,
        time_us: int,
        accept_us: int,
        data: str,
        delivery_id: str | None,
        import_id: int = 0,
    ) -> None:
        self._activities.append((seq, person, kind, time_us, accept_us, data, delivery_id, import_id))

    def add_transition(
        self, seq: int, segment_id: int, person: int, entered: bool, effective_us: int, at_us: int
    ) -> None:
        self._transitions.append((seq, segment_id, person, entered, effective_us, at_us))

    def key_counts(self, key: int, person: int) -> list[tuple[int, bool, int]]:
        """Events with this key: (import id, duplicate, how many)."""
        if not self._sieve.may_hold(key):
            return []
        found = [(row[0], bool(row[1]), row[2]) for row in self._db.execute(_KEY, (key, person)).fetchall()]
        return found + self._recent.by_key(key, person)

    def may_hold(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which keys take a closer look; an event with one of the others was never here."""
        return self._sieve.may_hold_many(keys)

    def person_events(self, person: int) -> list[tuple[str, str, int, str]]:
        """(kind, name, time, data) of a person's events that count."""
        indexed = self._db.execute(
            "SELECT kind, name, time_us, data FROM event_by_person JOIN event USING (seq)"
            " WHERE event_by_person.person = ? AND NOT duplicate",
            (person,),
        ).fetchall()
        recent = [event for event in self._recent.by_person(person) if not event.duplicate]
        found = indexed + [(event.kind, event.name, event.time_us, event.data.decode()) for event in recent]
        seqs = self._recent.in_blocks(person)
        if seqs:
            self.flush_events()
            query = f"SELECT kind, name, time_us, data FROM event WHERE seq IN ({', '.join(map(str, seqs))})"
            found += self._db.execute(query).fetchall()
        return found

    def person_writes(self, person: int) -> list[tuple[int, str]]:
        """(time, attributes) of a person's identify calls."""
        self._flush_writes()
        query = "SELECT time_us, attributes FROM attribute_write WHERE person = ?"
        return self._db.execute(query, (person,)).fetchall()

    def take_events(self, person: int) -> list[tuple[Any, ...]]:
        """A person's events, all of them, taken out of the tail: the columns of the table, in their order."""
        self.flush_events()
        rows = self._db.execute(f"SELECT * FROM event WHERE seq IN ({PERSON_SEQS}) ORDER BY seq", (person,)).fetchall()
        self._db.executemany("DELETE FROM event WHERE seq = ?", [(row[0],) for row in rows])
        self._db.execute("DELETE FROM event_by_person WHERE person = ?", (person,))
        self._db.executemany(
            "DELETE FROM event_by_key WHERE key = ? AND person = ?",
            {(row[8], person) for row in rows if row[8] is not None},
        )
        self._recent.drop(person)
        return rows

    def drop_events(self, person: int, rows_max: int) -> int:
        """Some events of somebody gone go, as far as they are in the indexes; returns how many."""
        rows = self._db.execute(
            "SELECT event_by_person.seq, event.key FROM event_by_person LEFT JOIN event USING (seq)"
            " WHERE event_by_person.person = ? LIMIT ?",
            (person, rows_max),
        ).fetchall()
        self._db.executemany("DELETE FROM event WHERE seq = ?", [(row[0],) for row in rows])
        self.forget([(person, row[0], row[1]) for row in rows])
        return len(rows)

    def write_rows(self, person: int) -> list[tuple[int, int, str, int]]:
        """(time, accept time, attributes, import id) of a person's writes."""
        self.flush()
        query = "SELECT time_us, accept_us, attributes, import_id FROM attribute_write WHERE person = ?"
        return self._db.execute(query, (person,)).fetchall()

    def flush_events(self) -> None:
        if self._events:
            insert_rows(self._db, *_EVENT, self._events)
            self._events.clear()

    def flush(self) -> None:
        """Inside the transaction: write what waits."""
        self.flush_events()
        self._flush_writes()
        for table, rows in ((_ACTIVITY, self._activities), (_TRANSITION, self._transitions)):
            if rows:
                insert_rows(self._db, *table, rows)
                rows.clear()

    def _flush_writes(self) -> None:
        if self._writes:
            insert_rows(self._db, *_WRITE, self._writes)
            self._writes.clear()

    def discard(self) -> None:
        """After a rollback."""
        for rows in (self._events, self._writes, self._activities, self._transitions):
            rows.clear()
        self._recent.clear()


def event_of(row: tuple[Any, ...]) -> Event:
    """A row of the table of events."""
    seq, person, name, kind, time_us, accept_us, data, event_id, key, import_id, duplicate = row
    return Event(
        seq=seq, person=person, name=name, kind=kind, time_us=time_us, accept_us=accept_us, data=data.encode(),
        event_id=event_id, key=key, import_id=import_id, duplicate=bool(duplicate),
    )  # fmt: skip
