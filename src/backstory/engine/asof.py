"""Segments as of any moment, and questions asked once: leaves of their own, filled from history up to that moment.

As of T a person exists when any fact of theirs is as old as T; identity is today's; deleted people are gone from
all days; today's definitions apply. Source: design section 8.
"""

from collections.abc import Iterator

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core.condition import Condition, Json, segments_in
from backstory.core.leaf import AttributeLeaf, CountLeaf, KnownLeaf, WindowLeaf
from backstory.core.person import Document, decode_document, values, write
from backstory.core.segment import SegmentEngine
from backstory.engine.build import Since, feed_rows, scan
from backstory.engine.context import shown_values
from backstory.store.folder import Folder
from backstory.store.people import Profile, cio_id_of

_decode = msgspec.json.Decoder().decode
IDENTIFIERS = frozenset(("id", "email", "cio_id"))
PAGE = 5000


def members_as_of(folder: Folder, live: SegmentEngine, condition: Condition, at_us: int) -> BitMap:
    """The people for whom a condition held at a moment, as now known. From any thread; reads what is committed."""
    question = _Question(folder, live, at_us)
    return question.answer(condition)


class _Question:
    def __init__(self, folder: Folder, live: SegmentEngine, at_us: int) -> None:
        self._folder = folder
        self._live = live
        self._at_us = at_us
        self._engine = SegmentEngine()
        self._engine.known = live.known
        people = np.asarray(BitMap(live.alive).to_array(), dtype=np.uint32)
        self._engine.alive = BitMap(people[live.known.gather_us(people) <= at_us])

    def answer(self, condition: Condition) -> BitMap:
        for segment_id in self._needed(condition):
            kept = self._live.segments[segment_id]
            self._put(segment_id, kept.condition)
            if kept.condition is None:
                self._engine.segments[segment_id].members = kept.members & self._engine.alive
        self._put(0, condition)
        self._fill()
        for segment_id in self._engine.affected(self._engine.leaves) or [0]:
            self._engine.settle_many(segment_id, self._engine.everybody(), self._at_us)
        self._engine.settle_many(0, self._engine.everybody(), self._at_us)
        return self._engine.segments[0].members

    def _needed(self, condition: Condition) -> list[int]:
        """The segments a condition refers to, each after those it refers to itself."""
        done: dict[int, None] = {}

        def visit(current: Condition) -> None:
            for other in sorted(segments_in(current)):
                kept = self._live.segments.get(other)
                if kept is not None and other not in done:
                    if kept.condition is not None:
                        visit(kept.condition)
                    done[other] = None

        visit(condition)
        return list(done)

    def _put(self, segment_id: int, condition: Condition | None) -> None:
        if condition is not None:
            for key in self._engine.missing(condition):
                self._engine.attach(key, self._engine.make_leaf(key))
        self._engine.put(segment_id, condition)

    def _fill(self) -> None:
        state = self._folder.state
        since = Since(state.next_seq - 1, self._at_us, self._folder.history.parts)
        judged: list[AttributeLeaf] = []
        for leaf in self._engine.leaves.values():
            match leaf:
                case CountLeaf() | WindowLeaf():
                    feed_rows(leaf, scan(self._folder, leaf.test, since), self._engine.alive)
                case AttributeLeaf():
                    judged.append(leaf)
                case KnownLeaf():
                    pass
        if judged:
            for person, shown in self._everybody(judged):
                if person in self._engine.alive:
                    for leaf in judged:
                        leaf.set(person, shown, self._at_us)

    def _everybody(self, judged: list[AttributeLeaf]) -> Iterator[tuple[int, dict[str, Json]]]:
        if self._at_us >= self._folder.state.now_us or all(leaf.root in IDENTIFIERS for leaf in judged):
            yield from current_values(self._folder)
            return
        documents = self._documents_then()
        for profile, _ in _profiles(self._folder):
            yield profile.person, {**values(documents.get(profile.person, {})), **_identity(profile)}

    def _documents_then(self) -> dict[int, Document]:
        """Every person's attributes at the moment: the newest of the writes up to then."""
        documents: dict[int, Document] = {}
        for person, time_us, attributes in writes_until(self._folder, self._at_us):
            write(documents.setdefault(person, {}), _decode(attributes), time_us)
        return documents


def writes_until(folder: Folder, at_us: int) -> Iterator[tuple[int, int, str]]:
    """(person, time, attributes) of every write with a time up to ``at_us``."""
    files = folder.history.files(folder.history.parts, "write")
    if files:
        found = folder.history.query(
            "SELECT person, time_us, attributes FROM read_parquet($1) WHERE time_us <= $2", files, (at_us,)
        )
        while rows := found.fetchmany(50_000):
            yield from rows
    yield from folder.state.rows("SELECT person, time_us, attributes FROM attribute_write WHERE time_us <= ?", (at_us,))


def current_values(folder: Folder) -> Iterator[tuple[int, dict[str, Json]]]:
    """Everybody's values as they are now."""
    for profile, document in _profiles(folder):
        yield profile.person, shown_values(profile, decode_document(document))


def _profiles(folder: Folder) -> Iterator[tuple[Profile, bytes]]:
    last = -1
    while rows := folder.state.rows(
        "SELECT person, id, email, created_us, document FROM person WHERE person > ? ORDER BY person LIMIT ?",
        (last, PAGE),
    ):
        for row in rows:
            yield Profile(*row[:4]), row[4]
        last = rows[-1][0]


def _identity(profile: Profile) -> dict[str, Json]:
    shown: dict[str, Json] = {"cio_id": cio_id_of(profile.person)}
    if profile.id is not None:
        shown["id"] = profile.id
    if profile.email is not None:
        shown["email"] = profile.email
    return shown
