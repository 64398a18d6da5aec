"""What leaves are told of an import's events in one go: bounded, whatever the file is like."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pyroaring import BitMap

from backstory.core.limit import LOOP_EVENTS
from backstory.engine.backfill.feed import living_rows, stretches


@given(st.lists(st.integers(0, 9), max_size=60).map(sorted), st.integers(1, 20))
def test_stretches_are_all_rows_in_order_and_no_person_is_cut(people: list[int], rows_max: int) -> None:
    """Together they are the rows; only one person alone may have more than there may be in one."""
    some = np.array(people, np.uint32)
    found = [some[one].tolist() for one in stretches(some, rows_max)]
    assert [person for one in found for person in one] == people
    assert all(len(one) <= rows_max or len(set(one)) == 1 for one in found)
    assert len({person for one in found for person in set(one)}) == sum(len(set(one)) for one in found)


def test_a_turn_of_the_loop_has_so_many_events() -> None:
    """At the limit one turn, one past it two."""
    people = np.arange(LOOP_EVENTS.value + 1, dtype=np.uint32)
    assert len(list(stretches(people[:-1], LOOP_EVENTS.value))) == 1
    assert len(list(stretches(people, LOOP_EVENTS.value))) == 2


def test_all_rows_of_the_living_are_told_however_far_apart_they_are() -> None:
    """Somebody with several events keeps every one of them when somebody else was deleted."""
    people = np.repeat(np.arange(0, 100_000, 1000, dtype=np.uint32), 3)
    alive = BitMap(people[::3])
    alive.remove(5000)
    assert living_rows(alive, people).tolist() == [person != 5000 for person in people.tolist()]
