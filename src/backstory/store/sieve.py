"""A sieve of keys: says in a fraction of a microsecond that a key was never put in, or that it takes a closer look.

One bit for each key, chosen by the key's lowest bits: keys are hashes, so they spread evenly. With a
hundredth as many keys as bits, one key in a hundred that is not there takes a look for nothing. It forgets no key.
"""

import numpy as np
from numpy.typing import NDArray

BITS = 1 << 27
_MASK = BITS - 1


class Sieve:
    """16 MB, of which the operating system gives out only what is written to."""

    def __init__(self) -> None:
        self._bytes: NDArray[np.uint8] = np.zeros(BITS >> 3, np.uint8)
        self._cells = self._bytes.data

    def put(self, key: int) -> None:
        place = key & _MASK
        self._cells[place >> 3] |= 1 << (place & 7)

    def put_many(self, keys: NDArray[np.int64]) -> None:
        places = keys & _MASK
        np.bitwise_or.at(self._bytes, places >> 3, np.left_shift(1, places & 7).astype(np.uint8))

    def may_hold(self, key: int) -> bool:
        """False only for a key that was never put in."""
        place = key & _MASK
        return self._cells[place >> 3] >> (place & 7) & 1 == 1

    def may_hold_many(self, keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """The same of many."""
        places = keys & _MASK
        return (self._bytes[places >> 3] >> (places & 7).astype(np.uint8) & 1).astype(bool)
