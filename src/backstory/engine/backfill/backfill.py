"""Backfill: files of people or events become history, in bulk, resumable, told at the end what came of every row.

The same unfinished files with the same options are gone on with; a file that changed since is refused. Imports that run
at once take turns, a chunk each (``engine.backfill.import_turn``). Sources: design sections 9 and 10.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backstory.core.error import RequestError
from backstory.core.fact import FinishImport, StartImport
from backstory.engine.backfill.event_import import EventImport
from backstory.engine.backfill.event_read import Staged
from backstory.engine.backfill.fact_import import FactImport
from backstory.engine.backfill.import_check import check
from backstory.engine.backfill.import_control import IMPORTING, PAUSED, Paused, Running
from backstory.engine.backfill.import_hint import hint
from backstory.engine.backfill.import_job import Chunking, Counts, Job, Saved, row_of
from backstory.engine.backfill.import_trigger import go_on
from backstory.engine.backfill.mended import Mended
from backstory.engine.backfill.net_difference import judge_segments, members_now
from backstory.engine.backfill.people_import import PeopleImport
from backstory.engine.backfill.people_read import PeopleCells, PeopleLines
from backstory.engine.backfill.preload import First
from backstory.engine.file import spool
from backstory.engine.file.csv_source import CsvRow
from backstory.engine.file.event_row import EventRow, read_event
from backstory.engine.file.file_shape import is_csv, reading_of, row_shape
from backstory.engine.file.options import BackfillOptions, Progress, Summary
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.row_value import RowError
from backstory.engine.file.source import Chunk, Place, Source
from backstory.store.manifest import read_imports

if TYPE_CHECKING:
    from backstory.engine.preview.tally import Tally
    from backstory.engine.workspace import Workspace

OnProgress = Callable[[Progress], None]


def run(
    workspace: Workspace,
    options: BackfillOptions,
    on_progress: OnProgress,
    *,
    chunking: Chunking | None = None,
    tally: Tally | None = None,
) -> Summary:
    """Bring files in; returns when every row is durable and every count exact. ``tally`` is for previews.

    Raises ``RequestError`` for options that cannot be, ``SourceError`` for files that cannot be read (the import stays
    resumable), and whatever ``on_progress`` raises.
    """
    check(options)
    check_segment(workspace, options)
    with workspace.turns.importing(msgspec.json.encode(options).decode()) as place:
        job = _begin(workspace, options, chunking or Chunking())
        job.tally = tally
        running = workspace.imports.begun(job.import_id)
        try:
            while (paused := _passed(job, running, on_progress)) is not None:
                while not running.go.is_set():
                    with place.left():
                        workspace.imports.wait(running, paused.alive)
                # As after a crash: from the last commit on.
                row = replace(row_of(workspace, job.import_id), state=IMPORTING)
                job = Job(workspace, row, options, job.chunking)
            _move_blocks(job)
            judge_segments(job)
            return _end(job)
        finally:
            workspace.imports.ended(running)


def _move_blocks(job: Job) -> None:
    """What is left of people's writes in blocks becomes parts: people are read one by one there.

    The history of a replica is not kept; but where campaigns wait for what the import moved, it is read all the same.
    """
    workspace = job.workspace
    judged = workspace.call(lambda: bool(workspace.folder.baselines.of(job.import_id)))
    if judged or job.tally is None:
        workspace.compactor.blocks.move_all()


def _passed(job: Job, running: Running, on_progress: OnProgress) -> Paused | None:
    """Pass over the files from where the import stands; None when that is done."""
    if job.saved.sources:
        before = job.saved.starts.get(job.saved.mending, 0)
        job.mended = Mended(Path(job.options.paths[0]), job.saved.mended, taken=job.saved.line, before=before)
    job.running = running
    with job.workspace.turns.chunk():
        go_on(job)
    try:
        _Run(job, on_progress).files()
    except Paused as paused:
        return paused
    return None


def check_segment(workspace: Workspace, options: BackfillOptions) -> None:
    """Raises ``RequestError`` when members are to go into what is no manual segment."""
    kept = None if options.segment_id is None else workspace.segments.segments.get(options.segment_id)
    if options.kind != "members" or (kept is not None and kept.condition is None):
        return
    but = "" if kept is None else f"; segment {options.segment_id} has conditions and fills itself"
    raise RequestError(f"there is no manual segment {options.segment_id}{but}", path="segment_id")


def cancel(workspace: Workspace, import_id: int) -> None:
    """End an unfinished import where it stands: what came in stays.

    Raises ``NotFoundError``, or ``ConflictError`` when it has ended already.
    """
    workspace.imports.cancel(import_id)


def _begin(workspace: Workspace, options: BackfillOptions, chunking: Chunking) -> Job:
    """Go on with the unfinished import of the same files and options, or start one."""
    text = msgspec.json.encode(options)
    fingerprint = text.decode()
    sizes = [Path(name).stat().st_size for name in options.paths]
    for row in workspace.folder.state.read(read_imports):
        if row.state in (IMPORTING, PAUSED) and row.fingerprint == fingerprint:
            job = Job(workspace, row, options, chunking)
            if job.saved.sizes and job.saved.sizes != sizes:
                raise RequestError(
                    f"a file has changed since import {row.import_id} began: put it back as it was, or cancel that "
                    f"import with `backstory imports cancel {row.import_id}`"
                )
            if job.saved.sizes:
                return job
            return _note_start(job, sizes)
    receipt = workspace.apply([StartImport(options=text, fingerprint=fingerprint)])[0]
    assert receipt.subject is not None
    return _note_start(Job(workspace, row_of(workspace, receipt.subject), options, chunking), sizes)


def _note_start(job: Job, sizes: list[int]) -> Job:
    """What the end is to be compared with: memberships as they are before the first row."""
    workspace = job.workspace

    def note() -> None:
        job.saved = Saved(sizes=sizes, start_seq=workspace.folder.state.next_seq)
        workspace.folder.baselines.begin(job.import_id, members_now(workspace))
        job.put()

    workspace.call(note)
    spool.begin(workspace.folder.path, job.options.paths)
    return job


def _end(job: Job) -> Summary:
    workspace = job.workspace
    counts = job.saved.counts
    job.saved.hint = hint(job.options) if 0 < counts.rows == counts.errors else ""
    workspace.call(job.count_journeys)
    summary = job.summary(job.saved.was)
    # The journal, which is synced, must not tell of an end that a power cut takes out of the state.
    workspace.folder.state.sync()
    workspace.apply([FinishImport(import_id=job.import_id, state=job.saved.was)])
    workspace.folder.state.sync()
    spool.remove(workspace.folder.path, job.options.paths)
    return summary


class _Run:
    """One pass over the files, from where the import stands."""

    def __init__(self, job: Job, on_progress: OnProgress) -> None:
        self._job = job
        self._options = job.options
        self._on_progress = on_progress
        self._started_s = time.monotonic()
        self._told_s = 0.0
        self._mark_s = self._started_s
        job.extra_seconds = self._since_mark
        self._done_bytes = 0
        self._total_bytes = sum(Path(name).stat().st_size for name in job.options.paths)
        self._first_rows = job.saved.counts.rows

    def _since_mark(self) -> float:
        now_s = time.monotonic()
        passed, self._mark_s = now_s - self._mark_s, now_s
        return passed

    def tell(self, phase: str, read_bytes: int, *, force: bool = False) -> None:
        """Say how far it is, a few times a second at most."""
        now_s = time.monotonic()
        running = self._job.running
        if running is not None:
            self._job.workspace.imports.at_chunk(running, lambda: self._say(phase, read_bytes))
        if not force and now_s - self._told_s < self._job.chunking.tell_every_s:
            return
        self._told_s = now_s
        self._say(phase, read_bytes)

    def _say(self, phase: str, read_bytes: int) -> None:
        now_s = time.monotonic()
        rows = self._job.saved.counts.rows
        rate = (rows - self._first_rows) / max(now_s - self._started_s, 1e-6)
        done = self._done_bytes + read_bytes
        estimate = round(rows * self._total_bytes / done) if done and rows else None
        progress = Progress(
            rows=rows,
            rows_total_estimate=estimate,
            bytes=min(done, self._total_bytes),
            bytes_total=self._total_bytes,
            rows_per_s=round(rate, 1),
            phase=phase,
        )
        if self._job.running is not None:
            self._job.workspace.imports.noted(self._job.running, progress)
        self._on_progress(progress)

    def files(self) -> None:
        start = self._job.saved.file
        for number, name in enumerate(self._options.paths):
            path = Path(name)
            if number >= start:
                place = self._job.saved.place if number == start else Place()
                self._file(path, number, place)
            self._done_bytes += path.stat().st_size
        self.tell("settling", 0, force=True)

    def _file(self, path: Path, number: int, place: Place) -> None:
        cells = is_csv(path)
        shape = row_shape(self._options, path)
        if self._options.kind == "events" and not cells:
            self._job.begin_file(number, path)
            self._event_lines(path, number, place)
        elif self._options.kind == "events":
            self._event_cells(path, number, place, shape)
        elif self._options.kind == "people":
            self._people(path, number, place, shape)
        else:
            with closing(FactImport(self._job, path, number, place, shape).steps()) as steps:
                while (behind := self._next_step(steps)) is not None:
                    self.tell("importing", behind.offset)

    def _next_step(self, steps: Iterator[Place]) -> Place | None:
        with self._job.workspace.turns.chunk():
            return next(steps, None)

    # -- events -------------------------------------------------------------------------------------------------------

    def _event_lines(self, path: Path, number: int, place: Place) -> None:
        importer = EventImport(self._job, row_shape(self._options, path))
        first = self._first_of(path, place)
        source = first.source if first else Source(path, place, reading=reading_of(self._options, path))
        # The next chunk is read while the one before is written and committed.
        with ThreadPoolExecutor(1, thread_name_prefix="import") as reading:
            chunks = first.chunks if first else source.chunks(self._job.chunking.bytes_max)
            coming = reading.submit(_read_first, importer, chunks, first)
            try:
                while (staged := coming.result()) is not None:
                    coming = reading.submit(_read_chunk, importer, chunks)
                    with self._job.workspace.turns.chunk():
                        importer.commit(staged, number)
                    self.tell("importing", staged.end.offset)
                importer.settle()
            finally:
                wait([coming])
                source.close()
                importer.close()

    def _first_of(self, path: Path, place: Place) -> First | None:
        """The beginning of a file, where that was read before there was a workspace."""
        preload = self._job.workspace.preload
        if preload is None or place != Place() or self._job.chunking != Chunking():
            return None
        return preload.first(path, self._options)

    def _event_cells(self, path: Path, number: int, place: Place, shape: RowShape) -> None:
        cells = self._job.cells(path, place)
        self._job.begin_file(number, path, header=cells.header, delimiter=cells.delimiter)
        importer = EventImport(self._job, shape)
        try:
            for some in _in_chunks(cells.rows(), place.offset, self._job.chunking):
                counts = Counts()
                rows: list[EventRow] = []
                for row in some:
                    good = self._judge(row, counts, lambda r: read_event(cells.fields(r), r.line, shape))
                    if good is not None:
                        rows.append(good)

                def refuse(row: EventRow, reason: str, some: list[CsvRow] = some) -> None:
                    cells = some[bisect_left(some, row.line, key=lambda one: one.line)].cells
                    self._job.report("errors").add_csv(row.line, cells, reason)

                with self._job.workspace.turns.chunk():
                    importer.take(rows, file=number, end=some[-1].end, counts=counts, refuse=refuse)
                self.tell("importing", some[-1].end.offset)
            importer.settle()
        finally:
            cells.close()
            importer.close()

    def _judge(self, row: CsvRow, counts: Counts, read: Callable[[CsvRow], EventRow]) -> EventRow | None:
        counts.rows += 1
        try:
            self._job.admit(row.line)
            if row.error:
                raise RowError("", None, row.error)
            good = read(row)
        except RowError as error:
            self._job.refuse_csv(error, row.line, row.cells, counts)
            return None
        if good.warning:
            counts.warnings += 1
            self._job.report("warnings").add_csv(row.line, row.cells, good.warning)
        return good

    # -- people -------------------------------------------------------------------------------------------------------

    def _people(self, path: Path, number: int, place: Place, shape: RowShape) -> None:
        reader = PeopleCells if is_csv(path) else PeopleLines
        source = reader(self._job, path, number, place, shape)
        importer = PeopleImport(self._job, number, source.first_us)
        # The next rows are made ready while the loop takes in those before.
        with ThreadPoolExecutor(1, thread_name_prefix="import") as reading:
            batches = iter(source)
            coming = reading.submit(next, batches, None)
            try:
                while (some := coming.result()) is not None:
                    coming = reading.submit(next, batches, None)
                    for batch in some:
                        with self._job.workspace.turns.chunk():
                            importer.take(batch)
                        self.tell("importing", batch.end.offset)
            finally:
                wait([coming])
                source.close()
                importer.close()


def _read_first(importer: EventImport, chunks: Iterator[Chunk], first: First | None) -> Staged | None:
    chunk = next(chunks, None) if first is None else first.chunk
    if chunk is None:
        return None
    importer.look(chunk, first)
    return importer.json_chunk(chunk)


def _read_chunk(importer: EventImport, chunks: Iterator[Chunk]) -> Staged | None:
    chunk = next(chunks, None)
    return None if chunk is None else importer.json_chunk(chunk)


def _in_chunks(rows: Iterable[CsvRow], offset: int, chunking: Chunking) -> Iterator[list[CsvRow]]:
    """Rows from an offset on in chunks, none of more rows or bytes than may be; a row in any case."""
    some: list[CsvRow] = []
    begin = end = offset
    for row in rows:
        if len(some) == chunking.event_rows_max or (some and row.end.offset - begin > chunking.bytes_max):
            yield some
            some, begin = [], end
        some.append(row)
        end = row.end.offset
    if some:
        yield some
