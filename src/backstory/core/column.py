"""A column of numbers, one row per person, in pages that are allocated when somebody in them is touched.

People are dense numbers from 0. A page that nobody was written to costs nothing; untouched rows of a page cost
no memory either, because the operating system hands out zeroed memory only when it is written to.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

PAGE_BITS = 16
PAGE_ROWS = 1 << PAGE_BITS
PAGE_MASK = PAGE_ROWS - 1

# Where so many numbers lie between one person and the next, people are looked up one by one.
_SPARSE_FROM = 32
People = NDArray[np.uint32]
Truth = NDArray[np.bool_]
Numbers = NDArray[Any]
# In microseconds: one for everybody, or one for each.
Moment = int | NDArray[np.int64]


class Column:
    """``width`` numbers of one type per person, zero where nothing was written."""

    def __init__(self, dtype: str, width: int = 1) -> None:
        self.dtype = np.dtype(dtype)
        self.width = width
        self.pages: list[Numbers | None] = []
        # The same memory once more: single numbers are read and written here faster.
        self._cells: list[memoryview | None] = []
        self.dirty: set[int] = set()

    def page(self, number: int) -> Numbers:
        """The page for writing; made when missing and marked dirty."""
        while len(self.pages) <= number:
            self.pages.append(None)
            self._cells.append(None)
        page = self.pages[number]
        if page is None:
            page = np.zeros((PAGE_ROWS, self.width) if self.width > 1 else PAGE_ROWS, dtype=self.dtype)
            self.pages[number] = page
            self._cells[number] = page.data
        self.dirty.add(number)
        return page

    def get(self, person: int) -> int:
        """One person's number; for columns of width 1."""
        number = person >> PAGE_BITS
        if number >= len(self._cells):
            return 0
        cells = self._cells[number]
        return 0 if cells is None else cells[person & PAGE_MASK]

    def row(self, person: int) -> list[int]:
        """One person's numbers; for columns of width above 1."""
        number = person >> PAGE_BITS
        page = self.pages[number] if number < len(self.pages) else None
        return [0] * self.width if page is None else page[person & PAGE_MASK].tolist()

    def set(self, person: int, value: int) -> None:
        """Write one person's number; for columns of width 1."""
        number = person >> PAGE_BITS
        self.page(number)
        cells = self._cells[number]
        assert cells is not None
        cells[person & PAGE_MASK] = value

    def set_row(self, person: int, values: list[int]) -> None:
        """Write one person's numbers; for columns of width above 1."""
        self.page(person >> PAGE_BITS)[person & PAGE_MASK] = values

    def gather(self, people: People) -> Numbers:
        """The numbers of many people (sorted ascending), as rows in the same order."""
        if len(people) and people[0] >> PAGE_BITS == people[-1] >> PAGE_BITS:
            number = int(people[0]) >> PAGE_BITS
            page = self.pages[number] if number < len(self.pages) else None
            if page is not None:
                return page[people & PAGE_MASK]
        shape = (len(people), self.width) if self.width > 1 else (len(people),)
        out = np.zeros(shape, dtype=self.dtype)
        for number, span in spans(people):
            page = self.pages[number] if number < len(self.pages) else None
            if page is not None:
                out[span] = page[people[span] & PAGE_MASK]
        return out

    def scatter(self, people: People, rows: Numbers) -> None:
        """Write the numbers of many different people (sorted ascending)."""
        for number, span in spans(people):
            self.page(number)[people[span] & PAGE_MASK] = rows[span]

    def each(self) -> Iterator[tuple[int, Numbers]]:
        """The pages that exist, with the number of their first person."""
        for number, page in enumerate(self.pages):
            if page is not None:
                yield number << PAGE_BITS, page

    def take_over(self, other: "Column", number: int) -> None:
        """Have a page be what that of another column is, which is not used any more; it counts as written to."""
        page = other.pages[number] if number < len(other.pages) else None
        if page is not None:
            self.page(number)
            self.pages[number], self._cells[number] = page, page.data
        elif number < len(self.pages) and self.pages[number] is not None:
            self.page(number)[:] = 0

    def dirty_all(self) -> None:
        """Everything is to be stored again."""
        self.dirty = {number for number, page in enumerate(self.pages) if page is not None}

    def load(self, number: int, body: bytes) -> None:
        """Put a stored page back."""
        page = self.page(number)
        page[:] = np.frombuffer(body, dtype=self.dtype).reshape(page.shape)
        self.dirty.discard(number)


def spans(people: People) -> Iterator[tuple[int, slice]]:
    """Cut sorted people into runs that lie on one page: (page number, slice)."""
    if not len(people):
        return
    first, last = int(people[0]) >> PAGE_BITS, int(people[-1]) >> PAGE_BITS
    if first == last:
        yield first, slice(0, len(people))
        return
    bounds = np.searchsorted(people, np.arange(first + 1, last + 1, dtype=np.int64) << PAGE_BITS)
    edges = [0, *bounds.tolist(), len(people)]
    for offset in range(last - first + 1):
        if edges[offset] < edges[offset + 1]:
            yield first + offset, slice(edges[offset], edges[offset + 1])


def member_many(members: BitMap, people: People) -> Truth:
    """Which of the sorted distinct people are in the bitmap."""
    if not len(people) or not members:
        return np.zeros(len(people), dtype=bool)
    low, span = int(people[0]), int(people[-1]) - int(people[0]) + 1
    if span > len(people) * _SPARSE_FROM:
        held = np.asarray((members & BitMap(people)).to_array(), dtype=np.uint32)
        truth = np.zeros(len(people), dtype=bool)
        truth[np.searchsorted(people, held)] = True
        return truth
    # People stand close together: marking the whole stretch costs less than looking each of them up.
    held = np.asarray((members & BitMap(range(low, low + span))).to_array(), dtype=np.uint32)
    marks = np.zeros(span, dtype=bool)
    marks[held - np.uint32(low)] = True
    return marks if span == len(people) else marks[people - np.uint32(low)]
