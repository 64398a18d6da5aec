"""One row of a people file, judged strictly: what an identify call would say, or what is wrong with it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeGuard

import msgspec

from backstory.core.condition import Json
from backstory.core.fact import Identifier
from backstory.core.identity import normal
from backstory.core.limit import ATTRIBUTE_NAME_BYTES, ATTRIBUTE_VALUE_BYTES, ATTRIBUTES_PER_CALL, ID_BYTES
from backstory.engine.file.event_row import (
    check_depth,
    holds_nul,
    identifier_text,
    person_of_text,
    person_of_v2,
)
from backstory.engine.file.pipelines_row import identify_of, moment_of, person_text
from backstory.engine.file.report import as_given
from backstory.engine.file.row_shape import RowShape, shape_of
from backstory.engine.file.row_value import NotHere, RowError, doubt_of, pinned_row, read_time

CONTROL = frozenset(
    ("id", "email", "cio_id", "customer_id", "anonymous_id", "_timestamp", "_update", "cio_relationships")
)
# A claim is a placed fact, which acts at its moment: a file has none for each of its rows.
UNCLAIMED = (
    "the anonymous_id was left out: an import claims no events of anonymous ids; a live identify with the id and the "
    "anonymous_id does"
)
_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(slots=True, kw_only=True)
class PersonRow:
    """A good row. ``path`` addresses the person, ``body`` are further identifiers (as sent).

    ``attributes`` are canonical JSON by name, None for a removal; ``time_us`` None: the row names no time.
    """

    line: int
    path: Identifier
    body: tuple[Identifier, ...]
    time_us: int | None
    attributes: dict[str, bytes | None]
    warning: str = ""
    _normal: tuple[Identifier, ...] = ()

    def identifiers(self) -> tuple[Identifier, ...]:
        """All of them, in the form in which they are compared."""
        if not self._normal:
            self._normal = (normal(self.path), *(normal(identifier) for identifier in self.body))
        return self._normal


Encode = Callable[[str, Json], bytes | None]


def read_person(
    row: Mapping[str, Json], line: int, shape: RowShape, *, clear: bool, encode: Encode | None = None
) -> PersonRow:
    """Judge a row given as flat keys, as a Track v2 identify item or as an identify call of Pipelines.

    Raises ``RowError``; ``NotHere`` for items that are events. Empty text is left out, or with ``clear`` a removal, as
    null is. ``encode`` makes a value canonical JSON within its limits; a reader whose cells repeat may remember.
    """
    encode = encode or encoded
    if shape.is_report:
        row = as_given(row)
    if shape.types:
        row = pinned_row(row, shape)
    fields = _renamed(row, shape.columns) if shape.columns else row
    time_name = shape.time_column or "_timestamp"
    raw_time = row.get(shape.time_column) if shape.time_column else fields.get("_timestamp")
    path: Identifier | None = None
    match shape_of(fields, shape.items):
        case "track2":
            path = Identifier(*person_of_v2(fields))
            if fields.get("timestamp") is not None:
                time_name, raw_time = "timestamp", fields["timestamp"]
            fields = _attributes_of_v2(fields)
        case "pipelines":
            time_name, raw_time = "timestamp", moment_of(fields)
            attributes = {**identify_of(fields), "anonymous_id": fields.get("anonymousId")}
            path = Identifier(*person_of_text("customer_id", person_text(fields, or_email=True), None))
            fields = attributes
        case _:
            pass
    path, body = read_identifiers(fields, shape.identifier, path)
    time_us, warning = read_time(raw_time, time_name, shape)
    unclaimed = "" if fields.get("anonymous_id") in (None, "") else UNCLAIMED
    doubts = (warning, unclaimed, *(doubt_of(named.kind, named.value) for named in (path, *body)))
    attributes = {
        name: encode(name, value)
        for name, value in fields.items()
        if name not in CONTROL and (clear or value != "")
    }
    if len(attributes) > ATTRIBUTES_PER_CALL.value:
        raise RowError("", None, f"has more than {ATTRIBUTES_PER_CALL.value} attributes")
    warning = "; ".join(filter(None, doubts))
    return PersonRow(line=line, path=path, body=body, time_us=time_us, attributes=attributes, warning=warning)


def _renamed(row: Mapping[str, Json], columns: Mapping[str, str]) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    for name, value in row.items():
        field = columns.get(name, name)
        if field in fields:
            raise RowError(field, value, "two columns are read as this attribute")
        fields[field] = value
    return fields


def _attributes_of_v2(item: Mapping[str, Json]) -> dict[str, Json]:
    if item.get("type", "person") != "person":
        raise RowError("type", item.get("type"), "only items of type person are people")
    if item.get("action") in ("event", "page", "screen"):
        raise NotHere("events")
    if item.get("action", "identify") != "identify":
        raise RowError("action", item.get("action"), "must be identify")
    attributes = item.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        raise RowError("attributes", attributes, "must be an object")
    return attributes or {}


def read_identifiers(
    fields: Mapping[str, Json], identifier: str | None, path: Identifier | None = None
) -> tuple[Identifier, tuple[Identifier, ...]]:
    """The identifier a row is addressed by (``path``, where that is known) and the others it carries."""
    if path is None and identifier is None and "customer_id" not in fields:
        plain_id, plain_email = fields.get("id"), fields.get("email")
        if _is_plain(plain_id) and _is_plain(plain_email):
            return Identifier("id", plain_id), (Identifier("email", plain_email),)
    order = ("id", "customer_id", "email") if identifier is None else (identifier, "customer_id")
    named: list[Identifier] = [] if path is None else [path]
    for name in dict.fromkeys((*order, "id", "email")):
        text = identifier_text(name, fields.get(name))
        if text:
            found = Identifier(*person_of_text(name, text, name if named and name != "customer_id" else identifier))
            if normal(found) not in map(normal, named):
                # A cio_id addresses people and is never given to them.
                named.insert(0 if found.kind == "cio_id" else len(named), found)
    if not named:
        raise RowError(order[0], None, f"names no person: give one of {', '.join(order)}")
    return named[0], tuple(named[1:])


def _is_plain(value: Json) -> TypeGuard[str]:
    """An identifier with nothing about it that needs a closer look."""
    return (
        type(value) is str
        and 0 < len(value) <= ID_BYTES.value
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def encoded(name: str, value: Json) -> bytes | None:
    """A value as canonical JSON within its limits; None for a removal."""
    if not name or len(name.encode()) > ATTRIBUTE_NAME_BYTES.value:
        raise RowError(name[:50], None, f"attribute names have 1 to {ATTRIBUTE_NAME_BYTES.value} bytes")
    if "\x00" in name:
        raise RowError(name, None, "holds a NUL character")
    if value is None or value == "":
        return None
    if isinstance(value, dict | list):
        # The row is the first level, as the body of a call is.
        check_depth(name, value, 2)
    text = _encode(value)
    if len(text) > ATTRIBUTE_VALUE_BYTES.value:
        size = len(value.encode()) if isinstance(value, str) else len(text)
        if size > ATTRIBUTE_VALUE_BYTES.value:
            raise RowError(name, value, f"is longer than {ATTRIBUTE_VALUE_BYTES.value} bytes")
    if holds_nul(text):
        raise RowError(name, value, "holds a NUL character")
    return text
