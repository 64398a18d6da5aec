"""The order in which the rows of a chunk lie in their part."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.engine.backfill.event_chunk import Rows, arranged, codes_of, order_of

COUNT = 20_000


def rows(apart: int) -> Rows:
    """Rows of few people, many at the same moment; their numbers lie so far apart, and so do their times."""
    chance = np.random.default_rng(apart)
    nothing = np.zeros(COUNT, np.int64)

    def coded(texts: list[str]) -> pa.DictionaryArray:
        codes = chance.integers(0, len(texts), COUNT).astype(np.int32)
        return pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(texts))

    return Rows(
        people=chance.integers(0, 500, COUNT).astype(np.uint32) * np.uint32(apart),
        times_us=chance.integers(-3, 3, COUNT) * apart * 1_000_000,
        timed=np.ones(COUNT, bool),
        keys=nothing,
        keyed=np.ones(COUNT, bool),
        kinds=coded(["event", "page"]),
        names=coded(["b", "a", "c"]),
        data=pa.array(["{}"] * COUNT),
        event_ids=pa.nulls(COUNT, pa.string()),
        has_id=np.zeros(COUNT, bool),
        named=np.zeros(COUNT, np.int8),
        places=chance.permutation(COUNT),
    )


def plainly(some: Rows) -> NDArray[np.int64]:
    return np.lexsort((some.places, some.times_us, some.people, codes_of(some.names), codes_of(some.kinds)))


def test_rows_lie_by_name_person_and_time_and_else_as_in_the_file() -> None:
    """What happened to somebody at one moment stays in the order of the file, however wide the numbers are."""
    for apart in (1, 1_000, 8_000_000):
        some = rows(apart)
        assert np.array_equal(order_of(some), plainly(some))
        odd = np.arange(1, COUNT, 2)
        which = np.arange(COUNT) % 2 == 1
        assert np.array_equal(arranged(some).order_where(which), odd[plainly(some.take(odd))])
