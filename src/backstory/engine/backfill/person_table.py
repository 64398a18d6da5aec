"""Rows of people as columns, and what they become: documents, and the text of their history."""

from dataclasses import dataclass, field

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backstory.core.fact import Identifier
from backstory.engine.backfill.person_document import Documents, documents_of
from backstory.engine.file.person_row import PersonRow

NO_TIME_US = -(1 << 62)
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

    def documents(self, times_us: NDArray[np.int64]) -> Documents:
        """Each row as a new person's document: every attribute with the row's time."""
        return documents_of(self.json, times_us, removes=self.removes)

    def texts(self) -> pa.Array:
        """Each row's attributes as a JSON object."""
        if not self.json:
            return pa.repeat(pa.scalar("{}"), len(self))
        pieces: list[object] = []
        # Where the first may be missing, what is there begins with a comma too many: nothing tells which will be first.
        bare = False
        for name, cells in self.json.items():
            shown = pc.fill_null(cells, b"null") if self.removes else cells
            bare = bare or (not pieces and shown.null_count > 0)
            key = (b"," if pieces or bare else b"{") + _key(name) + b":"
            pieces += [pc.if_else(shown.is_valid(), key, None) if shown.null_count else key, shown]
        begin = [b"{"] if bare else []
        text = pc.binary_join_element_wise(*begin, *pieces, b"}", b"", null_handling="skip").cast(pa.string())
        return pc.replace_substring(text, "{,", "{", max_replacements=1) if bare else text
