"""One row of an event file, judged strictly: either what an event call would say, or what is wrong with it.

The slow, obvious lane; the fast lane hands over every row it is not sure of. Rows mean what live calls mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, cast

import msgspec

from backstory.core.condition import Json
from backstory.core.event import canonical
from backstory.core.fact import EventKind, IdentifierKind
from backstory.core.limit import EMAIL_BYTES, EVENT_DATA_BYTES, EVENT_ID_BYTES, EVENT_NAME_BYTES, ID_BYTES, JSON_DEPTH
from backstory.core.time import TimeUnreadable, from_text, from_unix

PERSON_FIELDS = ("customer_id", "id", "email")
FIELDS = frozenset((*PERSON_FIELDS, "name", "timestamp", "event_id", "type", "data"))
KINDS: Mapping[str, EventKind] = {"event": "event", "page": "page", "screen": "screen"}
_encode = msgspec.json.Encoder(order="sorted").encode


class RowError(ValueError):
    """What is wrong with a row: the field, the value received, the reason."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.value = value
        self.reason = reason

    def __str__(self) -> str:
        shown = "" if self.value is None else f" (found {_shown(self.value)})"
        return (f"{self.field}: " if self.field else "") + self.reason + shown


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:80] + ("…" if len(text) > 80 else ""))


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShape:
    """How rows are to be read: from the options of the import. ``columns`` renames fields."""

    identifier: Literal["id", "email"] | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    time_column: str | None = None


def read_event(row: Mapping[str, Json], line: int, shape: RowShape) -> EventRow:
    """Judge a row given as flat keys, with ``data`` an object, or as a Track v2 item; raises ``RowError``."""
    fields = _renamed(row, shape)
    if isinstance(fields.get("identifiers"), dict):
        fields = _from_v2(fields)
    person_kind, person = _person(fields, shape.identifier)
    time_us, warning = _time(fields.get("timestamp"))
    return EventRow(
        line=line,
        kind=_kind(fields.get("type")),
        person_kind=person_kind,
        person=person,
        name=_name(fields.get("name")),
        time_us=time_us,
        event_id=_event_id(fields.get("event_id")),
        data=_data(fields),
        warning=warning,
    )


def _renamed(row: Mapping[str, Json], shape: RowShape) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    for name, value in row.items():
        if name == shape.time_column:
            fields["timestamp"] = value
        elif not (name == "timestamp" and shape.time_column):
            fields[shape.columns.get(name, name)] = value
    return fields


def _from_v2(fields: dict[str, Json]) -> dict[str, Json]:
    """A Track v2 person item: type person, action event | page | screen, identifiers, attributes."""
    if fields.get("type", "person") != "person":
        raise RowError("type", fields.get("type"), "only items of type person are events")
    action = fields.get("action", "event")
    if action not in KINDS:
        raise RowError("action", action, "must be event, page or screen")
    identifiers = cast("dict[str, Json]", fields["identifiers"])
    if len(identifiers) != 1 or next(iter(identifiers)) not in ("id", "email"):
        raise RowError("identifiers", str(identifiers), "must hold exactly one of id and email")
    flat: dict[str, Json] = {"type": action, "name": fields.get("name"), "timestamp": fields.get("timestamp")}
    flat["event_id"] = fields.get("id")
    flat["data"] = fields.get("attributes")
    return {**flat, **identifiers}


def _person(fields: Mapping[str, Json], identifier: str | None) -> tuple[IdentifierKind, str]:
    order = ("customer_id", "id", "email") if identifier is None else (identifier, "customer_id")
    for name in order:
        value = fields.get(name)
        if value is None or value == "":
            continue
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(text, str):
            raise RowError(name, value, "must be text or a whole number")
        return person_of_text(name, text, identifier)
    raise RowError("customer_id", None, f"names no person: give one of {', '.join(order)}")


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


def _time(value: Json) -> tuple[int | None, str]:
    if value is None or value == "":
        return None, ""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TimeUnreadable("it is neither a number nor text")
        time_us, rescaled = from_text(value) if isinstance(value, str) else from_unix(value)
    except TimeUnreadable as error:
        raise RowError("timestamp", value, f"cannot be read: {error}") from None
    return time_us, "the timestamp was taken as milliseconds or microseconds" if rescaled else ""


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
    return name


def _kind(value: Json) -> EventKind:
    return KINDS.get(value, "event") if isinstance(value, str) else "event"


def _event_id(value: Json) -> str | None:
    if value is None or value == "":
        return None
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str):
        raise RowError("event_id", value, "must be text or a whole number")
    if len(text.encode()) > EVENT_ID_BYTES.value:
        raise RowError("event_id", text, f"is longer than {EVENT_ID_BYTES.value} bytes")
    return text


def _data(fields: Mapping[str, Json]) -> bytes:
    given = fields.get("data")
    if given is not None and not isinstance(given, dict):
        raise RowError("data", given, "must be an object")
    data: dict[str, Json] = dict(given) if isinstance(given, dict) else {}
    for name, value in fields.items():
        if name.startswith("data."):
            lay(data, name[5:].split("."), value)
        elif name not in FIELDS:
            data[name] = value
    _check_depth(data, 1)
    text = canonical(_encode(data))
    if len(text) > EVENT_DATA_BYTES.value:
        raise RowError("data", None, f"is longer than {EVENT_DATA_BYTES.value} bytes")
    return text


def _check_depth(value: Json, depth: int) -> None:
    if depth > JSON_DEPTH.value:
        raise RowError("data", None, f"is nested deeper than {JSON_DEPTH.value} levels")
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_depth(item, depth + 1)


def lay(target: dict[str, Json], steps: list[str], value: Json) -> None:
    """Put a value at a dotted name; raises ``RowError`` where something else stands in the way."""
    for step in steps[:-1]:
        below = target.setdefault(step, {})
        if not isinstance(below, dict):
            raise RowError("data." + ".".join(steps), value, "another column puts a plain value above it")
        target = below
    target[steps[-1]] = value


def decode_line(text: bytes) -> dict[str, Json]:
    """A line of a JSON lines file; raises ``RowError``."""
    try:
        row = msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        raise RowError("", None, f"is not valid JSON: {error}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise RowError("", None, f"is not valid JSON: {error}") from None
    if not isinstance(row, dict):
        raise RowError("", None, "is not a JSON object")
    return cast("dict[str, Json]", row)
