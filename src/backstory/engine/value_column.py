"""What everybody's values of one attribute were over time, as columns: who, from when on, which value.

DuckDB takes the attribute out of the writes in parts; of the tail and of what lies in paths (``address.city``) Python
folds whole people, who are few. Each different value is kept once and has a number. Writes of one person stand in the
order in which they became true; of two at the same moment the last stands.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.condition import Json
from backstory.core.leaf import NEVER_US
from backstory.core.person import Document, values, write
from backstory.core.timeline import root_of
from backstory.engine.context import shown_values
from backstory.store.folder import Folder
from backstory.store.history import numpy_of
from backstory.store.knowledge import Knowledge, told_by
from backstory.store.manifest import Part
from backstory.store.people import PROFILE_COLUMNS, Profile

IDENTIFIERS = frozenset(("id", "email", "cio_id"))
# A key that a JSON path of DuckDB takes as it is.
_PLAIN = re.compile(r"[^.\[\]\"\\*]+\Z")
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_value = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode

Row = tuple[int, int, str]
Numbers = NDArray[np.int64]


class ValueColumn:
    """Rows sorted by person, then time; ``documents[codes[i]]`` is what the attribute shows from ``times_us[i]`` on."""

    def __init__(self, people: NDArray[np.uint32], times_us: Numbers, codes: Numbers, documents: list[dict[str, Json]]):
        self.people = people
        self.times_us = times_us
        self.codes = codes
        self.documents = documents

    def at(self, moment_us: int) -> "ValueColumn":
        """One row per person: the newest up to the moment."""
        return self.between(-NEVER_US, moment_us)

    def between(self, since_us: int, until_us: int) -> "ValueColumn":
        """One row per person with rows in (since, until]: the newest of them."""
        some = np.nonzero((self.times_us > since_us) & (self.times_us <= until_us))[0]
        people = self.people[some]
        last = some[np.append(people[1:] != people[:-1], True)] if len(some) else some
        return ValueColumn(self.people[last], self.times_us[last], self.codes[last], self.documents)


def read_values(folder: Folder, root: str, *, until_us: int, known: Knowledge | None = None) -> ValueColumn:
    """The values of the attribute that fields with this ``root`` look into, from writes timed up to ``until_us``.

    With ``known`` only from those known then. Raises ``StorageError`` when history cannot be read.
    """
    with folder.history.reading():
        return _read_values(_Asked(folder, root, until_us, known))


def read_shown(folder: Folder, root: str, *, until_us: int, known: Knowledge | None = None) -> ValueColumn:
    """The same of identifiers too, which people have today and had on all days."""
    if root not in IDENTIFIERS:
        column = read_values(folder, root, until_us=until_us, known=known)
        return _under_phones(folder, column) if root == "phone" else column
    found = [(profile.person, shown_values(profile, {}).get(root)) for profile in _identified(folder)]
    return _always(root, found)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which writes are read."""

    folder: Folder
    root: str
    until_us: int
    known: Knowledge | None

    @property
    def chosen(self) -> str:
        return f"time_us <= {self.until_us}{told_by(self.known)}"


def _read_values(asked: _Asked) -> ValueColumn:
    root = asked.root
    parts, tail = _stored(asked)
    table, odd = _from_parts(asked, parts)
    people, times_us = numpy_of(table.column("person"), np.int64), numpy_of(table.column("time_us"), np.int64)
    coded = table.column("value").cast(pa.large_string()).combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    documents: list[dict[str, Json]] = [_document(root, text) for text in coded.dictionary.to_pylist()]
    order = np.lexsort((times_us, people))
    people, times_us, codes = people[order], times_us[order], codes[order]
    same = (people[1:] == people[:-1]) & (times_us[1:] == times_us[:-1])
    again = np.unique(np.concatenate([np.array(odd, np.int64), people[1:][same], np.array(sorted(tail), np.int64)]))
    if len(again):
        keep = ~np.isin(people, again)
        folded = _folded(asked, parts, again.tolist(), tail, documents)
        people = np.concatenate([people[keep], folded[0]])
        times_us = np.concatenate([times_us[keep], folded[1]])
        codes = np.concatenate([codes[keep], folded[2]])
        order = np.argsort(people, kind="stable")
        people, times_us, codes = people[order], times_us[order], codes[order]
    return ValueColumn(people.astype(np.uint32), times_us, codes, documents)


def _document(root: str, text: str) -> dict[str, Json]:
    value: Json = _value(text)
    return {} if value is None or value == "" else {root: value}


def _from_parts(asked: _Asked, parts: Sequence[Part]) -> tuple[pa.Table, Sequence[int]]:
    """(person, time, JSON of the value) of whole writes, and the people with writes that are not so plain."""
    empty = pa.table(
        {"person": pa.array([], pa.uint32()), "time_us": pa.array([], pa.int64()), "value": pa.array([], pa.string())}
    )
    history, root = asked.folder.history, asked.root
    files = history.files(parts, "write")
    if not files:
        return empty, []
    chosen = f"FROM read_parquet($1) WHERE {asked.chosen}"
    if _PLAIN.match(root) is None:
        found = history.rows(f"SELECT DISTINCT person {chosen} AND contains(attributes, $2)", files, (_begun(root),))
        return empty, [row[0] for row in found]
    odd = history.rows(
        f"SELECT DISTINCT person {chosen} AND (contains(attributes, $2) OR contains(attributes, $3))",
        files,
        (_begun(root + "."), _begun(root + "[")),
    )
    table = history.table(
        f"SELECT person, time_us, value FROM (SELECT person, time_us, CAST(json_extract(attributes, $2) AS VARCHAR)"
        f" AS value {chosen}) WHERE value IS NOT NULL",
        files,
        (f'$."{root}"',),
    )
    return table, [row[0] for row in odd]


def _stored(asked: _Asked) -> tuple[list[Part], dict[int, list[tuple[int, str]]]]:
    """The parts there are, and the writes of the tail that name the attribute, by person."""
    found: dict[int, list[tuple[int, str]]] = {}
    parts, rows = asked.folder.history.stored(
        f"SELECT person, time_us, attributes FROM attribute_write WHERE {asked.chosen} AND instr(attributes, ?)",
        (_begun(asked.root),),
        asked.known,
    )
    for person, time_us, attributes in rows:
        found.setdefault(person, []).append((time_us, attributes))
    return parts, found


def _folded(
    asked: _Asked,
    parts: Sequence[Part],
    people: list[int],
    tail: dict[int, list[tuple[int, str]]],
    documents: list[dict[str, Json]],
) -> tuple[Numbers, Numbers, Numbers]:
    """What the attribute of these people shows after each of their writes; new values go to ``documents``."""
    writes = {person: list(tail.get(person, ())) for person in people}
    history, root = asked.folder.history, asked.root
    files = history.files(parts, "write")
    if files:
        found = history.rows(
            f"SELECT person, time_us, attributes FROM read_parquet($1) WHERE {asked.chosen}"
            " AND contains(attributes, $2) AND person IN (SELECT unnest($3))",
            files,
            (_begun(root), people),
        )
        for person, time_us, attributes in found:
            writes[person].append((time_us, attributes))
    known: dict[bytes, int] = {}
    rows: list[tuple[int, int, int]] = []
    for person in people:
        document: Document = {}
        for time_us, attributes in sorted(writes[person], key=lambda item: item[0]):
            named = {name: value for name, value in _decode(attributes).items() if root_of(name) == root}
            if not named:
                continue
            write(document, named, time_us)
            shown = values(document)
            code = known.setdefault(_encode(shown), len(documents))
            if code == len(documents):
                documents.append(shown)
            rows.append((person, time_us, code))
    table = np.array(rows, np.int64).reshape(len(rows), 3)
    return table[:, 0], table[:, 1], table[:, 2]


def _begun(key: str) -> str:
    """How a key begins in JSON text; a text that is a value may begin so too, which only costs time."""
    return msgspec.json.encode(key).decode()[:-1]


def _always(root: str, found: list[tuple[int, Json]]) -> ValueColumn:
    """What people are called today counts for all days; ``found`` is in the order of their numbers."""
    people = np.array([person for person, _ in found], np.uint32)
    documents: list[dict[str, Json]] = [{} if value is None else {root: value} for _, value in found]
    return ValueColumn(people, np.full(len(people), -NEVER_US + 1), np.arange(len(people)), documents)


def _under_phones(folder: Folder, column: ValueColumn) -> ValueColumn:
    """A phone that is an identifier hides an attribute of that name."""
    rows: list[tuple[int, Json]] = folder.state.rows(
        "SELECT person, phone FROM person WHERE phone IS NOT NULL ORDER BY person"
    )
    over = _always("phone", rows)
    keep = ~np.isin(column.people, over.people)
    people = np.concatenate([column.people[keep], over.people])
    order = np.argsort(people, kind="stable")
    return ValueColumn(
        people[order],
        np.concatenate([column.times_us[keep], over.times_us])[order],
        np.concatenate([column.codes[keep], over.codes + len(column.documents)])[order],
        [*column.documents, *over.documents],
    )


def _identified(folder: Folder) -> list[Profile]:
    return [Profile(*row) for row in folder.state.rows(f"SELECT {PROFILE_COLUMNS} FROM person ORDER BY person")]
