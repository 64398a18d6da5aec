"""How often a key may call."""

import pytest

from backstory.core.error import Busy
from backstory.edge.rate import Rate

SECOND = 1_000_000


def test_a_key_has_so_many_calls_a_second() -> None:
    """The first second's worth at once, then one for each part of a second; another key has its own."""
    now = [0]
    rate = Rate(10, lambda: now[0])
    for _ in range(10):
        rate.take("a")
    with pytest.raises(Busy, match="10 calls a second") as refused:
        rate.take("a")
    assert refused.value.retry_after_s == 1
    rate.take("b")
    now[0] += SECOND // 10
    rate.take("a")
    with pytest.raises(Busy):
        rate.take("a")


def test_a_pause_gives_no_more_than_a_second_of_calls() -> None:
    """What was not used does not pile up."""
    now = [0]
    rate = Rate(3, lambda: now[0])
    rate.take("a")
    now[0] += 3600 * SECOND
    for _ in range(3):
        rate.take("a")
    with pytest.raises(Busy):
        rate.take("a")
