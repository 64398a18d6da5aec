"""Memberships: who is in a segment, who is to be when its build is complete, and that somebody entered or left.

Knows neither leaves nor how a segment is judged.
"""

import struct
from dataclasses import dataclass, field

import numpy as np
from pyroaring import BitMap

from backstory.core.column import Truth
from backstory.core.condition import Condition
from backstory.core.judge import Judge, JudgeMany

# Cookie, number of containers, key, people less one, where the container begins.
_CONTAINER = struct.Struct("<IIHHI")
_NO_RUNS = 12346
_SPARSE_MAX = 4096


@dataclass(frozen=True, slots=True)
class Transition:
    """A person entered or left a segment at ``at_us``."""

    segment_id: int
    person: int
    entered: bool
    at_us: int


@dataclass(slots=True)
class Kept:
    """A segment as the engine keeps it; ``condition`` None for a manual one.

    While it is ``building``, ``members`` are those of before, and whom facts have moved since. ``incoming`` are the
    members to be, once all that the condition asks for is known: they are judged in steps, those below
    ``judged_below`` are. Of the ``touched`` a fact told something before they were judged: it may be what moves them.
    Of the ``imported`` an import told something meanwhile.
    """

    segment_id: int
    condition: Condition | None
    members: BitMap = field(default_factory=BitMap)
    judge: Judge | None = None
    judge_many: JudgeMany | None = None
    building: bool = False
    incoming: BitMap | None = None
    judged_below: int = 0
    touched: BitMap = field(default_factory=BitMap)
    imported: BitMap = field(default_factory=BitMap)

    def begin(self, condition: Condition | None, *, building: bool) -> None:
        """From now on it is this condition that is asked."""
        self.condition, self.building = condition, building
        self.incoming, self.judged_below = None, 0
        self.touched, self.imported = BitMap(), BitMap()

    def told(self, person: int, now_us: int, *, importing: bool = False) -> bool:
        """Something was told of a person, by an import or not, while the segment is built; are they in it from now on?

        Whom it moves by the new condition is where that condition has them at once; everybody else stays until it is
        known of all.
        """
        assert self.judge is not None
        if self.incoming is not None and person < self.judged_below:
            before, after = person in self.incoming, self.judge(person, now_us)
            place(self.incoming, person, after)
            return after if before != after else person in self.members
        (self.imported if importing else self.touched).add(person)
        if self.incoming is not None:
            place(self.incoming, person, self.judge(person, now_us))
        return person in self.members

    def moved_by_facts(self) -> BitMap:
        """Whom facts may have moved, of those whom the build moves.

        Who was first, where an import told something of the same person, nobody knows: it is the import's, which may
        have been asked to start nothing.
        """
        assert self.incoming is not None
        return (self.touched - self.imported) & (self.incoming ^ self.members)

    def forget(self, person: int) -> None:
        """The person is gone: in none of these."""
        self.touched.discard(person)
        self.imported.discard(person)
        if self.incoming is not None:
            self.incoming.discard(person)


def page_members(number: int, inside: Truth) -> BitMap:
    """The people of a page (65,536 numbers from ``number`` times as many on) who are inside: made at once.

    It is the portable form of one container (https://github.com/RoaringBitmap/RoaringFormatSpec): the set bits of a
    dense page, the numbers of a sparse one.
    """
    count = int(np.count_nonzero(inside))
    if not count:
        return BitMap()
    dense = count > _SPARSE_MAX
    body = np.packbits(inside, bitorder="little") if dense else np.flatnonzero(inside).astype("<u2")
    return BitMap.deserialize(_CONTAINER.pack(_NO_RUNS, 1, number, count - 1, _CONTAINER.size) + body.tobytes())


def place(members: BitMap, person: int, member: bool) -> None:
    """Put a person in, or take them out."""
    if member:
        members.add(person)
    else:
        members.discard(person)
