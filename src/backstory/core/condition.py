"""Conditions: questions about a person at a moment, as trees; how they are read from JSON and printed again.

A condition knows nothing of people, storage or how it is answered (``comparison``, ``leaf``, ``oracle`` do).
All nodes are frozen and hashable: equal tests are one leaf, whoever asks. Operands are kept as canonical JSON.
Source: design section 8; the language is explained in ``docs/conditions.md``.
"""

from collections.abc import Iterator
from typing import assert_never, cast

import msgspec
from msgspec import Struct

from backstory.core import limit, operand
from backstory.core.metric import CHANNELS, CHOICES, MESSAGE, METRICS
from backstory.core.operand import OPERATORS, shown
from backstory.core.operand import ConditionError as ConditionError
from backstory.core.operand import Json as Json
from backstory.core.wildcard import name_matches
from backstory.core.window import Between as Between
from backstory.core.window import Last as Last
from backstory.core.window import Window as Window
from backstory.core.window import print_count, print_window, read_count, read_window

EVENT_KINDS = ("event", "page", "screen")
PLATFORMS = ("ios", "android")

_NULL = b"null"
_KEYS = ("and", "or", "not", "segment", "attribute", "event", "message", "device", "relationship")
_WHERE_KEYS = ("and", "or", "not", "attribute")
_EVENT_KEYS = ("name", "kind", "performed", "count", "where", "within", "inverse")
_MESSAGE_KEYS = ("metric", *CHOICES, "performed", "count", "within", "inverse")
_DEVICE_KEYS = ("platform", "where", "count", "inverse")
_RELATION_KEYS = ("object_type_id", "object_id", "where", "count", "inverse")
_ATTRIBUTE_KEYS = ("field", "operator", "value", "value2", "inverse")

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class And(Struct, frozen=True, cache_hash=True):
    """All of them hold."""

    children: "tuple[Condition, ...]"


class Or(Struct, frozen=True, cache_hash=True):
    """At least one of them holds."""

    children: "tuple[Condition, ...]"


class Not(Struct, frozen=True, cache_hash=True):
    """It does not hold."""

    child: "Condition"


class InSegment(Struct, frozen=True):
    """The person is a member of the segment."""

    segment_id: int


class AttributeTest(Struct, frozen=True, cache_hash=True):
    """A test of one attribute, or of one property inside event data. The values are canonical JSON."""

    field: str
    operator: str
    value: bytes = _NULL
    value2: bytes = _NULL


class EventTest(Struct, frozen=True, cache_hash=True):
    """The person performed the event between ``at_least`` and ``at_most`` times (None: no bound) in the window.

    ``performed`` False: not once in the window, and the person was known since its start; counts play no part.
    ``where`` is judged as of the event's own time, so that it does not matter when an event arrives. A ``*`` in
    ``name`` stands for any characters. Kind ``message``: what happened to messages, see ``metric``.
    """

    name: str
    kind: str = "event"
    performed: bool = True
    at_least: int = 1
    at_most: int | None = None
    where: "Where | None" = None
    window: Window | None = None

    def counts(self, kind: str, name: str) -> bool:
        """Is it about events of this kind and name?"""
        return kind == self.kind and name_matches(self.name, name)


class DeviceTest(Struct, frozen=True, cache_hash=True, tag="device"):
    """The person has between ``at_least`` and ``at_most`` devices for which ``where`` holds."""

    at_least: int = 1
    at_most: int | None = None
    where: "Where | None" = None


class RelationTest(Struct, frozen=True, cache_hash=True, tag="relation"):
    """The person is related to so many objects of a type (to this one object) for which ``where`` holds.

    ``where`` sees the object's attributes, and those of the relationship under ``relationship``.
    """

    type_id: int
    object_id: str | None = None
    at_least: int = 1
    at_most: int | None = None
    where: "Where | None" = None


RecordTest = DeviceTest | RelationTest
Condition = And | Or | Not | InSegment | AttributeTest | EventTest | DeviceTest | RelationTest
Where = And | Or | Not | AttributeTest


def parse(value: Json, *, path: str = "$.conditions") -> Condition:
    """Read a condition from its JSON (design section 8, ``C``); raises ``ConditionError``."""
    return _Reader().node(value, path, 1, _KEYS)


def parse_where(value: Json, *, path: str) -> Where:
    """Read a condition over event data (``W``: attributes and logic only); raises ``ConditionError``."""
    return cast("Where", _Reader().node(value, path, 1, _WHERE_KEYS))


def to_json(condition: Condition) -> Json:
    """Print the one canonical form, without defaults: ``parse(to_json(c)) == c``."""
    match condition:
        case And(children):
            return {"and": [to_json(child) for child in children]}
        case Or(children):
            return {"or": [to_json(child) for child in children]}
        case Not(child):
            return {"not": to_json(child)}
        case InSegment(segment_id):
            return {"segment": {"id": segment_id}}
        case AttributeTest():
            return {"attribute": _print_attribute(condition)}
        case EventTest(kind="message"):
            return {"message": _print_message(condition)}
        case EventTest():
            return {"event": _print_event(condition)}
        case DeviceTest():
            return {"device": _print_record(condition)}
        case RelationTest(type_id, object_id):
            named = {} if object_id is None else {"object_id": object_id}
            return {"relationship": {"object_type_id": type_id, **named, **_print_record(condition)}}
        case _:
            assert_never(condition)


def segments_in(condition: Condition) -> frozenset[int]:
    """The segments a condition refers to directly."""
    return frozenset(node.segment_id for node in _nodes(condition) if isinstance(node, InSegment))


def attributes_in(condition: Condition) -> frozenset[str]:
    """The fields of people a condition reads, as they are written (paths stay paths); not those of event data."""
    return frozenset(node.field for node in _nodes(condition) if isinstance(node, AttributeTest))


def events_in(condition: Condition) -> frozenset[tuple[str, str]]:
    """The (kind, name) of the events a condition counts; names may hold wildcards, metrics are of kind "message"."""
    return frozenset((node.kind, node.name) for node in _nodes(condition) if isinstance(node, EventTest))


def tests_in(where: Where) -> list[AttributeTest]:
    """Every test in a tree over plain data."""
    return [node for node in _nodes(where) if isinstance(node, AttributeTest)]


def records_in(condition: Condition) -> list[RecordTest]:
    """What a condition asks of devices and relationships."""
    return [node for node in _nodes(condition) if isinstance(node, DeviceTest | RelationTest)]


def _nodes(condition: Condition) -> Iterator[Condition]:
    yield condition
    match condition:
        case And(children) | Or(children):
            for child in children:
                yield from _nodes(child)
        case Not(child):
            yield from _nodes(child)
        case InSegment() | AttributeTest() | EventTest() | DeviceTest() | RelationTest():
            return
        case _:
            assert_never(condition)


# -- printing -------------------------------------------------------------------------------------------------


def _print_attribute(test: AttributeTest) -> Json:
    out: dict[str, Json] = {"field": test.field, "operator": test.operator}
    if test.value != _NULL:
        out["value"] = cast("Json", _decode(test.value))
    if test.value2 != _NULL:
        out["value2"] = cast("Json", _decode(test.value2))
    return out


def _print_event(test: EventTest) -> Json:
    out: dict[str, Json] = {"name": test.name}
    if test.kind != "event":
        out["kind"] = test.kind
    if test.where is not None:
        out["where"] = to_json(test.where)
    return out | _print_occurrence(test)


def _print_record(test: RecordTest) -> dict[str, Json]:
    out: dict[str, Json] = {}
    if test.where is not None:
        out["where"] = to_json(test.where)
    if (test.at_least, test.at_most) != (1, None):
        out["count"] = print_count(test.at_least, test.at_most)
    return out


def _print_message(test: EventTest) -> Json:
    chosen = test.where.children if isinstance(test.where, And) else () if test.where is None else (test.where,)
    choices = {one.field: cast("Json", _decode(one.value)) for one in chosen if isinstance(one, AttributeTest)}
    return {"metric": test.name, **choices, **_print_occurrence(test)}


def _print_occurrence(test: EventTest) -> dict[str, Json]:
    """How often and when."""
    out: dict[str, Json] = {}
    if not test.performed:
        out["performed"] = False
    if (test.at_least, test.at_most) != (1, None):
        out["count"] = print_count(test.at_least, test.at_most)
    if test.window is not None:
        out["within"] = print_window(test.window)
    return out


# -- reading --------------------------------------------------------------------------------------------------


class _Reader:
    """Reads one tree and counts its nodes."""

    def __init__(self) -> None:
        self.nodes = 0

    def node(self, value: Json, path: str, depth: int, allowed: tuple[str, ...]) -> Condition:
        self.nodes += 1
        operand.check(limit.CONDITION_NODES, self.nodes, path)
        operand.check(limit.CONDITION_DEPTH, depth, path)
        key, body = _only_key(value, path, allowed)
        here = f"{path}.{key}"
        match key:
            case "and":
                return And(self.children(body, here, depth, allowed))
            case "or":
                return Or(self.children(body, here, depth, allowed))
            case "not":
                return Not(self.node(_one_child(body, here), here, depth + 1, allowed))
            case "segment":
                return _turned(_segment(body, here), body, here)
            case "attribute":
                return _turned(_attribute(body, here), body, here)
            case "message":
                return _turned(_message(body, here), body, here)
            case "device":
                return _turned(self.device(body, here, depth), body, here)
            case "relationship":
                return _turned(self.relation(body, here, depth), body, here)
            case _:
                return _turned(self.event(body, here, depth), body, here)

    def children(self, body: Json, path: str, depth: int, allowed: tuple[str, ...]) -> tuple[Condition, ...]:
        if not isinstance(body, list) or not body:
            raise ConditionError(f"expected a list of one or more conditions, found {shown(body)}", path=path)
        return tuple(self.node(child, f"{path}[{i}]", depth + 1, allowed) for i, child in enumerate(body))

    def event(self, body: Json, path: str, depth: int) -> EventTest:
        fields = operand.fields_of(body, path, _EVENT_KEYS)
        kind, where = fields.get("kind"), fields.get("where")
        return _occurrence(
            fields,
            path,
            # Events are stored with their names trimmed (semantics section 11, rule 13).
            name=operand.name(fields, "name", path).strip(),
            kind="event" if kind is None else operand.one_of(kind, EVENT_KINDS, f"{path}.kind", "a kind of event"),
            where=None if where is None else self.where(where, f"{path}.where", depth + 1),
        )

    def device(self, body: Json, path: str, depth: int) -> DeviceTest:
        fields = operand.fields_of(body, path, _DEVICE_KEYS)
        tests: list[Where] = []
        if fields.get("platform") is not None:
            platform = operand.one_of(fields["platform"], PLATFORMS, f"{path}.platform", "a platform")
            tests.append(AttributeTest("platform", "eq", _encode(platform)))
        if fields.get("where") is not None:
            where = self.where(fields["where"], f"{path}.where", depth + 1)
            nested = next((one.field for one in tests_in(where) if "." in one.field or "[" in one.field), None)
            if nested is not None:
                message = f"{nested!r} is nested; conditions see only the flat attributes of a device"
                raise ConditionError(message, path=f"{path}.where")
            tests.append(where)
        at_least, at_most = read_count(fields.get("count"), f"{path}.count")
        whole = None if not tests else tests[0] if len(tests) == 1 else And(tuple(tests))
        return DeviceTest(at_least, at_most, whole)

    def relation(self, body: Json, path: str, depth: int) -> RelationTest:
        fields = operand.fields_of(body, path, _RELATION_KEYS)
        type_id, object_id, where = fields.get("object_type_id"), fields.get("object_id"), fields.get("where")
        if isinstance(type_id, str) and type_id.isdecimal() and type_id.isascii():
            type_id = int(type_id)
        if isinstance(type_id, bool) or not isinstance(type_id, int) or type_id < 1:
            message = f"expected the number of a type of objects, found {shown(type_id)}"
            raise ConditionError(message, path=f"{path}.object_type_id")
        if isinstance(object_id, int) and not isinstance(object_id, bool):
            object_id = str(object_id)
        if object_id is not None:
            object_id = operand.name({"object_id": object_id}, "object_id", path)
        at_least, at_most = read_count(fields.get("count"), f"{path}.count")
        asked = None if where is None else self.where(where, f"{path}.where", depth + 1)
        return RelationTest(type_id, object_id, at_least, at_most, asked)

    def where(self, value: Json, path: str, depth: int) -> Where:
        return cast("Where", self.node(value, path, depth, _WHERE_KEYS))


def _only_key(value: Json, path: str, allowed: tuple[str, ...]) -> tuple[str, Json]:
    if not isinstance(value, dict) or len(value) != 1:
        expected = f"expected an object with exactly one of the keys {', '.join(allowed)}"
        hint = '; did you mean {"attribute": …}?' if isinstance(value, dict) and "field" in value else ""
        raise ConditionError(f"{expected}; found {shown(value)}{hint}", path=path)
    key, body = next(iter(value.items()))
    if key in _KEYS and key not in allowed:
        message = f'"{key}" cannot stand inside where, which tests plain data; expected one of: {", ".join(allowed)}'
        raise ConditionError(message, path=f"{path}.{key}")
    return operand.one_of(key, allowed, path, "a condition"), body


def _one_child(body: Json, path: str) -> Json:
    if isinstance(body, list):
        raise ConditionError('"not" takes one condition, not a list; write {"not": {"or": […]}}', path=path)
    return body


def _turned(test: Condition, body: Json, path: str) -> Condition:
    """``"inverse": true`` inside a test is not(test)."""
    inverse = isinstance(body, dict) and operand.flag(body, "inverse", path, default=False)
    return Not(test) if inverse else test


def _segment(body: Json, path: str) -> InSegment:
    value = operand.fields_of(body, path, ("id", "inverse")).get("id")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConditionError(f"expected the number of a segment, found {shown(value)}", path=f"{path}.id")
    return InSegment(value)


def _occurrence(fields: dict[str, Json], path: str, *, name: str, kind: str, where: Where | None) -> EventTest:
    """How often and when, of an event or of a message."""
    performed = operand.flag(fields, "performed", path, default=True)
    if not performed and fields.get("count") is not None:
        message = '"performed": false means not once and takes no count; leave one of them out'
        raise ConditionError(message, path=f"{path}.count")
    at_least, at_most = read_count(fields.get("count"), f"{path}.count")
    window = read_window(fields.get("within"), f"{path}.within")
    return EventTest(name, kind, performed, at_least, at_most, where, window)


def _message(body: Json, path: str) -> EventTest:
    fields = operand.fields_of(body, path, _MESSAGE_KEYS)
    chosen: list[AttributeTest] = []
    for choice in CHOICES:
        value = fields.get(choice)
        if value is None:
            continue
        if choice == "channel":
            value = operand.one_of(value, CHANNELS, f"{path}.channel", "a channel")
        elif isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ConditionError(f"expected a number of one, found {shown(value)}", path=f"{path}.{choice}")
        chosen.append(AttributeTest(choice, "eq", _encode(value)))
    where = None if not chosen else chosen[0] if len(chosen) == 1 else And(tuple(chosen))
    metric = operand.one_of(fields.get("metric"), METRICS, f"{path}.metric", "a metric of messages")
    return _occurrence(fields, path, name=metric, kind=MESSAGE, where=where)


def _attribute(body: Json, path: str) -> AttributeTest:
    fields = operand.fields_of(body, path, _ATTRIBUTE_KEYS)
    field = operand.name(fields, "field", path)
    operator = operand.one_of(fields.get("operator"), OPERATORS, f"{path}.operator", "an operator")
    value, value2 = operand.operands(operator, fields.get("value"), fields.get("value2"), path)
    return AttributeTest(field, operator, _encode(value), _encode(value2))


