"""Purging an import that was taken back: its bytes go, and with them the way back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pyroaring import BitMap

from backstory.core.error import ConflictError, NotFoundError
from backstory.core.limit import LOOP_ROWS
from backstory.engine.undo.countable import Tell
from backstory.engine.undo.undo import PURGING, RETRACTED, alone
from backstory.engine.undo.undo_record import forget_import
from backstory.store.manifest import find_import, read_imports, read_key_runs, read_parts
from backstory.store.provenance import CONFIRMED, KINDS
from backstory.store.retraction import PURGED, put_retraction, read_retractions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

TEXT = "it was purged: its rows are gone for good"


def purge(workspace: Workspace, import_id: int, tell: Tell = lambda step: None) -> None:
    """Delete the rows of an import that was taken back, its keys, its reports, and what was kept of its people.

    Raises ``NotFoundError``, and ``ConflictError`` for an import that still counts. One that is purged stays so.
    """
    with alone(workspace):
        _purge_all(workspace, import_id, tell)


def resume(workspace: Workspace) -> None:
    """Go on with what a crash interrupted."""
    for import_id, one in sorted(workspace.folder.state.read(read_retractions).items()):
        if one.stage == PURGING:
            with workspace.turns.alone():
                _purge_all(workspace, import_id, lambda step: None)


def _purge_all(workspace: Workspace, import_id: int, tell: Tell) -> None:
    workspace.call(lambda: _begin(workspace, import_id))
    _forget_people(workspace, tell)
    files = workspace.call(lambda: _purge(workspace, import_id))
    workspace.folder.state.sync()
    workspace.folder.history.readings.retire(files)
    workspace.compactor.delete_unread()
    # Whether it was purged before or not: a crash may have left them.
    for report in (workspace.folder.path / "reports").glob(f"import-{import_id}-*"):
        for path in sorted(report.iterdir()) if report.is_dir() else []:
            path.unlink(missing_ok=True)
        report.rmdir() if report.is_dir() else report.unlink(missing_ok=True)


def _begin(workspace: Workspace, import_id: int) -> None:
    """On the loop: from now on there is no way back."""
    db = workspace.folder.state.db
    row = find_import(db, import_id)
    if row is None:
        raise NotFoundError(f"there is no import {import_id}")
    if row.state != RETRACTED:
        raise ConflictError(
            f"import {import_id} is {row.state}: take it back first, with 'backstory imports undo {import_id}'"
        )
    put_retraction(db, replace(read_retractions(db)[import_id], was=PURGED, stage=PURGING))
    workspace.folder.namings.forget(import_id)


def _forget_people(workspace: Workspace, tell: Tell) -> None:
    """Who went with an import, and whom no other import named that may come back, is remembered no more."""
    folder = workspace.folder
    imports = [row.import_id for row in folder.state.read(read_imports)]
    kept = workspace.call(lambda: BitMap.union(BitMap(), *(folder.namings.named(other) for other in imports)))
    gone = [row[0] for row in folder.state.rows("SELECT person FROM withdrawn") if row[0] not in kept]
    for low in range(0, len(gone), LOOP_ROWS.value):
        tell("people")
        some = ", ".join(map(str, gone[low : low + LOOP_ROWS.value]))
        workspace.call(lambda: _forget_some(workspace, some))  # noqa: B023


def _forget_some(workspace: Workspace, people: str) -> None:
    """On the loop."""
    db = workspace.folder.state.db
    db.execute(f"DELETE FROM withdrawn WHERE person IN ({people})")
    kinds = ", ".join("?" * len(KINDS))
    for table in CONFIRMED:
        db.execute(f"DELETE FROM {table} WHERE kind IN ({kinds}) AND person IN ({people})", KINDS)


def _purge(workspace: Workspace, import_id: int) -> list[str]:
    """On the loop; returns the files that nothing names any more."""
    folder = workspace.folder
    db = folder.state.db
    row = find_import(db, import_id)
    assert row is not None
    parts = [part for part in read_parts(db, retracted=True) if part.import_id == import_id]
    runs = [run for run in read_key_runs(db, retracted=True) if run.import_id == import_id]
    folder.manifest.remove_parts(part.part_id for part in parts)
    folder.manifest.remove_key_runs(run.run_id for run in runs)
    forget_import(workspace, import_id)
    db.execute("DELETE FROM replaced WHERE import_id = ?", (import_id,))
    put_retraction(db, replace(read_retractions(db)[import_id], stage="done"))
    folder.manifest.put_import(replace(row, error=TEXT, updated_us=folder.state.now_us))
    folder.reload_manifest()
    return [part.path for part in parts] + [run.path for run in runs]
