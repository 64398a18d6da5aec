"""Rows of objects, relationships and members of manual segments: each the fact that the same live call would be.

A group call of Pipelines says both, of an object and of somebody's relationship to it: each import takes its own.
"""

from collections.abc import Mapping

import msgspec

from backstory.core.condition import Json
from backstory.core.error import LimitError
from backstory.core.fact import ChangeMembers, Identifier, IdentifyObject, ObjectKey, Relate
from backstory.core.limit import OBJECT_ID_BYTES, OBJECT_TYPE_ID
from backstory.engine.file.event_row import check_depth, holds_nul, identifier_text, person_of_text
from backstory.engine.file.pipelines_row import group_of, moment_of, person_text
from backstory.engine.file.report import as_given
from backstory.engine.file.row_shape import RowShape, shape_of
from backstory.engine.file.row_value import RowError, doubt_of, pinned_row, read_time

PERSON = ("customer_id", "id", "email", "cio_id")
_OBJECT = ("object_id", "object_type_id")
_encode = msgspec.json.Encoder().encode
FactRow = IdentifyObject | Relate | ChangeMembers


def read_fact(
    row: Mapping[str, Json], shape: RowShape, *, kind: str, type_id: int, segment_id: int, clear: bool, untold_us: int
) -> tuple[FactRow, str]:
    """The fact of a row, and a warning; ``untold_us`` is the time of rows that name none. Raises ``RowError``."""
    if shape.is_report:
        row = as_given(row)
    if shape.types:
        row = pinned_row(row, shape)
    fields = _renamed(row, shape)
    if kind == "members":
        person = _person(fields, shape)
        return ChangeMembers(segment_id=segment_id, people=(person,), add=True), doubt_of(person.kind, person.value)
    time_name, raw_time = shape.time_column or "_timestamp", fields.pop("_timestamp", None)
    is_call = _is_call(fields, shape)
    if is_call:
        named, of_object, related = group_of(fields)
        told = of_object if kind == "objects" else related
        if raw_time is None:
            time_name, raw_time = "timestamp", moment_of(fields)
    else:
        own = _OBJECT if kind == "objects" else (*_OBJECT, *PERSON)
        named, told = fields, {name: value for name, value in fields.items() if name not in own}
    time_us, warning = read_time(raw_time, time_name, shape)
    time_us = untold_us if time_us is None else time_us
    key = _object(named, type_id, "groupId" if is_call else "object_id")
    attributes = _attributes(told, clear=clear)
    warning = "; ".join(filter(None, (warning, doubt_of("object_id", key.object_id))))
    if kind == "objects":
        return IdentifyObject(object=key, attributes=attributes, time_us=time_us), warning
    person = _caller(fields) if is_call else _person(fields, shape)
    warning = "; ".join(filter(None, (warning, doubt_of(person.kind, person.value))))
    return Relate(object=key, person=person, attributes=attributes, time_us=time_us), warning


def _is_call(fields: Mapping[str, Json], shape: RowShape) -> bool:
    """Is it a call of Pipelines? A row that names an object as rows do is none, whatever else it has."""
    return shape_of(fields, shape.items) == "pipelines" and (shape.items != "auto" or "object_id" not in fields)


def _renamed(row: Mapping[str, Json], shape: RowShape) -> dict[str, Json]:
    fields: dict[str, Json] = {}
    for name, value in row.items():
        field = "_timestamp" if name == shape.time_column else shape.columns.get(name, name)
        if field in fields:
            raise RowError(field, value, "two columns are read as this field")
        fields[field] = value
    return fields


def _object(fields: Mapping[str, Json], type_id: int, name: str) -> ObjectKey:
    """``name`` is what the id of the object is called in the file."""
    object_id = identifier_text(name, fields.get("object_id"))
    if not object_id:
        raise RowError(name, None, "names no object")
    given = fields.get("object_type_id")
    number = given
    if given is None or given == "":
        number = type_id
    elif isinstance(given, str) and given.isascii() and given.isdigit() and len(given) <= 18:
        number = int(given)
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        raise RowError("object_type_id", given, "must be a number from 1")
    if "\0" in object_id:
        raise RowError(name, object_id, "holds a NUL character")
    try:
        OBJECT_TYPE_ID.check(number)
        OBJECT_ID_BYTES.check(len(object_id.encode()))
    except LimitError as error:
        raise RowError("", None, error.message) from None
    return ObjectKey(number, object_id)


def _caller(call: Mapping[str, Json]) -> Identifier:
    """Whom a call is about."""
    return Identifier(*person_of_text("customer_id", person_text(call), None))


def _person(fields: Mapping[str, Json], shape: RowShape) -> Identifier:
    order = PERSON if shape.identifier is None else (shape.identifier, "customer_id")
    for name in order:
        text = identifier_text(name, fields.get(name))
        if text and name == "cio_id":
            return Identifier("cio_id", text.removeprefix("cio_"))
        if text:
            return Identifier(*person_of_text(name, text, shape.identifier))
    raise RowError(order[0], None, f"names no person: give one of {', '.join(order)}")


def _attributes(fields: Mapping[str, Json], *, clear: bool) -> bytes:
    """Empty text is left out, or with ``clear`` a removal; the rest is judged where the fact is applied."""
    kept: dict[str, Json] = {}
    for name, value in fields.items():
        if value != "":
            check_depth(name, value, 2)
            kept[name] = value
        elif clear:
            kept[name] = None
    text = _encode(kept)
    if holds_nul(text):
        raise RowError("", None, "holds a NUL character")
    return text
