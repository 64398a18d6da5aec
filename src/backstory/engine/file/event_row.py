"""One row of an event file, judged strictly: either what an event call would say, or what is wrong with it.

The slow, obvious lane; the fast lane hands over every row it is not sure of. Rows mean what live calls mean.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from backstory.core.condition import Json
from backstory.core.event import canonical_of, content_key, id_key
from backstory.core.fact import EventKind, IdentifierKind
from backstory.core.limit import EMAIL_BYTES, EVENT_DATA_BYTES, EVENT_ID_BYTES, EVENT_NAME_BYTES, ID_BYTES, JSON_DEPTH
from backstory.engine.file.pipelines_row import event_of, person_text
from backstory.engine.file.report import as_given
from backstory.engine.file.row_shape import PERSON_FIELDS, RowShape, shape_of
from backstory.engine.file.row_value import NotHere, RowError, doubt_of, pinned_row, read_time

FIELDS = frozenset((*PERSON_FIELDS, "name", "timestamp", "event_id", "type", "data"))
KINDS: Mapping[str, EventKind] = {"event": "event", "page": "page", "screen": "screen"}
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """A good row. ``time_us`` None: the row names no time. ``data`` is canonical JSON."""

    line: int
    kind: EventKind
    person_kind: IdentifierKind
    person: str
    name: str
    time_us: int | None
    event_id: str | None
    data: bytes
    warning: str = ""


def key_of(row: EventRow, time_us: int | None) -> int | None:
    """The key of a row whose time, if it has one, is this."""
    if row.event_id is not None:
        return id_key(row.event_id)
    if time_us is not None:
        return content_key(row.kind, row.name, time_us, row.data)
    return None


def read_event(row: Mapping[str, Json], line: int, shape: RowShape) -> EventRow:
    """Judge a row given as flat keys, with ``data`` an object, as a Track v2 item or as a call of Pipelines.

    Raises ``RowError``; ``NotHere`` for items that say something about people.
    """
    if shape.is_report:
        row = as_given(row)
    if shape.types:
        row = pinned_row(row, shape)
    fields = _renamed(row, shape) if shape.columns or shape.time_column else row
    match shape_of(fields, shape.items):
        case "track2":
            fields, used, person = _from_v2(fields)
        case "pipelines":
            # What is no event is passed over, also where it names nobody.
            said, used = event_of(fields), ""
            person = person_of_text("customer_id", person_text(fields), None)
            fields = said
        case _:
            used, person = _person(fields, shape.identifier)
    time_us, warning = read_time(fields.get("timestamp"), shape.time_column or "timestamp", shape)
    event_id = _event_id(fields.get("event_id"))
    doubts = (warning, doubt_of(person[0], person[1]), doubt_of("event_id", event_id))
    return EventRow(
        line=line,
        kind=_kind(fields.get("type")),
        person_kind=person[0],
        person=person[1],
        name=_name(fields.get("name")),
        time_us=time_us,
        event_id=event_id,
        data=_data(fields, used),
        warning="; ".join(filter(None, doubts)),
    )


def _renamed(row: Mapping[str, Json], shape: RowShape) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    other = row.get("timestamp") if shape.time_column else None
    for name, value in row.items():
        if name == shape.time_column:
            fields["timestamp"] = value
        elif not (name == "timestamp" and shape.time_column):
            field = shape.columns.get(name, name)
            if field in fields:
                raise RowError(field, value, "two columns are read as this field")
            fields[field] = value
    if other is not None and shape.time_column != "timestamp":
        fields["data.timestamp"] = other
    return fields


def _from_v2(item: Mapping[str, Json]) -> tuple[dict[str, Json], str, tuple[IdentifierKind, str]]:
    """A Track v2 person item: type person, action event | page | screen, identifiers, attributes."""
    if item.get("type", "person") != "person":
        raise RowError("type", item.get("type"), "only items of type person are events")
    action = item.get("action", "event")
    if action == "identify":
        raise NotHere("people")
    if not isinstance(action, str) or action not in KINDS:
        raise RowError("action", action, "must be event, page or screen")
    attributes = item.get("attributes")
    if attributes is not None and not isinstance(attributes, dict):
        raise RowError("attributes", attributes, "must be an object")
    flat: dict[str, Json] = {"type": action, "name": item.get("name"), "timestamp": item.get("timestamp")}
    flat["event_id"] = item.get("id")
    flat["data"] = attributes
    return flat, "", person_of_v2(item)


def person_of_v2(item: Mapping[str, Json]) -> tuple[IdentifierKind, str]:
    """The person a Track v2 item names in ``identifiers``: by exactly one of id, email and cio_id."""
    identifiers = item.get("identifiers")
    if not isinstance(identifiers, dict):
        raise RowError("identifiers", identifiers, "must be an object that names the person")
    name, value = next(iter(identifiers.items()), ("", None))
    if len(identifiers) != 1 or name not in ("id", "email", "cio_id"):
        raise RowError("identifiers", identifiers, "must hold exactly one of id, email and cio_id")
    text = identifier_text(name, value)
    if name == "cio_id":
        return person_of_text("customer_id", "cio_" + text, None)
    return person_of_text(name, text, name)


def _person(fields: Mapping[str, Json], identifier: str | None) -> tuple[str, tuple[IdentifierKind, str]]:
    """The field that names the person, and whom it names."""
    order = PERSON_FIELDS if identifier is None else (identifier, "customer_id")
    for name in order:
        text = identifier_text(name, fields.get(name))
        if text:
            return name, person_of_text(name, text, identifier)
    raise RowError(order[0], None, f"names no person: give one of {', '.join(order)}")


def identifier_text(name: str, value: Json) -> str:
    """An identifier as text: a whole number is its digits, nothing is ""; raises ``RowError``."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise RowError(name, value, "must be text or a whole number")


def person_of_text(name: str, text: str, identifier: str | None) -> tuple[IdentifierKind, str]:
    """Which identifier a text in a column is; a ``customer_id`` is told by its shape, as in a URL."""
    limit = ID_BYTES
    kind: IdentifierKind = "id"
    if identifier == "email" or name == "email" or (name == "customer_id" and identifier is None and "@" in text):
        kind, limit, text = "email", EMAIL_BYTES, text.strip()
    elif name == "customer_id" and identifier is None and text.startswith("cio_"):
        kind, text = "cio_id", text[4:]
    if not text.strip():
        raise RowError(name, text, "is blank")
    if len(text.encode()) > limit.value:
        raise RowError(name, text, f"is longer than {limit.value} bytes")
    if "\x00" in text:
        raise RowError(name, text, "holds a NUL character")
    return kind, text


def _name(value: Json) -> str:
    if value is None or value == "":
        raise RowError("name", None, "the event has no name")
    if not isinstance(value, str):
        raise RowError("name", value, "must be text")
    name = value.strip()
    if not name:
        raise RowError("name", value, "the event name is blank")
    if len(name.encode()) > EVENT_NAME_BYTES.value:
        raise RowError("name", value, f"is longer than {EVENT_NAME_BYTES.value} bytes")
    if "\x00" in name:
        raise RowError("name", value, "holds a NUL character")
    return name


def _kind(value: Json) -> EventKind:
    return KINDS.get(value, "event") if isinstance(value, str) else "event"


def _event_id(value: Json) -> str | None:
    text = identifier_text("event_id", value)
    if len(text.encode()) > EVENT_ID_BYTES.value:
        raise RowError("event_id", text, f"is longer than {EVENT_ID_BYTES.value} bytes")
    if "\x00" in text:
        raise RowError("event_id", text, "holds a NUL character")
    return text or None


def _data(fields: Mapping[str, Json], used: str) -> bytes:
    """Everything that means nothing else; ``used`` is the field that names the person."""
    given = fields.get("data")
    if given is not None and not isinstance(given, dict):
        raise RowError("data", given, "must be an object")
    data: dict[str, Json] = dict(given) if isinstance(given, dict) else {}
    for name, value in fields.items():
        if name.startswith("data."):
            lay(data, name[5:].split("."), value)
        elif name not in FIELDS or (name in PERSON_FIELDS and name != used and value is not None and value != ""):
            if name in data:
                raise RowError(name, value, "data has this key too")
            data[name] = value
    if any(isinstance(value, dict | list) for value in data.values()):
        check_depth("data", data)
    text = canonical_of(data)
    if len(text) > EVENT_DATA_BYTES.value:
        raise RowError("data", None, f"is longer than {EVENT_DATA_BYTES.value} bytes")
    if holds_nul(text):
        raise RowError("data", None, "holds a NUL character")
    return text


def holds_nul(text: bytes) -> bool:
    """Is there a NUL in some text or key of this JSON?"""
    return b"\\u0000" in text and _NUL.search(text) is not None


def check_depth(field: str, value: Json, depth: int = 1) -> None:
    """Raise ``RowError`` when objects and lists are nested deeper than a live call may send them."""
    if isinstance(value, dict | list):
        if depth > JSON_DEPTH.value:
            raise RowError(field, None, f"is nested deeper than {JSON_DEPTH.value} levels")
        for item in value.values() if isinstance(value, dict) else value:
            check_depth(field, item, depth + 1)


def lay(target: dict[str, Json], steps: list[str], value: Json) -> None:
    """Put a value at a dotted name; raises ``RowError`` where something else stands there or in the way."""
    for step in steps[:-1]:
        # What was given as an object stays as it was given.
        below = target.get(step, {})
        if not isinstance(below, dict):
            raise RowError("data." + ".".join(steps), value, "another column puts a plain value above it")
        target[step] = below = dict(below)
        target = below
    if steps[-1] in target:
        raise RowError("data." + ".".join(steps), value, "another column puts a value there too")
    target[steps[-1]] = value
