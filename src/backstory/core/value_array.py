"""Attribute tests of many values at once: what ``comparison`` says of each, quickly where all are of one sort.

Where a value might not be exact in an array, it is asked about by itself.
"""

from collections.abc import Callable, Sequence
from operator import ge, gt, le, lt
from types import NoneType
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.comparison import Number, matcher, number_of, rounded_us, text_of
from backstory.core.condition import AttributeTest, Json
from backstory.core.time import MILLISECONDS_FROM, SECOND_US

# Numbers up to here are exact as doubles, and moments beyond there lie beyond all that are valid.
EXACT_MAX, FAR_US = 1 << 53, 1 << 62
_COMPARE: dict[str, Callable[[NDArray[Any], Number], Truth]] = {"gt": gt, "lt": lt, "ge": ge, "le": le}
_decode = msgspec.json.Decoder().decode


def holds_each(test: AttributeTest, values: Sequence[Json], now_us: int) -> Truth:
    """``holds`` of many values, each alone at its field; None: it is missing. Quick where all are of one sort."""
    kinds = set(map(type, values))
    there = np.ones(len(values), dtype=bool)
    if NoneType in kinds and len(kinds) > 1:
        there = np.array([value is not None for value in values], dtype=bool)
        some = next(value for value in values if value is not None)
        values = [some if value is None else value for value in values]
        kinds.discard(NoneType)
    found: Truth | None = None
    if kinds == {str}:
        found = _texts_match(test, cast("Sequence[str]", values))
    elif kinds and kinds <= {int, float}:
        found = _numbers_match(test, cast("Sequence[Number]", values), now_us)
    if found is None:
        matches = matcher(test)
        found = np.array([value is not None and matches(value, now_us) for value in values], dtype=bool)
    found &= there
    return ~found if test.operator.startswith("!") else found


def _texts_match(test: AttributeTest, values: Sequence[str]) -> Truth | None:
    """What ``matcher`` says of texts, for the operators that look for one in another; None: ask it."""
    operator = test.operator.removeprefix("!")
    if operator not in ("contains", "starts_with", "ends_with"):
        return None
    wanted = text_of(_decode(test.value)) or ""
    texts = map(str.casefold, values)
    if operator == "contains":
        return np.array([wanted in text for text in texts], dtype=bool)
    if operator == "starts_with":
        return np.array([text.startswith(wanted) for text in texts], dtype=bool)
    return np.array([text.endswith(wanted) for text in texts], dtype=bool)


def _numbers_match(test: AttributeTest, values: Sequence[Number], now_us: int) -> Truth | None:
    """The same of numbers, for the operators that compare them; None: ask it, they might not be exact here."""
    operator = test.operator.removeprefix("!")
    value, value2 = number_of(_decode(test.value)), number_of(_decode(test.value2))
    numbers: NDArray[Any] = np.array(values)
    if numbers.dtype.kind not in "if" or not (np.abs(numbers) <= EXACT_MAX).all():
        return None
    if operator in _COMPARE or operator == "bw":
        if any(abs(bound) > EXACT_MAX for bound in (value, value2) if bound is not None) or value is None:
            return None
        if operator == "bw":
            return np.zeros(len(numbers), bool) if value2 is None else (numbers >= value) & (numbers <= value2)
        return _COMPARE[operator](numbers, value)
    if "timestamp" not in operator or len(set(map(type, values))) > 1:
        return None
    valid = (numbers >= 0) & (numbers < MILLISECONDS_FROM)
    micros = np.where(valid, numbers, 0) * SECOND_US
    moments_us = micros if micros.dtype.kind == "i" else np.rint(micros).astype(np.int64)
    return valid & _moments_match(operator, moments_us, value, value2, now_us)


def _moments_match(
    operator: str, moments_us: NDArray[np.int64], value: Number | None, value2: Number | None, now_us: int
) -> Truth:
    if operator == "is_timestamp":
        return np.ones(len(moments_us), dtype=bool)
    assert value is not None, "the test was checked"
    bound_us, upper_us = rounded_us(value), rounded_us(value2 or 0)
    match operator:
        case "timestamp_gt":
            return moments_us > _bounded(now_us + bound_us)
        case "timestamp_lt":
            return moments_us < _bounded(now_us + bound_us)
        case "timestamp_gta":
            return moments_us > _bounded(bound_us)
        case "timestamp_lta":
            return moments_us < _bounded(bound_us)
        case _:
            return (moments_us >= _bounded(bound_us)) & (moments_us <= _bounded(upper_us))


def _bounded(moment_us: int) -> int:
    """A moment as far away as any that a value can be, in 64 bits."""
    return max(-FAR_US, min(FAR_US, moment_us))
