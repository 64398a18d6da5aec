"""Telling leaves of many events in one pass over the memory of their columns: compiled.

Says the same as ``feed.PlainFeed``, which goes over the rows several times for each leaf.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

from typing import assert_never

import numpy as np

from backstory.core.column import Column, Fed, People, Truth
from backstory.core.known import KnownSince
from backstory.core.lateness import Newest
from backstory.core.leaf import SHIFT_US, CountLeaf, WindowLeaf
from backstory.engine.backfill.feed import AnyEventLeaf, Told
from backstory.engine.file.buffer import Buffers
from backstory.engine.file.kernel import kernel

_EVERY = np.empty(0, bool)
_AGES = np.iinfo(np.int64)


class CompiledFeed:
    """In one pass. What it returns lies in its own buffers, until it is asked again."""

    def __init__(self) -> None:
        self._buffers = Buffers()

    def leaf(self, leaf: AnyEventLeaf, told: Told) -> Fed:
        column = leaf.column
        fed = self._room(column, len(told.people))
        count = 0
        for cells, base, rows in column.memory(told.people):
            some = (told.people[rows], told.times_us[rows], _mask(told, rows))
            into = (fed.people[count:], fed.before[count:], fed.after[count:])
            match leaf:
                case CountLeaf():
                    low_us = _AGES.min if leaf.from_us is None else leaf.from_us
                    # No time is as late as the last of these numbers.
                    high_us = _AGES.max if leaf.to_us is None else leaf.to_us
                    count += _count(*some, low_us, high_us, leaf.cap, cells, base, *into)
                case WindowLeaf(keep=1):
                    count += _latest(*some, SHIFT_US, cells, base, *into)
                case WindowLeaf():
                    count += _newest(*some, SHIFT_US, cells, base, *into)
                case _:
                    assert_never(leaf)
        fed = Fed(fed.people[:count], fed.before[:count], fed.after[:count])
        column.touched(fed.people)
        if isinstance(leaf, CountLeaf):
            leaf.undate(fed.people)
        return fed

    def _room(self, column: Column, rows: int) -> Fed:
        """Room for what is told of so many rows."""
        shape = (rows, column.width) if column.width > 1 else (rows,)
        cells = rows * column.width
        before, after = (self._buffers.array(f"{name} {column.dtype}", cells, column.dtype) for name in ("was", "is"))
        return Fed(self._buffers.array("people", rows, np.uint32), before.reshape(shape), after.reshape(shape))

    def known(self, newest: Newest, known: KnownSince, told: Told) -> People:
        people, count = told.people, 0
        found = self._buffers.array("known", len(people), np.uint32)
        newest.column.touched(people)
        # Both columns hold one number of the same size for each person: their memory is cut alike.
        both = zip(newest.column.memory(people), known.column.memory(people), strict=True)
        for (newest_cells, base, rows), (known_cells, _, _) in both:
            some = (people[rows], told.times_us[rows], _mask(told, rows))
            count += _known(*some, SHIFT_US, newest_cells, known_cells, base, found[count:])
        known.column.touched(found[:count])
        return found[:count]


def _mask(told: Told, rows: slice) -> Truth:
    return _EVERY if told.mask is None else told.mask[rows]


@kernel
def _count(people, times_us, mask, low_us, high_us, cap, cells, base, who, before, after):
    """Count events from ``low_us`` up to, not including, ``high_us``; returns of how many people that changed it."""
    found, row, rows, every = 0, 0, len(people), len(mask) == 0
    while row < rows:
        person, count = people[row], 0
        while row < rows and people[row] == person:
            if (every or mask[row]) and low_us <= times_us[row] < high_us:
                count += 1
            row += 1
        held = np.int64(cells[person - base])
        if count and held < cap:
            holds = min(held + count, cap)
            cells[person - base] = holds
            who[found], before[found], after[found] = person, held, holds
            found += 1
    return found


@kernel
def _latest(people, times_us, mask, shift_us, cells, base, who, before, after):
    """Keep the newest time of each person."""
    found, row, rows, every = 0, 0, len(people), len(mask) == 0
    while row < rows:
        person, last = people[row], -1
        while row < rows and people[row] == person:
            if every or mask[row]:
                last = row
            row += 1
        if last >= 0:
            held, stored = cells[person - base], times_us[last] + shift_us
            if stored > held:
                cells[person - base] = stored
                who[found], before[found], after[found] = person, held, stored
                found += 1
    return found


@kernel
def _newest(people, times_us, mask, shift_us, cells, base, who, before, after):
    """Keep the newest times of each person, the newest first."""
    found, row, rows, every, keep = 0, 0, len(people), len(mask) == 0, cells.shape[1]
    while row < rows:
        person, first = people[row], row
        while row < rows and people[row] == person:
            row += 1
        at, changed = person - base, False
        for back in range(row - 1, first - 1, -1):
            if not (every or mask[back]):
                continue
            stored = times_us[back] + shift_us
            if stored <= cells[at, keep - 1]:
                # The others are older still.
                break
            if not changed:
                changed = True
                who[found] = person
                for rank in range(keep):
                    before[found, rank] = cells[at, rank]
            rank = keep - 1
            while rank > 0 and cells[at, rank - 1] < stored:
                cells[at, rank] = cells[at, rank - 1]
                rank -= 1
            cells[at, rank] = stored
        if changed:
            for rank in range(keep):
                after[found, rank] = cells[at, rank]
            found += 1
    return found


@kernel
def _known(people, times_us, mask, shift_us, newest, known, base, who):
    """Keep the newest time of each person and the earliest; returns how many are known for longer by it."""
    found, row, rows, every = 0, 0, len(people), len(mask) == 0
    while row < rows:
        person, first, last = people[row], -1, -1
        while row < rows and people[row] == person:
            if every or mask[row]:
                last = row
                if first < 0:
                    first = row
            row += 1
        if last >= 0:
            at, first_us = person - base, times_us[first] + shift_us
            newest[at] = max(newest[at], times_us[last] + shift_us)
            if known[at] == 0 or first_us < known[at]:
                known[at] = first_us
                who[found] = person
                found += 1
    return found
