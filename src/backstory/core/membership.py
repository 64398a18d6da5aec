"""Memberships: who is in a segment, who is to be when its build is complete, and that somebody entered or left.

Knows neither leaves nor how a segment is judged.
"""

from dataclasses import dataclass, field

from pyroaring import BitMap

from backstory.core.condition import Condition
from backstory.core.judge import Judge, JudgeMany


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

    While it is ``building``, ``members`` are those of before. ``incoming`` are the members to be, once all that the
    condition asks for is known: they are judged in steps, and facts that come in between move them.
    """

    segment_id: int
    condition: Condition | None
    members: BitMap = field(default_factory=BitMap)
    judge: Judge | None = None
    judge_many: JudgeMany | None = None
    building: bool = False
    incoming: BitMap | None = None


def place(members: BitMap, person: int, member: bool) -> None:
    """Put a person in, or take them out."""
    if member:
        members.add(person)
    else:
        members.discard(person)
