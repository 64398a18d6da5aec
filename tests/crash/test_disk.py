"""A disk that fails: every write of every store in turn. What was accepted is there after the next start, once."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backstory.core.error import BackstoryError, Busy, StorageError
from backstory.core.fact import ChangeMembers, DeletePerson, Fact, Identifier, Identify, PutSegment, Receipt, Track
from backstory.core.time import HOUR_US, SECOND_US
from backstory.engine.clock import SystemClock
from backstory.engine.workspace import open_workspace
from tests.live import NOW_US, Live

NEVER = 1 << 60
WRITES = ("INSERT", "UPDATE", "DELETE", "BEGIN", "COMMIT", "CREATE")


class Disk:
    """Fails at the write numbered ``fails_at`` (and at all after it, if ``broken``), or at writes of one sort."""

    def __init__(self) -> None:
        self.heal()

    def heal(self) -> None:
        self.writes = 0
        self.fails_at = NEVER
        self.broken = True
        self.fails_on = "nothing"

    def write(self, sql: str) -> None:
        if sql.lstrip().startswith(WRITES):
            self.writes += 1
            late = self.writes >= self.fails_at if self.broken else self.writes == self.fails_at
            if late or sql.startswith(self.fails_on):
                raise sqlite3.OperationalError("disk I/O error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Every connection opened from now on is on this disk."""
    disk = Disk()
    real: Callable[..., sqlite3.Connection] = sqlite3.connect

    class OnDisk(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            disk.write(sql)
            return super().execute(sql, *parameters)

        def executemany(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            disk.write(sql)
            return super().executemany(sql, *parameters)

    def connect(database: str, **options: Any) -> sqlite3.Connection:
        return real(database, **options, **({} if "mode=ro" in database else {"factory": OnDisk}))

    monkeypatch.setattr(sqlite3, "connect", connect)
    return disk


def came(person: str, number: int, age_s: int = 0) -> Track:
    return Track(
        person=Identifier("id", person), name="came", event_id=f"e{number}", time_us=NOW_US - age_s * SECOND_US
    )


def chapters() -> list[list[Fact]]:
    """Batches that use every store: people, events, repetitions, definitions, manual members, deletion."""
    return [
        [PutSegment(name="came", conditions=b'{"event":{"name":"came","within":{"last_s":60}}}')],
        [PutSegment(name="hand-picked")],
        [came("ann", 1), came("bob", 2, 50), came("ann", 3, 70)],
        [Identify(person=Identifier("id", "ann"), attributes=b'{"plan":"pro"}', time_us=NOW_US - HOUR_US)],
        [Identify(person=Identifier("id", "cleo"), body_email="cleo@x.org"), came("ann", 1)],
        [ChangeMembers(segment_id=2, people=(Identifier("id", "ann"), Identifier("id", "cleo")), add=True)],
        [came("dora", 4, -30), DeletePerson(person=Identifier("id", "bob"))],
    ]


def live_through(live: Live, accepted: list[list[Fact]]) -> None:
    """Send everything, store some leaves each time, let time pass at the end."""
    for batch in chapters():
        live.workspace.submit(batch, on_accept=lambda facts=batch: accepted.append(facts), on_error=fail)
        live.workspace.loop.turn()
        live.workspace.builder.work_off()
        live.workspace.call(live.workspace.applier.checkpoint_some)
    live.advance(15 * SECOND_US)


def fail(error: BackstoryError) -> None:
    raise error


def everything(live: Live) -> dict[str, Any]:
    """What is true, by names; not when it was accepted."""
    live.workspace.loop.turn()
    live.workspace.builder.work_off()
    state, reader = live.workspace.folder.state, live.workspace.reader
    names = dict(state.rows("SELECT person, id FROM person UNION SELECT person, id FROM deleted"))
    views = {name: reader.person("id", name) for name in sorted(names.values())}
    rows = state.rows("SELECT person, event_id, time_us, duplicate FROM event ORDER BY seq")
    return {
        "people": {name: (view.email, view.attributes) for name, view in views.items() if view is not None},
        "events": [(names[row[0]], *row[1:]) for row in rows],
        "members": {number: live.members(number) for number in live.workspace.segments.segments},
        "transitions": state.rows("SELECT segment_id, person, entered FROM transition ORDER BY seq"),
        "position": state.position,
    }


def without_fault(path: Path, accepted: int) -> dict[str, Any]:
    """What is true on a good disk after the first so many batches."""
    live = Live(path)
    for batch in chapters()[:accepted]:
        live.send(*batch)
        live.workspace.builder.work_off()
    live.advance(15 * SECOND_US)
    found = everything(live)
    live.close()
    return found


def until_it_fails(path: Path) -> int:
    """Live on the failing disk, which has to be noticed; returns how many batches were accepted."""
    accepted: list[list[Fact]] = []
    live: Live | None = None
    try:
        live = Live(path)
        live_through(live, accepted)
        live.close()
    except StorageError:
        if live is not None:
            live.workspace.folder.close()
        return len(accepted)
    raise AssertionError("nobody noticed")


@pytest.mark.crash
@pytest.mark.parametrize(("broken", "step"), [(True, 1), (False, 5)], ids=["from then on", "once"])
def test_every_write_failing_in_turn(tmp_path: Path, disk: Disk, broken: bool, step: int) -> None:
    """Whichever write fails: it is told, and the next start finds all that was accepted, and that once."""
    counted = Live(tmp_path / "counted")
    live_through(counted, [])
    counted.close()
    total = disk.writes
    assert total > 100
    disk.heal()
    expected = [without_fault(tmp_path / f"good-{number}", number) for number in range(len(chapters()) + 1)]
    for fails_at in range(1, total + 1, step):
        disk.heal()
        disk.fails_at, disk.broken = fails_at, broken
        accepted = until_it_fails(tmp_path / str(fails_at))
        disk.heal()
        healed = Live(tmp_path / str(fails_at), now_us=NOW_US + 15 * SECOND_US)
        assert everything(healed) == expected[accepted], fails_at
        healed.close()


@pytest.mark.crash
def test_an_engine_on_a_failing_disk_tells_everybody(tmp_path: Path, disk: Disk) -> None:
    """With threads: who waits gets an error, who comes later is refused, closing works, and the next start is whole."""
    workspace = open_workspace(tmp_path / "default", clock=SystemClock())
    workspace.apply([came("ann", 1)])
    told = threading.Event()
    accepted: list[int] = []
    errors: list[BackstoryError] = []

    def on_error(error: BackstoryError) -> None:
        errors.append(error)
        told.set()

    disk.fails_on = "INSERT INTO person"
    workspace.submit(
        [came("bob", 2)], on_accept=lambda: accepted.append(2), on_applied=fail_if_applied, on_error=on_error
    )
    assert told.wait(30)
    assert accepted == [2]
    assert isinstance(errors[0], StorageError)
    assert not workspace.healthy
    with pytest.raises((StorageError, Busy)):
        workspace.submit([came("cleo", 3)], on_error=on_error)
    with pytest.raises(StorageError):
        workspace.call(lambda: None)
    workspace.close()
    disk.heal()
    healed = open_workspace(tmp_path / "default", clock=SystemClock(), threads=False)
    assert [row[0] for row in healed.folder.state.rows("SELECT event_id FROM event ORDER BY seq")] == ["e1", "e2"]
    healed.close()


def fail_if_applied(receipts: list[Receipt]) -> None:
    raise AssertionError(f"{receipts} were told though nothing was committed")
