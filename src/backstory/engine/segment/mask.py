"""Where-tests over many events at once, judged by the very code of the live path.

Each distinct value is judged once. Only the tests that look at the clock are judged row by row: "now" of an event is
the event's own time. How the values at a key are found is the caller's business: they are asked for once for each key.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, assert_never

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.comparison import holds, read_path
from backstory.core.condition import And, AttributeTest, Json, Not, Or, Where

Times = NDArray[np.int64]


@dataclass(slots=True)
class Values:
    """The different values at a key as JSON, by number; ``tested`` is what comes of each, and last of none at all.

    More may come behind those that are there.
    """

    texts: list[str]
    tested: dict[AttributeTest, Truth] = field(default_factory=dict[AttributeTest, Truth])


# The number of each row's value, -1 where there is none, and the values.
Coded = tuple[NDArray[np.integer[Any]], Values]
# The values at a key; None: all of the data.
ValuesAt = Callable[[str | None], Coded]

_decode = msgspec.json.Decoder().decode
# How many tests have verdicts kept, and how many values of each.
TESTS_KEPT, VERDICTS_KEPT = 64, 20_000
# Longer values seldom come again, and would take much memory.
VERDICT_CHARACTERS = 500
# A key that DuckDB takes from an object just as ``read_path`` does; for it a star in quotes is still a wildcard.
_PLAIN = re.compile(r"[^.\[\]\"\\*]+\Z")
# Values do not matter to them alone, but the moment at which the test is judged too.
_RELATIVE = frozenset({"timestamp_gt", "timestamp_lt"})


def where_mask(where: Where, values_at: ValuesAt, times_us: Times) -> Truth:
    """Which rows the where-test holds for; ``times_us`` are the times of the rows whose values ``values_at`` tells."""
    match where:
        case And(children=children):
            return np.logical_and.reduce([where_mask(child, values_at, times_us) for child in children])  # pyright: ignore[reportArgumentType]
        case Or(children=children):
            return np.logical_or.reduce([where_mask(child, values_at, times_us) for child in children])  # pyright: ignore[reportArgumentType]
        case Not(child=child):
            return ~where_mask(child, values_at, times_us)  # pyright: ignore[reportArgumentType]
        case AttributeTest():
            return _test_mask(where, values_at, times_us)
        case _:
            assert_never(where)


def keys_of(where: Where) -> list[str | None]:
    """The keys a where-test looks at, each once; None: all of the data, where a test reads a path."""
    match where:
        case And(children=children) | Or(children=children):
            return list(dict.fromkeys(key for child in children for key in keys_of(child)))  # pyright: ignore[reportArgumentType]
        case Not(child=child):
            return keys_of(child)  # pyright: ignore[reportArgumentType]
        case AttributeTest():
            return [_key(where)]
        case _:
            assert_never(where)


def values_in(keys: Sequence[str | None], columns: Sequence[pa.ChunkedArray]) -> ValuesAt:
    """The values at these keys, given as columns of JSON texts, each column looked through once."""
    held = dict(zip(keys, columns, strict=True))

    @cache
    def values_at(key: str | None) -> Coded:
        # Offsets of 64 bits, so that the chunks fit into one array however long the texts are.
        coded = held[key].cast(pa.large_string()).combine_chunks().dictionary_encode()
        return coded.indices.fill_null(-1).to_numpy(zero_copy_only=False), Values(coded.dictionary.to_pylist())

    return values_at


def _key(test: AttributeTest) -> str | None:
    return test.field if _PLAIN.match(test.field) else None


def _test_mask(test: AttributeTest, values_at: ValuesAt, times_us: Times) -> Truth:
    if not len(times_us):
        return np.zeros(0, dtype=bool)
    key = _key(test)
    numbers, values = values_at(key)
    if test.operator.removeprefix("!") in _RELATIVE:
        # What every row means, and last what is not there.
        meant: list[list[Json]] = [*(_values(test.field, text, key) for text in values.texts), []]
        places: list[int] = numbers.tolist()
        rows = zip(places, times_us.tolist(), strict=True)
        return np.array([holds(test, meant[place], time_us) for place, time_us in rows], dtype=bool)
    return _tested(test, values, key)[numbers]


def _tested(test: AttributeTest, values: Values, key: str | None) -> Truth:
    """What comes of each value, and last of none: only those that came since the last time are judged."""
    held = values.tested.get(test)
    known = 0 if held is None else len(held) - 1
    if held is None or known < len(values.texts):
        new = [*_verdicts(test, values.texts[known:], key), holds(test, [], 0)]
        held = values.tested[test] = np.array(new, bool) if held is None else np.concatenate([held[:-1], new])
    return held


def _verdicts(test: AttributeTest, texts: list[str], key: str | None) -> list[bool]:
    """What comes of each value; chunk after chunk holds much the same ones, so verdicts are kept.

    Other threads may ask the same test meanwhile, and let go of what is kept.
    """
    kept = _kept(test)
    verdicts: list[bool] = []
    for text in texts:
        verdict = kept.get(text)
        if verdict is None:
            verdict = holds(test, _values(test.field, text, key), 0)
            if len(text) <= VERDICT_CHARACTERS:
                kept[text] = verdict
        verdicts.append(verdict)
    if len(kept) > VERDICTS_KEPT:
        kept.clear()
    return verdicts


@lru_cache(TESTS_KEPT)
def _kept(test: AttributeTest) -> dict[str, bool]:
    return {}


def _values(field: str, text: str, key: str | None) -> list[Json]:
    value: Json = _decode(text)
    document: dict[str, Json] = {field: value} if key is not None or not isinstance(value, dict) else value
    return read_path(document, field)
