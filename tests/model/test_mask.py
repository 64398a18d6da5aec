"""Where-tests over many events at once against the same tests over one event at a time."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.comparison import where_holds
from backstory.core.condition import And, AttributeTest, Json, Not, Or, Where
from backstory.core.event import canonical_of
from backstory.core.time import SECOND_US
from backstory.engine.backfill.field_column import FieldColumns
from backstory.engine.segment.mask import VERDICTS_KEPT, Coded, Values, keys_of, values_in, where_mask
from backstory.store.duck import Duck

NOW_S = 1_600_000_000
# Names that a path in JSON may take for something else.
FIELDS = ("n", "a.b", "when", "*", "x y", "tags[]", "$", "#")
OPERATORS: tuple[tuple[str, Json], ...] = (
    ("eq", "x"), ("!eq", 1), ("gt", 2), ("exists", None), ("!exists", None), ("contains", "1"), ("in", [1, "x"]),
    ("timestamp_gt", 5), ("timestamp_lt", -5), ("timestamp_gta", NOW_S), ("is_timestamp", None),
)
values = st.sampled_from(
    (1, 2.5, 1e20, "x", "X", "", None, True, [1, "x"], {"b": 3}, NOW_S, NOW_S + 10, str(NOW_S + 5), "ü\u0001\"")
)
rows = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(("n", "a", "when", "*", "x y", "tags", "$", "#")), values, max_size=4),
        st.integers(-20, 20),
    ),
    max_size=12,
)


def attribute_test(field: str, operator: tuple[str, Json]) -> AttributeTest:
    return AttributeTest(field, operator[0], json.dumps(operator[1]).encode())


wheres: st.SearchStrategy[Where] = st.recursive(
    st.builds(attribute_test, st.sampled_from(FIELDS), st.sampled_from(OPERATORS)),
    lambda below: st.one_of(
        st.builds(Not, below),
        st.builds(And, st.lists(below, min_size=1, max_size=3).map(tuple)),
        st.builds(Or, st.lists(below, min_size=1, max_size=3).map(tuple)),
    ),
    max_leaves=5,
)


@pytest.fixture(scope="module")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duck]:
    made = Duck(memory_mb=200, threads=1, temporary=Path(tmp_path_factory.mktemp("duck")))
    yield made
    made.close()


def by_row(where: Where, events: list[tuple[dict[str, Any], int]]) -> tuple[np.ndarray[Any, Any], list[bool]]:
    """The times of the rows, and what is true of each by itself."""
    times_us = np.array([(NOW_S + offset) * SECOND_US for _, offset in events], np.int64)
    told = zip(events, times_us.tolist(), strict=True)
    return times_us, [where_holds(where, data, time_us) for (data, _), time_us in told]


@given(where=wheres, events=rows, cut=st.integers(0, 12))
def test_a_mask_is_the_test_of_each_row(
    duck: Duck, where: Where, events: list[tuple[dict[str, Any], int]], cut: int
) -> None:
    """Whatever the tree, the data and the chunks: each row as at its own time."""
    texts = [json.dumps(data) for data, _ in events]
    chunks = [pa.array(some, pa.string()) for some in (texts[:cut], texts[cut:])]
    times_us, expected = by_row(where, events)
    keys = keys_of(where)
    values_at = values_in(keys, duck.texts_at(keys, pa.chunked_array(chunks)))
    assert where_mask(where, values_at, times_us).tolist() == expected


@given(where=wheres, events=rows)
def test_a_mask_by_kernel_is_the_same(where: Where, events: list[tuple[dict[str, Any], int]]) -> None:
    """With values found by the kernel in place of DuckDB, in canonical data."""
    data = pa.array([canonical_of(data).decode() for data, _ in events], pa.string())
    times_us, expected = by_row(where, events)
    whole, columns = values_in([None], [pa.chunked_array([data])]), FieldColumns()

    def found(key: str | None) -> Coded:
        return whole(None) if key is None else columns.values_at(data, key)

    assert where_mask(where, found, times_us).tolist() == expected


def test_many_may_ask_the_same_at_once() -> None:
    """Two imports with more different values than verdicts are kept of, each beside the other: nobody loses any."""
    test, some = attribute_test("n", ("gt", 5)), VERDICTS_KEPT // 3
    numbers, times_us = np.arange(some), np.zeros(some, np.int64)

    def ask(first: int) -> bool:
        texts = [str(number) for number in range(first, first + some)]
        expected = np.arange(first, first + some) > 5
        return bool((where_mask(test, lambda key: (numbers, Values(texts)), times_us) == expected).all())

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(ask, range(0, 200 * some, some)))
