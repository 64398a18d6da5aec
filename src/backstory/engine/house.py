"""The workspaces of one data folder: one lock for all, a folder for each, nothing shared between them.

    DIR/lock
    DIR/workspaces/NAME/    journal, state, parts, keys of the workspace NAME

The lock is taken with the first workspace opened and let go with the last one closed.
"""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from backstory.core.error import ConflictError, NotFoundError, RequestError
from backstory.core.limit import WORKSPACES
from backstory.engine.clock import SystemClock
from backstory.engine.settings import DEFAULT, Settings
from backstory.store.lock import FolderLock

if TYPE_CHECKING:
    from backstory.engine.backfill.preload import Preload
    from backstory.engine.preview.aside import Aside
    from backstory.engine.workspace import Workspace

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")


class House:
    """Opens and makes workspaces; safe to call from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._guard = threading.Lock()
        self._lock: FolderLock | None = None
        self._open: set[str] = set()

    def names(self) -> list[str]:
        """The workspaces there are, ``default`` first, which there always is."""
        found = {path.name for path in self._folder().glob("*") if path.is_dir() and _NAME.match(path.name)}
        return [DEFAULT, *sorted(found - {DEFAULT})]

    def open(self, name: str, preload: Preload | None = None) -> Workspace:
        """Open one that exists (or ``default``); raises ``FolderBusy`` when another process has the folder.

        ``preload``: for an import that is to follow.
        """
        self._check_there(name)
        return self._opened(name, preload)

    def aside(self, name: str, preload: Preload | None = None) -> Aside:
        """A replica of one that exists, which itself stays closed meanwhile; raises as ``open`` does."""
        # A server does without what imports load.
        from backstory.engine.preview.aside import Aside

        self._check_there(name)
        self._take(name)
        try:
            return Aside(
                self._path(name), self._settings, SystemClock(),
                on_close=lambda: self._closed(name), preload=preload,
            )  # fmt: skip
        except BaseException:
            self._closed(name)
            raise

    def create(self, name: str) -> Workspace:
        """Make and open a new one; raises ``ConflictError`` when there is one of that name."""
        if not _NAME.match(name):
            raise RequestError(
                f"the name of a workspace is 1 to 63 small letters, digits and dashes, not {name[:80]!r}", path="$.name"
            )
        with self._guard:
            if name in self.names():
                raise ConflictError(f"there is a workspace {name!r} already", path="$.name")
            WORKSPACES.check(len(self.names()) + 1)
            self._path(name).mkdir(parents=True, mode=0o700)
        return self._opened(name)

    def _check_there(self, name: str) -> None:
        if name not in self.names():
            raise NotFoundError(f"there is no workspace {name!r}: 'backstory workspaces create {name}' makes one")

    def _take(self, name: str) -> None:
        with self._guard:
            if name in self._open:
                raise ConflictError(f"the workspace {name!r} is open already")
            if self._lock is None:
                self._lock = FolderLock(self._settings.data)
            self._open.add(name)

    def _opened(self, name: str, preload: Preload | None = None) -> Workspace:
        self._take(name)
        try:
            if preload is not None:
                preload.locked(self._path(name))
            # Only now: it brings the engine with it, and people are read beside that.
            from backstory.engine.workspace import open_workspace

            workspace = open_workspace(self._path(name), clock=SystemClock(), settings=self._settings, preload=preload)
        except BaseException:
            self._closed(name)
            raise
        workspace.on_close = lambda: self._closed(name)
        return workspace

    def _closed(self, name: str) -> None:
        with self._guard:
            self._open.discard(name)
            if not self._open and self._lock is not None:
                self._lock.close()
                self._lock = None

    def _folder(self) -> Path:
        return self._settings.data / "workspaces"

    def _path(self, name: str) -> Path:
        return self._folder() / name
