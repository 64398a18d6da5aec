"""How far the build of a segment is, in the published words (semantics section 5.1)."""

from dataclasses import dataclass
from typing import Literal

State = Literal["events_queued", "events", "build_queued", "build"]
EVENTS_QUEUED: State = "events_queued"
EVENTS: State = "events"
BUILD_QUEUED: State = "build_queued"
BUILD: State = "build"


@dataclass(slots=True)
class Progress:
    """``done`` of ``total`` pieces; never all of them, as then it is finished."""

    state: State
    done: int = 0
    total: int = 1

    @property
    def percent(self) -> int:
        return min(99, 100 * self.done // max(self.total, 1))
