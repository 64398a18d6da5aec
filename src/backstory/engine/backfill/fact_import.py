"""Importing objects, relationships and members of manual segments: rows as facts, applied by the loop some at a time.

There are few of them beside people and events, so each is applied by the code of live calls. A step takes as many rows
as fit between two live facts, and its commit holds the place in the source: gone on with, no row counts twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from backstory.core.condition import Json
from backstory.core.fact import ChangeMembers, IdentifyObject, Receipt, Relate
from backstory.core.identity import normal
from backstory.core.person import values
from backstory.engine.backfill.import_job import Counts, Job, pass_over
from backstory.engine.file.fact_row import FactRow, read_fact
from backstory.engine.file.file_shape import is_csv, reading_of
from backstory.engine.file.line_source import lines_of, too_long
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.row_value import NotHere, RowError, decode_line
from backstory.engine.file.source import Place, Source
from backstory.engine.preview.tally import OUTCOMES

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

# What the loop applies in a few milliseconds.
ROWS_PER_STEP = 100
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class _Line:
    """A row as it was read: its fields or what is wrong, how to report it, and the place behind it."""

    number: int
    fields: dict[str, Json] | RowError | None
    report: Callable[[str, str], None]
    end: Place


class FactImport:
    """One file."""

    def __init__(self, job: Job, path: Path, number: int, place: Place, shape: RowShape) -> None:
        self._job = job
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._number = number
        self._shape = shape
        # Rows without a time follow each other, as those of people do.
        self._first_us = job.row.accept_us + job.lines_before(number)
        self._lines = self._cells(path, place) if is_csv(path) else self._json(path, place)

    def steps(self) -> Generator[Place]:
        """Take in some rows in one commit; where it stands then."""
        try:
            while some := list(islice(self._lines, ROWS_PER_STEP)):
                self._job.call(lambda some=some: self._take(some))
                yield some[-1].end
        finally:
            self._lines.close()

    # -- reading --------------------------------------------------------------------------------------------------

    def _cells(self, path: Path, place: Place) -> Generator[_Line]:
        cells = self._job.cells(path, place)
        self._job.begin_file(self._number, path, header=cells.header, delimiter=cells.delimiter)
        try:
            for row in cells.rows():

                def report(kind: str, why: str, line: int = row.line, found: list[str] = row.cells) -> None:
                    self._job.report(kind).add_csv(line, found, why)

                fields: dict[str, Json] | RowError
                try:
                    fields = RowError("", None, row.error) if row.error else cells.fields(row)
                except RowError as error:
                    fields = error
                yield _Line(row.line, fields, report, row.end)
        finally:
            cells.close()

    def _json(self, path: Path, place: Place) -> Generator[_Line]:
        self._job.begin_file(self._number, path)
        source = Source(path, place, reading=reading_of(self._job.options, path))
        try:
            for text, end in lines_of(source):

                def report(kind: str, why: str, line: int = end.line, text: bytes = text) -> None:
                    self._job.report(kind).add_json(line, text, why)

                yield _Line(end.line, _decoded(text, end.line), report, end)
        finally:
            source.close()

    # -- on the loop ----------------------------------------------------------------------------------------------

    def _take(self, lines: Iterable[_Line]) -> None:
        counts, end, people = Counts(), Place(), self._folder.state.next_person
        context = self._workspace.context
        context.importing = self._job.import_id
        try:
            for line in lines:
                end = line.end
                if line.fields is not None:
                    one = Counts(rows=1)
                    self._row(line, line.fields, one)
                    counts = counts.add(one)
                    if outcome := next((name for name in OUTCOMES if getattr(one, name)), None):
                        self._job.sample(outcome, [line.number])
        finally:
            context.importing = 0
        counts.people_created += self._folder.state.next_person - people
        self._job.tell_reports(*self._job.take_reports())
        self._job.save(file=self._number, place=end, counts=counts)

    def _row(self, line: _Line, fields: dict[str, Json] | RowError, counts: Counts) -> None:
        options = self._job.options
        untold_us = options.as_of_us
        try:
            self._job.admit(line.number)
            if isinstance(fields, RowError):
                raise fields
            fact, warning = read_fact(
                fields,
                self._shape,
                kind=options.kind,
                type_id=options.object_type_id,
                segment_id=options.segment_id or 0,
                clear=options.on_empty == "clear",
                untold_us=self._first_us + self._job.origin(line.number) if untold_us is None else untold_us,
            )
            warning = self._apply(fact, counts) or warning
        except NotHere as error:
            pass_over(error, counts)
            return
        except RowError as error:
            counts.errors += 1
            line.report("errors", str(error))
            return
        if warning:
            counts.warnings += 1
            line.report("warnings", warning)

    def _apply(self, fact: FactRow, counts: Counts) -> str:
        """Returns a warning, empty where there is none. Raises ``RowError`` for what the state refuses."""
        before = self._state_of(fact)
        rows = self._job.options.rows
        missing = before is None
        if (rows == "only_new" and not missing) or (rows == "only_existing" and missing):
            counts.skipped += 1
            return ""
        if isinstance(fact, ChangeMembers) and before is None:
            # As in the original.
            counts.skipped += 1
            return f"{fact.people[0].kind} {fact.people[0].value!r}: nobody has it, so nobody was put into the segment"
        receipt = self._workspace.applier.apply(fact, self._folder.state.now_us)
        _count(receipt, before, self._state_of(fact), counts)
        return ""

    def _state_of(self, fact: FactRow) -> object:
        """What there is of it; None: nothing."""
        match fact:
            case ChangeMembers():
                person = self._folder.people.find(normal(fact.people[0]))
                return None if person is None else person in self._workspace.segments.segments[fact.segment_id].members
            case IdentifyObject():
                row = self._folder.objects.find(fact.object)
                return values(row.record.document) if row is not None and row.record.there else None
            case Relate():
                assert fact.person is not None
                row = self._folder.objects.find(fact.object)
                person = self._folder.people.find(normal(fact.person))
                if row is None or person is None:
                    return None
                record = self._folder.relations.get(person, row.number)
                return values(record.document) if record.there else None


def _count(receipt: Receipt, before: object, after: object, counts: Counts) -> None:
    if receipt.result == "skipped":
        counts.stale += 1
    elif receipt.result != "applied":
        raise RowError("", None, receipt.reason or f"was not taken: {receipt.result}")
    elif before is None or before is False:
        counts.created += after is not False
        counts.unchanged += after is False
    elif before == after:
        counts.unchanged += 1
    else:
        counts.updated += 1


def _decoded(text: bytes, line: int) -> dict[str, Json] | RowError | None:
    """None: a blank line."""
    if text.isspace():
        return None
    try:
        if too_long(text):
            raise RowError("", None, "the line is too long to be read")
        return decode_line(text.removeprefix(_BOM) if line == 1 else text)
    except RowError as error:
        return error
