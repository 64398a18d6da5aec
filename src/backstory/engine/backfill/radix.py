"""Numbers put in order by counting their digits, compiled: several times as fast as comparing them.

Radix sort from the lowest digit (Knuth, The Art of Computer Programming, volume 3, section 5.2.5).
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import numpy as np
from numpy.typing import NDArray

from backstory.engine.file.buffer import Buffers
from backstory.engine.file.kernel import kernel, pointer

# So many stretches are written to at once as the processor's nearest caches and tables hold.
_DIGIT_BITS_MAX = 11
_WORD_BITS = 64


class Radix:
    """``store.keyrun.order_by_head`` for whoever puts many numbers in order, again and again, on one thread."""

    def __init__(self) -> None:
        self._memory = Buffers()

    def order_by_head(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The order of numbers by all but their lowest bits, as many as their count has; and what remains of each.

        What remains lies in memory that is used again by the next call.
        """
        count = len(numbers)
        if not count:
            return numbers.copy(), np.empty(0, np.int64)
        bits = (count - 1).bit_length()
        width = _WORD_BITS if int(numbers.min()) < 0 else int(numbers.max()).bit_length()
        digits = max(-(-(width - bits) // _DIGIT_BITS_MAX), 1)
        digit_bits = max(-(-(width - bits) // digits), 1)
        array = self._memory.array
        heads, order = array("heads", count, np.int64), np.empty(count, np.int64)
        first, second = array("first", count, np.uint64), array("second", count, np.uint64)
        counts = np.zeros(digits << digit_bits, np.int64)
        _order_by_digits(numbers, bits, digit_bits, digits, first, second, counts, heads, order)
        return heads, order


@kernel
def _order_by_digits(numbers, bits, digit_bits, digits, first, second, counts, heads, order):
    count, low, mask = len(numbers), np.uint64((1 << bits) - 1), np.uint64((1 << digit_bits) - 1)
    # Negative numbers come first, as unsigned ones do that are smaller.
    sign = np.uint64(1) << np.uint64(63)
    source, target, seen = pointer(first), pointer(second), pointer(counts)
    for row in range(count):
        # Whose number it is takes the place of the bits that do not count.
        word = ((np.uint64(numbers[row]) ^ sign) & ~low) | np.uint64(row)
        source[row] = word
        for digit in range(digits):
            place = np.int64((word >> np.uint64(bits + digit * digit_bits)) & mask)
            seen[(digit << digit_bits) + place] += 1
    for digit in range(digits):
        base, shift, begin = digit << digit_bits, np.uint64(bits + digit * digit_bits), 0
        for place in range(1 << digit_bits):
            found = seen[base + place]
            seen[base + place] = begin
            begin += found
        for row in range(count):
            word = source[row]
            place = base + np.int64((word >> shift) & mask)
            target[seen[place]] = word
            seen[place] += 1
        source, target = target, source
    for row in range(count):
        word = source[row]
        heads[row] = np.int64(word ^ sign) >> bits
        order[row] = np.int64(word & low)
