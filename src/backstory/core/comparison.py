"""Attribute tests judged fast: what a test says about the values found at a path, and when time changes it.

Shared by live leaves, bulk scans, where-tests over event data and campaign filters. Knows no person and no segment;
``oracle`` says the same slowly, with code of its own. The rules:

- Missing values (nothing there, or null) match no test; ``!op`` is not(op), hence true when all is missing.
- Of several values (``tags[]``) any may match.
- Text is compared without case, numbers and booleans by value. Text that is a plain decimal number stands for that
  number beside a number, and "true" and "false" for a boolean beside a boolean.
- Timestamps are unix seconds, rounded to the microsecond, with 0 <= v < 1e11: neither milliseconds nor ISO 8601.

Source: design section 8, semantics sections 5.2 and 5.4.
"""

import re
from collections.abc import Callable, Mapping
from enum import Enum
from functools import lru_cache
from operator import ge, gt, le, lt
from typing import Final, assert_never, cast

import msgspec

from backstory.core.condition import (
    And,
    AttributeTest,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Json,
    Not,
    Or,
    RelationTest,
    Where,
)
from backstory.core.error import InvariantError
from backstory.core.operand import plain_number
from backstory.core.time import MILLISECONDS_FROM, SECOND_US


class Missing(Enum):
    """The absence of a value, which is not null: null is what somebody sent."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING

Number = int | float
Matches = Callable[[Json, int], bool]
Judge = Callable[[list[Json], int], bool]
WhereJudge = Callable[[Mapping[str, Json], int], bool]

# Tests are compiled once; more than a workspace's leaves (design section 13: 300) with room to spare.
_COMPILED = 8192
_PART = re.compile(r"([^.\[\]]+)((?:\[[0-9]*\])*)")
_INDEX = re.compile(r"\[([0-9]*)\]")
_BOOLEANS = {"true", "false"}
COMPARE: dict[str, Callable[[Number, Number], bool]] = {"gt": gt, "lt": lt, "ge": ge, "le": le}
_decode = msgspec.json.Decoder().decode


def read_path(document: Mapping[str, Json], field: str) -> list[Json]:
    """The values at a field, [] when it is missing; nulls are missing.

    The exact key comes first; else ``a.b`` goes into objects, ``a[]`` to every item of a list, ``a[0]`` to one.
    """
    value = document.get(field, MISSING)
    if value is not MISSING:
        return [] if value is None else [value]
    first, *steps = _steps(field)
    if not steps or not isinstance(first, str) or first not in document:
        return []
    found = [document[first]]
    for step in steps:
        found = _step(found, step)
    return [value for value in found if value is not None]


def holds(test: AttributeTest, values: list[Json], now_us: int) -> bool:
    """Does the test hold for the values ``read_path`` found, at ``now_us``?"""
    return _judge(test)(values, now_us)


def next_change_us(test: AttributeTest, values: list[Json], now_us: int) -> int | None:
    """The first moment after ``now_us`` at which time alone changes ``holds``; None when it never does."""
    operator, offset_us = _offset(test)
    if operator is None:
        return None
    moments = [us - offset_us for us in map(_timestamp_us, values) if us is not None]
    if not moments:
        return None
    # v > now + offset ends at the moment itself; v < now + offset begins one microsecond after it.
    change_us = max(moments) if operator == "timestamp_gt" else min(moments) + 1
    return change_us if change_us > now_us else None


def where_holds(where: Where, data: Mapping[str, Json], now_us: int) -> bool:
    """Does a tree of tests hold for event data? For an event ``now_us`` is the event's own time."""
    return where_judge(where)(data, now_us)


# -- paths ----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=_COMPILED)
def _steps(field: str) -> tuple[str | int | None, ...]:
    """A path as steps: a key, an index, or None for every item. What is no path is one key."""
    steps: list[str | int | None] = []
    for part in field.split("."):
        matched = _PART.fullmatch(part)
        if matched is None:
            return (field,)
        steps.append(matched[1])
        steps.extend(int(index) if index else None for index in _INDEX.findall(matched[2]))
    return tuple(steps)


def _step(values: list[Json], step: str | int | None) -> list[Json]:
    match step:
        case None:
            return [item for value in values if isinstance(value, list) for item in value]
        case int():
            return [value[step] for value in values if isinstance(value, list) and step < len(value)]
        case str():
            return [value[step] for value in values if isinstance(value, dict) and step in value]
        case _:
            assert_never(step)


# -- tests, compiled ------------------------------------------------------------------------------------------


@lru_cache(maxsize=_COMPILED)
def _judge(test: AttributeTest) -> Judge:
    matches = matcher(test)

    def any_holds(values: list[Json], now_us: int) -> bool:
        for value in values:  # noqa: SIM110 - a generator costs more than most tests
            if value is not None and matches(value, now_us):
                return True
        return False

    def none_holds(values: list[Json], now_us: int) -> bool:
        return not any_holds(values, now_us)

    return none_holds if test.operator.startswith("!") else any_holds


@lru_cache(maxsize=_COMPILED)
def where_judge(where: Condition) -> WhereJudge:
    """``where_holds`` of one tree, for those who ask it often."""
    match where:
        case And(children):
            return _until(False, [where_judge(child) for child in children])
        case Or(children):
            return _until(True, [where_judge(child) for child in children])
        case Not(child):
            inner = where_judge(child)
            return lambda data, now_us: not inner(data, now_us)
        case AttributeTest():
            return _property_judge(where)
        case InSegment() | EventTest() | DeviceTest() | RelationTest():
            raise InvariantError(f"{where} stands inside where")
        case _:
            assert_never(where)


def _until(decisive: bool, judges: list[WhereJudge]) -> WhereJudge:
    """The first judge with the decisive answer decides: False for and, True for or."""

    def judge(data: Mapping[str, Json], now_us: int) -> bool:
        for each in judges:
            if each(data, now_us) is decisive:
                return decisive
        return not decisive

    return judge


def _property_judge(test: AttributeTest) -> WhereJudge:
    """``_judge`` over ``read_path``, with a short way for the plain names that most tests have."""
    field, matches, judge_values = test.field, matcher(test), _judge(test)
    negated = test.operator.startswith("!")

    def judge(data: Mapping[str, Json], now_us: int) -> bool:
        value = data.get(field)
        if value is not None:
            return matches(value, now_us) is not negated
        return judge_values(read_path(data, field), now_us)

    return judge


def matcher(test: AttributeTest) -> Matches:
    """What one value that is there has to be, whatever the sign of the operator."""
    value, value2 = cast("Json", _decode(test.value)), cast("Json", _decode(test.value2))
    match test.operator.removeprefix("!"):
        case "exists":
            return lambda item, now_us: item != ""
        case "eq":
            return _among([value])
        case "in":
            return _among(value if isinstance(value, list) else [value])
        case "contains" | "starts_with" | "ends_with" as operator:
            return _text_matches(operator, value)
        case "gt" | "lt" | "ge" | "le" | "bw" as operator:
            return _number_matches(operator, _operand(test, value), value2)
        case operator:
            return _timestamp_matches(test, operator, value, value2)


def _among(operands: list[Json]) -> Matches:
    texts = {item.casefold() for item in operands if isinstance(item, str)}
    booleans = {item for item in operands if isinstance(item, bool)}
    booleans_meant = {text == "true" for text in texts & _BOOLEANS}
    numbers = {item for item in operands if isinstance(item, int | float) and not isinstance(item, bool)}
    numbers_meant = numbers | {number for number in map(plain_number, texts) if number is not None}

    def matches(item: Json, now_us: int) -> bool:
        if isinstance(item, str):
            folded = item.casefold()
            if folded in texts or (booleans and folded in _BOOLEANS and (folded == "true") in booleans):
                return True
            return bool(numbers) and plain_number(item) in numbers
        if isinstance(item, bool):
            return item in booleans or item in booleans_meant
        return isinstance(item, int | float) and item in numbers_meant

    return matches


def _text_matches(operator: str, operand: Json) -> Matches:
    folded = text_of(operand) or ""

    def matches(item: Json, now_us: int) -> bool:
        text = text_of(item)
        if text is None:
            return False
        if operator == "contains":
            return folded in text
        return text.startswith(folded) if operator == "starts_with" else text.endswith(folded)

    return matches


def text_of(value: Json) -> str | None:
    """The text of a value without case: numbers and booleans as JSON writes them; lists and objects have none."""
    if isinstance(value, str):
        return value.casefold()
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None


def _number_matches(operator: str, bound: Number, value2: Json) -> Matches:
    compare = COMPARE.get(operator)
    upper = number_of(value2)

    def matches(item: Json, now_us: int) -> bool:
        number = number_of(item)
        if number is None:
            return False
        if compare is not None:
            return compare(number, bound)
        return upper is not None and bound <= number <= upper

    return matches


def _timestamp_matches(test: AttributeTest, operator: str, value: Json, value2: Json) -> Matches:
    def compared(compare: Callable[[int, int], bool]) -> Matches:
        def matches(item: Json, now_us: int) -> bool:
            us = _timestamp_us(item)
            return us is not None and compare(us, now_us)

        return matches

    if operator == "is_timestamp":
        return compared(lambda us, now_us: True)
    bound_us = rounded_us(_operand(test, value))
    match operator:
        case "timestamp_gt":
            return compared(lambda us, now_us: us > now_us + bound_us)
        case "timestamp_lt":
            return compared(lambda us, now_us: us < now_us + bound_us)
        case "timestamp_gta":
            return compared(lambda us, now_us: us > bound_us)
        case "timestamp_lta":
            return compared(lambda us, now_us: us < bound_us)
        case "timestamp_bw":
            upper_us = rounded_us(_operand(test, value2))
            return compared(lambda us, now_us: bound_us <= us <= upper_us)
        case _:
            raise InvariantError(f"{test.operator} is no operator")


# -- values ---------------------------------------------------------------------------------------------------


def number_of(value: Json) -> Number | None:
    """The number a value stands for; a boolean stands for none."""
    if type(value) is int or type(value) is float:
        return value
    if isinstance(value, str):
        return plain_number(value)
    return None


def _timestamp_us(value: Json) -> int | None:
    """The moment a value is; None when it cannot be unix seconds."""
    number = number_of(value)
    if number is None or not 0 <= number < MILLISECONDS_FROM:
        return None
    return rounded_us(number)


def rounded_us(seconds: Number) -> int:
    """Seconds as the nearest whole microseconds."""
    return seconds * SECOND_US if isinstance(seconds, int) else round(seconds * SECOND_US)


def _operand(test: AttributeTest, value: Json) -> Number:
    number = number_of(value)
    if number is None:
        raise InvariantError(f"{test} was never checked: {value!r} is no number")
    return number


@lru_cache(maxsize=_COMPILED)
def _offset(test: AttributeTest) -> tuple[str | None, int]:
    """The operator and its offset, for the two that look at the clock; (None, 0) for all others."""
    operator = test.operator.removeprefix("!")
    if operator not in ("timestamp_gt", "timestamp_lt"):
        return None, 0
    return operator, rounded_us(_operand(test, cast("Json", _decode(test.value))))
