"""What is looked at before an import starts: options that agree, files that can be read, columns that are there.

What is refused here leaves nothing behind, not even an import that waits to be gone on with.
"""

import difflib
import re
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from backstory.core.error import RequestError
from backstory.engine.file.csv_cell import dialect_of
from backstory.engine.file.csv_source import CsvSource
from backstory.engine.file.file_shape import is_csv, reading_of
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.unpack import open_text

COLUMNS_SHOWN = 12
# Brackets in a field are those of a path, such as tags[] or tags[0].
_BRACKETS = re.compile(r"[^\[\]]*(\[\d*\][^\[\]]*)*\Z")


def check(options: BackfillOptions) -> None:
    """Raises ``RequestError`` for options that contradict each other or the files, ``SourceError`` for the files."""
    if options.kind == "events" and options.rows == "only_new":
        raise RequestError("only_new is for people: events belong to people who may exist already", path="rows")
    if options.time and options.as_of_us is not None:
        raise RequestError("give a time column or one time for all rows, not both", path="as_of")
    if not options.paths:
        raise RequestError("name at least one file", path="paths")
    if options.delimiter is not None and (len(options.delimiter) != 1 or options.delimiter in '\r\n"'):
        raise RequestError(f"a delimiter is one character, not {options.delimiter!r}", path="delimiter")
    if (options.kind == "members") != (options.segment_id is not None):
        raise RequestError("members go into a manual segment, and only they: name its number", path="segment_id")
    for column, field in options.map.items():
        if not _BRACKETS.match(field):
            raise RequestError(f"{column!r} cannot become {field!r}: a bracket is open, or holds no number", path="map")
    if options.zone is not None:
        _check_zone(options.zone)
    if options.same_rows == "all" and options.kind != "events":
        raise RequestError("same_rows is for events: of people the newest values count", path="same_rows")
    headers = [_header(Path(name), options) for name in options.paths]
    times = [options.time] if options.time else []
    for option, columns in (("map", list(options.map)), ("time", times), ("types", list(options.types))):
        for column in columns:
            _check_column(column, option, headers)


def _header(path: Path, options: BackfillOptions) -> list[str] | None:
    """The columns of a CSV or Parquet file; None for JSON lines, where every line may have others."""
    if is_csv(path):
        source = CsvSource(path, dialect=dialect_of(options, path))
        source.close()
        return source.header
    file = open_text(path, reading_of(options, path))
    file.close()
    return getattr(file, "header", None)


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise RequestError(f"there is no zone {zone!r}: name one such as UTC or Europe/Berlin", path="zone") from None


def _check_column(column: str, option: str, headers: list[list[str] | None]) -> None:
    """A misspelt column would silently change what every row means."""
    known: list[str] = []
    for header in headers:
        if header is None or column in header:
            return
        known += header
    close = difflib.get_close_matches(column, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ";"
    shown = ", ".join(known[:COLUMNS_SHOWN]) + (", …" if len(known) > COLUMNS_SHOWN else "")
    raise RequestError(f"no file has a column {column!r}{hint} there are {shown}", path=option)
