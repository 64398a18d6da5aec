"""Verifying files: parts and key runs against the manifest, imports against their counts."""

import sqlite3
from pathlib import Path

import msgspec

from backstory.core.error import StorageError
from backstory.engine.verify.finding import Findings
from backstory.store.folder import Folder
from backstory.store.keyrun import checksum_of
from backstory.store.manifest import (
    ImportRow,
    KeyRun,
    Part,
    read_drift,
    read_files,
    read_imports,
    read_key_runs,
    read_parts,
)

KEY_BYTES = 12
# The states of imports whose events count, all of them.
_OVER = ("imported", "canceled", "failed")
OUTCOMES = ("created", "updated", "unchanged", "stale", "duplicate", "skipped", "errors")


class _Counted(msgspec.Struct, kw_only=True):
    """What an import says became of its rows."""

    rows: int
    created: int
    updated: int
    unchanged: int
    stale: int
    duplicate: int
    skipped: int
    errors: int


class _Progress(msgspec.Struct, kw_only=True):
    summary: dict[str, object] = {}


class _Options(msgspec.Struct, kw_only=True):
    kind: str


def _all_parts(db: sqlite3.Connection) -> list[Part]:
    return read_parts(db, retracted=None)


def _all_runs(db: sqlite3.Connection) -> list[KeyRun]:
    return read_key_runs(db, retracted=None)


def verify_files(folder: Folder, findings: Findings) -> bool:
    """Every file the manifest names; returns whether history can be read as a whole."""
    parts = folder.state.read(_all_parts)
    runs = folder.state.read(_all_runs)
    bad: set[int] = set()
    for at, part in enumerate(parts):
        findings.progress("part", at, len(parts))
        if not _part_is_whole(folder, part, findings) and not part.retracted:
            bad.add(part.part_id)
    findings.checked("part", len(parts))
    for at, run in enumerate(runs):
        findings.progress("key run", at, len(runs))
        _verify_run(folder, run, findings)
    findings.checked("key run", len(runs))
    _note_unnamed(folder, findings)
    return not bad


def _part_is_whole(folder: Folder, part: Part, findings: Findings) -> bool:
    try:
        problem = _part_problem(folder, part)
    except StorageError as error:
        problem = str(error)
    if problem is None or part.part_id not in {still.part_id for still in folder.state.read(_all_parts)}:
        return True
    findings.difference("part", problem, part=part.path)
    return False


def _part_problem(folder: Folder, part: Part) -> str | None:
    problem = _file_problem(folder.parts_path / part.path, part.bytes, part.checksum)
    if problem is not None or not part.rows:
        return problem
    found = folder.history.rows(
        "SELECT count(*), min(time_us), max(time_us) FROM read_parquet($1)", folder.history.files([part], part.kind)
    )
    rows, low_us, high_us = found[0]
    if rows != part.rows:
        return f"it holds {rows} rows, not {part.rows}"
    if low_us < part.low_us or high_us > part.high_us:
        return f"its times reach from {low_us} to {high_us}, not from {part.low_us} to {part.high_us}"
    return None


def _file_problem(path: Path, length: int, checksum: str) -> str | None:
    try:
        found = path.stat().st_size
    except OSError as error:
        return f"it cannot be read: {error.strerror}; restore it from a backup"
    if found != length:
        return f"it has {found} bytes, not {length}; restore it from a backup"
    if checksum_of(path) != checksum:
        return "it does not have the checksum it was written with; restore it from a backup"
    return None


def _verify_run(folder: Folder, run: KeyRun, findings: Findings) -> None:
    try:
        problem = _file_problem(folder.parts_path / run.path, run.rows * KEY_BYTES, run.checksum)
    except StorageError as error:
        problem = str(error)
    if problem is not None and run.run_id in {still.run_id for still in folder.state.read(_all_runs)}:
        findings.difference("key run", problem, run=run.path)


def _note_unnamed(folder: Folder, findings: Findings) -> None:
    """Listed first and compared after, so that a file named meanwhile is none."""
    found = sorted(path.name for path in folder.parts_path.iterdir())
    named = set(folder.state.read(read_files))
    for name in found:
        if name not in named:
            findings.note("file", "nothing names it: an import is writing it, or the next start deletes it", file=name)


def verify_imports(folder: Folder, findings: Findings, *, whole: bool) -> None:
    """Rows in = rows accounted for, and the events an import made are there (when history is whole)."""
    imports = folder.state.read(read_imports)
    findings.progress("import", 0, len(imports))
    held = _events_held(folder) if whole else {}
    drift = folder.state.read(read_drift)
    for row in imports:
        with findings.reading("import"):
            events = held.get(row.import_id, 0)
            _verify_import(row, events - drift.get(row.import_id, 0) if whole else None, findings)
            if row.state == "retracted" and events:
                problem = f"it was taken back, and {events} of its events count: redo it, and undo it again"
                findings.difference("import", problem, import_id=row.import_id)
    findings.checked("import", len(imports))


def _events_held(folder: Folder) -> dict[int, int]:
    """Events that count, in parts, by the import they came with; those of imports that run may be counted too early."""
    with folder.history.reading():
        files = folder.history.files(folder.state.read(read_parts), "event")
        counted = "SELECT import_id, count(*) FROM read_parquet($1) WHERE NOT duplicate GROUP BY import_id"
        held: dict[int, int] = dict(folder.history.rows(counted, files)) if files else {}
    return held


def _verify_import(row: ImportRow, held: int | None, findings: Findings) -> None:
    summary = msgspec.json.decode(row.progress, type=_Progress).summary
    if not summary:
        if row.state == "imported":
            findings.difference("import", "it has ended and says nothing of its rows", import_id=row.import_id)
        return
    counted = msgspec.convert(summary, _Counted)
    told = sum(getattr(counted, name) for name in OUTCOMES)
    if told != counted.rows:
        problem = f"{counted.rows} rows were read, {told} are accounted for"
        findings.difference("import", problem, import_id=row.import_id)
    kind = msgspec.json.decode(row.options, type=_Options).kind
    if held is None:
        return
    if kind == "events" and row.state in _OVER and held != counted.created:
        problem = f"it made {counted.created} events, history holds {held} of it"
        findings.difference("import", problem, import_id=row.import_id)
