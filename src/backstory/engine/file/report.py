"""The rows an import could not use, or used with a doubt, in the input's own form with ``line`` and ``error`` added.

Of an import of several files each row says by ``file`` which one it is of.

A report is cut back to the length the last commit knew when an import goes on, so that no row is told twice.
Corrected, it can be read in again: it is known by its name, and the two are left out.
"""

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from backstory.core.condition import Json
from backstory.engine.file.row_value import decode_line

TEXT_MAX = 100_000
# The one reason for which a row is told of but not kept.
FORGOTTEN_ROW = "the person was deleted or suppressed, and is forgotten; the row is not kept"
# Why a row is refused that speaks of somebody deleted, whoever has the name now.
OLDER_ROW = "is older than the deletion of this person"
_NAME = re.compile(r"import-\d+-(errors|warnings)(\.|\Z)")
_OURS = re.compile(r"(line|error|file)_*\Z")
_FILE = re.compile(r"file_*\Z")
T = TypeVar("T")


def report_path(folder: Path, import_id: int, kind: str, source: Path, number: int, files: int) -> Path:
    """Where the report on an import's ``number``-th file goes; those on several files share a folder."""
    stem = f"import-{import_id}-{kind}"
    name = re.sub(r"\.(gz|zstd?)\Z", "", source.name)
    # What cannot be written line by line is told in JSON lines.
    name = re.sub(r"\.(parquet|pq)\Z", ".jsonl", name)
    if files == 1:
        return folder / f"{stem}{Path(name).suffix}"
    return folder / stem / f"{number + 1}-{name}"


def is_report(path: Path) -> bool:
    """Is this one of ours, by its name or that of its folder?"""
    return bool(_NAME.match(path.name) or _NAME.match(path.parent.name))


def without_verdict(row: Mapping[str, T]) -> Mapping[str, T]:
    """A row of a report as it was in the input."""
    ours = our_names(list(row))
    return {name: value for name, value in row.items() if name not in ours}


def line_told(row: Mapping[str, T]) -> T | None:
    """Which line of the input a row of a report is of; None where it does not say."""
    return next((row[name] for name in our_names(list(row)) if name.startswith("line")), None)


def file_told(row: Mapping[str, T]) -> T | None:
    """Which file of the input a row of a report is of, from 1 on; None where it does not say."""
    return next((row[name] for name in our_names(list(row)) if name.startswith("file")), None)


def our_names(names: list[str]) -> list[str]:
    """What a report has for itself: the last two names; where the last is that of the file, the last three."""
    last = names[-3:] if names and _FILE.match(names[-1]) else names[-2:]
    return [name for name in last if _OURS.match(name)]


def in_order(names: Iterable[str], *, several: bool) -> list[str]:
    """The names of a row of JSON with ours last, as reports have them; ``several``: of an import of several files.

    Keys of an object have no order: other programs sort them.
    """
    found = list(names)
    wanted = ("line", "error", "file") if several else ("line", "error")
    alike = ([name for name in found if name.rstrip("_") == one] for one in wanted)
    ours = [max(some, key=len) for some in alike if some]
    return [name for name in found if name not in ours] + ours


def as_given(row: Mapping[str, Json]) -> Mapping[str, Json]:
    """A row of a report as it was in the input; of a line that was no JSON, what its text, mended, says.

    Raises ``RowError`` for a text that still is none.
    """
    given = without_verdict(row)
    text = given.get("text")
    if len(given) == 1 and len(row) > 1 and isinstance(text, str) and text.lstrip().startswith("{"):
        return decode_line(text.encode())
    return given


def lines_told(path: Path) -> Iterator[int]:
    """The lines of the input that the rows of a report are of."""
    return (line for line, _ in _verdicts(path))


def first_rows(report: str | None, count: int) -> list[tuple[int, int, str]]:
    """(file from 0 on, line, error) of the first rows of a report: a file, or a folder with one for each file."""
    if report is None:
        return []
    path = Path(report)
    files = {_number(file): file for file in path.iterdir()} if path.is_dir() else {0: path}
    return list(islice(((at, *row) for at in sorted(files) for row in _verdicts(files[at])), count))


def _number(report: Path) -> int:
    """Of which file of the input, from 0 on, a report in a folder is."""
    return int(report.name.partition("-")[0]) - 1


def _verdicts(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        head = file.readline()
        if head.startswith("{"):
            for text in (head, *file):
                told: dict[str, Any] = msgspec.json.decode(text)
                line, error = [told[name] for name in our_names(list(told))][:2]
                yield line, error
        else:
            # The names of the two last columns are ours, so the sign between them is the file's.
            delimiter = re.split(r"line_*", head.rstrip())[-1][:1]
            at = -3 if _FILE.match(head.rstrip().rpartition(delimiter)[2]) else -2
            for cells in csv.reader(file, delimiter=delimiter):
                yield int(cells[at]), cells[at + 1]


def _free(name: str, taken: Iterable[str]) -> str:
    """Longer than any such name there is: which one is ours can be told in whatever order they come."""
    alike = [one for one in taken if one.rstrip("_") == name]
    return max(alike, key=len) + "_" if alike else name


class Report:
    """One file, made when the first row comes. ``header`` None: JSON lines."""

    def __init__(
        self,
        path: Path,
        *,
        header: list[str] | None,
        length: int,
        delimiter: str = ",",
        again: bool = False,
        origin: Callable[[int], int] = lambda line: line,
        file: int | None = None,
    ) -> None:
        """``again``: the input is a report itself; ``origin`` is the line that is told instead of one of the file.

        ``file``: which of several files this is on, from 1 on.
        """
        self.path = path
        self._again = again
        self._origin = origin
        self._file = file
        self._header = header
        self._delimiter = delimiter
        self._pending: list[tuple[int, str]] = []
        self._told: list[str] = []
        self._length = length
        if path.exists():
            os.truncate(path, length)

    def add_json(self, line: int, text: bytes, error: str) -> None:
        """A line of a JSON lines file: its keys where it is an object, else its text."""
        self._pending.append((line, self.json_line(line, text, error)))

    def json_line(self, line: int, text: bytes, error: str) -> str:
        """What the report says of a line of JSON."""
        try:
            row: Json = msgspec.json.decode(b"{}" if error == FORGOTTEN_ROW else text)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            row = None
        if isinstance(row, dict):
            # What an earlier import said about it is settled.
            row = dict(without_verdict(row)) if self._again else row
        else:
            row = {"text": text[:TEXT_MAX].decode("utf-8", "replace").rstrip("\r\n")}
        verdict: dict[str, Json] = {_free("line", row): self._origin(line), _free("error", row): error}
        if self._file is not None:
            verdict[_free("file", row)] = self._file
        return msgspec.json.encode({**row, **verdict}).decode() + "\n"

    def add_csv(self, line: int, cells: list[str], error: str) -> None:
        """A row of a CSV file; cells it lacks are empty, those beyond the header have to be in the error."""
        self._pending.append((line, self.csv_line(line, cells, error)))

    def csv_line(self, line: int, cells: list[str], error: str) -> str:
        """What the report says of a row of cells."""
        assert self._header is not None
        width = len(self._header)
        padded = ([""] * width if error == FORGOTTEN_ROW else cells + [""] * width)[:width]
        return self._csv_line([*padded, str(self._origin(line)), error, *self._which])

    @property
    def _which(self) -> list[str]:
        return [] if self._file is None else [str(self._file)]

    def take(self) -> list[str]:
        """The lines added so far, in the order of the input, handed over to be told later."""
        return [text for _, text in self.take_numbered()]

    def take_numbered(self) -> list[tuple[int, str]]:
        """The same, each with its number."""
        lines, self._pending = sorted(self._pending, key=itemgetter(0)), []
        return lines

    def tell(self, lines: list[str]) -> None:
        """Have lines written at the next flush."""
        self._told += lines

    def flush(self) -> int:
        """Write what was told, synced; returns the length of the file."""
        if not self._told:
            return self._length
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            if file.tell() == 0 and self._header is not None:
                ours = ("line", "error", *(["file"] if self._file is not None else []))
                names = [*self._header, *(_free(name, self._header) for name in ours)]
                file.write(self._csv_line(names).encode())
            file.write("".join(self._told).encode("utf-8", "replace"))
            file.flush()
            os.fdatasync(file.fileno())
            self._length = file.tell()
        self._told.clear()
        return self._length

    def _csv_line(self, cells: list[str]) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n", delimiter=self._delimiter).writerow(cells)
        return text.getvalue()
