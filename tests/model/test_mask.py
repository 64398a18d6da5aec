"""Where-tests over many events at once against the same tests over one event at a time."""

import json
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from backstory.core.comparison import where_holds
from backstory.core.condition import And, AttributeTest, Json, Not, Or, Where
from backstory.core.event import canonical_of
from backstory.core.time import SECOND_US
from backstory.engine.field_column import values_at
from backstory.engine.mask import where_mask

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


@given(where=wheres, events=rows, cut=st.integers(0, 12))
def test_a_mask_is_the_test_of_each_row(where: Where, events: list[tuple[dict[str, Any], int]], cut: int) -> None:
    """Whatever the tree, the data and the chunks: each row as at its own time."""
    texts = [json.dumps(data) for data, _ in events]
    chunks = [pa.array(some, pa.string()) for some in (texts[:cut], texts[cut:])]
    times_us = np.array([(NOW_S + offset) * SECOND_US for _, offset in events], np.int64)
    with duckdb.connect() as root:
        mask = where_mask(root.cursor(), where, pa.chunked_array(chunks), times_us)
    expected = [where_holds(where, data, time_us) for (data, _), time_us in zip(events, times_us.tolist(), strict=True)]
    assert mask.tolist() == expected


@given(where=wheres, events=rows)
def test_a_mask_by_kernel_is_the_same(where: Where, events: list[tuple[dict[str, Any], int]]) -> None:
    """With values found by the kernel in place of DuckDB, in canonical data of one piece."""
    data = pa.chunked_array([pa.array([canonical_of(data).decode() for data, _ in events], pa.string())])
    times_us = np.array([(NOW_S + offset) * SECOND_US for _, offset in events], np.int64)
    with duckdb.connect() as root:
        mask = where_mask(root.cursor(), where, data, times_us, values_at=values_at)
    expected = [where_holds(where, data, time_us) for (data, _), time_us in zip(events, times_us.tolist(), strict=True)]
    assert mask.tolist() == expected
