"""One row of a people file, judged strictly: what an identify call would say, or what is wrong with it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import msgspec

from backstory.core.condition import Json
from backstory.core.fact import Identifier
from backstory.core.identity import normal
from backstory.core.limit import ATTRIBUTE_NAME_BYTES, ATTRIBUTE_VALUE_BYTES, ATTRIBUTES_PER_CALL
from backstory.core.time import TimeUnreadable, from_text, from_unix
from backstory.engine.event_row import RowError, RowShape, person_of_text

CONTROL = frozenset(("id", "email", "cio_id", "customer_id", "anonymous_id", "_timestamp", "_update", "cio_relationships"))
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

    def identifiers(self) -> tuple[Identifier, ...]:
        """All of them, in the form in which they are compared."""
        return (normal(self.path), *(normal(identifier) for identifier in self.body))


def read_person(row: Mapping[str, Json], line: int, shape: RowShape, *, clear: bool) -> PersonRow:
    """Judge a row given as flat keys or as a Track v2 identify item; raises ``RowError``.

    Empty text is left out, or with ``clear`` a removal, as null is.
    """
    fields = {shape.columns.get(name, name): value for name, value in row.items()}
    raw_time = row.get(shape.time_column) if shape.time_column else fields.get("_timestamp")
    if isinstance(fields.get("identifiers"), dict) and isinstance(fields.get("attributes"), dict):
        raw_time = fields.get("timestamp", raw_time)
        fields = {**cast("dict[str, Json]", fields["attributes"]), **cast("dict[str, Json]", fields["identifiers"])}
    path, body = read_identifiers(fields, shape.identifier)
    time_us, warning = _time(raw_time)
    attributes = {name: encoded(name, value) for name, value in fields.items() if name not in CONTROL}
    if not clear:
        attributes = {name: value for name, value in attributes.items() if value is not None or fields[name] is None}
    if len(attributes) > ATTRIBUTES_PER_CALL.value:
        raise RowError("", None, f"has more than {ATTRIBUTES_PER_CALL.value} attributes")
    return PersonRow(line=line, path=path, body=body, time_us=time_us, attributes=attributes, warning=warning)


def read_identifiers(fields: Mapping[str, Json], identifier: str | None) -> tuple[Identifier, tuple[Identifier, ...]]:
    """The identifier a row is addressed by and the others it carries."""
    order = ("id", "customer_id", "email") if identifier is None else (identifier, "customer_id")
    path: Identifier | None = None
    used = ""
    for name in order:
        text = _text(name, fields.get(name))
        if text:
            kind, value = person_of_text(name, text, identifier)
            path, used = Identifier(kind, value), name
            break
    if path is None:
        raise RowError(order[0], None, f"names no person: give one of {', '.join(order)}")
    body: list[Identifier] = []
    for name in ("id", "email"):
        text = _text(name, fields.get(name))
        if text and name != used:
            kind, value = person_of_text(name, text, name)
            body.append(Identifier(kind, value))
    return path, tuple(body)


def _text(name: str, value: Json) -> str:
    if value is None or value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise RowError(name, str(value), "must be text or a whole number")
    return value


def _time(value: Json) -> tuple[int | None, str]:
    if value is None or value == "":
        return None, ""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise TimeUnreadable("it is neither a number nor text")
        time_us, rescaled = from_text(value) if isinstance(value, str) else from_unix(value)
    except TimeUnreadable as error:
        raise RowError("_timestamp", value, f"cannot be read: {error}") from None
    return time_us, "the time was taken as milliseconds or microseconds" if rescaled else ""


def encoded(name: str, value: Json) -> bytes | None:
    """A value as canonical JSON within its limits; None for a removal."""
    if not name or len(name.encode()) > ATTRIBUTE_NAME_BYTES.value:
        raise RowError(name[:50], None, f"attribute names have 1 to {ATTRIBUTE_NAME_BYTES.value} bytes")
    if value is None or value == "":
        return None
    text = _encode(value)
    size = len(text) - 2 if isinstance(value, str) and len(text) == len(value) + 2 else len(text)
    if isinstance(value, str) and size > ATTRIBUTE_VALUE_BYTES.value:
        size = len(value.encode())
    if size > ATTRIBUTE_VALUE_BYTES.value:
        raise RowError(name, str(value), f"is longer than {ATTRIBUTE_VALUE_BYTES.value} bytes")
    return text
