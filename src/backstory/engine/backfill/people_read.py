"""Files of people as batches made ready for the loop: each row judged, what is wrong with it told in the reports."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from backstory.core.time import MINUTE_US
from backstory.engine.backfill.import_job import Counts, Job
from backstory.engine.backfill.people_import import Batch, Ready, batch_of, ready
from backstory.engine.backfill.person_column import PersonColumns, columns_of, no_rows
from backstory.engine.backfill.person_table import PersonRows
from backstory.engine.file.csv_block import Block, CsvBlocks
from backstory.engine.file.file_shape import reading_of
from backstory.engine.file.line_source import lines_of, too_long
from backstory.engine.file.person_row import PersonRow, read_person
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.row_value import RowError, decode_line
from backstory.engine.file.source import Place, Source

_BOM = b"\xef\xbb\xbf"
# So many steps of the loop are made ready together: what a column costs whatever its length is paid less often.
STEPS_AT_ONCE = 8
# Lines of so many bytes together are a step, however few they are.
STEP_BYTES = 4 << 20


class _Rows:
    """What the readers of both forms share. Makes nothing of the state its own, so that it may run beside the loop."""

    def __init__(self, job: Job, number: int, shape: RowShape) -> None:
        self._job = job
        self._shape = shape
        # The time of the line before the file's first, for rows that name none.
        self.first_us = job.row.accept_us + job.lines_before(number)
        # A time behind that lies in the future.
        self.latest_us = job.accept_us + MINUTE_US
        self._rows_max = job.chunking.people_rows_max
        self._clear = job.options.on_empty == "clear"

    def _warning(self, row: PersonRow) -> str:
        """What is doubtful about a row that is taken."""
        if row.warning or row.time_us is None or row.time_us <= self.latest_us:
            return row.warning
        return "the time lies in the future: the time of the import was taken"

    def _ready(self, quick: PersonRows) -> Ready:
        as_of_us = self._job.options.as_of_us
        fixed = as_of_us is not None and as_of_us <= self.latest_us
        return ready(
            quick, np.full(len(quick), as_of_us) if fixed else self.first_us + self._job.origins(quick.lines)
        )

    def _batch(
        self, rows: Ready, odd: list[PersonRow], counts: Counts, line_of: Callable[[int, str], str], end: Place
    ) -> Batch:
        return batch_of(
            rows,
            odd,
            counts=counts,
            errors=self._job.report("errors").take_numbered(),
            warnings=self._job.report("warnings").take_numbered(),
            line_of=line_of,
            end=end,
        )


class PeopleCells(_Rows):
    """A CSV file."""

    def __init__(self, job: Job, path: Path, number: int, place: Place, shape: RowShape) -> None:
        super().__init__(job, number, shape)
        self._cells = job.cells(path, Place())
        self._cells.close()
        job.begin_file(number, path, header=self._cells.header, delimiter=self._cells.delimiter)
        self._columns = PersonColumns(self._cells, shape, clear=self._clear, latest_us=self.latest_us)
        self._blocks = CsvBlocks(
            path, place, rows_max=self._rows_max, steps=STEPS_AT_ONCE, dialect=self._cells.dialect
        )

    def __iter__(self) -> Iterator[list[Batch]]:
        width = len(self._cells.header)
        for block in self._blocks:
            block.columns = block.columns[:width]
            yield list(self._judge(block))

    def _judge(self, block: Block) -> Iterator[Batch]:
        """A batch for each place behind some of the rows: all of them are judged together."""
        errors = self._job.report("errors")
        for bad in block.bad:
            errors.add_csv(bad.line, bad.cells[: len(self._cells.header)], bad.error)
        quick, others = no_rows(), np.arange(len(block.lines))
        if self._columns.quick and self._job.chunking.fast:
            quick, others = self._columns.judge(block)

        def line_of(line: int, reason: str) -> str:
            return errors.csv_line(line, block.cells(int(np.searchsorted(block.lines, line))), reason)

        rows = self._ready(quick)
        all_lines, other_lines = block.lines, block.lines[others]
        low, first, before = 0, 0, 0
        for end in block.ends:
            high, last, until = (
                int(np.searchsorted(lines, end.line, "right")) for lines in (quick.lines, other_lines, all_lines)
            )
            # Where rows are bad there is one place only.
            counts = Counts(rows=until - before + len(block.bad), errors=len(block.bad))
            odd = self._odd(block, others[first:last].tolist(), counts)
            yield self._batch(rows.part(low, high), odd, counts, line_of, end)
            low, first, before = high, last, until

    def _odd(self, block: Block, others: list[int], counts: Counts) -> list[PersonRow]:
        """The rows at these places of a block, each judged by itself."""
        warnings = self._job.report("warnings")
        odd: list[PersonRow] = []
        for at in others:
            line, cells = int(block.lines[at]), block.cells(at)
            try:
                self._job.admit(line)
                row = read_person(
                    self._cells.texts(cells), line, self._shape, clear=self._clear, encode=self._cells.encode
                )
            except RowError as error:
                self._job.refuse_csv(error, line, cells, counts)
                continue
            odd.append(row)
            warning = self._warning(row)
            if warning:
                counts.warnings += 1
                warnings.add_csv(line, cells, warning)
        return odd

    def close(self) -> None:
        self._blocks.close()


class PeopleLines(_Rows):
    """A file of JSON lines."""

    def __init__(self, job: Job, path: Path, number: int, place: Place, shape: RowShape) -> None:
        super().__init__(job, number, shape)
        job.begin_file(number, path)
        self._source = Source(path, place, reading=reading_of(job.options, path))

    def __iter__(self) -> Iterator[list[Batch]]:
        for some in _in_steps(lines_of(self._source), self._rows_max):
            yield [self._judge(some)]

    def _judge(self, lines: list[tuple[bytes, Place]]) -> Batch:
        counts = Counts()
        rows: list[PersonRow] = []
        for text, end in lines:
            if text and not text.isspace():
                row = self._judge_line(text, end.line, counts)
                if row is not None:
                    rows.append(row)
        quick, odd = no_rows(), rows
        if self._job.chunking.fast:
            quick, odd = columns_of(rows, latest_us=self.latest_us)
        last = lines[-1][1]

        def line_of(line: int, reason: str) -> str:
            text, _ = lines[line - last.line - 1]
            return self._job.report("errors").json_line(line, text, reason)

        return self._batch(self._ready(quick), odd, counts, line_of, last)

    def _judge_line(self, text: bytes, line: int, counts: Counts) -> PersonRow | None:
        counts.rows += 1
        try:
            self._job.admit(line)
            if too_long(text):
                raise RowError("", None, "the line is too long to be read")
            bare = text.removeprefix(_BOM) if line == 1 else text
            row = read_person(decode_line(bare), line, self._shape, clear=self._clear)
        except RowError as error:
            self._job.refuse_json(error, line, text, counts)
            return None
        warning = self._warning(row)
        if warning:
            counts.warnings += 1
            self._job.report("warnings").add_json(line, text, warning)
        return row

    def close(self) -> None:
        self._source.close()


def _in_steps(lines: Iterable[tuple[bytes, Place]], rows_max: int) -> Iterator[list[tuple[bytes, Place]]]:
    """At most so many lines together, and fewer where they are long."""
    some: list[tuple[bytes, Place]] = []
    size_bytes = 0
    for line in lines:
        some.append(line)
        size_bytes += len(line[0])
        if len(some) == rows_max or size_bytes >= STEP_BYTES:
            yield some
            some, size_bytes = [], 0
    if some:
        yield some
