"""Who was moved by a fact while a segment was built, and who by the build.

Of those who were told something before the build had judged them, nobody has seen what they were without it. So they
are judged once more, all together, beside the loop, by what was known when the build was asked for: whom the new
condition then has elsewhere, a fact has moved. That counts as any move by a fact, and starts what waits for it.
"""

from dataclasses import dataclass, field

from pyroaring import BitMap

from backstory.core.condition import Condition
from backstory.core.segment import SegmentEngine
from backstory.engine.segment.asof import members_as_of
from backstory.engine.segment.people_in_time import PEOPLE_AT_ONCE, read_people
from backstory.store.folder import Folder
from backstory.store.knowledge import Knowledge


@dataclass(frozen=True, slots=True)
class Resolved:
    """Since when those whom facts have moved are where they are; of everybody else it is the build."""

    since_us: dict[int, int] = field(default_factory=dict[int, int])


def resolve(
    folder: Folder, segments: SegmentEngine, condition: Condition, some: BitMap, inside: BitMap, known_at_us: int
) -> Resolved:
    """Whom facts have moved among these people, of whom those ``inside`` hold the condition now."""
    now_us = folder.state.now_us
    before = members_as_of(folder, segments, condition, now_us, Knowledge(at_us=known_at_us))
    moved = list(some & (before ^ inside))
    since_us: dict[int, int] = {}
    for low in range(0, len(moved), PEOPLE_AT_ONCE):
        for person, history in read_people(folder, segments, moved[low : low + PEOPLE_AT_ONCE]).items():
            found_us, answer = history.since_us(condition, now_us)
            since_us[person] = found_us if answer == (person in inside) else now_us
    return Resolved(since_us)
