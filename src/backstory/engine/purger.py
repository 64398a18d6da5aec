"""The purger: takes what is left of people who are gone out of the folder, stage by stage, beside the loop.

What to do next is ``store.purge.plan``. The loop is held only for small steps, each a transaction that can be repeated;
parts and runs are written anew first, then swapped in as the compactor does. It works in the compactor's turn, so
that no file is rewritten by two.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

import numpy as np
from pyroaring import BitMap

from backstory.core.error import ConflictError, StorageError
from backstory.core.time import SECOND_US
from backstory.engine.redaction import FORGOTTEN_TRACE, delete_mail, redact_reports, traces_naming
from backstory.store.database import held_bytes, rebuild
from backstory.store.duck import Duck
from backstory.store.forget import forget_some
from backstory.store.manifest import KeyRun, Part, read_imports, read_key_runs, read_parts
from backstory.store.naming import Naming
from backstory.store.people import cio_id_of
from backstory.store.purge import Stage, Task, advance, finish, plan, read_departed
from backstory.store.rewrite import LeaveOut, count_left_out, merge_parts, run_without
from backstory.store.transition import drop_from_blocks

if TYPE_CHECKING:
    from collections.abc import Callable

    from backstory.engine.workspace import Workspace

# In one transaction of the loop: rows taken out, names hashed, entries of the log overwritten.
ROWS_MAX = 400
PEOPLE_AT_ONCE = 40
# Entries of the log read at once.
READ_ROWS = 2_000
# A database with more in use is rebuilt when the workspace opens or closes, when somebody asks for it, or when the
# set time is over: writers wait for it, 25 ms at this size.
REBUILD_BYTES = 5_000_000
MEMORY_MB = 300
NEVER_US = 1 << 62
ATTEMPTS_MAX, PAUSE_S = 100, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How many people are at which stage; ``due_us`` is when the first of them has to be gone."""

    stages: dict[str, int]
    due_us: int | None
    purged: int


class Purger:
    """``step`` does a little; what it did survives a crash, what it was doing is done again."""

    def __init__(self, workspace: Workspace, *, keep_us: int, mailboxes: Sequence[Path] = ()) -> None:
        self._workspace = workspace
        self._folder = workspace.folder
        self.keep_us = keep_us
        self._mailboxes = mailboxes
        self._work: Iterator[None] | None = None
        # What was begun cannot go on before somebody else is done.
        self._stuck = False

    def step(self, *, by_us: int | None = None) -> bool:
        """Do the next piece; False: there is nothing to do now. ``by_us``: whoever was gone by then, and at once."""
        if self._workspace.turns.busy:
            return False
        if self._work is None:
            task = self._next(by_us)
            if task is None:
                return False
            self._work = self._pieces(task, hold=by_us is not None or task.overdue)
        try:
            self._stuck = False
            if next(self._work, self) is self:
                self._work = None
        except BaseException:
            self._work = None
            raise
        return not self._stuck

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> Progress:
        """Purge everybody who is gone, now; writers wait while databases are rebuilt. Raises ``ConflictError``."""
        by_us = self._workspace.call(lambda: self._folder.state.now_us)
        told = self.progress()
        on_progress(told)
        attempts = 0
        while True:
            with self._workspace.compactor.turn:
                if self._workspace.turns.busy:
                    raise ConflictError("an import is running: purge when it has ended")
                more = self.step(by_us=by_us)
            now = self.progress()
            if now != told:
                told = now
                on_progress(now)
            if more:
                continue
            if self._next(by_us) is None:
                return now
            attempts += 1
            if attempts == ATTEMPTS_MAX:
                raise StorageError("somebody reads files or the database all the time: the purge goes on by itself")
            self._workspace.clock.pause(PAUSE_S)

    def rebuild_waiting(self) -> None:
        """When a workspace opens nobody waits for it yet: now its databases are rebuilt, if that is what is left."""
        task = self._next(None)
        if task is not None and task.stage is Stage.BYTES:
            for _ in self._pieces(task, hold=True):
                pass

    def progress(self) -> Progress:
        """Who waits for what, from what is committed."""
        rows = self._folder.state.rows("SELECT stage, count(*), min(gone_us) FROM purge GROUP BY stage ORDER BY stage")
        purged = self._folder.state.rows("SELECT value FROM meta WHERE name = 'purged'")
        return Progress(
            stages={Stage(row[0]).name.lower(): row[1] for row in rows},
            due_us=min((row[2] + self.keep_us for row in rows), default=None),
            purged=purged[0][0] if purged else 0,
        )

    def _next(self, by_us: int | None) -> Task | None:
        departed = self._folder.state.read(read_departed)
        if by_us is not None:
            return plan(departed, by_us, 0)
        return plan(departed, self._workspace.clock.now_us(), self.keep_us)

    def _pieces(self, task: Task, *, hold: bool) -> Iterator[None]:
        """The pieces of a task; between any two others may have their turn."""
        match task.stage:
            case Stage.WAITING:
                pass
            case Stage.ROWS:
                yield from self._rows(task)
            case Stage.HISTORY:
                yield from self._history(task)
            case Stage.NAMES:
                yield from self._names(task)
            case Stage.TRACES:
                yield from self._traces(task)
            case Stage.FILES:
                yield from self._files(task)
            case Stage.BYTES:
                self._stuck = not (yield from self._bytes(hold=hold))
                if self._stuck:
                    return
                self._workspace.call(lambda: self._finish(task))
                return
            case _:
                assert_never(task.stage)
        self._workspace.call(lambda: advance(self._folder.state.db, task.numbers, Stage(task.stage + 1)))

    def _finish(self, task: Task) -> None:
        state = self._folder.state
        finish(state.db, task.numbers)
        state.set_meta("purged", state.meta("purged", 0) + len(task.numbers))

    # -- the state ----------------------------------------------------------------------------------------------------

    def _rows(self, task: Task) -> Iterator[None]:
        waiting = task.people
        while waiting:
            waiting = waiting[self._workspace.call(lambda: self._forget(waiting)) :]  # noqa: B023
            yield

    def _forget(self, people: list[int]) -> int:
        """On the loop: returns of how many of these nothing is left."""
        rows_left, done = ROWS_MAX, 0
        for person in people[:PEOPLE_AT_ONCE]:
            rows_left -= forget_some(self._folder.state.db, self._folder.tail, person, rows_left)
            if rows_left <= 0:
                break
            done += 1
        # Every block is looked at once for all of them.
        drop_from_blocks(self._folder.state.db, BitMap(people[:done]))
        return done

    def _names(self, task: Task) -> Iterator[None]:
        for low in range(0, len(task.people), PEOPLE_AT_ONCE):
            some = task.people[low : low + PEOPLE_AT_ONCE]
            self._workspace.call(lambda: [self._folder.tombstones.forget_names(one) for one in some])  # noqa: B023
            yield

    def _naming(self, numbers: Sequence[int]) -> Naming:
        """The hashed names of these, and until when each named them."""
        wanted = set(numbers)
        rows = self._folder.state.rows("SELECT hash, at_us, number FROM suppressed")
        until_us: dict[bytes, int] = {}
        for hashed, at_us, number in rows:
            if number in wanted:
                until_us[hashed] = max(at_us, until_us.get(hashed, at_us))
        hashed = self._folder.tombstones.hashed
        # The secret is made on the loop, if it is not there yet.
        self._workspace.call(lambda: hashed("cio_id", ""))
        # Nobody ever gets the cio_id that we gave to somebody else.
        until_us |= {hashed("cio_id", cio_id_of(number)): NEVER_US for number in numbers if number >= 0}
        return Naming(until_us, hashed)

    def _traces(self, task: Task) -> Iterator[None]:
        naming = self._naming(task.numbers)
        after_seq: int | None = 0 if naming else None
        while after_seq is not None:
            start = after_seq
            found, after_seq = self._folder.state.read(lambda db: traces_naming(db, naming, start, READ_ROWS))  # noqa: B023
            for low in range(0, len(found), ROWS_MAX):
                some = [(FORGOTTEN_TRACE, seq) for seq in found[low : low + ROWS_MAX]]
                self._workspace.call(
                    lambda: self._folder.state.db.executemany("UPDATE activity SET data = ? WHERE seq = ?", some)  # noqa: B023
                )
            yield

    # -- history ------------------------------------------------------------------------------------------------------

    def _history(self, task: Task) -> Iterator[None]:
        leave_out = LeaveOut(people=task.people)
        for part in self._parts():
            self.rewrite_part(part.part_id, leave_out)
            yield
        people = np.array(task.people, np.uint32)
        for run in self._runs():
            self._rewrite_run(run.run_id, people)
            yield

    def _parts(self) -> list[Part]:
        """All of them, those of imports that were taken back too."""
        return self._folder.state.read(lambda db: read_parts(db, retracted=None))

    def _runs(self) -> list[KeyRun]:
        return self._folder.state.read(lambda db: read_key_runs(db, retracted=None))

    def rewrite_part(self, part_id: int, leave_out: LeaveOut) -> None:
        """Write a part again without some rows, if it has any of them, and swap it in. In the compactor's turn."""
        part = next((one for one in self._parts() if one.part_id == part_id), None)
        if part is None:
            return
        # Of its own: one thread, so that the loop keeps its processor, and memory that nobody else waits for.
        duck = Duck(memory_mb=MEMORY_MB, threads=1, temporary=self._folder.path / "temporary")
        try:
            rows, events = count_left_out(duck.cursor(), self._folder.parts_path, part, leave_out)
            if not rows:
                return
            written = merge_parts(duck.cursor(), self._folder.parts_path, (part,), leave_out)
        finally:
            duck.close()
        self._workspace.compactor.swap_part(part, written if written.path else None, events)

    def _rewrite_run(self, run_id: int, people: np.ndarray) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        run = next((one for one in self._runs() if one.run_id == run_id), None)
        if run is None:
            return
        written = run_without(self._folder.parts_path, run, people)
        if written is not None:
            self._workspace.compactor.swap_runs((run,), written if written.path else None)

    # -- files --------------------------------------------------------------------------------------------------------

    def _files(self, task: Task) -> Iterator[None]:
        began = {row.import_id: row.accept_us for row in self._folder.state.read(read_imports)}
        reports = self._folder.path / "reports"
        naming = self._naming(task.numbers)
        try:
            if naming and reports.is_dir():
                for _ in redact_reports(reports, began.get, naming):
                    yield
            for low in range(0, len(task.people), PEOPLE_AT_ONCE):
                some = task.people[low : low + PEOPLE_AT_ONCE]
                delete_mail(self._mailboxes, self._deliveries(some))
                yield
        except OSError as error:
            raise StorageError(f"a file of somebody deleted cannot be cleaned: {error}") from error

    def _deliveries(self, people: Sequence[int]) -> list[str]:
        marks = ", ".join("?" * len(people))
        rows = self._folder.state.rows(f"SELECT delivery_id FROM delivery WHERE person IN ({marks})", tuple(people))
        return [row[0] for row in rows]

    # -- what deleting leaves behind ----------------------------------------------------------------------------------

    def _bytes(self, *, hold: bool) -> Generator[None, None, bool]:
        """Everything is out of the tables: out of the bytes, too. Returns False where something is in the way."""
        folder, call = self._folder, self._workspace.call
        paths = [path for name in ("journal.db", "state.db") if (path := folder.path / name).exists()]
        if not hold and any(held_bytes(path) > REBUILD_BYTES for path in paths):
            return False
        position = call(lambda: folder.state.position)
        folder.state.sync()
        call(lambda: folder.journal.trim(position))
        yield
        self._workspace.compactor.delete_unread()
        if folder.history.readings.waiting:
            return False
        for path in paths:
            if not rebuild(path):
                return False
            yield
        return True


def due_s(progress: Progress) -> int | None:
    """When the first of them has to be gone, in unix seconds."""
    return None if progress.due_us is None else progress.due_us // SECOND_US
