"""The fast lane of event files in JSON lines: DuckDB reads the rows that one strict pattern fully describes.

Bulk readers are lenient: DuckDB takes NaN, trailing commas, repeated keys and unknown fields without a word. So each
line is first held against a regular expression that spells out strict JSON with the keys, their order and the kinds
of values seen in the file's first lines, numbers in canonical form only. A line that matches means the same to DuckDB
and to the strict lane, and its data needs no rewriting; every other line goes to the strict lane.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import duckdb
import msgspec
import pyarrow as pa

from backstory.core.condition import Json
from backstory.engine.event_row import FIELDS, PERSON_FIELDS, RowShape
from backstory.engine.source import Chunk

SAMPLE_LINES = 200
DATA_KEYS_MAX = 60
LINE_BYTES_MAX = 60_000
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_ -]{1,80}\Z")
_TEXT = r'"[^"\\\x00-\x1f]*"'
# Numbers of at most 14 digits that every writer of shortest decimals writes alike, without an exponent.
_NUMBER = (
    r"(?:0|-?[1-9][0-9]{0,13}|-?[1-9][0-9]{0,5}\.[0-9]{1,8}|0\.0{1,8}"
    r"|-?0\.(?:[1-9][0-9]{0,7}|0[1-9][0-9]{0,6}|00[1-9][0-9]{0,5}|000[1-9][0-9]{0,4}))"
)
_VALUE = f"(?:{_TEXT}|{_NUMBER}|true|false)"
_PERSON = r'(?:"[\x21\x23-\x3f\x41-\x5b\x5d-\x7e]+"|[1-9][0-9]{0,14})'
_NAME = r'"[\x20\x21\x23-\x5b\x5d-\x7e]*"'
_EMAIL = r'"[\x21\x23-\x5b\x5d-\x7e]+"'
_TIMES = {
    "int": (r"[1-9][0-9]{0,9}", "CAST(timestamp AS BIGINT) * 1000000"),
    "decimal": (
        r"[1-9][0-9]{0,9}(?:\.[0-9]{1,6})?",
        "CAST(CAST(timestamp AS DECIMAL(18, 6)) * 1000000 AS BIGINT)",
    ),
    "iso": (
        r'"20[0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?Z"',
        "epoch_us(TRY_CAST(rtrim(timestamp, 'Z') AS TIMESTAMP))",
    ),
}

# The keys of ``core.event``, computed inside DuckDB.
KEYS_SQL = (
    "CASE WHEN event_id IS NOT NULL THEN CAST(md5_number('i' || CASE WHEN strlen(event_id) BETWEEN 26 AND 36 AND"
    " regexp_full_match(event_id, '(?i:[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?"
    "[0-9a-f]{4}-?[0-9a-f]{12})') THEN lower(event_id) ELSE event_id END) & 18446744073709551615 AS UBIGINT)"
    " WHEN timed THEN CAST(md5_number('cevent\x1f' || name || '\x1f' || CAST(time_us AS VARCHAR) || '\x1f' || data)"
    " & 18446744073709551615 AS UBIGINT) ELSE 0 END"
)


@dataclass(frozen=True, slots=True)
class FastShape:
    """How the good rows of a file look: which lines match, and how to read them."""

    pattern: str
    person_field: str
    person_kind: str
    time_sql: str
    data_column: str
    data_sql: str
    has_id: bool


def find_shape(body: bytes, shape: RowShape, sample_lines: int = SAMPLE_LINES) -> FastShape | None:
    """The shape of a file by its first lines, None when they have none in common that the fast lane can read."""
    if shape.columns or shape.time_column or shape.is_report:
        return None
    try:
        rows = [msgspec.json.decode(line) for line in body.split(b"\n", sample_lines)[:sample_lines] if line.strip()]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    if not rows or not all(isinstance(row, dict) for row in rows):
        return None
    keys = _merged([list(row) for row in rows])
    if keys is None:
        return None
    people = [key for key in PERSON_FIELDS if key in keys]
    if len(people) != 1 or not set(keys) <= FIELDS - {"type"} or "name" not in keys:
        return None
    person_field = people[0]
    person_kind = "email" if person_field == "email" or shape.identifier == "email" else "id"
    if shape.identifier is not None and person_field not in (shape.identifier, "customer_id"):
        return None
    time = _time_kind([row.get("timestamp") for row in rows if "timestamp" in row])
    data = _data_keys([row.get("data", {}) for row in rows])
    if time is None or data is None:
        return None
    patterns: dict[str, str] = {
        person_field: _EMAIL if person_kind == "email" else _PERSON,
        "name": _NAME,
        "timestamp": _TIMES[time][0],
        "event_id": r'(?:"[\x21\x23-\x5b\x5d-\x7e]+"|[1-9][0-9]{0,14})',
        "data": _object(dict.fromkeys(data, _VALUE)),
    }
    return FastShape(
        pattern=_object({key: patterns[key] for key in keys}),
        person_field=person_field,
        person_kind=person_kind,
        time_sql=_TIMES[time][1],
        data_column=_data_column(data),
        data_sql=_data_sql(data),
        has_id="event_id" in keys,
    )


def _merged(orders: list[list[str]]) -> list[str] | None:
    """One order of all keys that each of the orders agrees with."""
    merged: list[str] = []
    for order in orders:
        at = 0
        for key in order:
            if key in merged:
                found = merged.index(key)
                if found < at:
                    return None
                at = found + 1
            else:
                merged.insert(at, key)
                at += 1
    return merged


def _object(values: Mapping[str, str]) -> str:
    """An object with these keys in this order, each of them optional; a missing comma is for DuckDB to refuse."""
    return r"\{ ?" + "".join(f'(?:(?:, ?)?"{re.escape(key)}": ?{value})?' for key, value in values.items()) + r" ?\}"


def _time_kind(values: list[Json]) -> str | None:
    kinds: set[str] = set()
    for value in values:
        text = msgspec.json.encode(value).decode()
        fitting = [kind for kind, (pattern, _) in _TIMES.items() if re.fullmatch(pattern, text)]
        if not fitting:
            return None
        kinds.add(fitting[0])
    if not kinds:
        return "int"
    if kinds <= {"int", "decimal"}:
        return "decimal" if "decimal" in kinds else "int"
    return "iso" if kinds == {"iso"} else None


def _data_keys(values: list[Json]) -> list[str] | None:
    orders: list[list[str]] = []
    for value in values:
        if not isinstance(value, dict) or any(isinstance(item, dict | list) for item in value.values()):
            return None
        orders.append(list(value))
    keys = _merged(orders)
    if keys is None or len(keys) > DATA_KEYS_MAX or not all(_PLAIN_KEY.match(key) for key in keys):
        return None
    return keys


def _data_column(keys: list[str]) -> str:
    """The type DuckDB reads ``data`` as: each key's JSON text apart."""
    return "STRUCT(" + ", ".join(f'"{key}" JSON' for key in keys) + ")" if keys else "JSON"


def _data_sql(keys: list[str]) -> str:
    """SQL for data in canonical form: keys sorted, a whole number without its ``.0``."""
    pieces: list[str] = []
    for key in sorted(keys):
        text = f'CAST(data."{key}" AS VARCHAR)'
        whole = f"""CASE WHEN ends_with({text}, '.0') AND {text}[1] != '"' THEN {text}[:-3] ELSE {text} END"""
        pieces.append(f"""'"{key}":' || {whole}""")
    return "'{' || concat_ws(',', " + ", ".join(pieces) + ") || '}'" if pieces else "'{}'"


class Scratch:
    """A chunk where DuckDB can read it by a path: in memory where the system can, else in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path
        self._fd = os.memfd_create("chunk", os.MFD_CLOEXEC) if hasattr(os, "memfd_create") else -1
        self.path = f"/proc/self/fd/{self._fd}" if self._fd >= 0 else str(path)

    def write(self, body: bytes) -> None:
        """Put a chunk in place of the one before."""
        if self._fd < 0:
            self._file.write_bytes(body)
            return
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        view = memoryview(body)
        while view:
            view = view[os.write(self._fd, view) :]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._file.unlink(missing_ok=True)


def read_fast(
    duck: duckdb.DuckDBPyConnection, chunk: Chunk, shape: FastShape, scratch: Scratch
) -> tuple[bool, list[tuple[int, bytes]]]:
    """Read a chunk's matching lines into the temporary table ``fast_rows`` (who, name, time_us, event_id, data).

    Returns whether that went well, and the (line, text) of the lines that have to go to the strict lane. When it did
    not, all lines have to.
    """
    body = chunk.body
    if b"\x01" in body or b"\r" in body:
        return False, []
    scratch.write(body)
    count = chunk.end.line - chunk.first_line + 1
    try:
        wrong = _not_matching(duck, scratch.path, shape, count)
        if wrong is None:
            return False, []
        slow: list[tuple[int, bytes]] = []
        if wrong:
            lines = body.split(b"\n")
            slow = [(chunk.first_line + at, lines[at]) for at in wrong]
            keep = bytearray(b"\1") * len(lines)
            for at in wrong:
                keep[at] = 0
            scratch.write(b"\n".join(compress(lines, keep)))
        count -= len(wrong)
        return (count == 0 or _load(duck, scratch.path, shape, count)), slow
    except duckdb.Error:
        return False, []


def _not_matching(duck: duckdb.DuckDBPyConnection, path: str, shape: FastShape, count: int) -> list[int] | None:
    """The positions (from 0) of the lines outside the pattern; None when DuckDB sees other lines than we do."""
    lines = (
        f"read_csv('{path}', columns = {{'l': 'VARCHAR'}}, delim = '\x01', quote = '', escape = '', header = false,"
        " auto_detect = false, null_padding = false, max_line_size = 16777216, new_line = '\\n', skip = 0)"
    )
    fits = f"coalesce(strlen(l) <= {LINE_BYTES_MAX} AND regexp_full_match(l, $1), false)"
    found = duck.execute(
        f"SELECT count(*), list(line_no - 1) FILTER (WHERE NOT fits)"
        f" FROM (SELECT row_number() OVER () AS line_no, {fits} AS fits FROM {lines})",
        [shape.pattern],
    ).fetchall()
    seen, wrong = found[0]
    if seen != count or (wrong is not None and len(wrong) * 2 > count):
        return None
    return sorted(wrong or [])


def _load(duck: duckdb.DuckDBPyConnection, path: str, shape: FastShape, count: int) -> bool:
    columns = (
        f"{{{shape.person_field}: 'VARCHAR', name: 'VARCHAR', timestamp: 'VARCHAR', event_id: 'VARCHAR',"
        f" data: '{shape.data_column}'}}"
    )
    is_email = shape.person_kind == "email"
    who = f"lower({shape.person_field})" if is_email else shape.person_field
    sent = shape.person_field if is_email else "CAST(NULL AS VARCHAR)"
    duck.execute(
        f"CREATE OR REPLACE TEMP TABLE fast_rows AS SELECT {who} AS who, {sent} AS sent, name,"
        f" {shape.time_sql} AS time_us, timestamp IS NOT NULL AS timed, event_id, {shape.data_sql} AS data"
        f" FROM read_json('{path}', format = 'newline_delimited', columns = {columns}, maximum_object_size = 16777216)"
    )
    found = duck.execute(
        "SELECT count(*), count(*) FILTER (WHERE who IS NULL OR name IS NULL OR name = '' OR name != trim(name)"
        " OR strlen(name) > 100 OR strlen(who) > 150 OR strlen(event_id) > 150 OR starts_with(who, 'cio_')"
        " OR (timed AND time_us IS NULL)) FROM fast_rows"
    ).fetchall()
    return found == [(count, 0)]


def known_people(duck: duckdb.DuckDBPyConnection, people: pa.Table) -> None:
    """Make the table ``ident`` (who, person) that rows are joined with."""
    duck.register("ident_rows", people)
    duck.execute("CREATE OR REPLACE TEMP TABLE ident AS SELECT who, person FROM ident_rows")
    duck.unregister("ident_rows")
