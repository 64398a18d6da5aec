"""Purging an import that was taken back: its bytes go, and with them the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyroaring import BitMap

from backstory.core.error import ConflictError, NotFoundError
from backstory.engine.undo import PURGED, RETRACTED, alone
from backstory.engine.undo_record import forget_import
from backstory.store.manifest import find_import, read_imports, read_key_runs, read_parts
from backstory.store.retraction import put_retraction, read_retractions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

TEXT = "it was purged: its rows are gone for good"


def purge(workspace: Workspace, import_id: int) -> None:
    """Delete the rows of an import that was taken back, its keys, its reports, and what was kept of its people.

    Raises ``NotFoundError``, and ``ConflictError`` for an import that still counts. One that is purged stays so.
    """
    with alone(workspace):
        files = workspace.call(lambda: _purge(workspace, import_id))
        workspace.folder.state.sync()
        workspace.folder.history.readings.retire(files)
        workspace.compactor.delete_unread()
        # Whether it was purged before or not: a crash may have left them.
        for report in (workspace.folder.path / "reports").glob(f"import-{import_id}-*"):
            for path in sorted(report.iterdir()) if report.is_dir() else []:
                path.unlink(missing_ok=True)
            report.rmdir() if report.is_dir() else report.unlink(missing_ok=True)


def _purge(workspace: Workspace, import_id: int) -> list[str]:
    """On the loop; returns the files that nothing names any more."""
    folder = workspace.folder
    db = folder.state.db
    row = find_import(db, import_id)
    if row is None:
        raise NotFoundError(f"there is no import {import_id}")
    if row.state != RETRACTED:
        raise ConflictError(
            f"import {import_id} is {row.state}: take it back first, with 'backstory imports undo {import_id}'"
        )
    one = read_retractions(db)[import_id]
    parts = [part for part in read_parts(db, retracted=True) if part.import_id == import_id]
    runs = [run for run in read_key_runs(db, retracted=True) if run.import_id == import_id]
    folder.manifest.remove_parts(part.part_id for part in parts)
    folder.manifest.remove_key_runs(run.run_id for run in runs)
    _forget_people(workspace, import_id)
    forget_import(workspace, import_id)
    db.execute("DELETE FROM replaced WHERE import_id = ?", (import_id,))
    put_retraction(db, replace(one, was=PURGED))
    folder.manifest.put_import(replace(row, error=TEXT, updated_us=folder.state.now_us))
    folder.reload_manifest()
    return [part.path for part in parts] + [run.path for run in runs]


def _forget_people(workspace: Workspace, import_id: int) -> None:
    """Who went with the import, and whom no other import named that may come back, is remembered no more."""
    folder = workspace.folder
    namings, db = folder.namings, folder.state.db
    folder.namings.forget(import_id)
    kept = BitMap()
    for other in [row.import_id for row in read_imports(db)]:
        kept |= namings.named(other)
    gone = [row[0] for row in db.execute("SELECT person FROM withdrawn") if row[0] not in kept]
    db.executemany("DELETE FROM withdrawn WHERE person = ?", [(person,) for person in gone])
    db.executemany("DELETE FROM confirmed WHERE person = ?", [(person,) for person in gone])
