"""A sieve never denies a key that was put in."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from backstory.store.sieve import BITS, Sieve

keys = st.integers(-(2**63), 2**63 - 1)


@given(ones=st.lists(keys), many=st.lists(keys), others=st.lists(keys))
def test_what_was_put_in_may_be_there(ones: list[int], many: list[int], others: list[int]) -> None:
    """One by one or many at once; of the others, those alone that share a bit with one of them."""
    sieve = Sieve()
    for key in ones:
        sieve.put(key)
    sieve.put_many(np.array(many, np.int64))
    assert all(sieve.may_hold(key) for key in [*ones, *many])
    places = {key % BITS for key in [*ones, *many]}
    assert [sieve.may_hold(key) for key in others] == [key % BITS in places for key in others]
