"""How a CSV file is written: its encoding, delimiter and quotes, found from its beginning or told."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from backstory.engine.file.unpack import beginning, marked_encoding

if TYPE_CHECKING:
    from _csv import Reader

SAMPLE_BYTES = 256 << 10
SAMPLE_ROWS = 20
DELIMITERS = ",;\t|"
QUOTES = "\"'"
_MARKS = "‘’“”„‚–—…€£§°«»·´½¼¾²³©®™•\xa0"
# What Excel writes and reads before the header.
_DELIMITER_LINE = re.compile(r'("?)sep=(.)\1[\r\n]*\Z', re.IGNORECASE)
NAMES = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """None: to be found. ``quote`` "" : there are none, and such marks are text."""

    encoding: str | None = None
    delimiter: str | None = None
    quote: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A dialect without gaps."""

    encoding: str
    delimiter: str
    quote: str

    def reader(self, lines: Iterable[str]) -> "Reader":
        """The cells of each row, strictly."""
        if not self.quote:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quote, strict=True)

    def __str__(self) -> str:
        quotes = f"quotes {self.quote}" if self.quote else "no quotes"
        return f"{self.encoding}, delimiter {NAMES.get(self.delimiter, self.delimiter)}, {quotes}"


def find_dialect(path: Path, told: Dialect) -> Written:
    """What is not told is found. Raises ``SourceError`` when the file cannot be read."""
    sample = beginning(path, SAMPLE_BYTES)
    encoding = told.encoding or marked_encoding(sample) or _encoding_of(sample)
    text = sample.decode(encoding, "replace").removeprefix("\ufeff")
    lines = text.splitlines()[: SAMPLE_ROWS + 1]
    if len(sample) == SAMPLE_BYTES and len(lines) > 1:
        lines.pop()
    if lines and (named := delimiter_named(lines[0])):
        told = replace(told, delimiter=told.delimiter or named)
        del lines[0]
    quote = told.quote if told.quote is not None else _quote_of(lines, told.delimiter or DELIMITERS)
    found = Written(encoding=encoding, delimiter=told.delimiter or ",", quote=quote)
    return found if told.delimiter else replace(found, delimiter=_delimiter_of(lines, found))


def delimiter_named(line: str) -> str:
    """The delimiter that a first line such as ``sep=;`` names for those below it; "" for any other line."""
    found = _DELIMITER_LINE.match(line)
    return found[2] if found else ""


def _encoding_of(sample: bytes) -> str:
    """UTF-8 where any line beyond ASCII is; Windows' Western letters where none is, and all are such letters."""
    odd = [line for line in sample.split(b"\n")[: None if len(sample) < SAMPLE_BYTES else -1] if not line.isascii()]
    if not odd or any(_reads(line, "utf-8") for line in odd):
        return "utf-8"
    return "cp1252" if all(_has_letters(line) for line in odd) else "utf-8"


def _reads(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _has_letters(line: bytes) -> bool:
    """Are the bytes beyond ASCII such as are in texts? 0xFF is damage more often than a letter."""
    if b"\xff" in line or not _reads(line, "cp1252"):
        return False
    return all(letter.isascii() or letter.isalpha() or letter in _MARKS for letter in line.decode("cp1252"))


def _quote_of(lines: list[str], delimiters: str) -> str:
    """A single quote only where cells begin and end with it, in the header or all rows, and none with a double one."""
    if not lines or '"' in "".join(lines):
        return '"'

    def wrapped(line: str) -> bool:
        line = line.strip()
        return line.startswith("'") and line.endswith("'") and any(f"'{mark}'" in line for mark in delimiters)

    rows = [line for line in lines[1:] if line.strip()]
    return "'" if wrapped(lines[0]) or (rows and all(map(wrapped, rows))) else '"'


def _delimiter_of(lines: list[str], written: Written) -> str:
    """The one that cuts every row into as many cells as the header, most of them; else the header's most frequent."""
    first = lines[0] if lines else ""
    best, most = "", 1
    for mark in DELIMITERS:
        width = _width(lines, replace(written, delimiter=mark))
        if width > most:
            best, most = mark, width
    return best or max(DELIMITERS, key=lambda mark: (first.count(mark), mark == ","))


def _width(lines: list[str], written: Written) -> int:
    """How many cells every row has; 0 when they differ, or cannot be read."""
    try:
        rows = [row for row in written.reader([line + "\n" for line in lines]) if row]
    except csv.Error:
        return 0
    widths = {len(row) for row in rows}
    return widths.pop() if len(widths) == 1 else 0
