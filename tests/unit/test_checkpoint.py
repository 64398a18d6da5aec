"""What checkpoints keep of people who are no longer there."""

import numpy as np
import pytest
from pyroaring import BitMap

from backstory.core.column import PAGE_ROWS, Column
from backstory.engine.checkpoint import keep_living


@pytest.mark.parametrize("width", [1, 3])
def test_nothing_of_the_gone_stays_in_a_column(width: int) -> None:
    """Also where everybody of a page, or nobody, is there."""
    column = Column("int64", width)
    for page in range(3):
        column.page(page)[:] = 7
    alive = BitMap(range(PAGE_ROWS)) | BitMap([PAGE_ROWS + 5])
    keep_living(column, alive)
    kept = [int(np.count_nonzero(rows.reshape(PAGE_ROWS, width).any(axis=1))) for _, rows in column.each()]
    assert kept == [PAGE_ROWS, 1, 0]
