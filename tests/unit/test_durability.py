"""Accepted means durable: nothing is told before the synced append, and a failing disk leaves nothing half-done."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from backstory.core.error import BackstoryError, StorageError
from backstory.core.fact import Fact, Identifier, Receipt, Track
from backstory.engine.clock import ManualClock
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.database import transaction
from backstory.store.journal import Entry, MemoryJournal, SqliteJournal
from backstory.store.state import State

START_US = 1_700_000_000_000_000
FACTS = 8


def event(number: int) -> Track:
    return Track(person=Identifier("id", f"p{number % 3}"), name="came", event_id=f"e{number}", data=b'{"n":1}')


class Disk(MemoryJournal):
    """A journal that notes when it synced, and fails when told to."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.broken = False

    def append(self, facts: list[Fact], accept_us: int) -> int:
        if self.broken:
            raise StorageError("no space left on device")
        position = super().append(facts, accept_us)
        self.notes.append("synced")
        return position


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def workspace(tmp_path: Path, disk: Disk) -> Iterator[Workspace]:
    opened = open_workspace(tmp_path / "w", clock=ManualClock(START_US), journal=disk, threads=False)
    yield opened
    opened.close()


def test_the_journal_syncs_each_commit(tmp_path: Path) -> None:
    """SQLite is asked for a write-ahead log that is synced before a commit returns."""
    journal = SqliteJournal(tmp_path / "journal.db")
    db = journal._db  # pyright: ignore[reportPrivateUsage]
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)
    journal.close()


def test_nobody_is_told_before_the_sync(workspace: Workspace, disk: Disk) -> None:
    """The word that a fact is accepted comes after the append that holds it, one append for all that came."""
    for number in range(3):
        workspace.submit(
            [event(number)], on_accept=lambda: disk.notes.append("told"), on_error=lambda error: pytest.fail(str(error))
        )
    assert disk.notes == []
    workspace.loop.turn()
    assert disk.notes == ["synced", "told", "told", "told"]


def test_senders_are_told_of_a_mistake_in_the_journal(workspace: Workspace, disk: Disk) -> None:
    """Whatever append raises, whoever waits hears of it; what the disk did not refuse stops the engine."""
    errors: list[BackstoryError] = []
    for name in ("\ud800", "came"):
        fact = Track(person=Identifier("id", "p1"), name=name)
        workspace.submit([fact], on_accept=lambda: pytest.fail("accepted"), on_error=errors.append)
    with pytest.raises(UnicodeEncodeError):
        workspace.loop.turn()
    assert [type(error) for error in errors] == [StorageError, StorageError]
    assert workspace.loop.failure is not None
    assert disk.position() == workspace.folder.state.position


def test_a_failing_journal_accepts_nothing(workspace: Workspace, disk: Disk) -> None:
    """The sender gets the error, nothing is applied, and the engine goes on when the disk does."""
    errors: list[BackstoryError] = []
    applied: list[list[Receipt]] = []
    disk.broken = True
    workspace.submit([event(1)], on_accept=lambda: pytest.fail("accepted"), on_error=errors.append)
    workspace.loop.turn()
    assert [type(error) for error in errors] == [StorageError]
    assert workspace.reader.person("id", "p1") is None
    disk.broken = False
    workspace.submit([event(1)], on_applied=applied.append, on_error=errors.append)
    workspace.loop.turn()
    assert [receipt.result for receipts in applied for receipt in receipts] == ["applied"]
    assert len(errors) == 1


@pytest.mark.parametrize("steps", range(0, 400, 23))
def test_a_state_that_fails_anywhere_is_caught_up(tmp_path: Path, steps: int) -> None:
    """Whatever statement of the state's transaction fails: every accepted fact is there once after the next start."""
    path = tmp_path / "w"
    broken = open_workspace(path, clock=ManualClock(START_US), threads=False)
    left = steps

    def fail() -> int:
        nonlocal left
        left -= 1
        return int(left < 0)

    accepted: list[int] = []
    broken.folder.state.db.set_progress_handler(fail, 10)
    for number in range(FACTS):
        broken.submit([event(number)], on_accept=lambda n=number: accepted.append(n), on_error=lambda error: None)
        try:
            broken.loop.turn()
        except BackstoryError:
            break
    broken.folder.state.db.set_progress_handler(None, 0)
    if broken.folder.state.db.in_transaction:
        broken.folder.state.db.execute("ROLLBACK")
    broken.folder.close()
    healed = open_workspace(path, clock=ManualClock(START_US), threads=False)
    rows = healed.folder.state.rows("SELECT event_id FROM event WHERE NOT duplicate ORDER BY seq")
    assert [row[0] for row in rows] == [f"e{number}" for number in accepted]
    healed.close()


def test_a_damaged_entry_is_refused(tmp_path: Path) -> None:
    """A journal row whose bytes changed is told, not applied."""
    journal = SqliteJournal(tmp_path / "journal.db")
    journal.append([event(1)], START_US)
    journal._db.execute("UPDATE entry SET body = zeroblob(length(body))")  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(StorageError, match="damaged"):
        list[Entry](journal.read_from(0))
    journal.close()


def test_a_failed_read_is_not_the_last(tmp_path: Path) -> None:
    """Whatever happens to a thread's connection during one read, its next read works."""
    state = State(tmp_path / "state.db")
    with pytest.raises(StorageError, match="cannot be read"):
        state.read(lambda db: db.execute("SELECT * FROM nowhere"))
    with pytest.raises(StorageError, match="cannot be read"):
        state.read(lambda db: db.close())
    assert state.rows("SELECT 1") == [(1,)]
    state.close()


def test_a_state_ahead_of_its_journal_is_refused(tmp_path: Path) -> None:
    """A journal that was lost or swapped is told at the start: facts appended to it would be taken for applied."""
    first = open_workspace(tmp_path / "w", clock=ManualClock(START_US), threads=False)
    first.apply([event(1)])
    first.close()
    with pytest.raises(StorageError, match="do not belong together"):
        open_workspace(tmp_path / "w", clock=ManualClock(START_US), journal=MemoryJournal(), threads=False)


def test_no_facts_are_accepted_too(workspace: Workspace) -> None:
    """An empty ticket is told that it was accepted and applied, and is in nobody's way."""
    told: list[str] = []
    for facts in ([], [event(1)], []):
        workspace.submit(
            facts,
            on_accept=lambda: told.append("accepted"),
            on_applied=lambda receipts: told.append(f"applied {len(receipts)}"),
            on_error=lambda error: told.append(str(error)),
        )
        workspace.loop.turn()
    assert told == ["accepted", "applied 0", "accepted", "applied 1", "accepted", "applied 0"]


def log_bytes(state: State) -> int:
    return state.path.with_name(state.path.name + "-wal").stat().st_size


def note(state: State, number: int) -> None:
    with transaction(state.db):
        state.set_meta(f"note {number}", number)


def noted(state: State) -> int:
    return state.rows("SELECT count(*) FROM meta WHERE name LIKE 'note %'")[0][0]


def test_a_log_that_got_long_begins_anew(tmp_path: Path) -> None:
    """Once the little that came beside moving it was moved as well: it grows no more, and nothing is lost."""
    state = State(tmp_path / "state.db")
    state.log_pages = 8
    state.checkpoint()
    note(state, 0)
    assert not state.checkpoint(), "a short log is left alone"
    for number in range(1, 20):
        note(state, number)
    assert state.checkpoint()
    note(state, 20)
    state.end_log()
    longest = log_bytes(state)
    for number in range(21, 30):
        note(state, number)
    assert log_bytes(state) == longest
    assert noted(state) == 30
    state.close()


def test_a_log_that_is_being_read_goes_on(tmp_path: Path) -> None:
    """Who began to read before the log was moved sees what was there then, and all later commits are kept."""
    state = State(tmp_path / "state.db")
    state.log_pages = 8
    for number in range(20):
        note(state, number)

    def meanwhile(db: sqlite3.Connection) -> int:
        db.execute("SELECT count(*) FROM meta").fetchone()
        note(state, 20)
        state.checkpoint()
        state.end_log()
        note(state, 21)
        return db.execute("SELECT count(*) FROM meta WHERE name LIKE 'note %'").fetchone()[0]

    assert state.read(meanwhile) == 20
    assert noted(state) == 22
    state.close()


def test_the_loop_ends_the_log_when_told_to(workspace: Workspace) -> None:
    """Between two of its transactions, so that what is committed then is written over what is there."""
    state = workspace.folder.state
    for number in range(20):
        workspace.apply([event(number)])
    state.checkpoint()
    workspace.apply([event(20)])
    workspace.loop.end_log()
    workspace.loop.turn()
    longest = log_bytes(state)
    for number in range(21, 30):
        workspace.apply([event(number)])
    assert log_bytes(state) == longest
