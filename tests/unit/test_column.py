"""Columns and bitmaps of people."""

import numpy as np
import pytest
from pyroaring import BitMap

from backstory.core.column import PAGE_ROWS, bitmap_of, distinct

ROWS = 3 * PAGE_ROWS


@pytest.mark.parametrize(
    "people",
    [
        np.arange(0),
        np.array([7, PAGE_ROWS * 40_000]),
        np.arange(5000, 5000 + ROWS),
        np.arange(ROWS)[np.arange(ROWS) % 7 < 3],
        # So many on a page that they lie there as a list, and one more.
        np.concatenate([np.arange(0, 2 * 4096, 2), PAGE_ROWS + np.arange(0, 2 * 4097, 2)]),
        np.concatenate([np.arange(3000) * 11, (1 << 32) - 1 - np.arange(3000)[::-1] * 5]),
    ],
    ids=["nobody", "few", "all", "many", "lists", "far apart"],
)
def test_a_bitmap_put_together_holds_the_same_people(people: np.ndarray[tuple[int], np.dtype[np.int64]]) -> None:
    """As one to which they are added one by one, and it is stored the same."""
    made, expected = bitmap_of(people.astype(np.uint32)), BitMap(people.tolist())
    assert made == expected
    assert made.serialize() == BitMap(people.astype(np.uint32)).serialize()
    made.add(1)
    expected.add(1)
    assert made == expected


@pytest.mark.parametrize("people", [[], [5], [9, 5, 9, 6, 5], [4_000_000_000, 3, 4_000_000_000], [0, (1 << 32) - 1, 0]])
def test_distinct_people_are_sorted_and_each_is_there_once(people: list[int]) -> None:
    """Whether they stand close together or far apart."""
    assert distinct(np.array(people, np.uint32)).tolist() == sorted(set(people))
