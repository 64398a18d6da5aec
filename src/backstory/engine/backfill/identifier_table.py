"""Who is who, for many rows at once: a hash table from identifiers to the numbers of people, compiled.

Open addressing with linear steps. A slot has half of a text's hash and the place of its record; a record has the
number, the length and the text itself, filled up with zeros to whole words, so that a look-up ends in a comparison
of the bytes and is never wrong.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from backstory.engine.file.kernel import eight, fetch, kernel, piece, pointer, put_eight

UNKNOWN = -1
_SLOTS_MIN = 1024
# A power of two.
_AHEAD = 16

Numbers = NDArray[np.int64]
Ints = NDArray[np.int32]


class IdentifierTable:
    """Identifiers of one kind. ``lower``: texts are looked up and put in small letters (ASCII)."""

    def __init__(self, *, lower: bool) -> None:
        self._lower = lower
        self._slots = np.zeros(_SLOTS_MIN, np.uint64)
        # In words of eight bytes; the first is left out, so that a place is never 0.
        self._records = np.zeros(_SLOTS_MIN, np.uint64)
        self._used = np.ones(1, np.int64)
        self._count = 0

    def find(self, source: bytes | memoryview, at: Ints, length: Ints) -> Numbers:
        """The numbers of the texts that lie at these places, UNKNOWN for those not there."""
        found = np.full(len(at), UNKNOWN, np.int64)
        _find(
            np.frombuffer(source, np.uint8), at, length, self._lower, self._slots, self._records.view(np.uint8),
            np.zeros(2 * _AHEAD, np.uint64), found,
        )  # fmt: skip
        return found

    def put(
        self, source: bytes | memoryview, at: Ints, length: Ints, numbers: Numbers, *, keep: bool = False
    ) -> Numbers:
        """Put texts with their numbers; ``keep``: those there already stay. Returns the number each has now."""
        if not len(at):
            return np.empty(0, np.int64)
        self.make_room(len(at), int(length.sum(dtype=np.int64)))
        held = numbers.astype(np.int64)
        self._count += _put(
            np.frombuffer(source, np.uint8), at, length, self._lower, self._slots, self._records.view(np.uint8),
            self._used, held, keep,
        )  # fmt: skip
        return held

    def put_texts(self, texts: Sequence[bytes], numbers: Sequence[int]) -> None:
        """Put texts given one by one."""
        length = np.fromiter(map(len, texts), np.int32, len(texts))
        at = (np.cumsum(length, dtype=np.int64) - length).astype(np.int32)
        self.put(b"".join(texts), at, length, np.array(numbers, np.int64))

    def make_room(self, more: int, more_bytes: int) -> None:
        """For so many texts more, which have so many bytes."""
        words = int(self._used[0]) + 2 * more + more_bytes // 8 + 1
        if words > len(self._records):
            grown = np.zeros(max(words, 2 * len(self._records)), np.uint64)
            grown[: len(self._records)] = self._records
            self._records = grown
        slots = len(self._slots)
        while slots < 2 * (self._count + more):
            slots *= 2
        if slots > len(self._slots):
            self._slots = np.zeros(slots, np.uint64)
            _place_all(self._slots, self._records.view(np.uint8), self._used)


@kernel
def _find(source, at, length, lower, slots, records, hashes, found):
    body, table, texts, hashed = pointer(source), pointer(slots), pointer(records), pointer(hashes)
    size, mask, count, ahead, ring = len(source), len(slots) - 1, len(at), len(hashes) // 2, len(hashes) - 1
    # A look-up waits twice for memory far away. So rows go in three steps, each well before the next one.
    for row in range(count + 2 * ahead):
        if row < count:
            hash_ = _hash(body, size, np.int64(at[row]), np.int64(length[row]), lower)
            hashed[row & ring] = hash_
            fetch(table, np.int64(hash_ & np.uint64(mask)))
        middle = row - ahead
        if 0 <= middle < count:
            held = table[np.int64(hashed[middle & ring] & np.uint64(mask))]
            fetch(texts, 8 * np.int64(held & np.uint64(0xFFFFFFFF)))
        last = row - 2 * ahead + 1
        if 0 <= last < count:
            begin, long = np.int64(at[last]), np.int64(length[last])
            slot = _slot(table, mask, texts, hashed[last & ring], body, size, begin, long, lower)
            if table[slot]:
                found[last] = _half(texts, 8 * np.int64(table[slot] & np.uint64(0xFFFFFFFF)))


@kernel
def _put(source, at, length, lower, slots, records, used, numbers, keep):
    body, table, texts = pointer(source), pointer(slots), pointer(records)
    size, mask = len(source), len(slots) - 1
    added = 0
    for row in range(len(at)):
        begin, long = np.int64(at[row]), np.int64(length[row])
        hashed = _hash(body, size, begin, long, lower)
        slot = _slot(table, mask, texts, hashed, body, size, begin, long, lower)
        if not table[slot]:
            table[slot] = (hashed & np.uint64(0xFFFFFFFF00000000)) | np.uint64(used[0])
            record = 8 * used[0]
            put_eight(texts, record, np.uint64(numbers[row]) | (np.uint64(length[row]) << np.uint64(32)))
            for step in range(0, long, 8):
                put_eight(texts, record + 8 + step, _word(body, size, begin + step, long - step, lower))
            used[0] += 1 + (long + 7) // 8
            added += 1
        elif keep:
            numbers[row] = _half(texts, 8 * np.int64(table[slot] & np.uint64(0xFFFFFFFF)))
        else:
            record = 8 * np.int64(table[slot] & np.uint64(0xFFFFFFFF))
            put_eight(texts, record, np.uint64(numbers[row]) | (np.uint64(length[row]) << np.uint64(32)))
    return added


@kernel
def _place_all(slots, records, used):
    """Give every record a slot in an empty table; all are different."""
    table, texts = pointer(slots), pointer(records)
    mask = len(slots) - 1
    word = 1
    while word < used[0]:
        words = (np.int64(eight(texts, 8 * word) >> np.uint64(32)) + 7) // 8
        hashed = np.uint64(words)
        for step in range(words):
            hashed = _mix(hashed, eight(texts, 8 * (word + 1 + step)))
        slot = np.int64(hashed & np.uint64(mask))
        while table[slot]:
            slot = (slot + 1) & mask
        table[slot] = (hashed & np.uint64(0xFFFFFFFF00000000)) | np.uint64(word)
        word += words + 1


@piece
def _word(body, size, at, left, lower):
    """The next word of a text of which so many bytes are left, in its normal form, filled up with zeros."""
    if at + 8 <= size:
        word = eight(body, at)
        if left < 8:
            word &= (np.uint64(1) << np.uint64(8 * left)) - np.uint64(1)
    else:
        word = np.uint64(0)
        for place in range(min(left, 8)):
            word |= np.uint64(body[at + place]) << np.uint64(8 * place)
    return _lowered(word) if lower else word


@piece
def _lowered(word):
    """Eight bytes with small letters (ASCII) for large ones: compared in lanes, whose highest bits then tell."""
    low = word & np.uint64(0x7F7F7F7F7F7F7F7F)
    letters = (low + np.uint64(0x3F3F3F3F3F3F3F3F)) & ~(low + np.uint64(0x2525252525252525)) & ~word
    return word | (letters & np.uint64(0x8080808080808080)) >> np.uint64(2)


@piece
def _mix(hashed, word):
    hashed = (hashed ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return hashed ^ (hashed >> np.uint64(32))


@piece
def _hash(body, size, at, length, lower):
    hashed = np.uint64((length + 7) // 8)
    for step in range(0, length, 8):
        hashed = _mix(hashed, _word(body, size, at + step, length - step, lower))
    return hashed


@piece
def _half(texts, record):
    """The number of a record."""
    return np.int64(eight(texts, record) & np.uint64(0xFFFFFFFF))


@piece
def _slot(table, mask, texts, hashed, body, size, at, length, lower):
    """The slot of a text, or the empty one where it would be."""
    slot = np.int64(hashed & np.uint64(mask))
    tag = hashed >> np.uint64(32)
    while table[slot]:
        held = table[slot]
        if held >> np.uint64(32) == tag:
            record = 8 * np.int64(held & np.uint64(0xFFFFFFFF))
            if np.int64(eight(texts, record) >> np.uint64(32)) == length and _alike(
                texts, record + 8, body, size, at, length, lower
            ):
                return slot
        slot = (slot + 1) & mask
    return slot


@piece
def _alike(texts, record, body, size, at, length, lower):
    for step in range(0, length, 8):
        if eight(texts, record + step) != _word(body, size, at + step, length - step, lower):
            return False
    return True
