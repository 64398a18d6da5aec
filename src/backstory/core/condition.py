"""Conditions: questions about a person at a moment, as trees; how they are read from JSON and printed again.

A condition knows nothing of people, storage or how it is answered (``comparison``, ``leaf``, ``oracle`` do).
All nodes are frozen and hashable: equal tests are one leaf, whoever asks. Operands are kept as canonical JSON.
Source: design section 8; the language is explained in ``docs/conditions.md``.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import assert_never, cast

import msgspec
from msgspec import Struct

from backstory.core import limit, operand
from backstory.core.operand import OPERATORS, shown
from backstory.core.operand import ConditionError as ConditionError
from backstory.core.operand import Json as Json
from backstory.core.time import MILLISECONDS_FROM, SECOND_US, from_unix

EVENT_KINDS = ("event", "page", "screen")

_NULL = b"null"
_KEYS = ("and", "or", "not", "segment", "attribute", "event")
_WHERE_KEYS = ("and", "or", "not", "attribute")
_NOT_YET = ("message", "device", "relationship")
_EVENT_KEYS = ("name", "kind", "performed", "count", "where", "within", "inverse")
_ATTRIBUTE_KEYS = ("field", "operator", "value", "value2", "inverse")
_COUNT_KEYS = ("at_least", "at_most", "exactly", "between")
_WINDOW_KEYS = ("last_s", "from", "to")

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder().decode


class Last(Struct, frozen=True, tag="last"):
    """The last so many microseconds: now - last_us < t <= now."""

    last_us: int


class Between(Struct, frozen=True, tag="between"):
    """Two fixed moments: from_us <= t < to_us; None leaves that side open."""

    from_us: int | None
    to_us: int | None


Window = Last | Between


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
    ``where`` is judged as of the event's own time, so that it does not matter when an event arrives.
    """

    name: str
    kind: str = "event"
    performed: bool = True
    at_least: int = 1
    at_most: int | None = None
    where: "Where | None" = None
    window: Window | None = None


Condition = And | Or | Not | InSegment | AttributeTest | EventTest
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
        case EventTest():
            return {"event": _print_event(condition)}
        case _:
            assert_never(condition)


def segments_in(condition: Condition) -> frozenset[int]:
    """The segments a condition refers to directly."""
    return frozenset(node.segment_id for node in _nodes(condition) if isinstance(node, InSegment))


def attributes_in(condition: Condition) -> frozenset[str]:
    """The fields of people a condition reads, as they are written (paths stay paths); not those of event data."""
    return frozenset(node.field for node in _nodes(condition) if isinstance(node, AttributeTest))


def events_in(condition: Condition) -> frozenset[tuple[str, str]]:
    """The (kind, name) of the events a condition counts."""
    return frozenset((node.kind, node.name) for node in _nodes(condition) if isinstance(node, EventTest))


def _nodes(condition: Condition) -> Iterator[Condition]:
    yield condition
    match condition:
        case And(children) | Or(children):
            for child in children:
                yield from _nodes(child)
        case Not(child):
            yield from _nodes(child)
        case InSegment() | AttributeTest() | EventTest():
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
    if not test.performed:
        out["performed"] = False
    if (test.at_least, test.at_most) != (1, None):
        out["count"] = _print_count(test.at_least, test.at_most)
    if test.where is not None:
        out["where"] = to_json(test.where)
    if test.window is not None:
        out["within"] = _print_window(test.window)
    return out


def _print_count(at_least: int, at_most: int | None) -> Json:
    if at_most is None:
        return {"at_least": at_least}
    if at_least == at_most:
        return {"exactly": at_least}
    return {"at_most": at_most} if at_least == 0 else {"between": [at_least, at_most]}


def _print_window(window: Window) -> Json:
    match window:
        case Last(last_us):
            return {"last_s": last_us // SECOND_US if last_us % SECOND_US == 0 else last_us / SECOND_US}
        case Between(from_us, to_us):
            return {key: _print_moment(us) for key, us in (("from", from_us), ("to", to_us)) if us is not None}
        case _:
            assert_never(window)


def _print_moment(us: int) -> int | float | str:
    """Unix seconds; ISO 8601 where a number would not be read as the same moment."""
    seconds = us // SECOND_US if us % SECOND_US == 0 else us / SECOND_US
    if abs(seconds) < MILLISECONDS_FROM and from_unix(seconds)[0] == us:
        return seconds
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)).isoformat()


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
            case _:
                return _turned(self.event(body, here, depth), body, here)

    def children(self, body: Json, path: str, depth: int, allowed: tuple[str, ...]) -> tuple[Condition, ...]:
        if not isinstance(body, list) or not body:
            raise ConditionError(f"expected a list of one or more conditions, found {shown(body)}", path=path)
        return tuple(self.node(child, f"{path}[{i}]", depth + 1, allowed) for i, child in enumerate(body))

    def event(self, body: Json, path: str, depth: int) -> EventTest:
        fields = _fields(body, path, _EVENT_KEYS)
        performed = _flag(fields, "performed", path, default=True)
        if not performed and fields.get("count") is not None:
            message = '"performed": false means not once and takes no count; leave one of them out'
            raise ConditionError(message, path=f"{path}.count")
        at_least, at_most = _count(fields.get("count"), f"{path}.count")
        kind, where = fields.get("kind"), fields.get("where")
        return EventTest(
            # Events are stored with their names trimmed (semantics section 11, rule 13).
            name=_name(fields, "name", path).strip(),
            kind="event" if kind is None else operand.one_of(kind, EVENT_KINDS, f"{path}.kind", "a kind of event"),
            performed=performed,
            at_least=at_least,
            at_most=at_most,
            where=None if where is None else self.where(where, f"{path}.where", depth + 1),
            window=_window(fields.get("within"), f"{path}.within"),
        )

    def where(self, value: Json, path: str, depth: int) -> Where:
        return cast("Where", self.node(value, path, depth, _WHERE_KEYS))


def _only_key(value: Json, path: str, allowed: tuple[str, ...]) -> tuple[str, Json]:
    if not isinstance(value, dict) or len(value) != 1:
        expected = f"expected an object with exactly one of the keys {', '.join(allowed)}"
        hint = '; did you mean {"attribute": …}?' if isinstance(value, dict) and "field" in value else ""
        raise ConditionError(f"{expected}; found {shown(value)}{hint}", path=path)
    key, body = next(iter(value.items()))
    if key in _NOT_YET:
        raise ConditionError(f"{key} conditions are not available yet", path=f"{path}.{key}")
    if key in _KEYS and key not in allowed:
        message = f'"{key}" cannot stand inside where, which tests event data; expected one of: {", ".join(allowed)}'
        raise ConditionError(message, path=f"{path}.{key}")
    return operand.one_of(key, allowed, path, "a condition"), body


def _one_child(body: Json, path: str) -> Json:
    if isinstance(body, list):
        raise ConditionError('"not" takes one condition, not a list; write {"not": {"or": […]}}', path=path)
    return body


def _fields(body: Json, path: str, allowed: tuple[str, ...]) -> dict[str, Json]:
    if not isinstance(body, dict):
        expected = f"expected an object with the keys {', '.join(allowed)}"
        raise ConditionError(f"{expected}; found {shown(body)}", path=path)
    for key in body:
        operand.one_of(key, allowed, path, "a key here")
    return body


def _turned(test: Condition, body: Json, path: str) -> Condition:
    """``"inverse": true`` inside a test is not(test)."""
    inverse = isinstance(body, dict) and _flag(body, "inverse", path, default=False)
    return Not(test) if inverse else test


def _flag(fields: dict[str, Json], key: str, path: str, *, default: bool) -> bool:
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConditionError(f"expected true or false, found {shown(value)}", path=f"{path}.{key}")
    return value


def _name(fields: dict[str, Json], key: str, path: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConditionError(f'expected "{key}" as text, found {shown(value)}', path=f"{path}.{key}")
    return operand.text(value, f"{path}.{key}")


def _segment(body: Json, path: str) -> InSegment:
    value = _fields(body, path, ("id", "inverse")).get("id")
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConditionError(f"expected the number of a segment, found {shown(value)}", path=f"{path}.id")
    return InSegment(value)


def _attribute(body: Json, path: str) -> AttributeTest:
    fields = _fields(body, path, _ATTRIBUTE_KEYS)
    field = _name(fields, "field", path)
    operator = operand.one_of(fields.get("operator"), OPERATORS, f"{path}.operator", "an operator")
    value, value2 = operand.operands(operator, fields.get("value"), fields.get("value2"), path)
    return AttributeTest(field, operator, _encode(value), _encode(value2))


def _count(value: Json, path: str) -> tuple[int, int | None]:
    if value is None:
        return 1, None
    fields = _fields(value, path, _COUNT_KEYS)
    if len(fields) != 1:
        raise ConditionError(f"expected exactly one of {', '.join(_COUNT_KEYS)}; found {shown(value)}", path=path)
    form, bound = next(iter(fields.items()))
    here = f"{path}.{form}"
    if form != "between":
        times = _times(bound, here)
        return (times, None) if form == "at_least" else (0 if form == "at_most" else times, times)
    if not isinstance(bound, list) or len(bound) != 2:
        raise ConditionError(f"expected two whole numbers [least, most], found {shown(bound)}", path=here)
    low, high = (_times(item, f"{here}[{i}]") for i, item in enumerate(bound))
    operand.in_order(low, high, here)
    return low, high


def _times(value: Json, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConditionError(f"expected a whole number of times from 0, found {shown(value)}", path=path)
    operand.check(limit.CONDITION_COUNT, value, path)
    return value


def _window(value: Json, path: str) -> Window | None:
    if value is None:
        return None
    fields = {key: item for key, item in _fields(value, path, _WINDOW_KEYS).items() if item is not None}
    if not fields or ("last_s" in fields and len(fields) > 1):
        raise ConditionError(f'expected either "last_s" or "from" and "to", found {shown(value)}', path=path)
    if "last_s" in fields:
        last_us = operand.stretch_us(fields["last_s"], f"{path}.last_s")
        if last_us <= 0:
            raise ConditionError(f"expected more than 0 seconds, found {shown(value)}", path=f"{path}.last_s")
        return Last(last_us)
    from_us = operand.moment_us(fields["from"], f"{path}.from") if "from" in fields else None
    to_us = operand.moment_us(fields["to"], f"{path}.to") if "to" in fields else None
    if from_us is not None and to_us is not None and from_us >= to_us:
        raise ConditionError('"from" must lie before "to", which is not part of the window', path=path)
    return Between(from_us, to_us)
