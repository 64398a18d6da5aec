"""What an import will read, told before it does: how each file is written, and what each column is taken for.

Columns of CSV files are judged over all their rows, as the run does; of JSON lines and Parquet files the first rows are
looked at, where every value says itself what it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from backstory.core.condition import Json
from backstory.engine.file.csv_cell import Cells
from backstory.engine.file.file_shape import is_csv, reading_of
from backstory.engine.file.line_source import lines_of
from backstory.engine.file.notation import are_comma_numbers, orders_of
from backstory.engine.file.options import BackfillOptions
from backstory.engine.file.row_shape import PERSON_FIELDS, shape_of
from backstory.engine.file.row_value import RowError, decode_line
from backstory.engine.file.source import Place, Source
from backstory.engine.file.unpack import is_parquet, packing_of

SAMPLE_ROWS = 1000
EXAMPLES_MAX = 3
EXAMPLE_CHARACTERS = 40


class ColumnOutline(msgspec.Struct, frozen=True, kw_only=True):
    """A column or key: what it is called there, what it is read as, the type of its values, some of them.

    ``notations`` are those in which its texts would be numbers (``comma``) or dates (``dmy``, ``mdy``), as the rows
    looked at have it, whether or not that was told.
    """

    name: str
    field: str
    type: str
    examples: list[str]
    notations: list[str] = []


class FileOutline(msgspec.Struct, frozen=True, kw_only=True):
    """A file: ``form`` (CSV, JSON lines, Parquet, and how packed), how it is ``written``, the ``shape`` of its rows.

    ``person``, ``time`` and ``object`` are the columns that say who, when and what object; "" where no row looked at
    has one.
    """

    path: str
    form: str
    written: str
    shape: str
    person: str
    time: str
    object: str
    columns: list[ColumnOutline]
    # How many rows were looked at for examples, and how many of these are no rows at all.
    rows_seen: int
    rows_unreadable: int


def outline(options: BackfillOptions, *, found: Mapping[int, Mapping[str, str]] | None = None) -> list[FileOutline]:
    """Raises ``SourceError`` for a file that cannot be read. ``found``: the types of columns where a run knows them."""
    return [
        outline_of(Path(name), options, found=None if found is None else found.get(at))
        for at, name in enumerate(options.paths)
    ]


def outline_of(path: Path, options: BackfillOptions, *, found: Mapping[str, str] | None = None) -> FileOutline:
    """One file. ``found``: the types of CSV columns that are no text; else they are found by a look at all rows."""
    packing = packing_of(path)
    packed = f", {packing}" if packing else ""
    if is_csv(path):
        cells = Cells(path, Place(), options, found=found)
        try:
            seen = [None if row.error else cells.texts(row.cells) for row in islice(cells.rows(), SAMPLE_ROWS)]
            types = {name: cells.type_name(name) for name in cells.names}
            return _told(path, options, f"CSV{packed}", str(cells.written), ["flat"], types, seen)
        finally:
            cells.close()
    seen = list(_rows(path, options))
    rows = [row for row in seen if row is not None]
    form = "Parquet" if is_parquet(path) else "JSON lines"
    types = {name: _type_of(row[name] for row in rows if name in row) for name in _names(rows)}
    shapes = list(dict.fromkeys(shape_of(row, options.shape) for row in rows))
    return _told(path, options, form + packed, options.encoding or "utf-8", shapes, types, seen)


def _rows(path: Path, options: BackfillOptions) -> Iterator[dict[str, Json] | None]:
    """The first lines as rows; None: it is none."""
    source = Source(path, Place(), reading=reading_of(options, path))
    try:
        for line, _ in islice(lines_of(source), SAMPLE_ROWS):
            if line.isspace():
                continue
            try:
                yield decode_line(line.removeprefix(b"\xef\xbb\xbf"))
            except RowError:
                yield None
    finally:
        source.close()


def _told(
    path: Path,
    options: BackfillOptions,
    form: str,
    written: str,
    shapes: Sequence[str],
    types: dict[str, str],
    seen: list[dict[str, Json] | None],
) -> FileOutline:
    rows = [row for row in seen if row is not None]
    fields = {name: options.map.get(name, name) for name in types}
    columns = [
        ColumnOutline(
            name=name,
            field=fields[name],
            type=f"{options.types[name]}, told" if name in options.types else kind,
            examples=_examples(row.get(name) for row in rows),
            notations=_notations(row.get(name) for row in rows) if kind == "text" else [],
        )
        for name, kind in types.items()
    ]
    times = ("timestamp", "originalTimestamp") if options.kind == "events" else ("_timestamp", "timestamp")
    people = (
        (*PERSON_FIELDS, "cio_id", "identifiers", "userId", "anonymousId")
        if options.identifier is None
        else (options.identifier, "customer_id", "identifiers", "userId", "anonymousId")
    )
    return FileOutline(
        path=str(path),
        form=form,
        written=written,
        shape=" and ".join(shapes),
        person=_column(people, fields),
        time=options.time or _column(times, fields),
        object=_column(("object_id", "cio_object_id", *(("groupId",) if "pipelines" in shapes else ())), fields),
        columns=columns,
        rows_seen=len(seen),
        rows_unreadable=len(seen) - len(rows),
    )


def _column(wanted: Iterable[str], fields: dict[str, str]) -> str:
    """The column that is read as the first of these fields there is."""
    by_field = {field: name for name, field in fields.items()}
    return next((by_field[field] for field in wanted if field in by_field), "")


def _names(rows: list[dict[str, Json]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _type_of(values: Iterable[Json]) -> str:
    found = {_KINDS[type(value)] for value in values if value is not None}
    return " or ".join(sorted(found)) or "empty"


_KINDS: dict[type, str] = {
    str: "text", int: "number", float: "number", bool: "boolean", dict: "object", list: "list",
}  # fmt: skip


def _notations(values: Iterable[Json]) -> list[str]:
    """Every text there is has to be one of the kind."""
    texts = [value for value in values if isinstance(value, str) and value]
    return ["comma"] if are_comma_numbers(texts) else [*orders_of(texts)]


def _examples(values: Iterable[Json]) -> list[str]:
    """The first different ones, cut where they are long."""
    found: dict[str, None] = {}
    for value in values:
        if value is None or value == "":
            continue
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        found[text if len(text) <= EXAMPLE_CHARACTERS else text[:EXAMPLE_CHARACTERS] + "…"] = None
        if len(found) == EXAMPLES_MAX:
            break
    return list(found)
