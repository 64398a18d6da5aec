"""Columns of a people file judged together: what ``read_person`` says of each row, many rows at a time.

Rows about which there is anything to decide are left to ``read_person``. Of the others the cells are JSON as they
stand, with quotes around them at most.
"""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.limit import ATTRIBUTE_NAME_BYTES, ATTRIBUTE_VALUE_BYTES, ATTRIBUTES_PER_CALL, ID_BYTES
from backstory.core.time import MILLISECONDS_FROM, SECOND_US
from backstory.engine.backfill.person_document import STAMP_FROM_US, STAMP_TO_US
from backstory.engine.backfill.person_table import NO_TIME_US, PersonRows
from backstory.engine.file.csv_block import Block, text_bytes, text_offsets
from backstory.engine.file.csv_cell import Cells
from backstory.engine.file.csv_type import ColumnType, are_numbers, are_truths
from backstory.engine.file.person_row import CONTROL, PersonRow
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.row_value import NOTHING_WORDS, RowError, read_time

# More attributes than this in rows of JSON lines are not made into columns.
NAMES_MAX = 64
_PLAIN = r"\A[!-~]{1," + str(ID_BYTES.value) + r"}\z"
_SECONDS = r"\A(?:[1-9][0-9]{0," + str(len(str(MILLISECONDS_FROM)) - 2) + r"})?\z"
# Bytes of a text that JSON writes otherwise.
_ESCAPED = np.zeros(256, bool)
_ESCAPED[:32] = True
_ESCAPED[[ord('"'), ord("\\")]] = True
_NO_BYTES = np.zeros(0, np.uint8)
_UNSEEN = np.ones(256, bool)
_UNSEEN[33:127] = False
_NOTHING = pa.array(sorted(NOTHING_WORDS))
# Is there such a word with so many letters? Longer texts count as one more than the longest.
_LIKE_NOTHING = np.array([at in set(map(len, NOTHING_WORDS)) for at in range(max(map(len, NOTHING_WORDS)) + 2)])


def no_rows() -> PersonRows:
    """Columns of nothing."""
    return columns_of([], latest_us=0)[0]


def columns_of(rows: list[PersonRow], *, latest_us: int) -> tuple[PersonRows, list[PersonRow]]:
    """Rows that were read one by one, as columns where nothing is to be decided, and the others."""
    quick = [row for row in rows if _is_plain_row(row, latest_us)]
    names = list(dict.fromkeys(name for row in quick for name in row.attributes))
    if len(names) > NAMES_MAX:
        quick, names = [], []
    chosen = set(map(id, quick))
    ids, emails, keys = _identifier_columns(quick)
    told_us = (NO_TIME_US if row.time_us is None else row.time_us for row in quick)
    columns = PersonRows(
        lines=np.array([row.line for row in quick], np.int64),
        ids=ids,
        emails=emails,
        email_keys=keys,
        told_us=np.fromiter(told_us, np.int64, len(quick)),
        json={name: pa.array([row.attributes.get(name) for row in quick], pa.binary()) for name in names},
        removes=False,
        whole=quick,
    )
    return columns, [row for row in rows if id(row) not in chosen]


def _is_plain_row(row: PersonRow, latest_us: int) -> bool:
    kinds = [row.path.kind, *(identifier.kind for identifier in row.body)]
    in_time = row.time_us is None or (row.time_us <= latest_us and STAMP_FROM_US <= row.time_us < STAMP_TO_US)
    return (
        in_time
        and len(set(kinds)) == len(kinds)
        and all(kind in ("id", "email") for kind in kinds)
        and all(value is not None and "." not in name for name, value in row.attributes.items())
    )


def _identifier_columns(rows: list[PersonRow]) -> tuple[list[str | None], list[str | None], list[str | None]]:
    sent = [{i.kind: i.value for i in (row.path, *row.body)} for row in rows]
    normal = [{i.kind: i.value for i in row.identifiers()} for row in rows]
    return (
        [named.get("id") for named in sent],
        [named.get("email") for named in sent],
        [named.get("email") for named in normal],
    )


class PersonColumns:
    """How the columns of one file are read as people; ``quick`` is False where every row has to be looked at."""

    def __init__(self, cells: Cells, shape: RowShape, *, clear: bool, latest_us: int) -> None:
        """``latest_us``: a row's own time behind that lies in the future, and is a matter for ``read_person``."""
        self._clear = clear
        self._shape = shape
        self._cells = cells
        self._latest_us = latest_us
        self._email_first = shape.identifier == "email"
        places = {name: at for at, name in enumerate(cells.header) if name}
        fields = {shape.columns.get(name, name): at for name, at in places.items()}
        self._id_at, self._email_at = fields.get("id"), fields.get("email")
        self._time_name = shape.time_column or "_timestamp"
        self._time_at = places.get(self._time_name) if shape.time_column else fields.get("_timestamp")
        self._attributes = [(name, at) for name, at in fields.items() if name not in CONTROL]
        self.quick = (
            not shape.is_report
            and len(fields) == len(places)
            and "customer_id" not in fields
            and "anonymous_id" not in fields
            and (self._id_at is not None or self._email_at is not None)
            and len(self._attributes) <= ATTRIBUTES_PER_CALL.value
            and all(_is_simple(name) for name, _ in self._attributes)
        )

    def judge(self, block: Block) -> tuple[PersonRows, NDArray[np.int64]]:
        """The rows about which nothing is to be decided, and which the others are."""
        count = len(block.lines)
        ids, id_good = _plain(block, self._id_at)
        emails, email_good = _plain(block, self._email_at)
        id_given, email_given = pc.not_equal(ids, ""), pc.not_equal(emails, "")
        good: Truth = id_good & email_good
        good &= _truth(email_given if self._email_first else pc.or_(id_given, email_given))
        told_us = np.full(count, NO_TIME_US, np.int64)
        if self._time_at is not None:
            told_us, readable = _times(block.columns[self._time_at], self._time_name, self._shape)
            good &= readable & (told_us <= self._latest_us)
            good &= (told_us == NO_TIME_US) | ((told_us >= STAMP_FROM_US) & (told_us < STAMP_TO_US))
        json: dict[str, pa.Array] = {}
        for name, at in self._attributes:
            json[name], fine = _json(block.columns[at], self._cells.kind(name), self._encoder(name))
            if fine is not None:
                good &= fine
        keep = None if good.all() else pa.array(good)

        def kept(column: pa.Array) -> pa.Array:
            return column if keep is None else column.filter(keep)

        none = pa.scalar(None, pa.string())
        emails = kept(pc.if_else(email_given, emails, none))
        rows = PersonRows(
            lines=block.lines[good],
            ids=kept(pc.if_else(id_given, ids, none)).to_pylist(),
            emails=emails.to_pylist(),
            email_keys=pc.ascii_lower(emails).to_pylist(),
            told_us=told_us[good],
            json={name: kept(column) for name, column in json.items()},
            removes=self._clear,
            email_first=self._email_first,
        )
        return rows, np.flatnonzero(~good)

    def _encoder(self, name: str) -> Callable[[str], bytes | None]:
        return lambda cell: self._cells.encode(name, cell)


def _is_simple(name: str) -> bool:
    """Is this a name of one plain attribute, within its limits?"""
    return len(name.encode()) <= ATTRIBUTE_NAME_BYTES.value and "\0" not in name and "." not in name


def _truth(column: pa.Array) -> Truth:
    return column.to_numpy(zero_copy_only=False)


def _bytes(column: pa.Array) -> NDArray[np.uint8]:
    """The bytes of all texts of a column."""
    size = text_bytes(column)
    return np.frombuffer(column.buffers()[2], np.uint8, size, int(text_offsets(column)[0])) if size else _NO_BYTES


def _plain(block: Block, at: int | None) -> tuple[pa.Array, Truth]:
    """A column of identifiers, and which are plain or empty; a column that is not there is empty."""
    count = len(block.lines)
    if at is None:
        return pa.repeat(pa.scalar(""), count), np.ones(count, bool)
    column = block.columns[at]
    lengths = np.diff(text_offsets(column))
    if not _UNSEEN[_bytes(column)].any():
        fits = lengths <= ID_BYTES.value
    else:
        fits = _truth(pc.or_(pc.match_substring_regex(column, _PLAIN), pc.equal(column, "")))
    if _LIKE_NOTHING[np.minimum(lengths, len(_LIKE_NOTHING) - 1)].any():
        fits = fits & ~_truth(pc.is_in(pc.ascii_lower(column), value_set=_NOTHING))
    return column, fits


def _times(column: pa.Array, name: str, shape: RowShape) -> tuple[NDArray[np.int64], Truth]:
    """Times that cells name, and where they could be read and left no doubt; each different cell once."""
    if shape.unit is None and pc.all(pc.match_substring_regex(column, _SECONDS), min_count=0).as_py():
        given = pc.if_else(pc.equal(column, ""), None, column).cast(pa.int64())
        times_us = pc.fill_null(pc.multiply(given, SECOND_US), NO_TIME_US)
        return times_us.to_numpy(zero_copy_only=False), np.ones(len(column), bool)
    coded = column.dictionary_encode()
    found: list[int] = []
    readable: list[bool] = []
    for cell in coded.dictionary.to_pylist():
        try:
            time_us, warning = read_time(cell, name, shape)
        except RowError:
            time_us, warning = None, "it cannot be read"
        found.append(NO_TIME_US if time_us is None else time_us)
        readable.append(not warning)
    codes = coded.indices.to_numpy(zero_copy_only=False)
    return np.array(found, np.int64)[codes], np.array(readable, bool)[codes]


def _json(
    column: pa.Array, kind: ColumnType, encode: Callable[[str], bytes | None]
) -> tuple[pa.Array, Truth | None]:
    """Cells as canonical JSON, null for empty ones; and where that was possible (None: everywhere)."""
    lengths = np.diff(text_offsets(column))
    full = bool((lengths > 0).all())
    if kind in ("json", "decimal") or (lengths > ATTRIBUTE_VALUE_BYTES.value).any():
        return _judged(column, encode)
    if kind == "text":
        if _ESCAPED[_bytes(column)].any():
            return _judged(column, encode)
        json = pc.binary_join_element_wise('"', column, '"', "")
    else:
        # The file may have grown since its types were found.
        distinct = column.unique()
        distinct = distinct if full else distinct.filter(pc.not_equal(distinct, ""))
        if not (are_numbers(distinct) if kind == "number" else are_truths(distinct)):
            return _judged(column, encode)
        json = column
    json = json.cast(pa.binary())
    return (json if full else pc.if_else(pa.array(lengths > 0), json, pa.scalar(None, pa.binary()))), None


def _judged(column: pa.Array, encode: Callable[[str], bytes | None]) -> tuple[pa.Array, Truth | None]:
    """The same, cell by cell, each different one once."""
    coded = column.dictionary_encode()
    found: list[bytes | None] = []
    fine: list[bool] = []
    for cell in coded.dictionary.to_pylist():
        try:
            found.append(encode(cell))
            fine.append(True)
        except RowError:
            found.append(None)
            fine.append(False)
    json = pa.array(found, pa.binary()).take(coded.indices)
    return json, None if all(fine) else np.array(fine, bool)[coded.indices.to_numpy(zero_copy_only=False)]
