"""The values at one key of many JSON objects, each distinct one once: compiled.

It reads canonical data (``core.event``): objects without blanks, in which a key is written in one way only.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import msgspec
import numpy as np
import pyarrow as pa

from backstory.engine.file.kernel import copy, kernel, piece, pointer
from backstory.engine.file.text_column import gather
from backstory.engine.segment.mask import Coded, Values

_SLOTS_MIN = 4096
_BYTES_MIN = 64 << 10
# Of a key with more different values than this they are forgotten, and told anew from chunk to chunk.
VALUES_KEPT = 50_000
# The same of a key whose values take more bytes together: one event may have 100,000.
BYTES_KEPT = 16 << 20
# So many bytes may be read behind the last text.
_ROOM = 8


class FieldColumns:
    """The values at keys of chunk after chunk: what was found in one keeps its number in the next."""

    def __init__(self) -> None:
        self._tables: dict[str, _Table] = {}

    def values_at(self, data: pa.Array, key: str) -> Coded:
        """For each object the number of its value at a key of its own."""
        table = self._tables.get(key)
        if table is None or table.count > VALUES_KEPT or table.used_bytes > BYTES_KEPT:
            table = self._tables[key] = _Table(key)
        return table.of(data)


class _Table:
    """The different values at one key."""

    def __init__(self, key: str) -> None:
        self.count = 0
        self._wanted = np.frombuffer(msgspec.json.encode(key), np.uint8)
        self._values = Values([])
        self._held = np.empty(_BYTES_MIN, np.uint8)
        # Where each value lies; its end is where the next one begins.
        self._begins = np.zeros(_SLOTS_MIN // 2 + 1, np.int64)
        # Different values are few as a rule: a small table stays near the processor, so it grows only when it must.
        self._slots = np.full(_SLOTS_MIN, -1, np.int32)

    @property
    def used_bytes(self) -> int:
        return int(self._begins[self.count])

    def of(self, data: pa.Array) -> Coded:
        _, offsets_held, texts = data.buffers()
        offsets = np.frombuffer(offsets_held, np.int32)[data.offset : data.offset + len(data) + 1]
        source = np.frombuffer(texts, np.uint8) if texts else np.zeros(1, np.uint8)
        numbers = np.empty(len(data), np.int32)
        known, row = self.count, 0
        while True:
            row, self.count = _values(
                source, offsets, self._wanted, numbers, self._held, self._begins, self._slots, row, self.count
            )
            if row == len(data):
                break
            self._grow(int(offsets[row + 1] - offsets[row]))
        if self.count > known:
            self._values.texts += self._texts(known)
        return numbers, self._values

    def _grow(self, more: int) -> None:
        """There is no room for one more value, or for one of so many bytes."""
        used = self.used_bytes
        if used + more + _ROOM > len(self._held):
            grown = np.empty(2 * len(self._held) + more, np.uint8)
            grown[:used] = self._held[:used]
            self._held = grown
        if self.count == len(self._begins) - 1:
            self._begins = np.concatenate([self._begins, np.zeros(self.count, np.int64)])
            self._slots = np.full(2 * len(self._slots), -1, np.int32)
            _place_all(self._held, self._begins, self._slots, self.count)

    def _texts(self, known: int) -> list[str]:
        at = self._begins[known : self.count].astype(np.int32)
        length = np.diff(self._begins[known : self.count + 1]).astype(np.int32)
        return gather(self._held, at, length, np.arange(len(at))).to_pylist()


@kernel
def _values(source, offsets, key, numbers, held, begins, slots, first, count):
    """From a row on: the row for which there is no room, or that behind the last; and how many values there are."""
    body, wanted, texts = pointer(source), pointer(key), pointer(held)
    length, mask, room, size = len(key), len(slots) - 1, len(begins) - 1, len(source)
    for row in range(first, len(numbers)):
        at = _value_at(body, np.int64(offsets[row]), np.int64(offsets[row + 1]), wanted, length)
        numbers[row] = -1
        if at < 0:
            continue
        end = _behind(body, at)
        slot = np.int64(_hash(body, at, end) & np.uint64(mask))
        while slots[slot] >= 0:
            begin, behind = begins[slots[slot]], begins[slots[slot] + 1]
            if behind - begin == end - at and _alike(body, at, texts, begin, end - at):
                break
            slot = (slot + 1) & mask
        if slots[slot] < 0:
            if count == room or begins[count] + end - at + _ROOM > len(held):
                return row, count
            slots[slot] = count
            begins[count + 1] = copy(body, at, texts, begins[count], end - at, size)
            count += 1
        numbers[row] = slots[slot]
    return len(numbers), count


@kernel
def _place_all(held, begins, slots, count):
    """Give every value a slot in an empty table; all are different."""
    texts, mask = pointer(held), len(slots) - 1
    for number in range(count):
        slot = np.int64(_hash(texts, begins[number], begins[number + 1]) & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = number


@piece
def _hash(body, at, end):
    mixed = np.uint64(end - at)
    for place in range(at, end):
        mixed = (mixed ^ np.uint64(body[place])) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    return mixed


@piece
def _value_at(body, at, end, wanted, length):
    """Where the value at a key of this object begins, or -1; ``wanted`` is the key in its quotes."""
    at += 1
    while at < end and body[at] == 34:
        behind = _text_behind(body, at)
        if behind - at == length and _alike(body, at, wanted, 0, length):
            return behind + 1
        at = _behind(body, behind + 1) + 1
    return -1


@piece
def _alike(body, at, texts, begin, length):
    for step in range(length):  # noqa: SIM110 - the compiler knows no generators
        if body[at + step] != texts[begin + step]:
            return False
    return True


@piece
def _text_behind(body, at):
    """The place behind a text."""
    at += 1
    while body[at] != 34:
        at += 2 if body[at] == 92 else 1
    return at + 1


@piece
def _behind(body, at):
    """The place behind a value."""
    depth = 0
    while True:
        byte = body[at]
        if byte == 34:
            at = _text_behind(body, at)
        elif byte == 123 or byte == 91:
            depth += 1
            at += 1
        elif byte == 125 or byte == 93:
            depth -= 1
            at += 1
        elif depth == 0:
            while body[at] != 44 and body[at] != 125 and body[at] != 93:
                at += 1
        else:
            at += 1
        if depth == 0:
            return at
