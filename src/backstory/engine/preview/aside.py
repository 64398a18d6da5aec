"""Previews where no server runs: by the process that asks, on a replica of a workspace that nobody has open.

Nobody is held up by it then, so it needs no process of its own; and as the files stand still, they are copied as they
are. What would happen is told all the same as by ``engine.preview.preview``, whose rehearsals these are.
"""

import shutil
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import msgspec

from backstory.engine.backfill.import_check import check
from backstory.engine.backfill.preload import Preload
from backstory.engine.clock import Clock
from backstory.engine.file.options import BackfillOptions, Policy, Progress
from backstory.engine.preview.preview import Rehearsal, under_each
from backstory.engine.preview.preview_view import Preview
from backstory.engine.preview.rehearsal import opened, rehearse_in
from backstory.engine.settings import Settings
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.folder import REPLICAS
from backstory.store.journal import SqliteJournal
from backstory.store.replica import make_replica_of_closed
from backstory.store.state import State


class Aside:
    """A replica, opened as ``workspace``, of a closed workspace that nobody else opens until ``close``."""

    def __init__(
        self, path: Path, settings: Settings, clock: Clock, *,
        on_close: Callable[[], None] = lambda: None, preload: Preload | None = None,
    ) -> None:  # fmt: skip
        self._path = path
        self._settings = settings
        self._preload = preload
        self.on_close = on_close
        # Left by a preview that was killed.
        shutil.rmtree(path / REPLICAS, ignore_errors=True)
        self._now_us = max(_settled_us(path, settings, clock), clock.now_us())
        self._exit = ExitStack()
        self.workspace = self._exit.enter_context(self._replica())
        # Nothing was tried on it yet.
        self._fresh = True

    def preview(self, options: BackfillOptions, on_progress: Callable[[Progress], None]) -> Preview:
        """See ``preview.preview``."""
        check(options)

        def rehearsed(policy: Policy, keep: bool) -> Preview:
            with ExitStack() as stack:
                workspace = self.workspace if self._fresh else stack.enter_context(self._replica())
                self._fresh = False
                tried = Rehearsal(
                    path=str(workspace.folder.path),
                    options=msgspec.structs.replace(options, triggers=policy),
                    now_us=self._now_us,
                    trigger_age_us=workspace.context.trigger_age_us,
                    keep=keep,
                )
                return rehearse_in(workspace, tried, on_progress)

        return under_each(options.triggers, rehearsed)

    def close(self) -> None:
        """The replica goes."""
        try:
            self._exit.close()
        finally:
            self.on_close()

    @contextmanager
    def _replica(self) -> Generator[Workspace]:
        path = make_replica_of_closed(self._path)
        try:
            settings = replace(self._settings, data=path, temp_folder=path / "tmp")
            hours = self._settings.trigger_age_hours
            with opened(
                path, self._now_us, trigger_hours=hours, settings=settings, preload=self._preload
            ) as workspace:
                yield workspace
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _settled_us(path: Path, settings: Settings, clock: Clock) -> int:
    """Up to which moment the state of a workspace is settled.

    One whose journal holds facts that its state does not have yet is opened for a moment, which applies them.
    """
    if (path / "state.db").exists():
        state = State(path / "state.db")
        journal = SqliteJournal(path / "journal.db")
        try:
            if journal.position() == state.position:
                return state.now_us
        finally:
            journal.close()
            state.close()
    workspace = open_workspace(path, clock=clock, settings=settings, threads=False)
    workspace.close()
    return workspace.folder.state.now_us
