"""Leaves kept across restarts: dirty pages into ``state.db``, and at the start what is missing fed from history.

A stored leaf is right up to its seq. After a restart it is fed every event and write after that seq, from the tail
and from parts; leaves take facts in any order, so nothing needs to be undone. A leaf that is damaged, missing or
was not yet filled is built from the whole of history.
"""

from collections.abc import Iterator

import msgspec
from pyroaring import BitMap

from backstory.core.column import Column
from backstory.core.condition import AttributeTest, EventTest, parse
from backstory.core.error import BackstoryError, StorageError
from backstory.core.leaf import AttributeLeaf, CountLeaf, KnownLeaf, WindowLeaf
from backstory.core.person import decode_document
from backstory.core.segment import AnyLeaf, LeafKey, SegmentEngine, leaf_keys
from backstory.engine.build import Builder, Since, feed_rows, scan, settle_everybody
from backstory.engine.context import Context, shown_values
from backstory.store.definition import read_segments
from backstory.store.people import Profile

KNOWN = "known"
TRUE_PAGE = -1
LEAVES_PER_TURN = 8
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
        self._stored: dict[str, int] = {}
        # Bulk feeds that are still to come make a leaf's seq ambiguous: no checkpoint meanwhile.
        self.held = 0

    # -- storing --------------------------------------------------------------------------------------------------

    def some(self, leaves_max: int = LEAVES_PER_TURN) -> None:
        """Inside a transaction: bring the stored leaves that lag furthest behind up to date."""
        if self.held:
            return
        seq = self._folder.state.next_seq - 1
        behind = sorted(
            (self._stored.get(text, -1), text) for text, _ in self._storable() if self._stored.get(text, -1) < seq
        )
        leaves = dict(self._storable())
        for _, text in behind[:leaves_max]:
            self._folder.manifest.put_leaf(text, seq, self._pages(leaves[text]))
            self._stored[text] = seq
        for text in [text for text in self._stored if text not in leaves]:
            self._folder.manifest.drop_leaf(text)
            del self._stored[text]

    def everything(self) -> None:
        """Inside a transaction: store all leaves, so that the next start has nothing to feed."""
        self.some(1 << 30)

    def _storable(self) -> Iterator[tuple[str, AnyLeaf | Column]]:
        yield KNOWN, self._segments.known.column
        for key, leaf in self._segments.leaves.items():
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
        people = folder.state.db.execute("SELECT person FROM person").fetchall()
        segments.alive = BitMap([row[0] for row in people])
        self._stored = folder.manifest.leaf_keys()
        self._restore_known()
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
            whole = all([self._restore_leaf(key) for key in dict.fromkeys(leaf_keys(condition))])
            segments.put(row.segment_id, condition, building=not (row.built and whole))
            if not (row.built and whole):
                rebuild.append(row.segment_id)
        segments.start_clock(folder.state.now_us)
        for segment_id in segments.affected(segments.leaves):
            if not segments.segments[segment_id].building:
                settle_everybody(segments, segment_id, folder.state.now_us)
        return rebuild

    def _restore_known(self) -> None:
        column = self._segments.known.column
        seq = self._load(KNOWN, column)
        people, earliest_us = self._folder.history.earliest_since(seq)
        self._segments.known.add_many(people, earliest_us)

    def _load(self, text: str, leaf: AnyLeaf | Column) -> int:
        """Fill a leaf with its stored pages; returns the seq it is right for, 0 when there is nothing usable."""
        if text not in self._stored:
            return 0
        try:
            pages = self._folder.manifest.leaf_pages(text)
        except StorageError:
            del self._stored[text]
            return 0
        column = column_of(leaf)
        for number, body in pages:
            if number == TRUE_PAGE and isinstance(leaf, AttributeLeaf):
                leaf.true = BitMap.deserialize(body)
            else:
                column.load(number, body)
        return self._stored[text]

    def _restore_leaf(self, key: LeafKey) -> bool:
        """Attach a leaf; returns False when it has to be built."""
        segments, folder = self._segments, self._folder
        if key in segments.leaves:
            return key not in self._builder.unfilled
        leaf = segments.make_leaf(key)
        if isinstance(leaf, KnownLeaf):
            segments.attach(key, leaf)
            return True
        assert isinstance(key, EventTest | AttributeTest)
        seq = self._load(key_text(key), leaf)
        if seq == 0:
            self._builder.attach([key], folder.state.now_us)
            return False
        segments.attach(key, leaf)
        now = Since(folder.state.next_seq - 1, folder.state.now_us, folder.history.parts)
        if isinstance(leaf, CountLeaf | WindowLeaf):
            feed_rows(leaf, scan(folder, leaf.test, now, since_seq=seq), segments.alive)
        elif isinstance(leaf, AttributeLeaf):
            self._judge_again(leaf, seq, now.until_us)
        self._forget_dead(leaf)
        return True

    def _judge_again(self, leaf: AttributeLeaf, seq: int, now_us: int) -> None:
        for person in self._folder.history.writers_since(seq):
            row = self._folder.state.db.execute(
                "SELECT person, id, email, created_us, document FROM person WHERE person = ?", (person,)
            ).fetchone()
            if row is not None:
                leaf.set(person, shown_values(Profile(*row[:4]), decode_document(row[4])), now_us)
        if leaf.timed:
            self._let_time_pass(leaf, now_us)

    def _let_time_pass(self, leaf: AttributeLeaf, now_us: int) -> None:
        """Between the checkpoint and the crash time may have changed people nobody wrote to."""
        people, _ = leaf.due_many(-(1 << 56), now_us)
        for person in people.tolist():
            row = self._folder.state.db.execute(
                "SELECT person, id, email, created_us, document FROM person WHERE person = ?", (person,)
            ).fetchone()
            if row is not None:
                leaf.set(person, shown_values(Profile(*row[:4]), decode_document(row[4])), now_us)

    def _forget_dead(self, leaf: AnyLeaf) -> None:
        for (person,) in self._folder.state.db.execute("SELECT person FROM deleted"):
            leaf.forget(person)


def column_of(leaf: AnyLeaf | Column) -> Column:
    """The column behind a leaf."""
    if isinstance(leaf, Column):
        return leaf
    if isinstance(leaf, AttributeLeaf):
        return leaf.changes
    if isinstance(leaf, KnownLeaf):
        raise BackstoryError("a guard has no column of its own")
    return leaf.column


