"""Rows of people as columns, and what they become: documents, and the text of their history.

A document is the names, the times and the cells of a row one behind the other, so that columns of cells become
documents without a look at the single cell.
"""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backstory.core.fact import Identifier
from backstory.core.limit import ATTRIBUTE_VALUE_BYTES
from backstory.engine.person_row import PersonRow

NO_TIME_US = -(1 << 62)
# Times between these have nine bytes in a document; all but a few minutes of 1970 and the far future.
STAMP_FROM_US, STAMP_TO_US = 1 << 32, 1 << 56
_key = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class Coded:
    """Values of rows by the place of each among the distinct ones."""

    distinct: list[bytes | None]
    codes: NDArray[np.int32]


@dataclass(slots=True)
class Codes:
    """Columns of many rows coded together, each when it is first asked for; parts of these rows share it."""

    json: dict[str, pa.Array]
    _found: dict[str, Coded] = field(default_factory=dict[str, Coded])

    def of(self, name: str) -> Coded | None:
        """None: there is no such column."""
        if name not in self.json:
            return None
        if name not in self._found:
            coded = self.json[name].dictionary_encode(null_encoding="encode")
            self._found[name] = Coded(coded.dictionary.to_pylist(), coded.indices.to_numpy(zero_copy_only=False))
        return self._found[name]


# Nobody has a value of an attribute that is no column.
NO_COLUMN = Coded([None], np.zeros(0, np.int32))


@dataclass(slots=True, kw_only=True)
class PersonRows:
    """Good rows whose identifiers are plain and whose times can be stamped, as columns.

    ``told_us`` are the times the rows name, or NO_TIME_US. ``json`` has each attribute as canonical JSON, null where
    a row has none. ``path`` is the identifier that addresses a person where a row has both.
    """

    lines: NDArray[np.int64]
    ids: list[str | None]
    emails: list[str | None]
    email_keys: list[str | None]
    told_us: NDArray[np.int64]
    json: dict[str, pa.Array]
    removes: bool
    email_first: bool = False
    # The rows themselves, where they were read one by one.
    whole: list[PersonRow] | None = None
    # The columns of the rows these are a part of, and from which of them on.
    codes: Codes | None = None
    low: int = 0
    _values: dict[str, list[bytes | None]] = field(default_factory=dict[str, list[bytes | None]])

    def __len__(self) -> int:
        return len(self.lines)

    def values(self, name: str) -> list[bytes | None]:
        """One attribute as canonical JSON by row."""
        if name not in self._values:
            self._values[name] = self.json[name].to_pylist()
        return self._values[name]

    def part(self, low: int, high: int) -> "PersonRows":
        """Some of the rows in a row."""
        if self.codes is None:
            self.codes = Codes(self.json)
        return PersonRows(
            lines=self.lines[low:high],
            ids=self.ids[low:high],
            emails=self.emails[low:high],
            email_keys=self.email_keys[low:high],
            told_us=self.told_us[low:high],
            json={name: column.slice(low, high - low) for name, column in self.json.items()},
            removes=self.removes,
            email_first=self.email_first,
            whole=None if self.whole is None else self.whole[low:high],
            codes=self.codes,
            low=self.low + low,
        )

    def coded(self, name: str) -> tuple[Coded, NDArray[np.int32]]:
        """One attribute: the values of all rows that were coded together, and which of them each row here has."""
        if self.codes is None:
            self.codes = Codes(self.json)
        found = self.codes.of(name)
        if found is None:
            return NO_COLUMN, np.zeros(len(self), np.int32)
        return found, found.codes[self.low : self.low + len(self)]

    def identifiers(self, at: int) -> tuple[Identifier, ...]:
        """A row's identifiers in the form in which they are compared."""
        found = [("id", self.ids[at]), ("email", self.email_keys[at])]
        return tuple(Identifier(kind, value) for kind, value in found if value is not None)  # pyright: ignore[reportArgumentType]

    def times_us(self, untold_us: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows' times, where they name none those of ``untold_us``."""
        return np.where(self.told_us == NO_TIME_US, untold_us, self.told_us)

    def row(self, at: int) -> PersonRow:
        """One of them as ``read_person`` gives it."""
        if self.whole is not None:
            return self.whole[at]
        found = [("id", self.ids[at]), ("email", self.emails[at])]
        named = [Identifier(kind, value) for kind, value in found if value is not None]  # pyright: ignore[reportArgumentType]
        path, *body = reversed(named) if self.email_first else named
        cells = ((name, self.values(name)[at]) for name in self.json)
        told_us = int(self.told_us[at])
        return PersonRow(
            line=int(self.lines[at]),
            path=path,
            body=tuple(body),
            time_us=None if told_us == NO_TIME_US else told_us,
            attributes={name: value for name, value in cells if self.removes or value is not None},
        )

    def documents(self, times_us: NDArray[np.int64]) -> list[bytes]:
        """Each row as a new person's document: every attribute with the row's time."""
        count = len(self)
        stamps = _stamps(times_us)
        pieces: list[object] = []
        sizes = np.zeros(count, np.int64)
        for name, cells in self.json.items():
            key = _document_name(name) + b"\x92"
            there = None if self.removes or not cells.null_count else cells.is_valid()
            heads = _HEADS.take(pc.binary_length(cells))
            if self.removes and cells.null_count:
                heads = pc.fill_null(heads, b"\xc0")
            sizes += 1 if there is None else there.to_numpy(zero_copy_only=False)
            pieces += (
                [key, stamps]
                if there is None
                else [pc.if_else(there, key, None), pc.if_else(there, stamps, pa.scalar(None, pa.binary()))]
            )
            pieces += [heads, cells]
        first = pa.array([_map_head(size) for size in range(int(sizes.max(initial=0)) + 1)], pa.binary()).take(
            pa.array(sizes)
        )
        return pc.binary_join_element_wise(first, *pieces, b"", null_handling="skip").to_pylist()

    def texts(self) -> list[str]:
        """Each row's attributes as a JSON object."""
        if not self.json:
            return ["{}"] * len(self)
        members: list[pa.Array] = []
        for name, cells in self.json.items():
            shown = pc.fill_null(cells, b"null") if self.removes else cells
            members.append(pc.binary_join_element_wise(b"," + _key(name) + b":", shown, b""))
        # Joined with a comma too many: joining only what is there with commas would lose rows that have nothing.
        text = pc.binary_join_element_wise(b"{", *members, b"}", b"", null_handling="skip").cast(pa.string())
        return pc.replace_substring(text, "{,", "{", max_replacements=1).to_pylist()


# -- documents: msgpack of {name: [time, JSON]} as ``encode_document`` writes it --------------------------------------

_pack = msgspec.msgpack.Encoder().encode


def _head(size: int) -> bytes:
    """What stands before so many bytes."""
    return _pack(b"\0" * size)[: -size or None]


# A cell of the greatest length is escaped to six times as much at most, between quotes.
_HEADS = pa.array([_head(size) for size in range(6 * ATTRIBUTE_VALUE_BYTES.value + 3)], pa.binary())


def _document_name(name: str) -> bytes:
    return _pack(name)


def _map_head(size: int) -> bytes:
    """What stands before so many entries of a document."""
    return bytes([0x80 | size]) if size < 16 else b"\xde" + size.to_bytes(2, "big")


def _stamps(times_us: NDArray[np.int64]) -> pa.Array:
    """Times as they stand in a document."""
    count = len(times_us)
    stamps = np.empty((count, 9), np.uint8)
    stamps[:, 0] = 0xCF
    stamps[:, 1:] = times_us.astype(">u8").view(np.uint8).reshape(count, 8)
    offsets = np.arange(0, 9 * count + 1, 9, dtype=np.int32)
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(stamps)])


def restamped(document: bytes, newer: bytes) -> bool | None:
    """Would a known document become ``newer``, which has one time for all, by nothing but a newer time?

    False where it is the same already; None where there is more to it than the time.
    """
    at = _first_stamp(newer)
    if at is None:
        return None
    known, given = document[at : at + 9], newer[at : at + 9]
    if document[:at] != newer[:at] or known[:2] != b"\xcf\x00" or given < known:
        return None
    # A stamp is nothing else but a stamp: with its NUL it can be part of no name and no value.
    if document.replace(known, given) != newer:
        return None
    return known != given


def _first_stamp(document: bytes) -> int | None:
    """Where the first time stands in a document; None when it has none."""
    at = 3 if document[0] == 0xDE else 1
    if at >= len(document):
        return None
    kind = document[at]
    return at + 3 + document[at + 1] if kind == 0xD9 else at + 2 + (kind & 0x1F)
