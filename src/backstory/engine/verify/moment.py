"""One moment of a running workspace: what it keeps in memory, with its now and the last seq, taken in one piece."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
from pyroaring import BitMap

from backstory.core.condition import Condition, events_in, parse
from backstory.core.error import StorageError
from backstory.store.definition import read_segments

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

T = TypeVar("T")
QUIET_S = 60.0
PAUSE_S = 0.01
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Memberships as they were at ``now_us``, after the facts up to ``seq``.

    ``members`` are those in memory, of every segment; ``conditions`` and ``manual`` what is stored of dynamic and of
    manual segments; ``unbuilt`` those whose members cannot be told yet. ``accepted`` and ``applied`` are positions,
    ``backlog`` is how many facts wait between them.
    """

    now_us: int
    seq: int
    next_person: int
    alive: BitMap
    members: dict[int, BitMap]
    conditions: dict[int, Condition]
    manual: dict[int, frozenset[int]]
    unbuilt: frozenset[int]
    accepted: int
    applied: int
    backlog: int

    def segments(self) -> Mapping[int, Condition | frozenset[int]]:
        """As the oracle wants them."""
        return {**self.conditions, **self.manual}

    def judged(self) -> dict[int, Condition]:
        """The dynamic segments whose members can be told."""
        return {number: one for number, one in self.conditions.items() if number not in self.unbuilt}

    def names(self) -> frozenset[tuple[str, str]]:
        """The (kind, name) of all events that conditions ask for."""
        return frozenset(pair for condition in self.conditions.values() for pair in events_in(condition))


def take_moment(workspace: "Workspace") -> Moment:
    """The present moment; raises ``StorageError`` when the engine has stopped or never rests."""
    return when_quiet(workspace, lambda: read_moment(workspace))


def when_quiet(workspace: "Workspace", take: Callable[[], T]) -> T:
    """Run ``take`` on the loop at a time when no import is telling leaves what it has committed already."""
    deadline_s = time.monotonic() + QUIET_S
    while time.monotonic() < deadline_s:
        found: list[T] = workspace.call(lambda: [] if workspace.checkpoint.held else [take()])
        if found:
            return found[0]
        time.sleep(PAUSE_S)
    raise StorageError("imports do not let memberships rest: verify again when they have ended")


def read_moment(workspace: "Workspace") -> Moment:
    """On the loop: the moment it is."""
    folder, engine = workspace.folder, workspace.segments
    rows = read_segments(folder.state.db)
    unbuilt = {number for number, kept in engine.segments.items() if kept.building}
    return Moment(
        now_us=folder.state.now_us,
        seq=folder.state.next_seq - 1,
        next_person=folder.state.next_person,
        alive=BitMap(engine.alive),
        members={number: BitMap(kept.members) for number, kept in engine.segments.items()},
        conditions={row.segment_id: parse(_decode(row.conditions)) for row in rows if row.conditions is not None},
        manual={
            row.segment_id: frozenset(folder.definitions.members(row.segment_id))
            for row in rows
            if row.conditions is None
        },
        unbuilt=frozenset(engine.closure(unbuilt)),
        accepted=folder.journal.position(),
        applied=folder.state.position,
        backlog=workspace.loop.backlog,
    )
