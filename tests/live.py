"""A real workspace on a clock that stands still, without threads: whoever calls does the work."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from backstory.core.condition import Json
from backstory.core.fact import Fact, Identifier, Identify, PutSegment, Receipt, Track
from backstory.engine.clock import ManualClock
from backstory.engine.workspace import Workspace, open_workspace

NOW_US = 1_717_243_200_000_000


class Live:
    """Shorthands for tests; times are microseconds, people are named by their id."""

    def __init__(self, path: Path, *, now_us: int = NOW_US) -> None:
        self.path = path
        self.clock = ManualClock(now_us)
        self.workspace = self._open()

    def _open(self) -> Workspace:
        workspace = open_workspace(self.path, clock=self.clock, threads=False)
        workspace.loop.turn()
        workspace.builder.work_off()
        return workspace

    def crash_and_wait(self) -> None:
        """Memory is gone, the files stay, and what was being built waits until somebody works it off."""
        self.workspace.folder.close()
        self.workspace = open_workspace(self.path, clock=self.clock, threads=False)

    @property
    def now_us(self) -> int:
        return self.clock.now_us()

    def close(self) -> None:
        self.workspace.close()

    def reopen(self) -> None:
        """A clean restart."""
        self.workspace.close()
        self.workspace = self._open()

    def crash(self) -> None:
        """Memory is gone, the files stay."""
        self.workspace.folder.close()
        self.workspace = self._open()

    def send(self, *facts: Fact) -> list[Receipt]:
        return self.workspace.apply(list(facts))

    def identify(self, person: str, time_us: int | None = None, **attributes: Json) -> Receipt:
        fact = Identify(person=Identifier("id", person), attributes=msgspec.json.encode(attributes), time_us=time_us)
        return self.send(fact)[0]

    def track(
        self, person: str, name: str, time_us: int | None = None, *, event_id: str | None = None, **data: Json
    ) -> Receipt:
        fact = Track(
            person=Identifier("id", person),
            name=name,
            data=msgspec.json.encode(data),
            time_us=time_us,
            event_id=event_id,
        )
        return self.send(fact)[0]

    def segment(self, conditions: Json, *, segment_id: int | None = None, build: bool = True) -> int:
        """Make or edit a segment (None: a manual one); returns its number."""
        body = None if conditions is None else msgspec.json.encode(conditions)
        (receipt,) = self.send(PutSegment(name="some", segment_id=segment_id, conditions=body))
        assert receipt.subject is not None, receipt
        if build:
            self.workspace.builder.work_off()
        return receipt.subject

    def members(self, segment_id: int) -> set[str]:
        found, _ = self.workspace.reader.members(segment_id, start="", limit=1000)
        return {identity["id"] or "" for identity in found}

    def advance(self, by_us: int) -> None:
        """Time passes in one go."""
        self.clock.advance(by_us)
        self.workspace.loop.turn()

    def transitions(self, segment_id: int) -> list[tuple[int, bool, int, int]]:
        """(person, entered, effective time, time) in the order in which they were recorded."""
        rows = self.workspace.folder.state.rows(
            "SELECT person, entered, effective_us, at_us FROM transition WHERE segment_id = ? ORDER BY seq",
            (segment_id,),
        )
        return [(row[0], bool(row[1]), row[2], row[3]) for row in rows]


@contextmanager
def live_worlds(*names: str, now_us: int = NOW_US) -> Iterator[tuple[list[Live], Path]]:
    """Workspaces beside each other and the folder they lie in, which goes with them: for tests that draw examples."""
    folder = Path(tempfile.mkdtemp(prefix="backstory-worlds-"))
    worlds: list[Live] = []
    try:
        worlds += [Live(folder / name, now_us=now_us) for name in names]
        yield worlds, folder
    finally:
        for world in worlds:
            world.close()
        shutil.rmtree(folder)
