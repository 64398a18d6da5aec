"""Reading events: a chunk of lines becomes rows whose people are known, or made.

Compiled kernels read the lines they are sure of (the fast lane), all others go one by one (the strict lane).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from backstory.core.fact import Identifier
from backstory.core.identity import normal
from backstory.engine.backfill.event_chunk import NAMED_BY, STAGED, Arranged, Rows, arranged, joined, rows_of
from backstory.engine.backfill.import_job import Counts, Job
from backstory.engine.backfill.newcomer import Newcomers
from backstory.engine.file.buffer import Buffers
from backstory.engine.file.event_row import EventRow, key_of, read_event
from backstory.engine.file.report import FORGOTTEN_ROW, OLDER_ROW
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.row_value import RowError, decode_line
from backstory.engine.file.source import PEEK_BYTES, Chunk, Place
from backstory.store.everybody import everybody
from backstory.store.keyrun import OrderByHead, order_by_head
from backstory.store.tombstone import Gone

if TYPE_CHECKING:
    from backstory.engine.backfill.event_fast import Found, Stranger, Tables
    from backstory.engine.backfill.identifier_table import IdentifierTable
    from backstory.engine.backfill.preload import First
    from backstory.engine.workspace import Workspace
    from backstory.store.everybody import Kind

# Is told of a row that cannot be used, and why.
Refuse = Callable[[EventRow, str], None]


@dataclass(frozen=True, slots=True)
class Staged:
    """A chunk whose rows are read and whose people are known; report lines wait until it is committed.

    The rows are put in order while the next ones are read.
    """

    rows: Future[Arranged]
    end: Place
    counts: Counts
    errors: list[str]
    warnings: list[str]


class EventReader:
    """Reads the lines of one import, and finds or makes their people."""

    def __init__(self, job: Job, shape: RowShape, newcomers: Newcomers, beside: Executor) -> None:
        self._job = job
        self._beside = beside
        self._shape = shape
        self._newcomers = newcomers
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        # Everybody, for the fast lane; None: the file goes the strict way.
        self._tables: Tables | None = None
        # One chunk is read while the one before is written.
        self._read_into = (Buffers(), Buffers())
        # The first chunk, where it was read beforehand.
        self._scanned: Found | None = None
        # As of which renaming of people the tables are.
        self._tables_of = -1
        # Rows are put in order beside reading, one chunk after the other.
        self._by_head: OrderByHead = order_by_head

    def look(self, chunk: Chunk, first: First | None) -> bool:
        """Find out by the first chunk whether the fast lane is worth it and can read files like this.

        ``first``: it has been.
        """
        chunking, shape = self._job.chunking, self._shape
        if not (chunking.fast and len(chunk.body) >= chunking.fast_bytes_min and shape.plain):
            return False
        # Only here: it brings Numba with it.
        from backstory.engine.backfill.event_fast import Tables, read_fast
        from backstory.engine.backfill.radix import Radix

        self._by_head = Radix().order_by_head
        self._tables_of = self._renamed()
        self._tables = Tables(self._read_table)
        self._newcomers.watch(self._tables.add)
        # Everybody is read while the first lines are: the beginning of them shows by which identifiers.
        for kind in read_fast(chunk.beginning(PEEK_BYTES), shape.identifier).kinds():
            self._tables.begin(kind)
        if first is not None:
            self._scanned, self._read_into = first.found, (self._read_into[0], first.buffers)
        return True

    def chunk(self, chunk: Chunk) -> Staged:
        """Read a chunk of a JSON lines file and find its people; ``commit`` takes it from there."""
        if self._tables is None or not len(chunk.body):
            return self._by_strict_lane(chunk)
        return self._by_both_lanes(chunk, self._tables)

    def _by_both_lanes(self, chunk: Chunk, tables: Tables) -> Staged:
        from backstory.engine.backfill.event_fast import read_fast

        renamed = self._renamed()
        if self._tables_of != renamed:
            self._tables_of = renamed
            tables.forget()
        counts = Counts()
        self._read_into = self._read_into[::-1]
        found, self._scanned = self._scanned, None
        if found is None:
            found = read_fast(chunk, self._shape.identifier, self._read_into[0])
        self._leave_deleted(found, tables)
        rows = self._strict(found.others(), counts)
        counts.rows += len(found)
        found.look_up(tables)
        strangers = found.strangers()
        if self._job.options.rows == "only_existing":
            counts.skipped += int((found.people < 0).sum())
            self._job.sample("skipped", found.lines[found.people < 0])
            found.keep(found.people >= 0)
            strangers = []
        staged = self.stage(rows, counts, self._refuser(chunk), strangers)
        found.look_up(tables)
        assert (found.people >= 0).all(), "whoever is named has been found, or made"
        as_of_us = self._job.options.as_of_us
        now_us = self._job.row.accept_us if as_of_us is None else as_of_us
        fast = found.rows(now_us, all_timed=as_of_us is not None)
        both = joined(fast, rows_of(staged)) if staged.num_rows else fast
        return self.staged(both, chunk.end, counts)

    def staged(self, rows: Rows, end: Place, counts: Counts) -> Staged:
        """The rows with what was reported of the chunk they are from."""
        return Staged(self._beside.submit(arranged, rows, self._by_head), end, counts, *self._job.take_reports())

    def _read_table(self, kind: Kind) -> IdentifierTable:
        """Everybody, who may have been read beforehand."""
        from backstory.engine.backfill.event_fast import table_of

        preload = self._workspace.preload
        ready = None if preload is None else preload.everybody(kind, self._tables_of)
        return table_of(kind, everybody(self._folder.state.rows, kind)) if ready is None else ready

    def _renamed(self) -> int:
        # Asked of the loop, so that all it counts is committed.
        return self._workspace.call(lambda: self._folder.people.renamed)

    def _leave_deleted(self, found: Found, tables: Tables) -> None:
        """Whom a row means that names somebody who is gone depends on its time: the strict lane says."""
        from backstory.engine.backfill.identifier_table import IdentifierTable

        if not self._folder.tombstones.any:
            return
        strangers: list[tuple[Literal["id", "email"], str]] = []
        if self._folder.tombstones.hiding:
            found.look_up(tables)
            strangers = [(one.kind, one.sent) for one in found.strangers()]
        gone: dict[Literal["id", "email"], IdentifierTable] = {}
        for identifier in self._newcomers.left_behind(strangers):
            if identifier.kind == "id" or identifier.kind == "email":
                table = gone.setdefault(identifier.kind, IdentifierTable(lower=identifier.kind == "email"))
                table.put_texts([identifier.value.encode()], [0])
        if gone:
            found.leave(found.in_table(gone))

    def _by_strict_lane(self, chunk: Chunk) -> Staged:
        counts = Counts()
        for line in chunk.too_long:
            self._job.report("errors").add_json(line, b"", "the line is too long to be read")
            counts = counts.add(Counts(rows=1, errors=1))
        rows = self._strict(enumerate(bytes(chunk.body).split(b"\n"), start=chunk.first_line), counts)
        table = self.stage(rows, counts, self._refuser(chunk))
        return self.staged(rows_of(table), chunk.end, counts)

    def _refuser(self, chunk: Chunk) -> Refuse:
        def refuse(row: EventRow, reason: str) -> None:
            self._job.report("errors").add_json(row.line, chunk.text(row.line), reason)

        return refuse

    def _strict(self, lines: Iterable[tuple[int, bytes]], counts: Counts) -> list[EventRow]:
        rows: list[EventRow] = []
        for line, text in lines:
            if not text or text.isspace():
                continue
            counts.rows += 1
            try:
                self._job.admit(line)
                bare = text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text
                row = read_event(decode_line(bare), line, self._shape)
            except RowError as error:
                self._job.refuse_json(error, line, text, counts)
                continue
            rows.append(row)
            if row.warning:
                counts.warnings += 1
                self._job.report("warnings").add_json(line, text, row.warning)
        return rows

    # -- staging: who and what ----------------------------------------------------------------------------------------

    def stage(
        self, rows: list[EventRow], counts: Counts, refuse: Refuse, strangers: Sequence[Stranger] = ()
    ) -> pa.Table:
        """Rows of the strict lane with their people; ``strangers`` of the fast lane are made with theirs."""
        as_of_us = self._job.options.as_of_us
        now_us = self._job.row.accept_us if as_of_us is None else as_of_us
        # The first row of somebody unknown counts for certain, so its time is one at which the person is known.
        wanted = {
            normal(Identifier(one.kind, one.sent)): (one.sent, now_us if one.time_us is None else one.time_us, one.line)
            for one in strangers
        }
        good: list[tuple[EventRow, Identifier, int | None]] = []
        named = [
            (normal(Identifier(row.person_kind, row.person)), as_of_us if row.time_us is None else row.time_us)
            for row in rows
        ]
        fates = self._newcomers.fates(named)
        for row, (identifier, time_us) in zip(rows, named, strict=True):
            fate = fates.get((identifier, time_us), identifier)
            if fate is None or isinstance(fate, Gone):
                counts.errors += 1
                nameless = fate is None or fate.hidden
                refuse(row, FORGOTTEN_ROW if nameless else OLDER_ROW)
                continue
            good.append((row, identifier, time_us))
            if isinstance(fate, Identifier) and (identifier not in wanted or row.line < wanted[identifier][2]):
                wanted[identifier] = (row.person, now_us if time_us is None else time_us, row.line)
        people = self._newcomers.find(wanted, create=self._job.options.rows != "only_existing")
        staged: list[tuple[object, ...]] = []
        for row, identifier, time_us in good:
            fate = fates.get((identifier, time_us))
            person = fate if isinstance(fate, int) else people.get(identifier)
            if person is None and identifier.kind == "cio_id":
                counts.errors += 1
                refuse(row, "nobody has this cio_id")
                continue
            if person is None:
                counts.skipped += 1
                self._job.sample("skipped", [row.line])
                continue
            key = key_of(row, time_us)
            staged.append(
                (
                    person,
                    now_us if time_us is None else time_us,
                    time_us is not None,
                    (key or 0) & 0xFFFFFFFFFFFFFFFF,
                    key is not None,
                    row.event_id is not None,
                    row.kind,
                    row.name,
                    row.data.decode(),
                    row.event_id,
                    NAMED_BY.index(identifier.kind),
                    row.line,
                )
            )
        columns = list(zip(*staged, strict=True)) if staged else [()] * len(STAGED)
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, STAGED.values(), strict=True)]
        return pa.table(dict(zip(STAGED, arrays, strict=True)))
