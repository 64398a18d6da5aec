"""Columns of texts made from stretches of bytes, in any order: compiled."""

# Types are the compiler's business here: it infers them from the arrays that come in.
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownArgumentType=false
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownLambdaType=false

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.engine.file.kernel import copy, fetch, kernel, pointer

_ROOM = 16
_AHEAD = 24
# Gives memory for so many bytes.
Memory = Callable[[int], NDArray[np.uint8]]


def _new(size: int) -> NDArray[np.uint8]:
    return np.empty(size, np.uint8)


def gather(
    source: NDArray[np.uint8],
    at: NDArray[np.int32],
    length: NDArray[np.int32],
    order: NDArray[np.int64],
    memory: Memory = _new,
) -> pa.Array:
    """The stretches at these positions as an array of strings; a length of -1 is null. The bytes must be UTF-8."""
    offsets = np.zeros(len(order) + 1, np.int32)
    lengths = length[order]
    mask, missing = None, 0
    if len(lengths) and int(lengths.min()) < 0:
        valid = lengths >= 0
        mask, missing = pa.py_buffer(np.packbits(valid, bitorder="little")), int((~valid).sum())
        lengths = np.where(valid, lengths, 0)
    total = int(lengths.sum(dtype=np.int64))
    assert total < 1 << 31, "the texts of a chunk fit into one array"
    np.cumsum(lengths, dtype=np.int32, out=offsets[1:])
    texts = memory(total + _ROOM)
    _gather(source, at, order, offsets, texts)
    return pa.Array.from_buffers(
        pa.string(), len(order), [mask, pa.py_buffer(offsets), pa.py_buffer(texts[:total])], missing
    )


def in_a_row(texts: NDArray[np.uint8], length: NDArray[np.int32]) -> pa.Array:
    """Texts that lie one behind the other as an array of strings, without copying."""
    offsets = np.zeros(len(length) + 1, np.int32)
    np.cumsum(length, dtype=np.int32, out=offsets[1:])
    return pa.Array.from_buffers(pa.string(), len(length), [None, pa.py_buffer(offsets), pa.py_buffer(texts)], 0)


def taken(texts: pa.Array, order: NDArray[np.int64], memory: Memory = _new) -> pa.Array:
    """The texts at these positions."""
    if texts.null_count == len(texts):
        return pa.nulls(len(order), pa.string())
    if texts.null_count:
        return texts.take(pa.array(order))
    _, offsets_held, bytes_held = texts.buffers()
    offsets = np.frombuffer(offsets_held, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    source = np.frombuffer(bytes_held, np.uint8) if bytes_held else np.empty(0, np.uint8)
    return gather(source, offsets[:-1], np.diff(offsets), order, memory)


@kernel
def _gather(source, at, order, offsets, texts):
    body, target = pointer(source), pointer(texts)
    size, count = len(source), len(order)
    for row in range(count):
        # Texts lie far apart: they are sent for some rows beforehand, with where they end.
        ahead = row + _AHEAD
        if ahead < count:
            place = np.int64(at[order[ahead]])
            fetch(body, place)
            fetch(body, place + np.int64(offsets[ahead + 1] - offsets[ahead]))
        begin = offsets[row]
        length = offsets[row + 1] - begin
        if length:
            copy(body, at[order[row]], target, begin, length, size)
