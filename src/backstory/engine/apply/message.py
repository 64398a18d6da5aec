"""Messages as segments see them: whenever a delivery reaches a metric, its person is read again from the ledger.

A person's messages are few and a metric can be taken back (a retried delivery has not failed), so the leaves over
metrics are not counted up: they are told anew, and only when a segment asks for metrics at all.
"""

from collections.abc import Iterable

from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.core.leaf_key import LeafKey
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Context
from backstory.engine.segment.build import Builder


class MessageActivity:
    """On the loop's thread, inside its transaction."""

    def __init__(self, context: Context, builder: Builder, transitions: Transitions) -> None:
        self._segments = context.segments
        self._ledger = context.folder.ledger
        self._builder = builder
        self._transitions = transitions

    def changed(self, people: Iterable[int], time_us: int, now_us: int) -> None:
        """Something happened to messages of these people at ``time_us``."""
        if not self._segments.message_leaves():
            return
        for person in people:
            if person in self._segments.alive:
                moved = self._segments.settle(person, self.told(person, now_us), now_us)
                if moved:
                    self._transitions.take(moved, now_us, late=time_us < now_us)

    def told(self, person: int, now_us: int) -> list[LeafKey]:
        """Tell the leaves over messages of a person anew; returns them, for the caller to settle."""
        leaves = self._segments.message_leaves()
        keys: list[LeafKey] = [leaf.test for leaf in leaves]
        self._read_again(person, leaves, now_us)
        self._segments.expect_all(keys, person, now_us)
        return keys

    def _read_again(self, person: int, leaves: list[CountLeaf | WindowLeaf], now_us: int) -> None:
        events = self._ledger.message_events(person)
        for leaf in leaves:
            self._builder.heard_of(leaf.test, person)
            leaf.forget(person)
            for kind, name, time_us, data in events:
                if leaf.test.counts(kind, name) and (leaf.where is None or leaf.where(data, time_us)):
                    leaf.add(person, time_us, now_us)
