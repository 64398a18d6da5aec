"""Documents of the people written last, as they are stored: neither a page nor what stands in it has to be read again.

Most calls are about people who were there a moment ago, and most of them say again what was said before. So of each
it is known, too, which attributes were written last and when, as long as nothing else was written since. What is here
is in ``state.db`` as well, in the same transaction: to forget it costs time and nothing else.
"""

from collections import OrderedDict
from hashlib import sha256
from typing import NamedTuple

# What all of them may take, and about what one does beside its bytes.
RECENT_BYTES = 32 << 20
ENTRY_BYTES = 300


class Recent(NamedTuple):
    """A document; ``said`` is the ``mark`` of the attributes that were written last, at ``said_us``; None: unknown.

    It is there only where writing them once more, later, would change nothing but times (``core.person``).
    """

    body: bytes
    said: bytes | None = None
    said_us: int = 0


def mark(attributes: bytes) -> bytes:
    """What stands for some attributes as they were sent: no others have it, and it is short."""
    return sha256(attributes, usedforsecurity=False).digest()


class RecentDocuments:
    """Bounded by bytes: who was neither written nor read for longest goes first."""

    def __init__(self, bytes_max: int = RECENT_BYTES) -> None:
        self._bytes_max = bytes_max
        self._held: OrderedDict[int, Recent] = OrderedDict()
        self.size_bytes = 0

    def get(self, person: int) -> Recent | None:
        found = self._held.get(person)
        if found is not None:
            self._held.move_to_end(person)
        return found

    def put(self, person: int, recent: Recent) -> None:
        """In the place of what was known of this person."""
        self.drop(person)
        self._held[person] = recent
        self.size_bytes += ENTRY_BYTES + len(recent.body)
        while self.size_bytes > self._bytes_max:
            self.drop(next(iter(self._held)))

    def drop(self, person: int) -> None:
        """The document is another one now, or there is none any more."""
        before = self._held.pop(person, None)
        if before is not None:
            self.size_bytes -= ENTRY_BYTES + len(before.body)

    def clear(self) -> None:
        self._held.clear()
        self.size_bytes = 0
