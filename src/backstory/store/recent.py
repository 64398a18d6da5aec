"""Recent events: those of the tail that no index of ``state.db`` knows yet, by key and by person, in memory.

Single ones lie in dictionaries, bursts as the arrays they came in: putting those into dictionaries would cost more than
the few questions that are asked of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backstory.core.event import Event

# Stands in place of the person of an event that is no longer here.
_NOBODY = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Live events that count, in the order of their seqs: fields of an event, people, and keys with their rows."""

    rows: Sequence[tuple[Any, ...]]
    people: NDArray[np.uint32]
    keys: NDArray[np.int64]
    keyed: NDArray[np.int64]


class RecentEvents:
    """Emptied whenever the indexes are brought up to date."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        self._people: dict[int, list[Event]] = {}
        self._blocks: list[Block] = []
        self.count = 0

    def put(self, event: Event) -> None:
        self.count += 1
        self._people.setdefault(event.person, []).append(event)
        if event.key is not None:
            self._keys.setdefault((event.key, event.person), []).append((event.import_id, event.duplicate))

    def put_block(self, block: Block) -> None:
        """``keys`` sorted ascending."""
        self.count += len(block.rows)
        self._blocks.append(block)

    def by_key(self, key: int, person: int) -> list[tuple[int, bool, int]]:
        """Events with this key: (import id, duplicate, how many)."""
        found = [(import_id, duplicate, 1) for import_id, duplicate in self._keys.get((key, person), ())]
        for block in self._blocks:
            low = int(block.keys.searchsorted(np.int64(key)))
            while low < len(block.keys) and block.keys[low] == key:
                if block.people[block.keyed[low]] == person:
                    found.append((0, False, 1))
                low += 1
        return found

    def by_person(self, person: int) -> list[Event]:
        """Somebody's events, those that repeat others too."""
        found = list(self._people.get(person, ()))
        for block in self._blocks:
            found += [_event(block.rows[row]) for row in np.nonzero(block.people == person)[0].tolist()]
        return found

    def let_go(self, seq: int) -> None:
        """Events up to a seq are no longer in the tail; their keys are asked for elsewhere too."""
        for events in self._people.values():
            events[:] = [event for event in events if event.seq > seq]
        for block in self._blocks:
            block.people[[row for row, columns in enumerate(block.rows) if columns[0] <= seq]] = _NOBODY

    def drop(self, person: int) -> None:
        """Somebody's events are taken out of the tail."""
        for key in [key for key in self._keys if key[1] == person]:
            del self._keys[key]
        self._people.pop(person, None)
        for block in self._blocks:
            block.people[block.people == person] = _NOBODY

    def clear(self) -> None:
        self._keys.clear()
        self._people.clear()
        self._blocks.clear()
        self.count = 0


def _event(row: tuple[Any, ...]) -> Event:
    return Event(**dict(zip(Event.__struct_fields__, row, strict=True)))
