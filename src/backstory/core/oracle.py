"""The truth about conditions, slow and obvious: every question is answered by reading a person's whole history.

The fast code (leaves, comparison, bulk scans) is tested against this module and ``verify`` checks stored state with
it. So it shares nothing with them but the shape of conditions, keeps no state, and has comparisons of its own.
To be checked by eye against design sections 6 and 8, semantics section 5.4. Times are microseconds.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import assert_never, cast

import msgspec

from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    EventTest,
    InSegment,
    Json,
    Last,
    Not,
    Or,
    Window,
)

Segments = Mapping[int, Condition | frozenset[int]]


class PersonHistory(msgspec.Struct, kw_only=True):
    """Everything that ever became true of one person, in any order.

    ``identifiers`` has id, email, cio_id as of today; ``events`` are (kind, name, time_us, data); ``writes`` are
    (time_us, attributes), where null and "" remove and a name with dots is a path. ``exists_since_us`` is the
    earliest effective time of any fact.
    """

    person: int
    identifiers: dict[str, str]
    events: list[tuple[str, str, int, dict[str, Json]]]
    writes: list[tuple[int, dict[str, Json]]]
    exists_since_us: int


def members(condition: Condition, histories: Iterable[PersonHistory], at_us: int, segments: Segments) -> set[int]:
    """The numbers of the people for whom the condition holds at ``at_us``."""
    return {history.person for history in histories if member(condition, history, at_us, segments)}


def member(condition: Condition, history: PersonHistory, at_us: int, segments: Segments) -> bool:
    """Does the condition hold for the person at ``at_us``? Whoever does not exist yet is a member of nothing.

    ``segments`` gives the condition of each dynamic segment and the people of each manual one.
    """
    return history.exists_since_us <= at_us and _true(condition, history, at_us, segments)


def _true(condition: Condition, history: PersonHistory, at_us: int, segments: Segments) -> bool:
    match condition:
        case And():
            return all(_true(child, history, at_us, segments) for child in condition.children)
        case Or():
            return any(_true(child, history, at_us, segments) for child in condition.children)
        case Not():
            return not _true(condition.child, history, at_us, segments)
        case InSegment():
            segment = segments[condition.segment_id]
            if isinstance(segment, frozenset):
                return history.person in segment
            return _true(segment, history, at_us, segments)
        case AttributeTest():
            return attribute_true(condition, _seen(history, at_us), at_us)
        case EventTest():
            return _event_true(condition, history, at_us)
        case _:
            assert_never(condition)


# -- events ---------------------------------------------------------------------------------------------------


def _event_true(test: EventTest, history: PersonHistory, at_us: int) -> bool:
    count = 0
    for kind, name, time_us, data in history.events:
        # A star stands for any characters. What messages came to are events of the kind "message".
        named = re.fullmatch(re.escape(test.name).replace(r"\*", ".*"), name, re.DOTALL)
        same_event = kind == test.kind and named is not None
        happened = time_us <= at_us and _inside(test.window, time_us, at_us)
        if same_event and happened and (test.where is None or where_true(test.where, data, time_us)):
            count += 1
    if not test.performed:
        return count == 0 and _known_long_enough(test.window, history, at_us)
    return count >= test.at_least and (test.at_most is None or count <= test.at_most)


def _inside(window: Window | None, time_us: int, at_us: int) -> bool:
    match window:
        case None:
            return True
        case Last():
            return at_us - window.last_us < time_us <= at_us
        case Between():
            begun = window.from_us is None or window.from_us <= time_us
            ended = window.to_us is not None and window.to_us <= time_us
            return begun and not ended
        case _:
            assert_never(window)


def _known_long_enough(window: Window | None, history: PersonHistory, at_us: int) -> bool:
    match window:
        case None:
            return True
        case Last():
            return history.exists_since_us <= at_us - window.last_us
        case Between():
            return window.from_us is None or history.exists_since_us <= window.from_us
        case _:
            assert_never(window)


def where_true(where: Condition, data: Mapping[str, Json], time_us: int) -> bool:
    """Does a where-tree hold for the data of an event? "Now" is the event's own time."""
    match where:
        case And():
            return all(where_true(child, data, time_us) for child in where.children)
        case Or():
            return any(where_true(child, data, time_us) for child in where.children)
        case Not():
            return not where_true(where.child, data, time_us)
        case AttributeTest():
            return attribute_true(where, data, time_us)
        case InSegment() | EventTest():
            raise AssertionError("where knows only event data")
        case _:
            assert_never(where)


# -- attributes as they were at a moment ----------------------------------------------------------------------


def values_at(history: PersonHistory, at_us: int) -> dict[str, Json]:
    """The attributes at ``at_us``: of each name the newest write, then later paths laid over their wholes."""
    newest: dict[str, tuple[int, bool, bytes, Json]] = {}
    for time_us, attributes in history.writes:
        for name, value in attributes.items():
            removal = value is None or value == ""
            # At equal times a value beats a removal, then the larger canonical JSON wins.
            write = (time_us, not removal, msgspec.json.encode(value, order="sorted"), None if removal else value)
            if time_us <= at_us and (name not in newest or write[:3] > newest[name][:3]):
                newest[name] = write

    values: dict[str, Json] = {}
    values.update((name, value) for name, (_, _, _, value) in newest.items() if "." not in name and value is not None)
    paths = sorted((time_us, name, value) for name, (time_us, _, _, value) in newest.items() if "." in name)
    for time_us, name, value in paths:
        root, *path = name.split(".")
        if root not in newest or time_us > newest[root][0]:
            laid = _laid(values.get(root), path, value)
            if laid is not None:
                values[root] = laid
    return values


def _laid(whole: Json, path: list[str], value: Json) -> Json:
    """``whole`` with ``value`` at the path; None removes what is there and makes nothing new."""
    if not path:
        return value
    if not isinstance(whole, dict):
        if value is None:
            return whole
        whole = {}
    below = _laid(whole.get(path[0]), path[1:], value)
    others = {name: item for name, item in whole.items() if name != path[0]}
    return others if below is None else {**others, path[0]: below}


def _seen(history: PersonHistory, at_us: int) -> dict[str, Json]:
    """What attribute tests see: the attributes of that moment and today's identifiers."""
    return {**values_at(history, at_us), **history.identifiers}


# -- comparing ------------------------------------------------------------------------------------------------


def attribute_true(test: AttributeTest, document: Mapping[str, Json], now_us: int) -> bool:
    """Does any value at the field pass the test? With a "!": does none?"""
    operand, operand2 = cast("Json", json.loads(test.value)), cast("Json", json.loads(test.value2))
    values = [value for value in _read(document, test.field) if value is not None]
    if test.operator.startswith("!"):
        return not any(_passes(test.operator[1:], value, operand, operand2, now_us) for value in values)
    return any(_passes(test.operator, value, operand, operand2, now_us) for value in values)


def _read(document: Mapping[str, Json], field: str) -> list[Json]:
    """The exact key, else a path: a.b is a key of an object, a[] every item of a list, a[0] one item."""
    if field in document:
        return [document[field]]
    name = r"[^.\[\]]+(\[[0-9]*\])*"
    if not re.fullmatch(rf"{name}(\.{name})*", field):
        return []
    values: list[Json] = [dict(document)]
    for step in re.findall(r"[^.\[\]]+|\[[0-9]*\]", field):
        below: list[Json] = []
        for value in values:
            if isinstance(value, list) and step == "[]":
                below += value
            elif isinstance(value, list) and step.startswith("["):
                below += [item for index, item in enumerate(value) if index == int(step[1:-1])]
            elif isinstance(value, dict) and step in value:
                below.append(value[step])
        values = below
    return values


def _passes(operator: str, value: Json, operand: Json, operand2: Json, now_us: int) -> bool:
    match operator:
        case "exists":
            return value is not None and value != ""
        case "eq":
            return _same(value, operand)
        case "in":
            return any(_same(value, one) for one in cast("list[Json]", operand))
        case "contains" | "starts_with" | "ends_with":
            return _text_passes(operator, _text(value), _text(operand))
        case "gt" | "lt" | "ge" | "le" | "bw":
            return _number_passes(operator, _number(value), _number(operand), _number(operand2))
        case "is_timestamp":
            return _is_timestamp(value)
        case "timestamp_gt" | "timestamp_lt":
            return _is_timestamp(value) and _number_passes(
                operator.removeprefix("timestamp_"), _us(value), now_us + _us(operand), None
            )
        case "timestamp_gta" | "timestamp_lta":
            return _is_timestamp(value) and _number_passes(operator[10:12], _us(value), _us(operand), None)
        case "timestamp_bw":
            return _is_timestamp(value) and _us(operand) <= _us(value) <= _us(operand2)
        case _:
            raise AssertionError(f"{operator} is no operator")


def _same(value: Json, operand: Json) -> bool:
    if isinstance(value, str) and isinstance(operand, str):
        return value.casefold() == operand.casefold()
    if isinstance(value, bool) or isinstance(operand, bool):
        return _boolean(value) is not None and _boolean(value) == _boolean(operand)
    return _number(value) is not None and _number(value) == _number(operand)


def _text_passes(operator: str, value: str | None, operand: str | None) -> bool:
    if value is None or operand is None:
        return False
    match operator:
        case "contains":
            return operand in value
        case "starts_with":
            return value[: len(operand)] == operand
        case _:
            return value[max(0, len(value) - len(operand)) :] == operand


def _number_passes(operator: str, value: float | None, operand: float | None, operand2: float | None) -> bool:
    if value is None or operand is None:
        return False
    match operator:
        case "gt":
            return value > operand
        case "lt":
            return value < operand
        case "ge":
            return value >= operand
        case "le":
            return value <= operand
        case _:
            return operand2 is not None and operand <= value <= operand2


def _is_timestamp(value: Json) -> bool:
    """Unix seconds and nothing else: milliseconds are too large, ISO 8601 is no number, and 0 is 1970."""
    number = _number(value)
    return number is not None and 0 <= number < 100_000_000_000


def _us(seconds: Json) -> int:
    number = _number(seconds)
    assert number is not None, f"{seconds!r} was never checked"
    return round(number * 1_000_000)


def _number(value: Json) -> int | float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value
    if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?", value):
        return float(value) if "." in value else int(value)
    return None


def _boolean(value: Json) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.casefold())
    return value if isinstance(value, bool) else None


def _text(value: Json) -> str | None:
    if isinstance(value, str):
        return value.casefold()
    return None if value is None or isinstance(value, list | dict) else json.dumps(value)


# -- the next change ------------------------------------------------------------------------------------------


def next_change(condition: Condition, history: PersonHistory, at_us: int, segments: Segments) -> int | None:
    """The first moment after ``at_us`` at which membership is another, if no more facts come: tries them all."""
    now = member(condition, history, at_us, segments)
    for moment_us in sorted(_moments(condition, history, segments)):
        if moment_us > at_us and member(condition, history, moment_us, segments) != now:
            return moment_us
    return None


def _moments(condition: Condition, history: PersonHistory, segments: Segments) -> set[int]:
    """Every moment at which anything about the condition may become different."""
    facts = {history.exists_since_us, *(event[2] for event in history.events), *(write[0] for write in history.writes)}
    match condition:
        case And() | Or():
            return facts.union(*(_moments(child, history, segments) for child in condition.children))
        case Not():
            return facts | _moments(condition.child, history, segments)
        case InSegment():
            segment = segments[condition.segment_id]
            return facts if isinstance(segment, frozenset) else facts | _moments(segment, history, segments)
        case AttributeTest():
            return facts | _moments_of_values(condition, history, facts)
        case EventTest(window=Last(last_us=last_us)):
            return facts | {moment_us + last_us for moment_us in facts}
        case EventTest():
            return facts
        case _:
            assert_never(condition)


def _moments_of_values(test: AttributeTest, history: PersonHistory, facts: set[int]) -> set[int]:
    """When a relative timestamp test turns: the value less the offset, or one microsecond later."""
    if test.operator not in ("timestamp_gt", "timestamp_lt"):
        return set()
    offset_us = _us(cast("Json", json.loads(test.value)))
    values = [value for fact_us in facts for value in _read(_seen(history, fact_us), test.field)]
    turns = {_us(value) - offset_us for value in values if _is_timestamp(value)}
    return turns | {turn_us + 1 for turn_us in turns}
