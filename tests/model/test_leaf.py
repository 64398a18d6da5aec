"""Leaves against counting by hand: one by one, in bulk, by the clock; and the effective moments of transitions."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap

from backstory.core import oracle
from backstory.core.column import PAGE_ROWS
from backstory.core.condition import AttributeTest, Between, Condition, EventTest, Json, Last
from backstory.core.known import KnownLeaf, KnownSince
from backstory.core.leaf import (
    NEVER_US,
    AttributeLeaf,
    CountLeaf,
    WindowLeaf,
    due_in,
    event_leaf,
    member_many,
)
from backstory.core.oracle import PersonHistory
from backstory.core.record_time import RecordsInTime
from backstory.core.segment import SegmentEngine
from backstory.core.time import SECOND_US
from backstory.engine.segment.effective import PersonInTime
from backstory.engine.segment.past import Told
from backstory.store.history import runs
from tests.hunt import examples
from tests.model.strategy import (
    NAMES,
    NOW_US,
    attribute_tests,
    attribute_values,
    attributes,
    conditions,
    event_data,
    event_tests,
    past_us,
)

AnyLeaf = CountLeaf | WindowLeaf | KnownLeaf | AttributeLeaf
# Neighbours, and people on other pages of a column.
PEOPLE = (0, 1, 7, PAGE_ROWS - 1, PAGE_ROWS, 2 * PAGE_ROWS + 3)
people = st.sampled_from(PEOPLE)
times_us = past_us.map(lambda age_us: NOW_US - age_us)
moments_us = st.one_of(times_us, past_us.map(lambda age_us: NOW_US + age_us), st.just(NOW_US))
fed = st.lists(st.tuples(people, times_us), max_size=20)
everybody = np.array(PEOPLE, np.uint32)


def feed_many(leaf: CountLeaf | WindowLeaf, rows: list[tuple[int, int]]) -> None:
    """Feed rows as the builder does: sorted by person, then time. What the leaf tells of it is what came of it."""
    ordered = sorted(rows)
    numbers = np.array([person for person, _ in ordered], np.uint32)
    first = runs(numbers)
    who = numbers[first]
    held, held_true = leaf.column.gather(who).tolist(), leaf.holds_many(who, NOW_US)
    fed = leaf.add_many(who, first, np.array([time_us for _, time_us in ordered], np.int64))
    holding = leaf.column.gather(who).tolist()
    assert fed.people.tolist() == [person for at, person in enumerate(who.tolist()) if held[at] != holding[at]]
    turned = fed.people[leaf.answers(fed.before, NOW_US) != leaf.answers(fed.after, NOW_US)]
    assert turned.tolist() == who[held_true != leaf.holds_many(who, NOW_US)].tolist()


def in_chunks(
    draw: Callable[[st.SearchStrategy[int]], int], rows: list[tuple[int, int]]
) -> list[list[tuple[int, int]]]:
    cut = draw(st.integers(0, len(rows)))
    return [rows[:cut], rows[cut:]]


def counted(test: EventTest, rows: list[tuple[int, int]], person: int, now_us: int) -> bool:
    """Count the person's times inside the window."""
    match test.window:
        case None:
            low_us, high_us = -NEVER_US, NEVER_US
        case Last(last_us=last_us):
            low_us, high_us = now_us - last_us + 1, NEVER_US
        case Between(from_us=from_us, to_us=to_us):
            low_us, high_us = (-NEVER_US if from_us is None else from_us), (NEVER_US if to_us is None else to_us)
    count = sum(who == person and low_us <= time_us < high_us for who, time_us in rows)
    return count >= test.at_least and (test.at_most is None or count <= test.at_most)


@settings(max_examples=examples(300))
@given(
    test=event_tests(where=False),
    rows=fed,
    now_us=moments_us.filter(lambda now_us: now_us >= NOW_US),
    data=st.data(),
)
def test_event_leaves_count(test: EventTest, rows: list[tuple[int, int]], now_us: int, data: st.DataObject) -> None:
    """One by one, in bulk in any chunks, or both: a leaf says what counting by hand says, and when that changed."""
    single, bulk, mixed = event_leaf(test), event_leaf(test), event_leaf(test)
    for person, time_us in data.draw(st.permutations(rows)):
        before = single.holds(person, now_us)
        assert single.add(person, time_us, now_us) == (single.holds(person, now_us) != before)
    for chunk in in_chunks(data.draw, list(data.draw(st.permutations(rows)))):
        feed_many(bulk, chunk)
    some, others = in_chunks(data.draw, rows)
    for person, time_us in some:
        mixed.add(person, time_us, now_us)
    feed_many(mixed, others)
    truth = [counted(test, rows, person, now_us) for person in PEOPLE]
    for leaf in (single, bulk, mixed):
        assert [leaf.holds(person, now_us) for person in PEOPLE] == truth
        assert leaf.holds_many(everybody, now_us).tolist() == truth


@settings(max_examples=examples(300))
@given(test=event_tests(where=False), rows=fed)
def test_event_leaves_know_what_is_coming(test: EventTest, rows: list[tuple[int, int]]) -> None:
    """Time changes nobody before the moment foretold, and does change them at it; the list of all is complete."""
    leaf = event_leaf(test)
    for person, time_us in rows:
        leaf.add(person, time_us, NOW_US)
    moments = {time_us + test.window.last_us for _, time_us in rows} if isinstance(test.window, Last) else set[int]()
    check_what_is_coming(leaf, NOW_US, moments, lambda person, at_us: counted(test, rows, person, at_us))


def check_what_is_coming(
    leaf: AnyLeaf, now_us: int, moments_us: set[int], truth: Callable[[int, int], bool], *, exact: bool = True
) -> None:
    """Compare with trying every moment at which anything can change; ``exact``: nothing is foretold in vain."""
    until_us = NOW_US + 400 * SECOND_US
    due_people, due_us = leaf.due_many(now_us, until_us)
    due = set(zip(due_people.tolist(), due_us.tolist(), strict=True))
    for person in PEOPLE:
        now = truth(person, now_us)
        later = sorted(moment_us for moment_us in moments_us if moment_us > now_us)
        change_us = next((moment_us for moment_us in later if truth(person, moment_us) != now), NEVER_US)
        told_us = leaf.next_change_us(person, now_us)
        assert told_us == change_us if exact else told_us <= change_us
        # Whoever changes within the stretch is on the list, at the very moment of each change.
        before = now
        for moment_us in [moment_us for moment_us in later if moment_us <= until_us]:
            if truth(person, moment_us) != before:
                assert (person, moment_us) in due
                before = not before


@settings(max_examples=examples(200))
@given(
    rows=fed,
    guard=st.one_of(
        st.tuples(st.sampled_from((1, 5, 60, 300)).map(lambda s: s * SECOND_US), st.none()),
        st.tuples(st.none(), moments_us),
    ),
    now_us=moments_us.filter(lambda now_us: now_us >= NOW_US),
    cut=st.integers(0, 20),
)
def test_known_leaves_know_since_when(
    rows: list[tuple[int, int]], guard: tuple[int | None, int | None], now_us: int, cut: int
) -> None:
    """Known for so long, or since before a date: by the earliest time, fed one by one or in bulk."""
    last_us, before_us = guard
    known = KnownSince()
    for person, time_us in rows[:cut]:
        known.add(person, time_us)
    earliest = {person: min(time_us for who, time_us in rows[cut:] if who == person) for person, _ in rows[cut:]}
    known.add_many(np.array(sorted(earliest), np.uint32), np.array([earliest[p] for p in sorted(earliest)], np.int64))
    leaf = KnownLeaf(known, last_us=last_us, before_us=before_us)

    def truth(person: int, at_us: int) -> bool:
        edge_us = at_us - last_us if last_us is not None else before_us
        assert edge_us is not None
        return any(who == person and time_us <= edge_us for who, time_us in rows)

    assert [leaf.holds(person, now_us) for person in PEOPLE] == [truth(person, now_us) for person in PEOPLE]
    assert leaf.holds_many(everybody, now_us).tolist() == [truth(person, now_us) for person in PEOPLE]
    moments = set[int]() if last_us is None else {time_us + last_us for _, time_us in rows}
    check_what_is_coming(leaf, now_us, moments, truth)


@settings(max_examples=examples(200))
@given(test=attribute_tests, values=st.dictionaries(people, attribute_values, max_size=6), later_us=past_us)
def test_attribute_leaves_turn_when_they_say(test: AttributeTest, values: dict[int, Json], later_us: int) -> None:
    """An attribute leaf told of everybody, and again of whoever is due, says what the oracle says at any moment."""
    leaf = AttributeLeaf(test)
    root = test.field.partition(".")[0].partition("[")[0]
    documents: dict[int, dict[str, Json]] = {person: {root: values.get(person)} for person in PEOPLE}
    for person, document in documents.items():
        leaf.set(person, document, NOW_US)
    at_us = NOW_US + later_us
    for _ in range(3):
        for person in set(leaf.due_many(NOW_US, at_us)[0].tolist()):
            leaf.set(person, documents[person], at_us)
    truth = [oracle.attribute_true(test, documents[person], at_us) for person in PEOPLE]
    assert [leaf.holds(person, at_us) for person in PEOPLE] == truth
    assert leaf.holds_many(everybody, at_us).tolist() == truth


@given(test=attribute_tests, value=attribute_values)
def test_attribute_leaves_know_what_is_coming(test: AttributeTest, value: Json) -> None:
    """The moment kept for a person is the first at which the oracle's answer changes."""
    leaf = AttributeLeaf(test)
    root = test.field.partition(".")[0].partition("[")[0]
    leaf.set(7, {root: value}, NOW_US)
    history = PersonHistory(person=7, identifiers={}, events=[], writes=[(0, {root: value})], exists_since_us=0)
    change_us = oracle.next_change(test, history, NOW_US, {})
    assert leaf.next_change_us(7, NOW_US) == (NEVER_US if change_us is None else change_us)


@given(test=event_tests(where=False), rows=fed, gone=people)
def test_who_is_forgotten_never_was(test: EventTest, rows: list[tuple[int, int]], gone: int) -> None:
    """Forgetting a person leaves the leaf as if nothing had been told of them, and all others as they were."""
    leaf, without = event_leaf(test), event_leaf(test)
    for person, time_us in rows:
        leaf.add(person, time_us, NOW_US)
        if person != gone:
            without.add(person, time_us, NOW_US)
    leaf.forget(gone)
    assert leaf.holds_many(everybody, NOW_US).tolist() == without.holds_many(everybody, NOW_US).tolist()
    assert [leaf.next_change_us(p, NOW_US) for p in PEOPLE] == [without.next_change_us(p, NOW_US) for p in PEOPLE]


@given(members=st.sets(people), asked=st.sets(people))
def test_members_of_many(members: set[int], asked: set[int]) -> None:
    """Asking a bitmap about many people says for each whether they are in it."""
    wanted = sorted(asked)
    truth = member_many(BitMap(members), np.array(wanted, np.uint32)).tolist()
    assert truth == [person in members for person in wanted]


def test_a_window_before_1970_and_after_now_is_kept() -> None:
    """Times from the year 1 on can be told from nothing at all."""
    known = KnownSince()
    for person, time_us in ((0, -62_135_596_800 * SECOND_US), (1, 0), (2, NOW_US)):
        known.add(person, time_us)
    assert [known.get_us(person) for person in range(4)] == [-62_135_596_800 * SECOND_US, 0, NOW_US, NEVER_US]
    assert due_in(known.column, -1, 0, shift_us=5)[1].tolist() == [5]


# -- effective moments ------------------------------------------------------------------------------------------------


@settings(max_examples=examples(300))
@given(
    condition=conditions(),
    events=st.lists(st.tuples(st.sampled_from(NAMES), times_us, event_data), max_size=6),
    writes=st.lists(st.tuples(times_us, attributes), min_size=1, max_size=5),
)
def test_the_effective_moment_begins_the_longest_run(
    condition: Condition, events: list[tuple[str, int, dict[str, Json]]], writes: list[tuple[int, dict[str, Json]]]
) -> None:
    """Since when a condition holds, or fails, is found as by asking the oracle about one moment after another."""
    history = PersonHistory(
        person=7,
        identifiers={"id": "ann"},
        events=[("event", *event) for event in events],
        writes=writes,
        exists_since_us=min(time_us for time_us in [event[1] for event in events] + [write[0] for write in writes]),
    )
    past = Told(history.events, [*writes], RecordsInTime())
    person = PersonInTime(7, {"id": "ann"}, past, SegmentEngine(), known_us=history.exists_since_us)
    since_us = history.exists_since_us
    at_us: int | None = since_us
    while (at_us := oracle.next_change(condition, history, at_us, {})) is not None and at_us <= NOW_US:
        since_us = at_us
    assert person.holds(condition, NOW_US) == oracle.member(condition, history, NOW_US, {})
    assert person.since_us(condition, NOW_US) == (since_us, oracle.member(condition, history, NOW_US, {}))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_empty_leaf_asks_for_nothing(number: int) -> None:
    """A leaf nobody was fed to holds no page, foretells nothing and answers for anybody."""
    leaf = event_leaf(EventTest("seen", at_least=0, at_most=number, window=Last(SECOND_US)))
    assert not leaf.column.pages
    assert leaf.holds(12345, NOW_US)
    assert leaf.next_change_us(12345, NOW_US) == NEVER_US
    assert not len(leaf.due_many(0, NEVER_US // 2)[0])
