"""What a person inherits from somebody merged into them: values where they have none, events they do not have yet.

The winner is always the survivor (``docs/decisions/0016-merging-people.md``). Source: semantics section 1.6.
"""

from collections import Counter
from collections.abc import Sequence

from backstory.core.event import Event
from backstory.core.person import Document, Register, register, shown

# How many rows with one key a source brought: (import id, counted as duplicate, how many).
KeyCount = tuple[int, bool, int]


def inherited(
    survivor: Document, other: Document, *, registers_max: int
) -> tuple[set[str], dict[str, Register], list[str]]:
    """What becomes of the other's attributes, by the names of whole attributes.

    Returns (those whose writes become the survivor's, values the survivor had lost and has again, those there was no
    room for). An attribute that the survivor has stays as it is. One they never had comes with its history. One they
    had and lost comes as one whole value, dated no earlier than its loss, so that it is what the newest write says.
    """
    moved: set[str] = set()
    regained: dict[str, Register] = {}
    left_out: list[str] = []
    names = set(survivor)
    for root in sorted({root_of(name) for name in other}):
        mine = {name: one for name, one in survivor.items() if root_of(name) == root}
        theirs = {name: one for name, one in other.items() if root_of(name) == root}
        if shown(mine, root) is not None:
            continue
        value = shown(theirs, root)
        comes = {root} if mine and value is not None else set(theirs)
        if len(names | comes) > registers_max:
            left_out.append(root)
            continue
        names |= comes
        if not mine or value is None:
            moved.add(root)
        else:
            latest_us = max(one.time_us for document in (mine, theirs) for one in document.values())
            regained[root] = register(value, latest_us)
    return moved, regained, left_out


def root_of(name: str) -> str:
    """The whole attribute that a name is, or is a path into."""
    return name.partition(".")[0]


def counting(events: Sequence[Event], held: Sequence[KeyCount]) -> list[bool]:
    """Which of the merged person's events with one key still count, beside those the survivor ``held``.

    With an id: the survivor's counts. Without: the multiplicity kept is the maximum over sources, which are now
    counted over both (design section 7).
    """
    kept = sum(count for _, duplicate, count in held if not duplicate)
    if events[0].event_id is not None:
        room = 0 if kept else 1
    else:
        sources = Counter(event.import_id for event in events)
        for import_id, _, count in held:
            sources[import_id] += count
        room = max(sources.values()) - kept
    counts: list[bool] = []
    for event in events:
        counts.append(not event.duplicate and room > 0)
        room -= counts[-1]
    return counts
