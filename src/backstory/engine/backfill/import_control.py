"""What can be done to imports from outside while they run and after: pause, resume, cancel, undo, redo, purge.

A run asks at each chunk (``at_chunk``) whether it is to wait or to end; one that waits gives its turn to others.
Heavy modules are loaded when they are needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from backstory.core.error import BackstoryError, ConflictError, NotFoundError
from backstory.core.fact import FinishImport
from backstory.engine.file import spool
from backstory.engine.file.options import BackfillOptions, Progress, Stopped
from backstory.store.manifest import ImportRow, find_import
from backstory.store.retraction import read_retractions

if TYPE_CHECKING:
    from backstory.engine.undo.undo import Undone
    from backstory.engine.undo.undo_preview import UndoPreview, Way
    from backstory.engine.workspace import Workspace

IMPORTING, PAUSED, CANCELED = "importing", "paused", "canceled"
WAIT_S = 0.25
CANCEL_S = 120.0


class Paused(BackstoryError):
    """A run is to wait where it stands; ``alive`` raises when whoever asked for it went away."""

    def __init__(self, alive: Callable[[], None]) -> None:
        super().__init__("the import is paused")
        self.alive = alive


@dataclass(slots=True)
class Running:
    """An import that is at work in this process."""

    import_id: int
    go: threading.Event = field(default_factory=threading.Event)
    canceled: bool = False
    progress: Progress | None = None


class ImportControl:
    """One for each workspace; safe to call from any thread but the loop's."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._guard = threading.Lock()
        self._running: dict[int, Running] = {}
        # Imports that are being canceled: nobody takes them up once their run has ended.
        self._canceling: set[int] = set()
        # Imports that wait for a worker of whoever takes imports by API, or have one.
        self.at_hand: set[int] = set()
        self.changed = threading.Condition()
        # Held while an import is made one that goes on with mended rows.
        self.mending = threading.Lock()

    # -- the side of the run --------------------------------------------------------------------------------------

    def begun(self, import_id: int) -> Running:
        """A run begins, or goes on: whatever held it up before does not any more."""
        one = Running(import_id)
        one.go.set()
        with self._guard:
            self._running[import_id] = one
        self._set_state(import_id, PAUSED, IMPORTING)
        return one

    def ended(self, one: Running) -> None:
        with self._guard:
            self._running.pop(one.import_id, None)
        self._tell()

    def at_chunk(self, one: Running, alive: Callable[[], None]) -> None:
        """Raises ``Paused`` when the run is to wait, ``Stopped`` when the import was canceled."""
        if not one.go.is_set():
            raise Paused(alive)
        self._check(one)

    def wait(self, one: Running, alive: Callable[[], None]) -> None:
        """Wait as long as the import is paused; raises ``Stopped`` when it was canceled, and what ``alive`` raises."""
        while not one.go.wait(WAIT_S):
            alive()
        self._check(one)

    def _check(self, one: Running) -> None:
        if one.canceled:
            raise Stopped(f"import {one.import_id} was canceled: what came in stays")

    def noted(self, one: Running, progress: Progress) -> None:
        one.progress = progress
        self._tell()

    def _tell(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def progress(self, import_id: int) -> Progress | None:
        """Where a run of this process is; None: it does not run here."""
        with self._guard:
            one = self._running.get(import_id)
        return None if one is None else one.progress

    def waits(self, import_id: int) -> bool:
        """Is it at work in this process, and paused?"""
        with self._guard:
            one = self._running.get(import_id)
        return one is not None and not one.go.is_set()

    def left_standing(self, import_id: int) -> bool:
        """Is it neither over nor paused, and does nobody of this process run it?"""
        over = self.runs(import_id) or import_id in self._canceling
        return not over and self.row(import_id).state == IMPORTING

    def runs(self, import_id: int) -> bool:
        """Is the import at work in this process (it may be paused)?"""
        return import_id in self._running

    def attended(self, import_id: int) -> bool:
        """Is somebody at work on it in this process, or will be by themselves when its turn comes?"""
        return import_id in self._running or import_id in self.at_hand

    # -- the side of whoever asks ---------------------------------------------------------------------------------

    def pause(self, import_id: int) -> None:
        """Have a run wait behind the chunk at hand. Raises ``NotFoundError``, and ``ConflictError`` when it is over."""
        row = self.row(import_id)
        if row.state == PAUSED:
            return
        if row.state != IMPORTING:
            raise ConflictError(f"import {import_id} is {row.state}: only one that is importing can be paused")
        with self._guard:
            one = self._running.get(import_id)
            if one is not None:
                one.go.clear()
        self._set_state(import_id, IMPORTING, PAUSED)
        self._tell()

    def resume(self, import_id: int) -> bool:
        """Have it go on; returns whether a run of this process does. Raises as ``pause`` does."""
        row = self.row(import_id)
        if row.state not in (IMPORTING, PAUSED):
            raise ConflictError(f"import {import_id} is {row.state}: only one that is paused can go on")
        self._set_state(import_id, PAUSED, IMPORTING)
        with self._guard:
            one = self._running.get(import_id)
            if one is not None:
                one.go.set()
        self._tell()
        return one is not None

    def cancel(self, import_id: int) -> None:
        """End an import where it stands: what came in stays. Raises as ``pause`` does."""
        row = self.row(import_id)
        if row.state == CANCELED:
            raise ConflictError(f"import {import_id} is already canceled")
        with self._guard:
            one = self._running.get(import_id)
            self._canceling.add(import_id)
        try:
            self._cancel(import_id, one)
        finally:
            self._canceling.discard(import_id)
        # What was fetched or sent for it is of no use any more.
        spool.remove(self._workspace.folder.path, self.options(import_id).paths)
        self._tell()

    def _cancel(self, import_id: int, one: Running | None) -> None:
        if one is not None:
            # The run ends behind the chunk at hand; only then is it known where it stands.
            one.canceled = True
            one.go.set()
            with self.changed:
                if not self.changed.wait_for(lambda: not self.runs(import_id), timeout=CANCEL_S):
                    raise ConflictError(f"import {import_id} has not come to a place where it can end: try again")
        else:
            self._start_rest(import_id)
        receipt = self._workspace.apply([FinishImport(import_id=import_id, state="canceled")])[0]
        if receipt.result != "applied":
            raise ConflictError(receipt.reason)

    def _start_rest(self, import_id: int) -> None:
        """What a crash left to be started of the last chunk: its rows came in."""
        from backstory.engine.backfill.import_job import Job
        from backstory.engine.backfill.import_trigger import go_on

        row = self.row(import_id)
        if row.state in (IMPORTING, PAUSED):
            with self._workspace.turns.chunk():
                go_on(Job(self._workspace, row, self.options(import_id)))

    def options(self, import_id: int) -> BackfillOptions:
        """What an import was asked to do."""
        return msgspec.json.decode(self.row(import_id).options, type=BackfillOptions)

    def undo(self, import_id: int) -> Undone:
        """See ``engine.undo.undo``."""
        from backstory.engine.undo import undo

        return undo.undo(self._workspace, import_id)

    def redo(self, import_id: int) -> Undone:
        """See ``engine.undo.undo``."""
        from backstory.engine.undo import undo

        return undo.redo(self._workspace, import_id)

    def purge(self, import_id: int) -> None:
        """See ``engine.undo.undo_purge``."""
        from backstory.engine.undo import undo_purge

        undo_purge.purge(self._workspace, import_id)

    def preview(self, import_id: int, way: Way) -> UndoPreview:
        """See ``engine.undo.undo_preview``."""
        from backstory.engine.undo import undo_preview

        self.row(import_id)
        return undo_preview.preview(self._workspace, import_id, way)

    def run_aside(self, import_id: int) -> None:
        """Have an unfinished import that nobody runs any more go on in a thread of its own."""
        options = self.options(import_id)
        threading.Thread(target=self._run, args=(import_id, options), name="import", daemon=True).start()

    def _run(self, import_id: int, options: BackfillOptions) -> None:
        from backstory.engine.backfill import backfill

        try:
            backfill.run(self._workspace, options, lambda progress: None)
        except BackstoryError as error:
            self._workspace.folder.fault(f"import {import_id} did not go on: {error}")

    def resume_interrupted(self) -> None:
        """At the start: go on, beside everything else, with what a crash left half taken back."""
        if any(one.stage != "done" for one in self._workspace.folder.state.read(read_retractions).values()):
            threading.Thread(target=self._resume, name="undo", daemon=True).start()

    def _resume(self) -> None:
        from backstory.engine.undo import undo, undo_purge

        try:
            undo.resume(self._workspace)
            undo_purge.resume(self._workspace)
        except BackstoryError as error:
            self._workspace.folder.fault(f"an import is half taken back: {error}")

    def row(self, import_id: int) -> ImportRow:
        """As committed. Raises ``NotFoundError``."""
        row = self._workspace.folder.state.read(lambda db: find_import(db, import_id))
        if row is None:
            raise NotFoundError(f"there is no import {import_id}")
        return row

    def _set_state(self, import_id: int, before: str, after: str) -> None:
        folder = self._workspace.folder

        def put() -> None:
            row = find_import(folder.state.db, import_id)
            if row is not None and row.state == before:
                folder.manifest.put_import(replace(row, state=after, updated_us=folder.state.now_us))

        if self.row(import_id).state == before:
            self._workspace.call(put)
