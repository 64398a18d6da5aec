"""Verifying stored leaves: each page against its checksum, each leaf against one made anew from history.

A stored leaf is compared as of its mark. People who were deleted after it, or written to, are left out.
"""

from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from backstory.core.column import PAGE_BITS, PAGE_ROWS, Column
from backstory.core.condition import AttributeTest, EventTest
from backstory.core.error import StorageError
from backstory.core.known import KnownSince
from backstory.core.leaf import AttributeLeaf, event_leaf
from backstory.core.leaf_key import leaf_keys
from backstory.engine.checkpoint import KNOWN, fill, key_text
from backstory.engine.segment.asof import current_values
from backstory.engine.segment.scan import Since, feed_rows, scan
from backstory.engine.verify.finding import Findings
from backstory.engine.verify.moment import Moment
from backstory.store.folder import Folder
from backstory.store.manifest import LeafMark, read_leaf_marks, read_leaf_pages
from backstory.store.people import cio_id_of
from backstory.store.record import EARLIEST

Pages = list[tuple[int, bytes]]


@dataclass(frozen=True, slots=True)
class _Pair:
    """An attribute leaf as it is stored, and as it is made anew."""

    text: str
    mark: LeafMark
    stored: AttributeLeaf
    made: AttributeLeaf


def verify_leaves(folder: Folder, moment: Moment, findings: Findings, *, whole: bool) -> None:
    """All stored leaves; made anew only when history is ``whole``. Raises ``StorageError``."""
    keys = {
        key_text(key): key
        for condition in moment.conditions.values()
        for key in leaf_keys(condition)
        if isinstance(key, EventTest | AttributeTest)
    }
    pairs: list[_Pair] = []
    marks = folder.state.read(read_leaf_marks)
    for at, text in enumerate(marks):
        findings.progress("leaf", at, len(marks))
        found = _read(folder, text, findings)
        # A leaf that no segment asks for any more is let go of at its turn.
        if found is None or not whole or (text != KNOWN and text not in keys):
            continue
        mark, pages = found
        key = keys.get(text)
        if key is None:
            _verify_known(folder, moment, mark, pages, findings)
        elif isinstance(key, EventTest):
            _verify_event(folder, moment, key, mark, pages, findings)
        else:
            stored = AttributeLeaf(key)
            fill(stored, pages)
            pairs.append(_Pair(text, mark, stored, AttributeLeaf(key)))
    _verify_attributes(folder, moment, pairs, findings)
    findings.checked("leaf", len(marks))


def _read(folder: Folder, text: str, findings: Findings) -> tuple[LeafMark, Pages] | None:
    """A leaf's mark and pages, as of one commit; None when they are damaged or were let go of meanwhile."""
    try:
        mark, pages = folder.state.read(lambda db: (read_leaf_marks(db).get(text), read_leaf_pages(db, text)))
    except StorageError as error:
        findings.difference("leaf", str(error), leaf=text)
        return None
    return None if mark is None else (mark, pages)


def _verify_known(folder: Folder, moment: Moment, mark: LeafMark, pages: Pages, findings: Findings) -> None:
    stored, made = Column("int64"), KnownSince()
    fill(stored, pages)
    rows = folder.state.rows(
        "SELECT person, min(created_us, accept_us) FROM person WHERE person < ? ORDER BY person", (mark.next_person,)
    )
    made.add_many(np.array([row[0] for row in rows], np.uint32), np.array([row[1] for row in rows], np.int64))
    made.add_many(*folder.history.earliest_since(0, until_seq=mark.seq))
    told = folder.state.rows(EARLIEST, (0, mark.seq))
    made.add_many(np.array([row[0] for row in told], np.uint32), np.array([row[1] for row in told], np.int64))
    _tell(KNOWN, _differing(stored, made.column, _those(folder, moment, mark)), findings)


def _verify_event(
    folder: Folder, moment: Moment, test: EventTest, mark: LeafMark, pages: Pages, findings: Findings
) -> None:
    stored, made = event_leaf(test), event_leaf(test)
    fill(stored, pages)
    feed_rows(made, scan(folder, test, Since(mark.seq, mark.now_us)), moment.alive)
    _tell(key_text(test), _differing(stored.column, made.column, _those(folder, moment, mark)), findings)


def _verify_attributes(folder: Folder, moment: Moment, pairs: list[_Pair], findings: Findings) -> None:
    """Everybody's document is read once for all of them."""
    if not pairs:
        return
    for person, shown in current_values(folder):
        for pair in pairs:
            if person < pair.mark.next_person:
                pair.made.set(person, shown, pair.mark.now_us)
    for pair in pairs:
        stored, made = pair.stored, pair.made
        those = _those(folder, moment, pair.mark) - BitMap(folder.history.writers_since(pair.mark.seq))
        wrong = (stored.true ^ made.true) & those
        wrong |= _differing(stored.changes, made.changes, those)
        # Whose moment had come when the leaf was stored is judged again before anything is made of it.
        overdue, _ = stored.due_many(0, pair.mark.now_us)
        _tell(pair.text, wrong - BitMap(overdue), findings)


def _those(folder: Folder, moment: Moment, mark: LeafMark) -> BitMap:
    """The people a leaf can be asked about: there when it was stored, and still there."""
    people = BitMap(moment.alive)
    people.remove_range(mark.next_person, 1 << 32)
    return people - BitMap([row[0] for row in folder.state.rows("SELECT person FROM deleted")])


def _differing(stored: Column, made: Column, those: BitMap) -> BitMap:
    """The people of ``those`` whose numbers are not the same in both columns."""
    wrong = BitMap()
    for number in range(max(len(stored.pages), len(made.pages))):
        low = number << PAGE_BITS
        people = np.asarray((those & BitMap(range(low, low + PAGE_ROWS))).to_array(), dtype=np.uint32)
        different = stored.gather(people) != made.gather(people)
        wrong.update(people[different if different.ndim == 1 else different.any(axis=1)])
    return wrong


def _tell(text: str, people: BitMap, findings: Findings) -> None:
    for person in people:
        findings.difference("leaf", "is not what history comes to", leaf=text, person=cio_id_of(person))
