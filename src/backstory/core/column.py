"""A column of numbers, one row per person, in pages that exist once somebody in them is touched.

People are dense numbers from 0. Pages are what is stored and marked dirty; in memory many of them lie side by side in
one *slab*, so that the numbers of people far apart are read and written in one step. Neither costs memory before it is
written to: the operating system hands out zeroed memory, a few kilobytes at a time, when it is first touched.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

PAGE_BITS = 16
PAGE_ROWS = 1 << PAGE_BITS
PAGE_MASK = PAGE_ROWS - 1
# A slab is address space, not memory, but a system that is told to count it should not refuse it.
SLAB_BYTES = 16 << 20

# So many are gone through faster one by one than as an array.
_FEW = 64
# Where so many numbers lie between one person and the next, people are looked up one by one.
_SPARSE_FROM = 32
# Fewer people than this are handed to the bitmap one by one.
_PACKED_FROM = 2048
# The form in which bitmaps without runs are stored, and up to how many people a page is a list in it, else bits.
# Source: the Roaring format specification, https://github.com/RoaringBitmap/RoaringFormatSpec
_NO_RUNS = 12_346
_LIST_MAX = 4096
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
        # Rows of a slab: a power of two, at least a page.
        self._slab_bits = max(PAGE_BITS, (SLAB_BYTES // (self.dtype.itemsize * width)).bit_length() - 1)
        self._slabs: list[Numbers | None] = []

    def page(self, number: int) -> Numbers:
        """The page for writing; made when missing and marked dirty."""
        while len(self.pages) <= number:
            self.pages.append(None)
            self._cells.append(None)
        page = self.pages[number]
        if page is None:
            first = number << PAGE_BITS
            at = first & ((1 << self._slab_bits) - 1)
            page = self._slab(first >> self._slab_bits)[at : at + PAGE_ROWS]
            self.pages[number] = page
            self._cells[number] = page.data
        self.dirty.add(number)
        return page

    def _slab(self, number: int) -> Numbers:
        while len(self._slabs) <= number:
            self._slabs.append(None)
        slab = self._slabs[number]
        if slab is None:
            rows = 1 << self._slab_bits
            cells = np.frombuffer(_zeroed(rows * self.width * self.dtype.itemsize), self.dtype)
            slab = self._slabs[number] = cells.reshape(rows, self.width) if self.width > 1 else cells
        return slab

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
        bits = self._slab_bits
        if len(people) and people[0] >> bits == people[-1] >> bits:
            number = int(people[0]) >> bits
            slab = self._slabs[number] if number < len(self._slabs) else None
            if slab is not None:
                return slab[people & ((1 << bits) - 1)]
        shape = (len(people), self.width) if self.width > 1 else (len(people),)
        out = np.zeros(shape, dtype=self.dtype)
        for number, span in _spans(people, bits):
            slab = self._slabs[number] if number < len(self._slabs) else None
            if slab is not None:
                out[span] = slab[people[span] & ((1 << bits) - 1)]
        return out

    def scatter(self, people: People, rows: Numbers) -> None:
        """Write the numbers of many different people (sorted ascending)."""
        self.touched(people)
        bits = self._slab_bits
        for number, span in _spans(people, bits):
            self._slab(number)[people[span] & ((1 << bits) - 1)] = rows[span]

    def memory(self, people: People) -> Iterator[tuple[Numbers, int, slice]]:
        """The memory in which the numbers of sorted people lie, each piece with the number of its first person and
        which of these people are in it. Whoever writes there tells it by ``touched``.
        """
        for number, span in _spans(people, self._slab_bits):
            yield self._slab(number), number << self._slab_bits, span

    def touched(self, people: People) -> None:
        """The numbers of sorted people are, or will be, written to."""
        for number in _pages(people) - self.dirty:
            self.page(number)

    def each(self) -> Iterator[tuple[int, Numbers]]:
        """The pages that exist, with the number of their first person."""
        for number, page in enumerate(self.pages):
            if page is not None:
                yield number << PAGE_BITS, page

    def take_over(self, other: "Column", number: int) -> None:
        """Have a page be what that of another column is; it counts as written to."""
        page = other.pages[number] if number < len(other.pages) else None
        if page is not None:
            self.page(number)[:] = page
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


@dataclass(frozen=True, slots=True)
class Fed:
    """Of whom a column holds something else since it was fed in bulk: what it held of them, and what it holds now."""

    people: People
    before: Numbers
    after: Numbers

    @classmethod
    def of(cls, people: People, before: Numbers, after: Numbers, changed: Truth) -> "Fed":
        return cls(people, before, after) if changed.all() else cls(people[changed], before[changed], after[changed])


def _zeroed(size: int) -> mmap.mmap:
    """Memory that is there once it is written to, and in small pieces: huge ones would be paid for by few people."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0))
    if hasattr(mmap, "MADV_NOHUGEPAGE"):
        memory.madvise(mmap.MADV_NOHUGEPAGE)
    return memory


def _pages(people: People) -> set[int]:
    """The pages on which sorted people are."""
    pages = people >> PAGE_BITS
    if len(pages) > _FEW:
        pages = pages[np.append(True, pages[1:] != pages[:-1])]
    return set(pages.tolist())


def _spans(people: People, bits: int) -> Iterator[tuple[int, slice]]:
    """Cut sorted people into runs that lie in one block of so many bits: (block number, slice)."""
    if not len(people):
        return
    first, last = int(people[0]) >> bits, int(people[-1]) >> bits
    if first == last:
        yield first, slice(0, len(people))
        return
    bounds = np.searchsorted(people, np.arange(first + 1, last + 1, dtype=np.int64) << bits)
    edges = [0, *bounds.tolist(), len(people)]
    for offset in range(last - first + 1):
        if edges[offset] < edges[offset + 1]:
            yield first + offset, slice(edges[offset], edges[offset + 1])


def distinct(people: People) -> People:
    """The different ones of people in any order, sorted; where they stand close together without sorting them."""
    if not len(people):
        return people
    low, high = int(people.min()), int(people.max())
    if high - low > len(people) * _SPARSE_FROM:
        return np.unique(people)
    marks = np.zeros(high - low + 1, dtype=bool)
    marks[people - np.uint32(low)] = True
    return (np.flatnonzero(marks) + low).astype(np.uint32)


def bitmap_of(people: People) -> BitMap:
    """The bitmap of sorted distinct people: of many it is put together as it would be stored, ten times as fast."""
    if len(people) < _PACKED_FROM:
        return BitMap(people)
    pages: list[tuple[int, int]] = []
    bodies: list[bytes] = []
    for number, span in _spans(people, PAGE_BITS):
        rows = (people[span] & PAGE_MASK).astype("<u2")
        pages.append((number, len(rows) - 1))
        if len(rows) > _LIST_MAX:
            marks = np.zeros(PAGE_ROWS, dtype=bool)
            marks[rows] = True
            bodies.append(np.packbits(marks, bitorder="little").tobytes())
        else:
            bodies.append(rows.tobytes())
    begins = 8 + 8 * len(pages) + np.cumsum([0, *map(len, bodies[:-1])])
    head = np.array([_NO_RUNS, len(pages)], "<u4").tobytes() + np.array(pages, "<u2").tobytes()
    made = BitMap.deserialize(b"".join([head, begins.astype("<u4").tobytes(), *bodies]))
    made.run_optimize()
    return made


def member_many(members: BitMap, people: People) -> Truth:
    """Which of the sorted distinct people are in the bitmap."""
    if not len(people) or not members:
        return np.zeros(len(people), dtype=bool)
    if len(people) <= _FEW:
        return np.fromiter(map(members.__contains__, people.tolist()), bool, len(people))
    low, span = int(people[0]), int(people[-1]) - int(people[0]) + 1
    if span > len(people) * _SPARSE_FROM:
        held = np.asarray((members & bitmap_of(people)).to_array(), dtype=np.uint32)
        truth = np.zeros(len(people), dtype=bool)
        truth[np.searchsorted(people, held)] = True
        return truth
    # People stand close together: marking the whole stretch costs less than looking each of them up.
    held = np.asarray((members & BitMap(range(low, low + span))).to_array(), dtype=np.uint32)
    marks = np.zeros(span, dtype=bool)
    marks[held - np.uint32(low)] = True
    return marks if span == len(people) else marks[people - np.uint32(low)]
