"""Operators of conditions, and the values beside them: what each operator takes, and how a value is checked.

Holds the table of operators and the small readers that ``condition`` builds on. Knows no tree and no person.
Every reader takes the JSON as sent and its path, and raises ``ConditionError`` with that path.
Source: design section 8, semantics section 5.2.
"""

import difflib
import math
import re
from collections.abc import Iterable
from fractions import Fraction
from typing import Literal, TypeAlias, assert_never

import msgspec

from backstory.core import limit
from backstory.core.error import LimitError, RequestError
from backstory.core.time import MILLISECONDS_FROM, SECOND_US, TimeUnreadable, from_text, from_unix

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None

Operand = Literal["none", "scalar", "text", "list", "number", "numbers", "offset", "moment", "moments"]

# What each operator takes as its value; nothing else is an operator.
OPERATORS: dict[str, Operand] = {
    "eq": "scalar",
    "!eq": "scalar",
    "exists": "none",
    "!exists": "none",
    "contains": "text",
    "!contains": "text",
    "starts_with": "text",
    "!starts_with": "text",
    "ends_with": "text",
    "!ends_with": "text",
    "gt": "number",
    "lt": "number",
    "ge": "number",
    "le": "number",
    "bw": "numbers",
    "in": "list",
    "!in": "list",
    "is_timestamp": "none",
    "!is_timestamp": "none",
    "timestamp_gt": "offset",
    "timestamp_lt": "offset",
    "timestamp_gta": "moment",
    "timestamp_lta": "moment",
    "timestamp_bw": "moments",
}

# What people write who come from elsewhere; only ever suggested, never taken.
_ELSEWHERE = {
    "=": "eq", "==": "eq", "equals": "eq", "is": "eq", "!=": "!eq", "ne": "!eq", "neq": "!eq", "not_eq": "!eq",
    ">": "gt", ">=": "ge", "gte": "ge", "<": "lt", "<=": "le", "lte": "le", "between": "bw", "not_in": "!in",
    "not_contains": "!contains", "not_exists": "!exists", "includes": "contains", "before": "timestamp_lta",
    "after": "timestamp_gta",
}  # fmt: skip
# Below it every float that is whole is that whole number exactly.
_EXACT_FLOAT = 2.0**53
_NUMBER = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?")
_encode = msgspec.json.Encoder(order="sorted").encode


class ConditionError(RequestError):
    """A condition cannot be read: ``path`` is where, ``message`` what was expected, found and perhaps meant."""


def plain_number(text: str) -> int | float | None:
    """The number a text is, as JSON would read it; None when it is not a plain decimal number."""
    if _NUMBER.fullmatch(text) is None:
        return None
    return float(text) if "." in text else int(text)


def operands(operator: str, value: Json, value2: Json, path: str) -> tuple[Json, Json]:
    """Check the values beside an operator of ``OPERATORS``; returns them in their canonical form."""
    operand = OPERATORS[operator]
    if operand == "numbers" or operand == "moments":
        return _pair(operand, value, value2, path)
    if value2 is not None:
        raise ConditionError("only bw and timestamp_bw take a second value", path=f"{path}.value2")
    here = f"{path}.value"
    match operand:
        case "none":
            # The published filter shape lets a text stand beside exists.
            if value is not None and value != "" and value is not True:
                raise ConditionError(f"{operator} takes no value, found {shown(value)}", path=here)
            return None, None
        case "scalar":
            return _scalar(value, here), None
        case "text":
            if not isinstance(value, str) or not value:
                raise ConditionError(f"{operator} takes a text, found {shown(value)}", path=here)
            return text(value, here), None
        case "list":
            return _list(value, here), None
        case "number":
            return number(value, here), None
        case "offset":
            stretch_us(value, here)
            return number(value, here), None
        case "moment":
            return _seconds(value, here), None
        case _:
            assert_never(operand)


def number(value: Json, path: str) -> int | float:
    """A finite number, or a text that is one, in its one form: 5.0 and "5" are 5."""
    found = plain_number(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise ConditionError(f"expected a number, found {shown(value)}", path=path)
    return int(found) if isinstance(found, float) and abs(found) < _EXACT_FLOAT and found.is_integer() else found


def stretch_us(value: Json, path: str) -> int:
    """A stretch of seconds, fractions allowed, of at most a hundred years; in microseconds."""
    seconds = number(value, path)
    check(limit.CONDITION_WINDOW_S, math.ceil(abs(seconds)), path)
    # Exact: a product of floats may miss the microsecond that was written.
    return round(Fraction(seconds) * SECOND_US)


def moment_us(value: Json, path: str) -> int:
    """Unix seconds or ISO 8601 with a zone, in microseconds. Milliseconds are refused, not guessed."""
    expected = f"expected unix seconds or ISO 8601 with a zone, found {shown(value)}"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ConditionError(expected, path=path)
    try:
        us, rescaled = from_text(value) if isinstance(value, str) else from_unix(value)
    except TimeUnreadable:
        raise ConditionError(expected, path=path) from None
    if rescaled:
        raise ConditionError(f"{expected}; did you mean {us // SECOND_US} (seconds)?", path=path)
    return us


def text(value: str, path: str) -> str:
    """Text that can be stored, within ``CONDITION_TEXT_BYTES``."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ConditionError(f"{shown(value)} is not valid Unicode text", path=path) from None
    check(limit.CONDITION_TEXT_BYTES, size, path)
    return value


def one_of(value: Json, allowed: Iterable[str], path: str, noun: str) -> str:
    """One of the words allowed; the error suggests the one that was probably meant."""
    words = tuple(allowed)
    if isinstance(value, str) and value in words:
        return value
    raise ConditionError(f"{shown(value)} is not {noun}{meant(value, words)}", path=path)


def fields_of(body: Json, path: str, allowed: tuple[str, ...]) -> dict[str, Json]:
    """The keys and values of an object that may have these keys and no other."""
    if not isinstance(body, dict):
        expected = f"expected an object with the keys {', '.join(allowed)}"
        raise ConditionError(f"{expected}; found {shown(body)}", path=path)
    for key in body:
        one_of(key, allowed, path, "a key here")
    return body


def in_order(low: float, high: float, path: str) -> None:
    """Both bounds count, so they may be equal."""
    if low > high:
        raise ConditionError(f"the lower bound {low} lies above the upper bound {high}", path=path)


def check(bound: limit.Limit, amount: int, path: str) -> None:
    """Hold an amount against a limit."""
    try:
        bound.check(amount, path=path)
    except LimitError as error:
        raise ConditionError(error.message, path=path) from None


def meant(value: Json, allowed: tuple[str, ...]) -> str:
    """The end of a message about an unknown word: what was probably meant, and all that is allowed."""
    expected = f"expected one of: {', '.join(allowed)}"
    if not isinstance(value, str):
        return f"; {expected}"
    elsewhere = [word for word in (_ELSEWHERE.get(value.lower()),) if word in allowed]
    if value.startswith("!") and value[1:] in allowed:
        return f'; put "{value[1:]}" inside {{"not": …}}; {expected}'
    close = elsewhere or difflib.get_close_matches(value.lower(), allowed, n=1)
    return f'; did you mean "{close[0]}"? {expected}' if close else f"; {expected}"


def shown(value: Json) -> str:
    """A value as a message shows it: JSON, cut where it becomes long."""
    try:
        printed = _encode(value).decode()
    except UnicodeEncodeError:
        printed = ascii(value)
    return printed if len(printed) <= 80 else f"{printed[:79]}…"


def _scalar(value: Json, path: str) -> Json:
    match value:
        case bool():
            return value
        case int() | float():
            return number(value, path)
        case str() if value:
            return text(value, path)
        case _:
            hint = '; to ask for a missing value use "!exists"' if value is None or value == "" else ""
            raise ConditionError(f"expected text, a number or true/false, found {shown(value)}{hint}", path=path)


def _list(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list) or not value:
        raise ConditionError(f"expected a list of one or more values, found {shown(value)}", path=path)
    check(limit.CONDITION_VALUES, len(value), path)
    return [_scalar(item, f"{path}[{i}]") for i, item in enumerate(value)]


def _pair(operand: Literal["numbers", "moments"], value: Json, value2: Json, path: str) -> tuple[Json, Json]:
    paths = f"{path}.value", f"{path}.value2"
    if isinstance(value, list) and len(value) == 2 and value2 is None:
        paths = f"{path}.value[0]", f"{path}.value[1]"
        value, value2 = value
    elif value is None or value2 is None or isinstance(value, list):
        raise ConditionError('expected "value" and "value2", or "value" as a list of two', path=paths[0])
    read = number if operand == "numbers" else _seconds
    low, high = read(value, paths[0]), read(value2, paths[1])
    in_order(low, high, paths[0])
    return low, high


def _seconds(value: Json, path: str) -> int | float:
    """A moment as the unix seconds that attributes are compared with."""
    us = moment_us(value, path)
    if not isinstance(value, str):
        return number(value, path)
    if abs(us) >= MILLISECONDS_FROM * SECOND_US:
        raise ConditionError(f"{shown(value)} lies behind every timestamp", path=path)
    return us // SECOND_US if us % SECOND_US == 0 else us / SECOND_US


def flag(fields: dict[str, Json], key: str, path: str, *, default: bool) -> bool:
    """The value of a key that is true or false."""
    value = fields.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ConditionError(f"expected true or false, found {shown(value)}", path=f"{path}.{key}")
    return value


def name(fields: dict[str, Json], key: str, path: str) -> str:
    """The value of a key that must be text."""
    value = fields.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ConditionError(f'expected "{key}" as text, found {shown(value)}', path=f"{path}.{key}")
    return text(value, f"{path}.{key}")
