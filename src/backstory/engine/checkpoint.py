"""Leaves kept across restarts: dirty pages into ``state.db``, and at the start what is missing fed from history.

A stored leaf is right up to its mark. After a restart it is fed what it was not told, from the tail and from parts:
facts after the mark's seq, older events dated in what was the future, people who came since. Leaves take facts in any
order, so nothing needs to be undone. A leaf that is damaged, missing or was not yet filled is built from the whole of
history. Where history cannot be read, that is a fault and its segments stay unbuilt: the workspace opens all the same.
"""

import sqlite3
from collections.abc import Iterator

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core.column import PAGE_BITS, PAGE_ROWS, Column
from backstory.core.condition import AttributeTest, EventTest, parse
from backstory.core.error import BackstoryError, StorageError
from backstory.core.known import KnownLeaf
from backstory.core.leaf import AttributeLeaf, CountLeaf, WindowLeaf
from backstory.core.metric import MESSAGE
from backstory.core.person import decode_document
from backstory.core.record_leaf import RecordLeaf
from backstory.core.segment import AnyLeaf, LeafKey, SegmentEngine, leaf_keys
from backstory.engine.apply.event import ARRIVED_US
from backstory.engine.context import Context, shown_values
from backstory.engine.segment.build import Builder, settle_all
from backstory.engine.segment.scan import Since, feed_rows, scan
from backstory.store.definition import read_segments
from backstory.store.folder import Folder
from backstory.store.manifest import LeafMark, read_leaf_marks, read_leaf_pages
from backstory.store.people import PROFILE_COLUMNS, Profile
from backstory.store.record import EARLIEST, everybodys_rows
from backstory.store.transition import logged_members

KNOWN = "known"
# Everybody who is there, stored as a leaf is, but only for the next start.
ALIVE = "alive"
TRUE_PAGE = -1
_NOT_STORED = (KnownLeaf, RecordLeaf)
LEAVES_AT_ONCE = 8
_decode = msgspec.json.Decoder().decode


def key_text(key: EventTest | AttributeTest) -> str:
    """The name under which a leaf is stored."""
    kind = "event" if isinstance(key, EventTest) else "attribute"
    return kind + msgspec.json.encode(key).decode()


class Checkpoint:
    """Stores leaves in turns and restores them at the start."""

    def __init__(self, context: Context, builder: Builder) -> None:
        self._context = context
        self._folder = context.folder
        self._segments: SegmentEngine = context.segments
        self._builder = builder
        self._stored: dict[str, LeafMark] = {}
        # Who was written to since a mark; asked for each leaf, and most have the same mark.
        self._writers: dict[int, list[int]] = {}
        # Bulk feeds that are still to come make a leaf's seq ambiguous: no checkpoint meanwhile.
        self.held = 0

    # -- storing --------------------------------------------------------------------------------------------------

    def some(self, leaves_max: int = LEAVES_AT_ONCE) -> int:
        """Inside a transaction: bring the stored leaves that lag furthest behind up to date; returns how many."""
        if self.held:
            return 0
        manifest, mark = self._folder.manifest, self._mark()
        leaves = dict(self._storable())
        lag = {text: self._stored[text].seq if text in self._stored else -1 for text in leaves}
        behind = sorted((seq, text) for text, seq in lag.items() if seq < mark.seq)
        for _, text in behind[:leaves_max]:
            if text not in self._stored:
                # What may lie there is damaged or of a leaf that was let go of.
                manifest.drop_leaf(text)
            manifest.put_leaf(text, mark, self._pages(leaves[text]))
            self._stored[text] = mark
        for text in [text for text in self._stored if text not in leaves]:
            manifest.drop_leaf(text)
            del self._stored[text]
        return min(len(behind), leaves_max)

    def everything(self) -> None:
        """Inside the last transaction: store all leaves, so that the next start has nothing to feed or to count."""
        self.some(1 << 30)
        self._folder.manifest.drop_leaf(ALIVE)
        self._folder.manifest.put_leaf(ALIVE, self._mark(), [(TRUE_PAGE, self._segments.alive.serialize())])

    def go_on(self) -> None:
        """Inside the first transaction: who is there may be others from now on."""
        self._folder.manifest.drop_leaf(ALIVE)

    def _mark(self) -> LeafMark:
        state = self._folder.state
        return LeafMark(seq=state.next_seq - 1, now_us=state.now_us, next_person=state.next_person)

    def drop(self) -> None:
        """Inside a transaction: no leaf is stored any more; after a restart all are built from history."""
        for text in read_leaf_marks(self._folder.state.db):
            self._folder.manifest.drop_leaf(text)
        self._stored.clear()
        columns = [column_of(leaf) for leaf in self._segments.leaves.values() if not isinstance(leaf, _NOT_STORED)]
        for column in (self._segments.known.column, *columns):
            column.dirty_all()

    def _storable(self) -> Iterator[tuple[str, AnyLeaf | Column]]:
        # Times that could not be read must not be stored as if they had been.
        if self._builder.known_whole:
            yield KNOWN, self._segments.known.column
        for key, leaf in self._segments.leaves.items():
            if isinstance(key, EventTest) and key.kind == MESSAGE:
                # A metric has no seq of its own, so there is no mark: they are read from the ledger at the start.
                continue
            if isinstance(key, EventTest | AttributeTest) and key not in self._builder.unfilled:
                yield key_text(key), leaf

    def _pages(self, leaf: AnyLeaf | Column) -> list[tuple[int, bytes]]:
        pages: list[tuple[int, bytes]] = []
        if isinstance(leaf, AttributeLeaf):
            pages.append((TRUE_PAGE, leaf.true.serialize()))
        column = column_of(leaf)
        for number in sorted(column.dirty):
            page = column.pages[number]
            assert page is not None
            pages.append((number, page.tobytes()))
        column.dirty.clear()
        return pages

    # -- restoring ------------------------------------------------------------------------------------------------

    def restore(self) -> list[int]:
        """At the start, before anything is applied; returns the segments that have to be built again."""
        segments, folder = self._segments, self._folder
        self._stored = read_leaf_marks(folder.state.db)
        segments.alive = self._alive()
        self._restore_known()
        with segments.together():
            rebuild = self._restore_segments()
        segments.start_clock(folder.state.now_us)
        settle_all(segments, folder.state.now_us)
        self._writers.clear()
        return rebuild

    def _alive(self) -> BitMap:
        """Everybody who is there: as the last one that ended in order has left it, or else they are counted."""
        if self._stored.pop(ALIVE, None) == self._mark():
            try:
                ((_, body),) = read_leaf_pages(self._folder.state.db, ALIVE)
            except StorageError as error:
                self._folder.fault(f"{error}: people are counted")
            else:
                return BitMap.deserialize(body)
        return living(self._folder.state.db)

    def _restore_segments(self) -> list[int]:
        """Put every segment with its leaves; returns those that have to be built again."""
        segments, folder = self._segments, self._folder
        rebuild: list[int] = []
        rows = read_segments(folder.state.db)
        for row in rows:
            if row.conditions is None:
                segments.put(row.segment_id, None).members = BitMap(folder.definitions.members(row.segment_id))
        dynamic = {row.segment_id: parse(_decode(row.conditions)) for row in rows if row.conditions is not None}
        for row in rows:
            if row.segment_id not in dynamic:
                continue
            condition = dynamic[row.segment_id]
            # Each is restored, whatever came of those before it.
            restored = [self._restore_leaf(key) for key in dict.fromkeys(leaf_keys(condition))]
            whole = row.built and all(restored)
            kept = segments.put(row.segment_id, condition, building=not whole)
            if not whole:
                rebuild.append(row.segment_id)
                kept.members = logged_members(folder.state.db, row.segment_id) & segments.alive
        return rebuild

    def _restore_known(self) -> None:
        known = self._segments.known
        mark = self._load(KNOWN, known.column) or LeafMark()
        rows = self._folder.state.db.execute(
            "SELECT person, min(created_us, accept_us) FROM person WHERE person >= ? ORDER BY person",
            (mark.next_person,),
        ).fetchall()
        known.add_many(np.array([row[0] for row in rows], np.uint32), np.array([row[1] for row in rows], np.int64))
        try:
            known.add_many(*self._folder.history.earliest_since(mark.seq))
        except StorageError as error:
            self._builder.known_whole = False
            self._folder.fault(f"since when people are known cannot be told: {error}")
        last = self._folder.state.next_seq - 1
        told = self._folder.state.db.execute(EARLIEST, (mark.seq, last)).fetchall()
        known.add_many(np.array([row[0] for row in told], np.uint32), np.array([row[1] for row in told], np.int64))
        keep_living(known.column, self._segments.alive)

    def _load(self, text: str, leaf: AnyLeaf | Column) -> LeafMark | None:
        """Fill a leaf with its stored pages; returns what it was told, None when there is nothing usable."""
        mark = self._stored.get(text)
        if mark is None:
            return None
        try:
            pages = read_leaf_pages(self._folder.state.db, text)
        except StorageError as error:
            del self._stored[text]
            self._folder.fault(f"{error}: it is built again from history")
            return None
        fill(leaf, pages)
        return mark

    def _restore_leaf(self, key: LeafKey) -> bool:
        """Attach a leaf; returns False when it has to be built."""
        segments = self._segments
        if key in segments.leaves:
            return key not in self._builder.unfilled
        leaf = segments.make_leaf(key)
        if isinstance(leaf, KnownLeaf):
            segments.attach(key, leaf)
            return self._builder.known_whole
        if isinstance(leaf, RecordLeaf):
            # The state says what records are now: nothing else is kept of such a leaf.
            for person, rows in everybodys_rows(self._folder.state.db, leaf.test):
                leaf.set(person, rows, self._folder.state.now_us)
            segments.attach(key, leaf)
            return True
        assert isinstance(key, EventTest | AttributeTest)
        mark = self._load(key_text(key), leaf)
        if mark is None or not self._catch_up(leaf, mark):
            self._builder.attach([key], self._folder.state.now_us)
            return False
        segments.attach(key, leaf)
        self._forget_dead(leaf)
        return True

    def _catch_up(self, leaf: CountLeaf | WindowLeaf | AttributeLeaf, mark: LeafMark) -> bool:
        """Tell a stored leaf what came after its mark; returns False when that cannot be read."""
        try:
            if isinstance(leaf, AttributeLeaf):
                self._judge_again(leaf, mark, self._folder.state.now_us)
            else:
                self._feed_again(leaf, mark)
        except StorageError as error:
            self._folder.fault(str(error))
            return False
        return True

    def _feed_again(self, leaf: CountLeaf | WindowLeaf, mark: LeafMark) -> None:
        feed_again(self._folder, leaf, mark, self._mark(), self._segments.alive)

    def _judge_again(self, leaf: AttributeLeaf, mark: LeafMark, now_us: int) -> None:
        if mark.seq not in self._writers:
            self._writers[mark.seq] = list(self._folder.history.writers_since(mark.seq))
        people = set(self._writers[mark.seq])
        newcomers = self._folder.state.db.execute("SELECT person FROM person WHERE person >= ?", (mark.next_person,))
        people.update(row[0] for row in newcomers)
        for person in sorted(people):
            row = self._folder.state.db.execute(
                f"SELECT {PROFILE_COLUMNS}, document FROM person WHERE person = ?", (person,)
            ).fetchone()
            if row is not None:
                leaf.set(person, shown_values(Profile(*row[:5]), decode_document(row[5])), now_us)
        if leaf.timed:
            self._let_time_pass(leaf, now_us)

    def _let_time_pass(self, leaf: AttributeLeaf, now_us: int) -> None:
        """Between the checkpoint and the crash time may have changed people nobody wrote to."""
        people, _ = leaf.due_many(-(1 << 56), now_us)
        for person in people.tolist():
            row = self._folder.state.db.execute(
                f"SELECT {PROFILE_COLUMNS}, document FROM person WHERE person = ?", (person,)
            ).fetchone()
            if row is not None:
                leaf.set(person, shown_values(Profile(*row[:5]), decode_document(row[5])), now_us)

    def _forget_dead(self, leaf: AnyLeaf) -> None:
        keep_living(column_of(leaf), self._segments.alive)
        if isinstance(leaf, AttributeLeaf):
            leaf.true &= self._segments.alive


def feed_again(
    folder: Folder, leaf: CountLeaf | WindowLeaf, told: LeafMark, now: LeafMark, alive: BitMap
) -> None:
    """Feed a leaf what came after one mark, up to another."""
    if told.seq < now.seq:
        feed_rows(leaf, scan(folder, leaf.test, Since(now.seq, now.now_us), since_seq=told.seq), alive)
    arrived = folder.state.rows("SELECT value FROM meta WHERE name = ?", (ARRIVED_US,))
    if arrived and int(arrived[0][0]) > told.now_us:
        feed_rows(leaf, scan(folder, leaf.test, Since(told.seq, now.now_us), since_us=told.now_us), alive)


def keep_living(column: Column, alive: BitMap) -> None:
    """Nothing of anybody else stays in a column."""
    for low, page in column.each():
        people = BitMap(range(low, low + PAGE_ROWS)) - alive
        gone = np.asarray(people.to_array(), np.int64) - low
        gone = gone[page[gone].reshape(len(gone), column.width).any(axis=1)]
        if len(gone):
            page[gone] = 0
            column.dirty.add(low >> PAGE_BITS)


def living(db: sqlite3.Connection) -> BitMap:
    """Everybody who is there. Where nobody but the deleted is missing, people are counted instead of being read."""
    count, first, last = db.execute("SELECT count(*), min(person), max(person) FROM person").fetchone()
    if not count:
        return BitMap()
    gone = db.execute("SELECT person FROM deleted WHERE person BETWEEN ? AND ?", (first, last)).fetchall()
    people = BitMap(range(first, last + 1)) - BitMap([row[0] for row in gone])
    # Nobody is both, so as many as there are is all of them.
    if len(people) == count:
        return people
    return BitMap([row[0] for row in db.execute("SELECT person FROM person")])


def fill(leaf: AnyLeaf | Column, pages: list[tuple[int, bytes]]) -> None:
    """Put stored pages into an empty leaf."""
    column = column_of(leaf)
    for number, body in pages:
        if number == TRUE_PAGE and isinstance(leaf, AttributeLeaf):
            leaf.true = BitMap.deserialize(body)
        else:
            column.load(number, body)


def column_of(leaf: AnyLeaf | Column) -> Column:
    """The column behind a leaf."""
    if isinstance(leaf, Column):
        return leaf
    if isinstance(leaf, AttributeLeaf):
        return leaf.changes
    if isinstance(leaf, KnownLeaf | RecordLeaf):
        raise BackstoryError("a guard and a leaf over records are not stored")
    return leaf.column


