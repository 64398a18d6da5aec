"""What the cells of a CSV column stand for: numbers, truth or text, found over the whole file.

A column holds numbers only when every cell of it round-trips: ``00001`` and ``12.00`` stay text, and so does their
whole column. The same goes for ``true`` and ``false``, and for objects and lists of JSON. Where a decimal comma was
told, ``12,00`` is a number, as no number would be written so again, and ``12.5`` is text. Source: design section 10.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from backstory.core.condition import Json
from backstory.engine.file.csv_block import CsvBlocks
from backstory.engine.file.csv_dialect import Dialect
from backstory.engine.file.notation import COMMA_NUMBER, comma_number

# "decimal": numbers with a decimal comma, and whole ones; only where that was told.
ColumnType = Literal["number", "decimal", "boolean", "json", "text"]
# How many rows are looked at together.
TYPE_ROWS = 20_000
# What a cell of each type looks like; a number that looks like one and is small is written otherwise in JSON.
NUMBER = r"(?:0|-?[1-9][0-9]{0,14}|-?(?:[1-9][0-9]{0,5}|0)\.[0-9]{0,7}[1-9])"
SMALL = r"-?0\.0000"
_NUMBER = re.compile(NUMBER + r"\Z")
_SMALL = re.compile(SMALL)
_DOCUMENT = r"(?s)\A(?:\{.*\}|\[.*\])\z"
TEXT: ColumnType = "text"
_KINDS: tuple[ColumnType, ...] = ("number", "decimal", "boolean", "json")
_TRUTH = pa.array(["true", "false"])


def column_types(path: Path, dialect: Dialect | None = None, *, comma: bool = False) -> list[ColumnType]:
    """The type of each column, over all rows of the file; unusable rows have no say. ``comma``: numbers have one."""
    blocks = CsvBlocks(path, rows_max=TYPE_ROWS, dialect=dialect)
    try:
        return _types_of(len(blocks.header), (block.columns for block in blocks), comma=comma)
    finally:
        blocks.close()


def _types_of(width: int, blocks: Iterable[list[pa.Array]], *, comma: bool) -> list[ColumnType]:
    """Each different cell of a column and block once, while the column may still be something else than text."""
    number: ColumnType = "decimal" if comma else "number"
    may_be: list[set[ColumnType]] = [{number, "boolean", "json"} for _ in range(width)]
    seen = [False] * width
    for columns in blocks:
        for at, column in enumerate(columns):
            if not may_be[at]:
                continue
            cells = column.unique()
            cells = cells.filter(pc.not_equal(cells, ""))
            seen[at] = seen[at] or bool(len(cells))
            if number in may_be[at] and not (are_decimals(cells) if comma else are_numbers(cells)):
                may_be[at].discard(number)
            if "boolean" in may_be[at] and not are_truths(cells):
                may_be[at].discard("boolean")
            if "json" in may_be[at] and not are_documents(cells):
                may_be[at].discard("json")
    return [_type(kinds) if some else "text" for kinds, some in zip(may_be, seen, strict=True)]


def are_numbers(cells: pa.Array) -> bool:
    """Does every one of these texts round-trip as a number?"""
    good = pc.and_not(
        pc.match_substring_regex(cells, r"\A" + NUMBER + r"\z"), pc.match_substring_regex(cells, r"\A" + SMALL)
    )
    return bool(pc.all(good, min_count=0).as_py())


def are_decimals(cells: pa.Array) -> bool:
    """Is every one of these texts a number with a decimal comma, or a whole one?"""
    return bool(pc.all(pc.match_substring_regex(cells, r"\A" + COMMA_NUMBER + r"\z"), min_count=0).as_py())


def are_truths(cells: pa.Array) -> bool:
    """Is every one of these texts ``true`` or ``false``?"""
    return bool(pc.all(pc.is_in(cells, _TRUTH), min_count=0).as_py())


def are_documents(cells: pa.Array) -> bool:
    """Is every one of these texts an object or a list of JSON?"""
    if not pc.all(pc.match_substring_regex(cells, _DOCUMENT), min_count=0).as_py():
        return False
    return all(_is_json(cell) for cell in cells.to_pylist())


def _is_json(cell: str) -> bool:
    try:
        msgspec.json.decode(cell)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    return True


def _type(kinds: set[ColumnType]) -> ColumnType:
    found: list[ColumnType] = [kind for kind in _KINDS if kind in kinds]
    return found[0] if found else TEXT


def cell_value(cell: str, kind: ColumnType) -> Json:
    """A cell as the value it stands for; a cell that does not fit its column stays text."""
    if kind == "number" and _NUMBER.match(cell) and not _SMALL.match(cell):
        return float(cell) if "." in cell else int(cell)
    if kind == "decimal" and (number := comma_number(cell)) is not None:
        return number
    if kind == "boolean" and cell in ("true", "false"):
        return cell == "true"
    if kind == "json" and cell[:1] in "{[" and _is_json(cell):
        return cast("Json", msgspec.json.decode(cell))
    return cell
