"""Retry: mended rows of an import's error file come in under the same import, as if right from the start.

The file is copied into the workspace; on the loop the import goes back to importing with that file as its only one, and
the backfill does the rest: a crash, a pause, a cancel, an undo later are those of any import. What differs (``Job``,
``Mended``): rows count by their line in the input, so that rows without a time stand where they stood; cells are of the
types that the first run found; what may start is judged by the moment of the retry. As of live calls, whom a row that
names two people is about, and which of two events with one id counts, is decided in the order in which rows come in.

The counts stay those of the input: a row that was mended counts as what became of it and no longer as an error, and
``rows`` are those of the input, however often some of them are sent. ``mended`` says how many had failed and are mended
by now, ``errors`` (and ``to_mend``) how many are not. The report keeps every refusal, also of the same row twice.
Source: issue 5, point 5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from pyroaring import BitMap

from backstory.core.error import BackstoryError, ConflictError, RequestError
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_control import IMPORTING, PAUSED
from backstory.engine.backfill.import_job import Chunking, Saved
from backstory.engine.backfill.mended import REPORT_DIALECT, file_of, rows_in_order, rows_told
from backstory.engine.backfill.net_difference import members_now
from backstory.engine.file import spool
from backstory.engine.file.csv_source import CsvSource
from backstory.engine.file.file_shape import is_csv
from backstory.engine.file.options import BackfillOptions, Summary
from backstory.engine.file.report import lines_told, report_path
from backstory.engine.file.spool import Spool, spool_folder
from backstory.engine.file.unpack import Reading, open_text
from backstory.store.manifest import ImportRow, find_import

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

_ENDED = ("imported", "canceled", "failed")
_BLOCK_BYTES = 1 << 20
_BYTES_MAX = 1 << 62


def retry(
    workspace: Workspace,
    import_id: int,
    path: Path,
    on_progress: backfill.OnProgress,
    *,
    chunking: Chunking | None = None,
) -> Summary:
    """Take in mended rows; returns when they are durable. The same file again goes on with a retry that stands still.

    Of an import of several files, the rows of one at a time: they say by ``file`` of which.
    Raises ``NotFoundError``; ``ConflictError`` for an import that is not over, was taken back or has no errors;
    ``RequestError`` for a file that is not of the import's errors; and what ``backfill.run`` raises.
    """
    return backfill.run(workspace, begin(workspace, import_id, path), on_progress, chunking=chunking)


def begin(workspace: Workspace, import_id: int, path: Path) -> BackfillOptions:
    """Make the import one that is to go on with this file; returns what it is to do. Raises as ``retry`` does."""
    _check_over(workspace, import_id, path)
    with workspace.imports.mending:
        row = workspace.imports.row(import_id)
        options = msgspec.json.decode(row.options, type=BackfillOptions)
        if row.state not in _ENDED:
            return options
        saved = msgspec.json.decode(row.progress, type=Saved)
        saved.sources = saved.sources or list(options.paths)
        errors = _errors(workspace, row, saved, path)
        copy = spool_folder(workspace.folder.path.resolve()) / _spool_name(import_id, errors)
        told = msgspec.structs.replace(
            options,
            paths=(str(copy),),
            name=options.name or Path(options.paths[0]).name,
            # A report is written by us.
            delimiter=None,
            encoding=None,
            quote=None,
        )
        try:
            _copy(path, copy, several=len(saved.sources) > 1)
            _check(copy, errors, import_id)
            spool.begin(workspace.folder.path, told.paths)
            workspace.call(lambda: _put(workspace, row, told, saved, copy.stat().st_size))
        except BackstoryError:
            spool.remove(workspace.folder.path, told.paths)
            raise
        return told


def _check_over(workspace: Workspace, import_id: int, path: Path) -> None:
    """Over, or a retry of the same file that nobody is at work on."""
    row = workspace.imports.row(import_id)
    if row.state in _ENDED:
        return
    if workspace.reader.import_(import_id).purged:
        raise ConflictError(
            f"import {import_id} was purged: its rows are gone for good; what is mended can be imported as a file"
        )
    if row.state not in (IMPORTING, PAUSED):
        raise ConflictError(
            f"import {import_id} is {row.state}: bring it in again with 'backstory imports redo {import_id}', "
            "then mend its rows"
        )
    options = msgspec.json.decode(row.options, type=BackfillOptions)
    sources = msgspec.json.decode(row.progress, type=Saved).sources
    again = sources and _same(path, Path(options.paths[0]), several=len(sources) > 1)
    if workspace.imports.runs(import_id) or not again:
        raise ConflictError(
            f"import {import_id} is {row.state}: wait for it, go on with it by 'backstory imports resume {import_id}' "
            f"or end it by 'backstory imports cancel {import_id}', then mend its rows"
        )


def _errors(workspace: Workspace, row: ImportRow, saved: Saved, path: Path) -> Path:
    """The report on the rows that failed, those of the file of which the mended ones are; notes which that is."""
    found = saved.summary.get("error_file")
    if not isinstance(found, str) or not Path(found).exists():
        raise ConflictError(f"import {row.import_id} has no rows with errors: there is nothing to mend")
    saved.mending = 0
    if len(saved.sources) > 1:
        number = file_of(path)
        if number is None or not 0 < number <= len(saved.sources):
            raise RequestError(
                f"import {row.import_id} read {len(saved.sources)} files, and the mended rows do not say by `file` of "
                f"which they are: leave the last column of its reports in {found} as it was; nothing was changed",
                path="file",
            )
        saved.mending = number - 1
    report = _report(workspace, row.import_id, "errors", saved)
    if not report.is_file():
        raise ConflictError(f"file {saved.mending + 1} of import {row.import_id} has no rows with errors")
    return report


def _report(workspace: Workspace, import_id: int, kind: str, saved: Saved) -> Path:
    source = Path(saved.sources[saved.mending])
    return report_path(workspace.folder.path / "reports", import_id, kind, source, saved.mending, len(saved.sources))


def _spool_name(import_id: int, errors: Path) -> str:
    """Known as a report by it, and for a CSV file or JSON lines."""
    ending = errors.suffix if errors.suffix else ".csv" if is_csv(errors) else ".jsonl"
    return f"import-{import_id}-errors.retry{ending}"


def _blocks(path: Path, *, several: bool) -> Iterator[bytes]:
    """What a file holds, unpacked; rows of JSON with their keys in the order of reports."""
    if not is_csv(path):
        yield from rows_in_order(path, several=several)
        return
    text = open_text(path, Reading(encoding="utf-8"))
    try:
        while block := text.read(_BLOCK_BYTES):
            yield block
    finally:
        text.close()


def _copy(path: Path, copy: Path, *, several: bool) -> None:
    with Spool(copy, bytes_max=_BYTES_MAX) as one:
        one.start_again()
        for block in _blocks(path, several=several):
            one.write(block)
        one.finish()


def _same(path: Path, copy: Path, *, several: bool) -> bool:
    if not copy.exists():
        return False
    with copy.open("rb") as held:
        return all(held.read(len(block)) == block for block in _blocks(path, several=several)) and not held.read(1)


def _check(copy: Path, errors: Path, import_id: int) -> None:
    """Raises ``RequestError`` for a file of other columns, and for rows that did not fail in this import."""
    if is_csv(errors):
        mended, told = (CsvSource(one, dialect=REPORT_DIALECT) for one in (copy, errors))
        mended.close()
        told.close()
        if (mended.header, mended.delimiter) != (told.header, told.delimiter):
            raise RequestError(
                f"the columns must be those of {errors}, {told.delimiter.join(told.header)}, and not "
                f"{mended.delimiter.join(mended.header)}; nothing was changed",
                path="file",
            )
    failed = BitMap(lines_told(errors))
    for line, origin in rows_told(copy):
        if origin not in failed:
            raise RequestError(
                f"line {line} of the file of mended rows says that it is line {origin} of the input, which did not "
                f"fail in import {import_id}: leave it out; nothing was changed",
                path="file",
            )


def _put(workspace: Workspace, row: ImportRow, options: BackfillOptions, saved: Saved, size: int) -> None:
    """On the loop: the import goes on with the mended rows. Raises ``ConflictError``."""
    if row != find_import(workspace.folder.state.db, row.import_id):
        raise ConflictError(f"import {row.import_id} changed in between: try again")
    state = workspace.folder.state
    text = msgspec.json.encode(options).decode()
    lengths = [
        report.stat().st_size if report.exists() else 0
        for report in (_report(workspace, row.import_id, kind, saved) for kind in ("errors", "warnings"))
    ]
    begun = msgspec.structs.replace(
        saved,
        file=0,
        offset=0,
        line=0,
        checksum=0,
        lines_before=0,
        input_lines=saved.input_lines or saved.lines_before + saved.line,
        # Rows of theirs that are forgotten since are no longer there.
        error_bytes=lengths[0],
        warning_bytes=lengths[1],
        sizes=[size],
        first_rows=saved.counts.rows if saved.first_rows is None else saved.first_rows,
        first_errors=saved.counts.errors if saved.first_errors is None else saved.first_errors,
        start_seq=state.next_seq,
        judged=(0, False, -1),
        retry_us=state.now_us,
        was=row.state,
    )
    workspace.folder.baselines.begin(row.import_id, members_now(workspace))
    workspace.folder.manifest.put_import(
        replace(
            row,
            options=text,
            fingerprint=text,
            state=IMPORTING,
            progress=msgspec.json.encode(begun).decode(),
            updated_us=state.now_us,
            error="",
        )
    )
