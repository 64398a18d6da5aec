"""Telling leaves of many events: the compiled way says and leaves behind what the plain one does."""

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.column import SLAB_BYTES, Column, Fed
from backstory.core.condition import Between, EventTest, Last, Window
from backstory.core.known import KnownSince
from backstory.core.lateness import Newest
from backstory.core.leaf import event_leaf
from backstory.engine.backfill.feed import Feed, PlainFeed, Told
from backstory.engine.backfill.feed_kernel import CompiledFeed
from tests.hunt import examples

# Some side by side, some on both sides of where pages, and the memory of columns of any width, end.
EDGES = [1 << 16, *(SLAB_BYTES // size for size in (2, 8, 16, 32))]
PEOPLE = sorted({0, 1, 2, 3, *(edge + step for edge in EDGES for step in (-1, 0, 1))})
TIMES = st.one_of(st.integers(-5, 5), st.integers(-(10**16), 10**16))
WINDOWS = st.one_of(
    st.none(),
    st.builds(Last, st.integers(1, 20)),
    st.builds(Between, st.one_of(st.none(), st.integers(-5, 5)), st.one_of(st.none(), st.integers(-5, 5))),
)


def event_test(window: Window | None, least: int, more: int | None) -> EventTest:
    return EventTest("bought", at_least=least, at_most=None if more is None else least + more, window=window)


TESTS = st.builds(event_test, WINDOWS, st.integers(1, 4), st.one_of(st.none(), st.integers(0, 2)))
ROWS = st.lists(st.tuples(st.sampled_from(PEOPLE), TIMES, st.booleans()), max_size=30).map(sorted)

# With each chunk: is only a part of its rows told?
CHUNKS = st.lists(st.tuples(ROWS, st.booleans()), min_size=1, max_size=3)
Chunks = list[tuple[list[tuple[int, int, bool]], bool]]


def columns(rows: list[tuple[int, int, bool]]) -> tuple[Any, Any, Any]:
    return (
        np.array([row[0] for row in rows], np.uint32),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], bool),
    )


def held(column: Column) -> dict[int, Any]:
    return {person: column.row(person) if column.width > 1 else column.get(person) for person in PEOPLE}


def plainly(fed: Fed) -> list[list[Any]]:
    return [fed.people.tolist(), fed.before.tolist(), fed.after.tolist()]


@settings(max_examples=examples(150), deadline=None)
@given(TESTS, CHUNKS)
def test_leaves_are_told_the_same(test: EventTest, chunks: Chunks) -> None:
    """Chunk after chunk: who is told to have changed and how, what is held then, and what is to be stored."""
    ways: list[Feed] = [PlainFeed(), CompiledFeed()]
    leaves = [event_leaf(test), event_leaf(test)]
    for rows, masked in chunks:
        people, times_us, mask = columns(rows)
        told = [Told(leaf, people, times_us, mask if masked else None) for leaf in leaves]
        answers = [plainly(ways[at].leaf(leaves[at], told[at])) for at in (0, 1)]
        assert answers[0] == answers[1]
        assert held(leaves[0].column) == held(leaves[1].column)
        assert leaves[0].column.dirty == leaves[1].column.dirty


@settings(max_examples=examples(100), deadline=None)
@given(CHUNKS)
def test_since_when_people_are_known_is_told_the_same(chunks: Chunks) -> None:
    """Chunk after chunk: who is known for longer, since when everybody is known, and their newest times."""
    ways: list[Feed] = [PlainFeed(), CompiledFeed()]
    newest, known = [Newest(), Newest()], [KnownSince(), KnownSince()]
    for rows, masked in chunks:
        people, times_us, mask = columns(rows)
        told = Told(None, people, times_us, mask if masked else None)
        answers = [ways[at].known(newest[at], known[at], told).tolist() for at in (0, 1)]
        assert answers[0] == answers[1]
        assert held(known[0].column) == held(known[1].column)
        assert known[0].column.dirty == known[1].column.dirty
        assert held(newest[0].column) == held(newest[1].column)
