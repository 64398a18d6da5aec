"""A CSV file whose cells become values by the types of their columns, under the names the import gives them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import cast
from zoneinfo import ZoneInfo

from backstory.core.condition import Json
from backstory.engine.file.csv_dialect import Dialect
from backstory.engine.file.csv_source import CsvRow, CsvSource
from backstory.engine.file.csv_type import ColumnType, cell_value, column_types
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.person_row import encoded
from backstory.engine.file.report import is_report, without_verdict
from backstory.engine.file.row_shape import PinnedType, RowShape
from backstory.engine.file.row_value import pinned_value
from backstory.engine.file.source import Place

CELLS_REMEMBERED = 20_000
# Identifiers, names and times are judged as they are written.
TEXT: ColumnType = "text"
_TEXT_FIELDS = frozenset(
    (
        "customer_id", "id", "email", "name", "timestamp", "event_id", "type", "_timestamp", "cio_id", "object_id",
        "object_type_id",
    )
)


def _by_field(told: dict[str, PinnedType], options: BackfillOptions) -> dict[str, PinnedType]:
    return {options.map.get(name, name): kind for name, kind in told.items()}


def dialect_of(options: BackfillOptions, path: Path) -> Dialect:
    """What the import was told of how a file is written; reports are written by us."""
    if is_report(path):
        return Dialect(encoding="utf-8", quote='"')
    return Dialect(encoding=options.encoding, delimiter=options.delimiter, quote=options.quote)


class Cells:
    """The rows of one file, from a place on."""

    def __init__(
        self, path: Path, place: Place, options: BackfillOptions, *, found: Mapping[str, str] | None = None
    ) -> None:
        """``found``: the types of columns that are no text, as they were found in a file that this belongs to."""
        self.dialect = dialect_of(options, path)
        comma = options.decimal == "comma"
        types = column_types(path, self.dialect, comma=comma) if found is None else None
        self._source = CsvSource(path, place, dialect=self.dialect)
        # A report of ours is read without the two columns it has for itself.
        self._width = len(without_verdict(dict.fromkeys(self._source.header))) if is_report(path) else None
        self.header = self._source.header[: self._width]
        if types is None:
            types = [cast("ColumnType", (found or {}).get(name, TEXT)) for name in self.header]
        types = types[: self._width]
        self.found: dict[str, str] = {
            name: kind for name, kind in zip(self.header, types, strict=True) if kind != TEXT
        }
        self.delimiter = self._source.delimiter
        self.written = self._source.written
        # A column without a name holds nothing, or its rows are errors.
        self._used = [bool(name) for name in self.header]
        self._names = list(compress(self.header, self._used))
        self._all_used = all(self._used)
        kinds = cast("list[ColumnType]", list(compress(types, self._used)))
        zone = None if options.zone is None else ZoneInfo(options.zone)
        self._shape = RowShape(zone=zone, dates=options.dates, comma=comma)
        text = {name for name in self._names if options.map.get(name, name) in _TEXT_FIELDS or name == options.time}
        # What columns were told to be, by column and by field; text is text anyway.
        self._told: dict[str, PinnedType] = {
            name: kind
            for name, kind in options.types.items()
            if name in self._names and name not in text and kind != "string"
        }
        self._told_fields = _by_field(self._told, options)
        text |= {name for name, kind in options.types.items() if kind == "string"}
        self._types: list[ColumnType] = [
            # Cells that are told to be something are looked at one by one, as documents are.
            TEXT if name in text else "json" if name in self._told else kind
            for name, kind in zip(self._names, kinds, strict=True)
        ]
        self._kinds: dict[str, ColumnType] = {
            options.map.get(name, name): kind for name, kind in zip(self._names, self._types, strict=True)
        }
        self._encoded: dict[str, dict[str, bytes | None]] = {}
        self._empty_is_null = options.on_empty == "clear" and options.kind == "events"
        self._drop_empty = options.kind == "events" and options.on_empty == "ignore"

    def rows(self) -> Iterator[CsvRow]:
        rows = self._source.rows()
        if self._width is None:
            return rows
        return (replace(row, cells=row.cells[: self._width]) for row in rows)

    def _chosen(self, cells: list[str]) -> list[str]:
        return cells if self._all_used else list(compress(cells, self._used))

    def fields(self, row: CsvRow) -> dict[str, Json]:
        """A row's cells as values by the names of their columns."""
        fields: dict[str, Json] = {}
        for name, cell, kind in zip(self._names, self._chosen(row.cells), self._types, strict=True):
            if cell == "":
                if not self._drop_empty:
                    fields[name] = None if self._empty_is_null else ""
            else:
                fields[name] = cell if kind == "text" else self._value(name, cell, kind, self._told)
        return fields

    def _value(self, name: str, cell: str, kind: ColumnType, told: Mapping[str, PinnedType]) -> Json:
        if name in told:
            return pinned_value(cell, told[name], name, self._shape)
        return cell_value(cell, kind)

    def texts(self, cells: list[str]) -> dict[str, Json]:
        """A row's cells as they are written; ``encode`` knows their types."""
        return dict(zip(self._names, self._chosen(cells), strict=True))

    @property
    def names(self) -> list[str]:
        """The columns that have a name."""
        return self._names

    def type_name(self, column: str) -> str:
        """What a column's cells are taken for."""
        kind = "text" if column in self._told else self._types[self._names.index(column)]
        return "number" if kind == "decimal" else kind

    def kind(self, name: str) -> ColumnType:
        """The type of the column that gives an attribute."""
        return self._kinds.get(name, TEXT)

    def encode(self, name: str, cell: Json) -> bytes | None:
        """A cell's value as canonical JSON; the same cells come again and again. Raises ``RowError``."""
        known = self._encoded.setdefault(name, {})
        assert isinstance(cell, str)
        try:
            return known[cell]
        except KeyError:
            value = encoded(name, self._value(name, cell, self.kind(name), self._told_fields))
            if len(known) < CELLS_REMEMBERED:
                known[cell] = value
            return value

    def close(self) -> None:
        self._source.close()
