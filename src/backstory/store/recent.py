"""Recent events: those of the tail that no index of ``state.db`` knows yet, by key and by person, in memory.

Single ones lie in dictionaries, bursts as the arrays they came in: putting those into dictionaries would cost more than
the few questions that are asked of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from backstory.core.event import Event

# Stands in place of the person of an event that is no longer here.
_NOBODY = np.uint32(0xFFFFFFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Live events that count, in the order of their seqs: their people, and keys, ascending, with their places."""

    seqs: NDArray[np.int64]
    people: NDArray[np.uint32]
    keys: NDArray[np.int64]
    keyed: NDArray[np.int64]


class RecentEvents:
    """Emptied whenever the indexes are brought up to date."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        self._people: dict[int, list[Event]] = {}
        self._blocks: list[Block] = []
        # How many lie here by themselves, and how many in blocks.
        self.single = 0
        self.together = 0

    def put(self, event: Event) -> None:
        self.single += 1
        self._people.setdefault(event.person, []).append(event)
        if event.key is not None:
            self._keys.setdefault((event.key, event.person), []).append((event.import_id, event.duplicate))

    def put_block(self, block: Block) -> None:
        self.together += len(block.seqs)
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
        """Somebody's events that lie here by themselves, those that repeat others too."""
        return self._people.get(person, [])

    def in_blocks(self, person: int) -> list[int]:
        """The seqs of somebody's other events."""
        return [seq for block in self._blocks for seq in block.seqs[block.people == person].tolist()]

    def let_go(self, seq: int) -> None:
        """Events up to a seq are no longer in the tail; their keys are asked for elsewhere too."""
        for events in self._people.values():
            events[:] = [event for event in events if event.seq > seq]
        for block in self._blocks:
            block.people[block.seqs <= seq] = _NOBODY

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
        self.single = self.together = 0
