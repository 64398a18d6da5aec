"""How the oracle compares one value with what a condition asks for: slowly, and with code of its own."""

import json
import re
from collections.abc import Mapping
from typing import cast

from backstory.core.condition import AttributeTest, Json


def attribute_true(test: AttributeTest, document: Mapping[str, Json], now_us: int) -> bool:
    """Does any value at the field pass the test? With a "!": does none?"""
    operand, operand2 = cast("Json", json.loads(test.value)), cast("Json", json.loads(test.value2))
    values = [value for value in read(document, test.field) if value is not None]
    if test.operator.startswith("!"):
        return not any(_passes(test.operator[1:], value, operand, operand2, now_us) for value in values)
    return any(_passes(test.operator, value, operand, operand2, now_us) for value in values)


def read(document: Mapping[str, Json], field: str) -> list[Json]:
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
            return is_timestamp(value)
        case "timestamp_gt" | "timestamp_lt":
            return is_timestamp(value) and _number_passes(
                operator.removeprefix("timestamp_"), us(value), now_us + us(operand), None
            )
        case "timestamp_gta" | "timestamp_lta":
            return is_timestamp(value) and _number_passes(operator[10:12], us(value), us(operand), None)
        case "timestamp_bw":
            return is_timestamp(value) and us(operand) <= us(value) <= us(operand2)
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


def is_timestamp(value: Json) -> bool:
    """Unix seconds and nothing else: milliseconds are too large, ISO 8601 is no number, and 0 is 1970."""
    number = _number(value)
    return number is not None and 0 <= number < 100_000_000_000


def us(seconds: Json) -> int:
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
