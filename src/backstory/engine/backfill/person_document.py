"""Documents of many people at once, made of columns of cells, and held against those that are known.

A document is the names, the times and the cells of a row one behind the other, so that columns of cells become
documents without a look at the single cell. Where each time (its stamp) stands is known from that, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backstory.core.limit import ATTRIBUTE_VALUE_BYTES

# Times between these have nine bytes in a document; all but a few minutes of 1970 and the far future.
STAMP_FROM_US, STAMP_TO_US = 1 << 32, 1 << 56
_STAMP = 0xCF
_STAMP_BYTES = 9
# What is to be done about a known document: nothing, give it a newer time, look closer.
SAME, NEWER, OTHER = 0, 1, 2
_pack = msgspec.msgpack.Encoder().encode

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """Documents as they are stored, one behind the other, and how long each is."""

    body: bytes
    sizes: Numbers

    @classmethod
    def of(cls, each: Sequence[bytes]) -> "Packed":
        """The same documents."""
        return cls(b"".join(each), np.fromiter(map(len, each), np.int64, len(each)))


@dataclass(frozen=True, slots=True, eq=False)
class Documents:
    """Documents in a row, each with one time for all it holds.

    ``each`` is as it is stored; ``packed`` has them all, one behind the other. ``stamps`` has where in each the time of
    each attribute stands, -1 where it has no such attribute.
    """

    each: list[bytes]
    packed: NDArray[np.uint8]
    bounds: Numbers
    stamps: NDArray[np.int32]

    @classmethod
    def of(cls, packed: pa.Array, stamps: NDArray[np.int32]) -> "Documents":
        """``packed`` has no nulls and is no part of another."""
        if not len(packed):
            return cls([], np.empty(0, np.uint8), np.zeros(1, np.int64), stamps)
        _, offsets, body = packed.buffers()
        bounds = np.frombuffer(offsets, np.int32)[: len(packed) + 1].astype(np.int64)
        text = body.to_pybytes()
        each = [text[low:high] for low, high in pairwise(bounds.tolist())]
        return cls(each, np.frombuffer(text, np.uint8)[: bounds[-1]], bounds, stamps)

    def __len__(self) -> int:
        return len(self.each)

    def part(self, low: int, high: int) -> "Documents":
        """Some of them in a row."""
        first, last = int(self.bounds[low]), int(self.bounds[high])
        bounds = self.bounds[low : high + 1] - first
        return Documents(self.each[low:high], self.packed[first:last], bounds, self.stamps[low:high])

    def take(self, places: Sequence[int]) -> "Documents":
        """Those at these places."""
        each = [self.each[at] for at in places]
        bounds = np.cumsum([0, *map(len, each)])
        return Documents(each, np.frombuffer(b"".join(each), np.uint8), bounds, self.stamps[list(places)])


def documents_of(columns: Mapping[str, pa.Array], times_us: Numbers, *, removes: bool) -> Documents:
    """Rows of cells (canonical JSON) as documents, as ``encode_document`` writes them: {name: [time, JSON]}.

    A cell that is null is left out, or with ``removes`` taken away. Times lie between ``STAMP_FROM_US`` and
    ``STAMP_TO_US``.
    """
    count = len(times_us)
    stamp_column = _stamps(times_us)
    pieces: list[object] = []
    sizes = np.zeros(count, np.int64)
    lengths = np.zeros(count, np.int64)
    stamps = np.full((count, len(columns)), -1, np.int32)
    for at, (name, cells) in enumerate(columns.items()):
        key = _pack(name) + b"\x92"
        there = None if removes or not cells.null_count else cells.is_valid()
        heads = _HEADS.take(pc.binary_length(cells))
        if removes and cells.null_count:
            heads = pc.fill_null(heads, b"\xc0")
        has = np.ones(count, bool) if there is None else there.to_numpy(zero_copy_only=False)
        sizes += has
        stamps[has, at] = lengths[has] + len(key)
        lengths += has * (len(key) + _STAMP_BYTES) + _lengths(heads) + _lengths(cells)
        pieces += (
            [key, stamp_column]
            if there is None
            else [pc.if_else(there, key, None), pc.if_else(there, stamp_column, pa.scalar(None, pa.binary()))]
        )
        pieces += [heads, cells]
    firsts = pa.array([_map_head(size) for size in range(int(sizes.max(initial=0)) + 1)], pa.binary())
    first = firsts.take(pa.array(sizes))
    stamps += np.where(stamps < 0, 0, _lengths(first).astype(np.int32)[:, None])
    return Documents.of(pc.binary_join_element_wise(first, *pieces, b"", null_handling="skip"), stamps)


def compared(known: Packed, newer: Documents) -> NDArray[np.int8]:
    """What is to be done about each known document for it to become ``newer``: SAME, NEWER or OTHER.

    NEWER: it gets a newer time and nothing else. OTHER: there is more to it than the time.
    """
    fits = known.sizes == np.diff(newer.bounds)
    fits &= (newer.stamps >= 0).any(axis=1)
    if fits.all() and len(fits):
        return _compared(known.body, newer)
    found = np.full(len(fits), OTHER, np.int8)
    some = np.flatnonzero(fits)
    if len(some):
        ends = np.cumsum(known.sizes)
        bounds = zip((ends - known.sizes)[some].tolist(), ends[some].tolist(), strict=True)
        found[some] = _compared(b"".join([known.body[low:high] for low, high in bounds]), newer.take(some.tolist()))
    return found


def _compared(known: bytes, newer: Documents) -> NDArray[np.int8]:
    """The same of documents that are as long as the newer ones, which have something in them.

    Both must be equal but for the known times, one and the same in all of a document, where the newer one has its own.
    That a time stands there at all is part of being equal: what is before it is compared.
    """
    mine, given = np.frombuffer(known, np.uint8), newer.packed
    begins = newer.bounds[:-1]
    there = newer.stamps >= 0
    places = begins[:, None] + newer.stamps
    places += 1
    # Who has no such attribute is asked for one that they have, once more.
    some = places[np.arange(len(places)), there.argmax(axis=1)]
    at = places if there.all() else np.where(there, places, some[:, None])
    old, of_old = _words(mine)[at], _words(mine)[some]
    alike = (old == of_old[:, None]).all(axis=1)
    old_us, new_us = of_old.byteswap(), _words(given)[some].byteswap()
    alike &= (old_us < STAMP_TO_US) & (old_us <= new_us)
    other = (mine != given).view(np.uint8)
    _words(other)[at] = 0
    if other.any():
        alike[np.searchsorted(begins, np.flatnonzero(other), side="right") - 1] = False
    return np.where(alike, np.where(old_us < new_us, NEWER, SAME), OTHER).astype(np.int8)


def _words(text: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The eight bytes from each byte on; times stand in them the other way round."""
    return np.ndarray(max(len(text) - 7, 0), "<u8", text.data, strides=(1,))


def _lengths(texts: pa.Array) -> Numbers:
    """How long each is; nothing has no length."""
    return pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False).astype(np.int64)


def _head(size: int) -> bytes:
    """What stands before so many bytes."""
    return _pack(b"\0" * size)[: -size or None]


# A cell of the greatest length is escaped to six times as much at most, between quotes.
_HEADS = pa.array([_head(size) for size in range(6 * ATTRIBUTE_VALUE_BYTES.value + 3)], pa.binary())


def _map_head(size: int) -> bytes:
    """What stands before so many entries of a document."""
    return bytes([0x80 | size]) if size < 16 else b"\xde" + size.to_bytes(2, "big")


def _stamps(times_us: Numbers) -> pa.Array:
    """Times as they stand in a document."""
    count = len(times_us)
    stamps = np.empty((count, _STAMP_BYTES), np.uint8)
    stamps[:, 0] = _STAMP
    stamps[:, 1:] = times_us.astype(">u8").view(np.uint8).reshape(count, 8)
    offsets = np.arange(0, _STAMP_BYTES * count + 1, _STAMP_BYTES, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(stamps)])
