"""What every import keeps while it runs: counts, places, reports; committed with each chunk in the import's row."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.error import BackstoryError
from backstory.engine.backfill.block_move import PART_BYTES, PART_ROWS
from backstory.engine.backfill.import_control import IMPORTING, PAUSED, Running
from backstory.engine.file.csv_cell import Cells
from backstory.engine.file.options import BackfillOptions, Held, Summary
from backstory.engine.file.report import Report, is_report, report_path
from backstory.engine.file.row_value import NotHere, RowError, Settled
from backstory.engine.file.source import CHUNK_BYTES, FAST_BYTES_MIN, Place
from backstory.store.manifest import ImportRow, find_import

if TYPE_CHECKING:
    from backstory.engine.backfill.mended import Mended
    from backstory.engine.preview.tally import Tally
    from backstory.engine.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunking:
    """How files are cut into chunks and read: what comes in is the same whatever stands here.

    ``fast``: let the bulk readers take the rows they can. Files of events need ``fast_bytes_min`` for that: smaller
    ones are read sooner than the code is loaded.
    Progress is told behind a chunk, at most every ``tell_every_s``.
    """

    bytes_max: int = CHUNK_BYTES
    event_rows_max: int = 250_000
    people_rows_max: int = 2000
    # So much of the documents of people who are known is read together.
    document_bytes: int = 64 << 20
    # Behind so many rows of an import so many writes of people in one step become a block of the tail, and so many
    # writes, or bytes, in blocks a part: smaller imports make no files of their own.
    blocks_from: int = 10_000
    block_rows_min: int = 200
    part_rows: int = PART_ROWS
    part_bytes: int = PART_BYTES
    # How many journeys the loop begins at once.
    starts_max: int = 100
    fast: bool = True
    fast_bytes_min: int = FAST_BYTES_MIN
    tell_every_s: float = 0.5


class Retry(BackstoryError):
    """Something changed while a chunk was made ready: make it ready again."""


class Departed(Retry):
    """People were deleted while rows about them were made ready: make the chunk ready again without these rows."""

    def __init__(self, people: BitMap) -> None:
        super().__init__("people of the chunk were deleted")
        self.people = people


class Counts(msgspec.Struct, kw_only=True):
    """Rows by what became of them; they add up to ``rows``. ``warnings`` and the rest are beside that.

    ``settled`` are those of the ``skipped`` that a retry found mended before.
    """

    rows: int = 0
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    stale: int = 0
    duplicate: int = 0
    skipped: int = 0
    errors: int = 0
    warnings: int = 0
    held_events: int = 0
    held_segments: int = 0
    people_created: int = 0
    settled: int = 0

    def add(self, other: "Counts") -> "Counts":
        """The sums of both."""
        names = self.__struct_fields__
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in names})


class Saved(msgspec.Struct, kw_only=True):
    """The progress in an import's row: where to go on, and the counts so far."""

    file: int = 0
    offset: int = 0
    line: int = 0
    checksum: int = 0
    error_bytes: int = 0
    warning_bytes: int = 0
    seconds: float = 0.0
    start_seq: int = 0
    # (segment, did they enter, person) of the last journey begun for the net difference.
    judged: tuple[int, bool, int] = (0, False, -1)
    # Of the chunk committed last: the seq of its first row, and which of its rows are still to start journeys.
    firing_seq: int = 0
    firing: bytes = b""
    # Of a retry (``engine.mend``): the files the import was of, which of them is mended (from 0 on), the moment it
    # began, the state before; the lines that are mended so far, as a bitmap.
    sources: list[str] = []
    mending: int = 0
    retry_us: int = 0
    was: Literal["imported", "failed", "canceled"] = "imported"
    mended: bytes = b""
    # How many rows the input had, and how many of them had failed, when it first was retried; None before.
    first_rows: int | None = None
    first_errors: int | None = None
    # What the columns of each CSV file were found to hold, but for text; how many lines there are before each file.
    columns: dict[int, dict[str, str]] = {}
    starts: dict[int, int] = {}
    # How many lines the input had, when it first was retried; lines of the files before this one.
    input_lines: int = 0
    lines_before: int = 0
    sizes: list[int] = []
    counts: Counts = msgspec.field(default_factory=Counts)
    # What to do when no row could be taken, found at the end.
    hint: str = ""
    # Journeys that began by it, counted at the end: whom a deletion takes out later still counts.
    journeys: int = 0
    summary: dict[str, object] = {}

    @property
    def place(self) -> Place:
        return Place(self.offset, self.line, self.checksum)


class Job:
    """One import under way."""

    def __init__(
        self, workspace: "Workspace", row: ImportRow, options: BackfillOptions, chunking: Chunking | None = None
    ) -> None:
        self.workspace = workspace
        self.row = row
        self.options = options
        self.chunking = chunking or Chunking()
        self.saved = msgspec.json.decode(row.progress, type=Saved)
        # The run this is of, which others may pause; None: nobody can.
        self.running: Running | None = None
        # Of a preview.
        self.tally: Tally | None = None
        self._file = 0
        # Of a retry: which rows are to be taken. None: all.
        self.mended: Mended | None = None
        self.extra_seconds: Callable[[], float] = lambda: 0.0
        self._reports: dict[str, Report] = {}

    @property
    def import_id(self) -> int:
        return self.row.import_id

    @property
    def accept_us(self) -> int:
        """When the rows at hand are accepted: their times may be later, and decide what they start."""
        return self.saved.retry_us or self.row.accept_us

    @property
    def accepted(self) -> ImportRow:
        """The import's row with that moment."""
        return replace(self.row, accept_us=self.accept_us)

    # -- rows by the line they are of, which is another one in a file of mended rows ------------------------------

    def admit(self, line: int) -> None:
        """Raises ``NotHere`` for a row that is not to be taken."""
        if self.mended is not None:
            self.mended.admit(line)

    def origin(self, line: int) -> int:
        """The line of the input."""
        return line if self.mended is None else self.mended.origin(line)

    def origins(self, lines: NDArray[np.int64]) -> NDArray[np.int64]:
        """The same, of many."""
        return lines if self.mended is None else self.mended.origins(lines)

    def cells(self, path: Path, place: Place) -> Cells:
        """A CSV file. Mended rows are too few to say what columns hold: the file they are of has said it."""
        if self.mended is not None:
            return Cells(path, place, self.options, found=self.saved.columns.get(self.saved.mending, {}))
        cells = Cells(path, place, self.options)
        self.saved.columns[self.options.paths.index(str(path))] = cells.found
        return cells

    # -- reports --------------------------------------------------------------------------------------------------

    def begin_file(self, number: int, path: Path, *, header: list[str] | None = None, delimiter: str = ",") -> None:
        """Each file has reports of its own, in its own form: ``header`` of a CSV file, None for JSON lines."""
        saved, sources = self.saved, self.saved.sources or self.options.paths
        self._file = number
        if not saved.sources:
            saved.starts[number] = self.lines_before(number)
        of = saved.mending if saved.sources else number
        for kind, length in (("errors", saved.error_bytes), ("warnings", saved.warning_bytes)):
            report = report_path(self._reports_path, self.import_id, kind, Path(sources[of]), of, len(sources))
            # What is there of a file whose first rows were not committed is of no commit.
            known = length if number == saved.file else 0
            self._reports[kind] = Report(
                report,
                header=header,
                length=known,
                delimiter=delimiter,
                again=is_report(path),
                origin=self._told_line(kind),
                file=of + 1 if len(sources) > 1 else None,
            )

    def _told_line(self, kind: str) -> Callable[[int], int]:
        """Which line a report tells of a row."""
        if self.mended is None:
            return lambda line: line
        return self.mended.line if kind == "warnings" else self.mended.refused

    @property
    def _reports_path(self) -> Path:
        return self.workspace.folder.path / "reports"

    def _report_name(self, kind: str, rows: int) -> str | None:
        """Where the reports of a kind are: a file, or a folder when several files were read."""
        if not rows:
            return None
        paths = self.saved.sources or self.options.paths
        path = report_path(self._reports_path, self.import_id, kind, Path(paths[0]), 0, len(paths))
        return str(path if len(paths) == 1 else path.parent)

    def sample(self, outcome: str, lines: Sequence[int] | NDArray[np.int64]) -> None:
        """Rows of the file at hand that came out so: a preview shows the first of them."""
        if self.tally is not None:
            self.tally.note(outcome, self._file, lines)

    def report(self, kind: str) -> Report:
        return self._reports[kind]

    def refuse_json(self, error: RowError, line: int, text: bytes, counts: Counts) -> None:
        """Tell of a line that is not taken: it is wrong, or says something else than what is read."""
        if isinstance(error, NotHere):
            pass_over(error, counts)
            return
        counts.errors += 1
        self.report("errors").add_json(line, text, str(error))

    def refuse_csv(self, error: RowError, line: int, cells: list[str], counts: Counts) -> None:
        """The same of a row of cells."""
        if isinstance(error, NotHere):
            pass_over(error, counts)
            return
        counts.errors += 1
        self.report("errors").add_csv(line, cells, str(error))

    def take_reports(self) -> tuple[list[str], list[str]]:
        """The report lines of a chunk being read, to be told when it is committed: (errors, warnings)."""
        return self._reports["errors"].take(), self._reports["warnings"].take()

    def tell_reports(self, errors: list[str], warnings: list[str]) -> None:
        """Have lines written with the next commit."""
        self._reports["errors"].tell(errors)
        self._reports["warnings"].tell(warnings)

    def lines_before(self, file: int) -> int:
        """How many lines the files before the ``file``-th have."""
        saved = self.saved
        return saved.lines_before + (saved.line if file != saved.file else 0)

    @property
    def lines(self) -> int:
        """How many lines of the input were read, also where a retry is at work."""
        return max(self.saved.input_lines, self.lines_before(len(self.options.paths)))

    def note_people(self, count: int) -> None:
        """On the loop, with people who come to be before the rows that name them."""
        self.saved.counts.people_created += count
        self.put()

    def save(self, *, file: int, place: Place, counts: Counts) -> None:
        """On the loop, inside the chunk's transaction: how far the import is now."""
        total = self.saved.counts.add(counts)
        self.saved = msgspec.structs.replace(
            self.saved,
            lines_before=self.lines_before(file),
            file=file,
            offset=place.offset,
            line=place.line,
            checksum=place.checksum,
            error_bytes=self._flush("errors"),
            warning_bytes=self._flush("warnings"),
            seconds=self.saved.seconds + self.extra_seconds(),
            counts=total,
            mended=self.saved.mended if self.mended is None else self.mended.upto(place.line),
        )
        self.put()

    def _flush(self, kind: str) -> int:
        report = self._reports.get(kind)
        return 0 if report is None else report.flush()

    def call(self, work: Callable[[], T]) -> T:
        """Run something on the loop's thread on behalf of the import: what it names and begins is the import's."""

        def piece() -> T:
            namings, context = self.workspace.folder.namings, self.workspace.context
            namings.source = context.import_at_work = self.import_id
            context.segments.importing = True
            try:
                return work()
            finally:
                namings.flush()
                namings.source = context.import_at_work = 0
                context.segments.importing = False

        return self.workspace.call(piece)

    def put(self) -> None:
        """Inside a transaction: write the import's row."""
        self.saved.summary = msgspec.to_builtins(self.summary("importing"))
        self.row = replace(
            self.row,
            state=self.row.state if self.running is None or self.running.go.is_set() else PAUSED,
            progress=msgspec.json.encode(self.saved).decode(),
            updated_us=self.workspace.folder.state.now_us,
        )
        self.workspace.folder.manifest.put_import(self.row)
        self.row = replace(self.row, state=IMPORTING)

    def count_journeys(self) -> None:
        """At the end, on the loop: how many journeys began by the import, for its summary."""
        state = self.workspace.folder.state
        found = find_import(state.db, self.import_id)
        if found is None or found.state not in (IMPORTING, PAUSED):
            return
        (self.saved.journeys,) = state.db.execute(
            "SELECT count(*) FROM journey WHERE import_id = ?", (self.import_id,)
        ).fetchone()
        self.put()

    def summary(self, state: str) -> Summary:
        """What became of the rows of the input: one that was mended is no error any more, and no second row."""
        counts = self.saved.counts
        mended = len(BitMap.deserialize(self.saved.mended)) if self.saved.mended else 0
        rows = counts.rows if self.saved.first_rows is None else self.saved.first_rows
        failed = counts.errors if self.saved.first_errors is None else self.saved.first_errors
        return Summary(
            import_id=self.import_id,
            state=state,
            rows=rows,
            created=counts.created,
            updated=counts.updated,
            unchanged=counts.unchanged,
            stale=counts.stale,
            duplicate=counts.duplicate,
            skipped=counts.skipped - counts.settled,
            errors=failed - mended,
            warnings=counts.warnings,
            held_back=Held(event=counts.held_events, segment=counts.held_segments),
            people_created=counts.people_created,
            error_file=self._report_name("errors", counts.errors),
            warning_file=self._report_name("warnings", counts.warnings),
            seconds=round(self.saved.seconds, 3),
            mended=mended,
            to_mend=failed - mended,
            journeys_started=self.saved.journeys,
            hint=self.saved.hint,
        )


def pass_over(error: NotHere, counts: Counts) -> None:
    """Count a row that is not wrong, and not taken."""
    counts.skipped += 1
    counts.settled += isinstance(error, Settled)


def row_of(workspace: "Workspace", import_id: int) -> ImportRow:
    """The import's row as committed."""
    row = workspace.folder.state.read(lambda db: find_import(db, import_id))
    assert row is not None
    return row


