"""The values at one key of many JSON objects, each distinct one once: compiled.

It reads canonical data (``core.event``): objects without blanks, in which a key is written in one way only.
"""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.engine.kernel import kernel, piece, pointer, same
from backstory.engine.text_column import gather

_SLOTS_MIN = 4096


def values_at(data: pa.Array, key: str) -> tuple[NDArray[np.int64], list[str]]:
    """For each object the number of its value at a key of its own, and the values as JSON, by number.

    Where there is none the number is that behind the last.
    """
    _, offsets_held, texts = data.buffers()
    offsets = np.frombuffer(offsets_held, np.int32)[data.offset : data.offset + len(data) + 1]
    source = np.frombuffer(texts, np.uint8) if texts else np.zeros(1, np.uint8)
    wanted = np.frombuffer(msgspec.json.encode(key), np.uint8)
    numbers = np.empty(len(data), np.int64)
    spans = np.empty((_SLOTS_MIN // 2, 2), np.int64)
    slots = np.full(_SLOTS_MIN, -1, np.int32)
    row, count = _values(source, offsets, wanted, numbers, spans, slots, 0, 0)
    while row < len(data):
        # Different values are few as a rule: a small table stays near the processor, so it grows only when it must.
        spans = np.concatenate([spans, np.empty_like(spans)])
        slots = np.full(2 * len(slots), -1, np.int32)
        _place_all(source, spans, slots, count)
        row, count = _values(source, offsets, wanted, numbers, spans, slots, row, count)
    numbers[numbers < 0] = count
    return numbers, _texts(source, spans[:count])


def _texts(source: NDArray[np.uint8], spans: NDArray[np.int64]) -> list[str]:
    at, end = spans[:, 0], spans[:, 1]
    return gather(source, at.astype(np.int32), (end - at).astype(np.int32), np.arange(len(spans))).to_pylist()


@kernel
def _values(source, offsets, key, numbers, spans, slots, first, count):
    """From a row on: the row before which the table is half full, or that behind the last; and how many values."""
    body, wanted = pointer(source), pointer(key)
    length, mask, room = len(key), len(slots) - 1, len(spans)
    for row in range(first, len(numbers)):
        if count == room:
            return row, count
        at = _value_at(body, np.int64(offsets[row]), np.int64(offsets[row + 1]), wanted, length)
        numbers[row] = -1
        if at < 0:
            continue
        end = _behind(body, at)
        slot = np.int64(_hash(body, at, end) & np.uint64(mask))
        while slots[slot] >= 0:
            begin, behind = spans[slots[slot], 0], spans[slots[slot], 1]
            if behind - begin == end - at and same(body, at, begin, end - at, end):
                break
            slot = (slot + 1) & mask
        if slots[slot] < 0:
            slots[slot] = count
            spans[count, 0], spans[count, 1] = at, end
            count += 1
        numbers[row] = slots[slot]
    return len(numbers), count


@kernel
def _place_all(source, spans, slots, count):
    """Give every value a slot in an empty table; all are different."""
    body, mask = pointer(source), len(slots) - 1
    for number in range(count):
        slot = np.int64(_hash(body, spans[number, 0], spans[number, 1]) & np.uint64(mask))
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
        if behind - at == length and _alike(body, at, wanted, length):
            return behind + 1
        at = _behind(body, behind + 1) + 1
    return -1


@piece
def _alike(body, at, wanted, length):
    for step in range(length):  # noqa: SIM110 - the compiler knows no generators
        if body[at + step] != wanted[step]:
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
