"""Where-tests over many events at once, judged by the very code of the live path.

Each distinct value is judged once. Only the tests that look at the clock are judged row by row: "now" of an event is
the event's own time.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import assert_never

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.comparison import holds, read_path
from backstory.core.condition import And, AttributeTest, Json, Not, Or, Where

Times = NDArray[np.int64]
# The number of each row's value at a key, and the values as JSON by number; that behind the last: there is none.
ValuesAt = Callable[[pa.Array, str], tuple[NDArray[np.int64], list[str]]]

_decode = msgspec.json.Decoder().decode
# How many tests have verdicts kept, and how many values of each.
TESTS_KEPT, VERDICTS_KEPT = 64, 20_000
# A key that DuckDB takes from an object just as ``read_path`` does; for it a star in quotes is still a wildcard.
_PLAIN = re.compile(r"[^.\[\]\"\\*]+\Z")
# Values do not matter to them alone, but the moment at which the test is judged too.
_RELATIVE = frozenset({"timestamp_gt", "timestamp_lt"})


def where_mask(
    duck: duckdb.DuckDBPyConnection,
    where: Where,
    data: pa.ChunkedArray,
    times_us: Times,
    *,
    values_at: ValuesAt | None = None,
) -> Truth:
    """Which rows of JSON text the where-test holds for; ``times_us`` are the times of the same rows.

    ``values_at`` finds the values at a key in place of DuckDB; it may be given for canonical data in one piece.
    """
    match where:
        case And(children=children):
            masks = [where_mask(duck, child, data, times_us, values_at=values_at) for child in children]  # pyright: ignore[reportArgumentType]
            return np.logical_and.reduce(masks)
        case Or(children=children):
            masks = [where_mask(duck, child, data, times_us, values_at=values_at) for child in children]  # pyright: ignore[reportArgumentType]
            return np.logical_or.reduce(masks)
        case Not(child=child):
            return ~where_mask(duck, child, data, times_us, values_at=values_at)  # pyright: ignore[reportArgumentType]
        case AttributeTest():
            return _test_mask(duck, where, data, times_us, values_at)
        case _:
            assert_never(where)


def _test_mask(
    duck: duckdb.DuckDBPyConnection,
    test: AttributeTest,
    data: pa.ChunkedArray,
    times_us: Times,
    values_at: ValuesAt | None,
) -> Truth:
    if not len(data):
        return np.zeros(0, dtype=bool)
    plain = _PLAIN.match(test.field) is not None
    if plain and values_at is not None and data.num_chunks == 1:
        indices, texts = values_at(data.chunk(0), test.field)
    else:
        column = _extract(duck, test.field, data) if plain else data
        # Offsets of 64 bits, so that the chunks fit into one array however long the texts are.
        coded = column.cast(pa.large_string()).combine_chunks().dictionary_encode()
        texts = coded.dictionary.to_pylist()
        indices = coded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)
    if test.operator.removeprefix("!") in _RELATIVE:
        # What every row means, and last what is not there.
        values: list[list[Json]] = [*(_values(test.field, text, plain) for text in texts), []]
        places: list[int] = indices.tolist()
        rows = zip(places, times_us.tolist(), strict=True)
        return np.array([holds(test, values[place], time_us) for place, time_us in rows], dtype=bool)
    return np.array([*_verdicts(test, texts, plain), holds(test, [], 0)], dtype=bool)[indices]


def _verdicts(test: AttributeTest, texts: list[str], plain: bool) -> list[bool]:
    """What comes of each value; chunk after chunk holds much the same ones, so verdicts are kept."""
    kept = _kept(test, plain)
    for text in texts:
        if text not in kept:
            kept[text] = holds(test, _values(test.field, text, plain), 0)
    verdicts = [kept[text] for text in texts]
    if len(kept) > VERDICTS_KEPT:
        kept.clear()
    return verdicts


@lru_cache(TESTS_KEPT)
def _kept(test: AttributeTest, plain: bool) -> dict[str, bool]:
    return {}


def _values(field: str, text: str, plain: bool) -> list[Json]:
    value: Json = _decode(text)
    document: dict[str, Json] = {field: value} if plain or not isinstance(value, dict) else value
    return read_path(document, field)


def _extract(duck: duckdb.DuckDBPyConnection, field: str, data: pa.ChunkedArray) -> pa.ChunkedArray:
    """The JSON text at a top-level key, null where there is none."""
    duck.register("where_rows", pa.table({"data": data}))
    try:
        found = duck.sql(
            "SELECT CAST(json_extract(data, $1) AS VARCHAR) AS value FROM where_rows", params=[f'$."{field}"']
        ).to_arrow_table()
    finally:
        duck.unregister("where_rows")
    return found.column("value")
