"""Where the events of the tail lie, by key and by person, and its attribute writes: in memory, read at the start.

New events lie in dictionaries, if they came by themselves, and bursts as the arrays they came in. Some thousands of
them become a *run*, sorted both ways, and small runs become larger ones, so that there are never more than a few.
What was moved into parts or taken out may be named by a run for a while: whoever reads the rows finds nothing there.

An index in the database would cost more than all the rest of an event: a page for each, and another when it leaves.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from backstory.core.event import Event

# Stands in place of the person of an event that is no longer here.
_NOBODY = np.uint32(0xFFFFFFFF)
# A run rests when it is so many times as large as the next one.
RATIO = 2
RESTORED_ROWS = 100_000
# Blocks without keys grow to so many rows: each is looked through by itself.
JOINED_ROWS = 512
# From so many on, people are looked for in each block at once.
MANY_PEOPLE = 4

People = NDArray[np.uint32]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Live events that count, in the order of their seqs: their people, and keys, ascending, with their places."""

    seqs: Numbers
    people: People
    keys: Numbers
    keyed: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Events by person, and those that have a key by it; ``last_seq`` is the newest."""

    last_seq: int
    people: People
    seqs: Numbers
    keys: Numbers
    key_people: People
    key_seqs: Numbers

    @classmethod
    def of(cls, seqs: Numbers, people: People, keys: Numbers, key_people: People, key_seqs: Numbers) -> Self:
        """Columns in any order, not empty."""
        order, by_key = np.argsort(people, kind="stable"), np.argsort(keys, kind="stable")
        return cls(
            last_seq=int(seqs.max()),
            people=people[order],
            seqs=seqs[order],
            keys=keys[by_key],
            key_people=key_people[by_key],
            key_seqs=key_seqs[by_key],
        )

    @classmethod
    def joined(cls, runs: Sequence["Run"]) -> "Run":
        return Run.of(
            np.concatenate([run.seqs for run in runs]),
            np.concatenate([run.people for run in runs]),
            np.concatenate([run.keys for run in runs]),
            np.concatenate([run.key_people for run in runs]),
            np.concatenate([run.key_seqs for run in runs]),
        )

    def of_person(self, person: int) -> list[int]:
        # Of the same type, or the whole column would be copied.
        who = np.uint32(person)
        low, high = int(self.people.searchsorted(who)), int(self.people.searchsorted(who, side="right"))
        found: list[int] = self.seqs[low:high].tolist()
        return found

    def of_key(self, key: int, person: int) -> list[int]:
        low = int(self.keys.searchsorted(np.int64(key)))
        high = int(self.keys.searchsorted(np.int64(key), side="right"))
        found: list[int] = self.key_seqs[low:high][self.key_people[low:high] == person].tolist()
        return found


class TailIndex:
    """Filled on the loop's thread; ``of_person`` may be asked from any."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        self._people: dict[int, list[Event]] = {}
        self._blocks: list[Block] = []
        self._runs: tuple[Run, ...] = ()
        # How many lie here by themselves, and how many in blocks.
        self.single = 0
        self.together = 0

    # -- filling ------------------------------------------------------------------------------------------------------

    def restore(self, rows: sqlite3.Cursor) -> None:
        """Take all there is: rows of (seq, person, key)."""
        while some := rows.fetchmany(RESTORED_ROWS):
            keyed = [row for row in some if row[2] is not None]
            run = Run.of(
                np.array([row[0] for row in some], np.int64),
                np.array([row[1] for row in some], np.uint32),
                np.array([row[2] for row in keyed], np.int64),
                np.array([row[1] for row in keyed], np.uint32),
                np.array([row[0] for row in keyed], np.int64),
            )
            self._runs = rested((*self._runs, run))

    @property
    def rows(self) -> int:
        """How many events are here; some may be gone already."""
        return self.single + self.together + sum(len(run.seqs) for run in self._runs)

    def run_keys(self) -> list[Numbers]:
        """The keys of all runs."""
        return [run.keys for run in self._runs]

    def put(self, event: Event) -> None:
        self.single += 1
        self._people.setdefault(event.person, []).append(event)
        if event.key is not None:
            self._keys.setdefault((event.key, event.person), []).append((event.import_id, event.duplicate))

    def put_block(self, block: Block) -> None:
        self.together += len(block.seqs)
        self._blocks.append(block)

    def put_unkeyed(self, seqs: Sequence[int], people: Sequence[int]) -> None:
        """Rows without keys; where few come at a time, they join those before them."""
        nothing = np.empty(0, np.int64)
        self.together += len(seqs)
        block = Block(seqs=_numbers(seqs), people=_people(people), keys=nothing, keyed=nothing)
        last = self._blocks[-1] if self._blocks else block
        if last is not block and len(last.seqs) + len(seqs) <= JOINED_ROWS:
            self._blocks[-1] = Block(
                seqs=np.concatenate([last.seqs, block.seqs]),
                people=np.concatenate([last.people, block.people]),
                keys=nothing,
                keyed=nothing,
            )
        else:
            self._blocks.append(block)

    def gather(self) -> None:
        """Make a run of what is new."""
        singles = [event for events in self._people.values() for event in events]
        keyed = [event for event in singles if event.key is not None]
        blocks = self._blocks
        if singles or blocks:
            run = Run.of(
                np.concatenate([_numbers([one.seq for one in singles]), *(block.seqs for block in blocks)]),
                np.concatenate([_people([one.person for one in singles]), *(block.people for block in blocks)]),
                np.concatenate([_numbers([one.key for one in keyed]), *(block.keys for block in blocks)]),
                np.concatenate(
                    [_people([one.person for one in keyed]), *(block.people[block.keyed] for block in blocks)]
                ),
                np.concatenate([_numbers([one.seq for one in keyed]), *(block.seqs[block.keyed] for block in blocks)]),
            )
            self._runs = rested((*self._runs, run))
        # Others who read meanwhile find everything once at least: they look here first.
        self._keys, self._people, self._blocks = {}, {}, []
        self.single = self.together = 0

    def let_go(self, seq: int) -> None:
        """Events up to a seq are no longer in the tail."""
        self.gather()
        self._runs = tuple(run for run in self._runs if run.last_seq > seq)

    def drop(self, person: int) -> None:
        """Somebody's events are not in the tail any more."""
        for key in [key for key in self._keys if key[1] == person]:
            del self._keys[key]
        self._people.pop(person, None)
        for block in self._blocks:
            block.people[block.people == person] = _NOBODY

    def clear(self) -> None:
        self._keys, self._people, self._blocks, self._runs = {}, {}, [], ()
        self.single = self.together = 0

    # -- asking -------------------------------------------------------------------------------------------------------

    def new_by_key(self, key: int, person: int) -> list[tuple[int, bool, int]]:
        """Events with this key that are in no run yet: (import id, duplicate, how many)."""
        found = [(import_id, duplicate, 1) for import_id, duplicate in self._keys.get((key, person), ())]
        for block in self._blocks:
            low = int(block.keys.searchsorted(np.int64(key)))
            while low < len(block.keys) and block.keys[low] == key:
                if block.people[block.keyed[low]] == person:
                    found.append((0, False, 1))
                low += 1
        return found

    def by_key(self, key: int, person: int) -> list[int]:
        """The seqs of the others, as far as they are still there."""
        return [seq for run in self._runs for seq in run.of_key(key, person)]

    def of_person(self, person: int) -> list[int]:
        """The seqs of somebody's events, as far as they are still there; some more than once."""
        new = [event.seq for event in tuple(self._people.get(person, ()))]
        new += [seq for block in tuple(self._blocks) for seq in block.seqs[block.people == person].tolist()]
        return new + [seq for run in self._runs for seq in run.of_person(person)]

    def of_people(self, people: Sequence[int]) -> list[int]:
        """The same of many, ascending."""
        if len(people) < MANY_PEOPLE:
            return sorted({seq for person in people for seq in self.of_person(person)})
        who = np.array(people, np.uint32)
        single = [event.seq for person in people for event in self._people.get(person, ())]
        blocks = [block.seqs[np.isin(block.people, who)] for block in self._blocks]
        runs = [seq for run in self._runs for person in people for seq in run.of_person(person)]
        found: list[int] = np.unique(np.concatenate([_numbers(single), _numbers(runs), *blocks])).tolist()
        return found


def rested(runs: tuple[Run, ...]) -> tuple[Run, ...]:
    """Runs, oldest first, of which each is a few times as large as the next."""
    at = len(runs) - 1
    rows = len(runs[at].seqs)
    while at and len(runs[at - 1].seqs) < RATIO * rows:
        at -= 1
        rows += len(runs[at].seqs)
    return runs if at == len(runs) - 1 else (*runs[:at], Run.joined(runs[at:]))


def _numbers(values: Sequence[int | None]) -> Numbers:
    return np.array(values, np.int64)


def _people(values: Sequence[int]) -> People:
    return np.array(values, np.uint32)
