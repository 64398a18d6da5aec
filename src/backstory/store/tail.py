"""The tail: the newest history in ``state.db``, rows gathered in memory and written with their micro-batch."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from msgspec.structs import astuple
from numpy.typing import NDArray

from backstory.core.event import Event
from backstory.store.database import among, insert_columns, insert_rows
from backstory.store.sieve import Sieve
from backstory.store.tail_index import Block, TailIndex
from backstory.store.write_block import add_block, rows_of, table_of_writes, unfold

# The columns are the fields of an event, in their order; data is bytes there.
_EVENT = ("INSERT INTO event", "(?, ?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)")
# Of live events that count and repeat none; data is text.
_LIVE_EVENT = ("INSERT INTO event", "(?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0)")
_WRITE = ("INSERT INTO attribute_write", "(?, ?, ?, ?, ?, ?, ?, ?)")
_ACTIVITY = ("INSERT INTO activity", "(?, ?, ?, ?, ?, ?, ?, ?)")
_TRANSITION = ("INSERT INTO transition", "(?, ?, ?, ?, ?, ?)")
# So many new events, or writes, become a run of the index: by themselves, and with those of bursts.
INDEX_ROWS = 10_000
INDEX_ROWS_MAX = 50_000
# So many rows are asked for by one statement.
ROWS_ASKED = 10_000

Columns = Sequence[Sequence[Any]]


class Tail:
    """Rows wait in lists until ``flush``; questions about keys see them too."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._events: list[tuple[Any, ...]] = []
        self._writes: list[tuple[Any, ...]] = []
        self._activities: list[tuple[Any, ...]] = []
        self._transitions: list[tuple[Any, ...]] = []
        # Events and transitions that came together.
        self._blocks: list[Columns] = []
        self._moves: list[Columns] = []
        self._index = TailIndex()
        self._index.restore(db.execute("SELECT seq, person, key FROM event"))
        # The same of attribute writes, which have no keys.
        self._written = TailIndex()
        self._written.restore(db.execute("SELECT seq, person, NULL FROM attribute_write"))
        # How many rows of each kind the tables have.
        self.sizes = {"event": self._index.rows, "write": self._written.rows}
        # Every key of the tail, so that most new ones are known to be new without a look into the index.
        self._sieve = Sieve()
        for keys in self._index.run_keys():
            self._sieve.put_many(keys)

    @property
    def events(self) -> int:
        """About how many events the tail has."""
        return self._index.rows

    def wants_index(self, *, idle: bool) -> bool:
        """Are there enough new rows for a run of the index? ``idle``: there is nothing else to do."""
        new = max(self._index.single + self._index.together, self._written.together)
        return self._index.single >= INDEX_ROWS or new >= (INDEX_ROWS if idle else INDEX_ROWS_MAX)

    def index(self) -> None:
        """Take what is new into the index."""
        self._index.gather()
        self._written.gather()

    def let_go(self, kind: str, seq: int) -> None:
        """Inside the transaction that names the part: the rows of a kind up to a seq are no longer here.

        Where they were is known until ``forget_left``: whoever reads meanwhile sees the commit before, in which the
        rows are in the tail and no part has them.
        """
        table = "event" if kind == "event" else "attribute_write"
        self.sizes[kind] -= self._db.execute(f"DELETE FROM {table} WHERE seq <= ?", (seq,)).rowcount
        self._places(kind).gather()

    def forget_left(self, kind: str, seq: int) -> None:
        """After the commit of ``let_go``: nobody has to know any more where these rows were."""
        self._places(kind).let_go(seq)

    def _places(self, kind: str) -> TailIndex:
        return self._index if kind == "event" else self._written

    def add_event(self, event: Event) -> None:
        self._events.append(astuple(event))
        self._index.put(event)
        if event.key is not None:
            self._sieve.put(event.key)

    def add_block(self, columns: Columns, block: Block) -> None:
        """Live events that count and repeat none; ``columns`` are their fields up to the key, data as text."""
        self._blocks.append(columns)
        self._index.put_block(block)
        self._sieve.put_many(block.keys)

    def add_transitions(self, columns: Columns) -> None:
        """Many of what ``add_transition`` takes, a column for each."""
        self._moves.append(columns)

    def add_write(self, seq: int, person: int, time_us: int, accept_us: int, attributes: str) -> None:
        self._writes.append((seq, person, time_us, accept_us, attributes, None, False, 0))

    def add_imported(self, rows: list[tuple[Any, ...]]) -> None:
        """Imported writes: (seq, person, time, accept time, attributes, changes, created, import id)."""
        self._writes += rows

    def add_body(self, body: pa.Table, *, seq: int, accept_us: int, import_id: int, packed: bool) -> None:
        """Writes of an import (``write_block.BODY``), numbered from ``seq`` on; ``packed``: as one block."""
        if packed:
            add_block(self._db, body, seq=seq, accept_us=accept_us, import_id=import_id)
        else:
            self.add_imported(rows_of(body, seq=seq, accept_us=accept_us, import_id=import_id))

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
        found = self._index.new_by_key(key, person)
        seqs = self._index.by_key(key, person)
        if seqs:
            self.flush_events()
            query = f"SELECT import_id, duplicate, count(*) FROM event WHERE {among(seqs)} GROUP BY 1, 2"
            found += [(row[0], bool(row[1]), row[2]) for row in self._db.execute(query).fetchall()]
        return found

    def may_hold(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which keys take a closer look; an event with one of the others was never here."""
        return self._sieve.may_hold_many(keys)

    def people_events(self, people: Sequence[int]) -> list[tuple[int, str, str, int, str]]:
        """(person, kind, name, time, data) of these people's events that count."""
        self.flush_events()
        seqs = self._index.of_people(people)
        rows: list[tuple[int, str, str, int, str]] = []
        for low in range(0, len(seqs), ROWS_ASKED):
            chosen = among(seqs[low : low + ROWS_ASKED])
            query = f"SELECT person, kind, name, time_us, data FROM event WHERE {chosen} AND NOT duplicate"
            rows += self._db.execute(query).fetchall()
        return rows

    def person_seqs(self, person: int) -> list[int]:
        """Where a person's events are, from any thread: to be asked before the transaction that reads the rows.

        Rows that left for a part meanwhile are found there, by the manifest of the same transaction.
        """
        return self._index.of_person(person)

    def write_seqs(self, person: int) -> list[int]:
        """The same of a person's attribute writes, but for those that lie in blocks."""
        return self._written.of_person(person)

    def people_writes(self, people: Sequence[int]) -> list[tuple[int, int, str]]:
        """(person, time, attributes) of these people's identify calls."""
        self._flush_writes()
        seqs = self._written.of_people(people)
        table = table_of_writes(self._db, people, seqs if len(seqs) <= ROWS_ASKED else None)
        query = f"SELECT person, time_us, attributes FROM {table} WHERE {among(people, 'person')}"
        return self._db.execute(query).fetchall()

    def drop_writes(self, person: int, rows_max: int | None = None) -> int:
        """Attribute writes of somebody gone go, all of them or some; returns how many."""
        self.add_imported(unfold(self._db, person))
        self._flush_writes()
        seqs = self._written.of_person(person)
        if not seqs:
            return 0
        chosen = f"SELECT seq FROM attribute_write WHERE {among(seqs)} LIMIT ?"
        some = -1 if rows_max is None else rows_max
        gone = self._db.execute(f"DELETE FROM attribute_write WHERE seq IN ({chosen})", (some,)).rowcount
        self.sizes["write"] -= gone
        return gone

    def take_events(self, person: int) -> list[tuple[Any, ...]]:
        """A person's events, all of them, taken out of the tail: the columns of the table, in their order.

        Where they were is known until ``forget_taken``: whoever reads meanwhile sees the commit before.
        """
        self.flush_events()
        seqs = self._index.of_person(person)
        if not seqs:
            return []
        rows = self._db.execute(f"SELECT * FROM event WHERE {among(seqs)} ORDER BY seq").fetchall()
        self._db.execute(f"DELETE FROM event WHERE {among(seqs)}")
        self.sizes["event"] -= len(rows)
        return rows

    def forget_taken(self, person: int) -> None:
        """After the commit of ``take_events``: nobody has to know any more where these events were."""
        self._index.drop(person)

    def drop_events(self, person: int, rows_max: int) -> int:
        """Some events of somebody gone go, as far as they are written; returns how many."""
        seqs = self._index.of_person(person)
        if not seqs:
            return 0
        gone = self._db.execute(
            f"DELETE FROM event WHERE seq IN (SELECT seq FROM event WHERE {among(seqs)} LIMIT ?)", (rows_max,)
        ).rowcount
        self.sizes["event"] -= gone
        return gone

    def write_rows(self, person: int) -> list[tuple[int, int, str, int]]:
        """(time, accept time, attributes, import id) of a person's writes."""
        self.flush()
        table = table_of_writes(self._db, (person,), self._written.of_person(person))
        query = f"SELECT time_us, accept_us, attributes, import_id FROM {table} WHERE person = ?"
        return self._db.execute(query, (person,)).fetchall()

    def flush_events(self) -> None:
        for columns in self._blocks:
            insert_columns(self._db, *_LIVE_EVENT, columns)
            self.sizes["event"] += len(columns[0])
        self._blocks.clear()
        if self._events:
            self.sizes["event"] += len(self._events)
            insert_rows(self._db, *_EVENT, self._events)
            self._events.clear()

    def flush(self) -> None:
        """Inside the transaction: write what waits."""
        self.flush_events()
        self._flush_writes()
        for columns in self._moves:
            insert_columns(self._db, *_TRANSITION, columns)
        self._moves.clear()
        for table, rows in ((_ACTIVITY, self._activities), (_TRANSITION, self._transitions)):
            if rows:
                insert_rows(self._db, *table, rows)
                rows.clear()

    def _flush_writes(self) -> None:
        if self._writes:
            insert_rows(self._db, *_WRITE, self._writes)
            self.sizes["write"] += len(self._writes)
            self._written.put_unkeyed([row[0] for row in self._writes], [row[1] for row in self._writes])
            self._writes.clear()

    def discard(self) -> None:
        """After a rollback."""
        for rows in (self._events, self._blocks, self._writes, self._activities, self._transitions, self._moves):
            rows.clear()
        self._index.clear()
        self._written.clear()
