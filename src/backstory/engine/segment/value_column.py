"""What everybody's values of one attribute were over time, as columns: who, from when on, which value.

DuckDB takes the attribute out of the writes, those in parts and those in the tail. Only where somebody wrote to paths
(``address.city``) Python folds that person's writes. Each different value is kept once and has a number. Writes of one
person stand in the order in which they became true; of two at the same moment the last stands.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.core.comparison import holds, next_change_us, read_path
from backstory.core.condition import AttributeTest, Json
from backstory.core.leaf import NEVER_US
from backstory.core.person import Document, Register, register, values, write
from backstory.core.timeline import root_of
from backstory.core.value_array import holds_each
from backstory.store.database import read_blocks
from backstory.store.folder import Folder
from backstory.store.history import numpy_of, order_of
from backstory.store.knowledge import Knowledge, parts_for, told_by
from backstory.store.manifest import Part
from backstory.store.people import cio_id_of
from backstory.store.write_block import blocks_of

IDENTIFIERS = frozenset(("id", "email", "cio_id"))
# A key that a JSON path of DuckDB takes as it is, and the field of a struct.
_PLAIN = re.compile(r"[^.\[\]\"\\*\x00-\x1f]+\Z")
_object = msgspec.json.Decoder(dict[str, Any]).decode
_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode
_numbers = msgspec.json.Decoder(list[int]).decode
_values = msgspec.json.Decoder(list[Any]).decode
_encode = msgspec.json.Encoder(order="sorted").encode

# Of some writes the people, times and attributes, each as the text of a JSON array.
Block = tuple[str, str, str]
Numbers = NDArray[np.int64]


class ValueColumn:
    """Rows sorted by person, then time; of the attribute ``codes[i]`` is shown from ``times_us[i]`` on.

    Codes are the numbers of ``values`` (None: it is not there); those behind them number ``others``: what is shown of
    people who wrote to paths, under all names that begin like the attribute.
    """

    def __init__(
        self,
        root: str,
        people: NDArray[np.uint32],
        times_us: Numbers,
        codes: Numbers,
        values: list[Json],
        others: list[dict[str, Json]],
    ) -> None:
        self.root = root
        self.people = people
        self.times_us = times_us
        self.codes = codes
        self.values = values
        self.others = others

    def at(self, moment_us: int) -> "ValueColumn":
        """One row per person: the newest up to the moment."""
        return self.between(-NEVER_US, moment_us)

    def between(self, since_us: int, until_us: int) -> "ValueColumn":
        """One row per person with rows in (since, until]: the newest of them."""
        some = np.nonzero((self.times_us > since_us) & (self.times_us <= until_us))[0]
        people = self.people[some]
        last = some[np.append(people[1:] != people[:-1], True)] if len(some) else some
        return self._with(self.people[last], self.times_us[last], self.codes[last])

    def truths(self, test: AttributeTest, now_us: int) -> Truth:
        """Whether a test of this attribute holds, by code."""
        if test.field == self.root:
            plain = holds_each(test, self.values, now_us)
        else:
            plain = np.array([holds(test, found, now_us) for found in self._found(test)], dtype=bool)
        others = [holds(test, read_path(shown, test.field), now_us) for shown in self.others]
        return np.concatenate([plain, np.array(others, dtype=bool)])

    def moments_us(self, test: AttributeTest) -> Numbers:
        """When time alone changes the answer of a test, NEVER_US if it never does, by code."""
        found = [*self._found(test), *(read_path(shown, test.field) for shown in self.others)]
        moments = [next_change_us(test, one, -NEVER_US) for one in found]
        return np.array([NEVER_US if moment is None else moment for moment in moments], np.int64)

    def _found(self, test: AttributeTest) -> list[list[Json]]:
        return [[] if value is None else read_path({self.root: value}, test.field) for value in self.values]

    def _with(self, people: NDArray[np.uint32], times_us: Numbers, codes: Numbers) -> "ValueColumn":
        return ValueColumn(self.root, people, times_us, codes, self.values, self.others)


def read_values(folder: Folder, root: str, *, until_us: int, known: Knowledge | None = None) -> ValueColumn:
    """The values of the attribute that fields with this ``root`` look into, from writes timed up to ``until_us``.

    With ``known`` only from those known then. Raises ``StorageError`` when history cannot be read.
    """
    with folder.history.reading():
        return _read_values(_Asked(folder, root, until_us, known))


def read_shown(folder: Folder, root: str, *, until_us: int, known: Knowledge | None = None) -> ValueColumn:
    """The same of identifiers too, which people have today and had on all days."""
    if root in IDENTIFIERS:
        return _always(folder, root)
    column = read_values(folder, root, until_us=until_us, known=known)
    return _under_phones(folder, column) if root == "phone" else column


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
    parts, tail = _stored(asked)
    pieces = [_from_parts(asked, parts), _from_tail(asked.root, tail)]
    table, odd = pa.concat_tables([piece for piece, _ in pieces]), {person for _, some in pieces for person in some}
    people, times_us = numpy_of(table.column("person"), np.int64), numpy_of(table.column("time_us"), np.int64)
    coded = table.column("value").cast(pa.large_string()).combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    found = _values(f"[{','.join(coded.dictionary.to_pylist())}]")
    values = [None if value == "" else value for value in found]
    order = order_of(people, times_us)
    people, times_us, codes = people[order], times_us[order], codes[order]
    _settle_ties(people, times_us, codes, values)
    others: list[dict[str, Json]] = []
    if odd:
        keep = ~np.isin(people, np.array(sorted(odd), np.int64))
        folded = _folded(asked, parts, sorted(odd), tail, others)
        people = np.concatenate([people[keep], folded[0]])
        times_us = np.concatenate([times_us[keep], folded[1]])
        codes = np.concatenate([codes[keep], folded[2] + len(values)])
        order = np.argsort(people, kind="stable")
        people, times_us, codes = people[order], times_us[order], codes[order]
    return ValueColumn(asked.root, people.astype(np.uint32), times_us, codes, values, others)


def _settle_ties(people: Numbers, times_us: Numbers, codes: Numbers, values: list[Json]) -> None:
    """Of different values a person has from the same moment on the winner is to be the last: codes change places."""
    same = (people[1:] == people[:-1]) & (times_us[1:] == times_us[:-1])
    if not (same & (codes[1:] != codes[:-1])).any():
        return
    tied = np.nonzero(np.append(same, False) | np.append(False, same))[0]
    found, places = np.unique(codes[tied], return_inverse=True)
    registers = [register(values[code], 0) for code in found.tolist()]
    ranks = np.empty(len(found), np.int64)
    ranks[sorted(range(len(found)), key=lambda place: _strength(registers[place]))] = np.arange(len(found))
    codes[tied] = codes[tied][np.lexsort((ranks[places], times_us[tied], people[tied]))]


def _strength(one: Register) -> tuple[bool, bytes]:
    """The order in which ``Register.beats`` decides between values of the same time."""
    return one.value is not None, one.value or b""


def _from_parts(asked: _Asked, parts: Sequence[Part]) -> tuple[pa.Table, list[int]]:
    """(person, time, JSON of the value) of whole writes, and the people with writes that are not so plain."""
    history, root = asked.folder.history, asked.root
    files = history.files(parts, "write")
    if not files:
        return _table([], []), []
    chosen = f"FROM read_parquet($1) WHERE {asked.chosen}"
    if _PLAIN.match(root) is None:
        found = history.rows(f"SELECT DISTINCT person {chosen} AND contains(attributes, $2)", files, (_begun(root),))
        return _table([], []), [row[0] for row in found]
    # One expression for both ways in which a path goes on costs a third of looking for each. A condition on what was
    # taken out would take it out twice.
    table = history.table(
        "SELECT person, time_us, regexp_matches(attributes, $3) AS odd,"
        f" CAST(json_extract(attributes, $2) AS VARCHAR) AS value {chosen} AND instr(attributes, $4) > 0",
        files,
        (f'$."{root}"', re.escape(_begun(root)) + r"[.\[]", _begun(root)),
    )
    odd = pc.unique(table.filter(table.column("odd")).column("person")).to_pylist()
    return table.select(["person", "time_us", "value"]).filter(pc.is_valid(table.column("value"))), odd


def _from_tail(root: str, tail: list[Block]) -> tuple[pa.Table, list[int]]:
    """The same of writes in the tail."""
    if _PLAIN.match(root) is None:
        return _table([], []), [person for people, _, _ in tail for person in _numbers(people)]
    chosen = msgspec.defstruct("Chosen", [("value", msgspec.Raw, msgspec.Raw())], rename={"value": root}, gc=False)
    decode = msgspec.json.Decoder(list[chosen]).decode
    below = (root + ".", root + "[")
    odd: list[int] = []
    tables = [_table([], [])]
    for people, times_us, attributes in tail:
        table = _table(_numbers(people), _numbers(times_us))
        texts = [bytes(getattr(one, "value")) for one in decode(attributes)]  # noqa: B009 - the shape is made above
        # Where nothing was written the text is empty; a null is a text, too.
        values = pa.array([text or None for text in texts], pa.binary()).cast(pa.string())
        tables.append(table.set_column(2, "value", values).filter(pc.is_valid(values)))
        if any(_begun(name) in attributes for name in below):
            writes = zip(_numbers(people), _objects(attributes), strict=True)
            odd += [person for person, write_ in writes if any(name.startswith(below) for name in write_)]
    return pa.concat_tables(tables), odd


def _table(people: Sequence[int], times_us: Sequence[int]) -> pa.Table:
    """Rows whose values are still to be put in."""
    nothing = pa.nulls(len(people), pa.string())
    return pa.table(
        {"person": pa.array(people, pa.uint32()), "time_us": pa.array(times_us, pa.int64()), "value": nothing}
    )


def _stored(asked: _Asked) -> tuple[list[Part], list[Block]]:
    """The parts there are, and the writes of the tail that name the attribute."""
    columns = ("person", "time_us", "attributes")
    chosen = f"{asked.chosen} AND instr(attributes, ?)"

    def read(db: sqlite3.Connection) -> tuple[list[Part], list[Block]]:
        blocks = read_blocks(db, "attribute_write", "seq", columns, chosen, (_begun(asked.root),))
        tail = [(people, times_us, texts) for people, times_us, texts in blocks]
        return parts_for(db, asked.known), [*tail, *_packed(db, asked)]

    return asked.folder.state.read(read)


def _packed(db: sqlite3.Connection, asked: _Asked) -> Iterator[Block]:
    """The same of what an import at work has in blocks."""
    for block in blocks_of(db):
        if asked.known is not None and not asked.known.covers(block.accept_us, block.import_id):
            continue
        table = block.table()
        in_time = np.asarray(table.column("time_us").to_numpy(), np.int64) <= asked.until_us
        named = pc.match_substring(table.column("attributes"), _begun(asked.root))
        table = table.filter(pc.and_(pa.array(in_time), named))
        people, times_us = (_encode(table.column(name).to_pylist()).decode() for name in ("person", "time_us"))
        yield people, times_us, f"[{','.join(table.column('attributes').to_pylist())}]"


def _folded(
    asked: _Asked, parts: Sequence[Part], people: list[int], tail: list[Block], documents: list[dict[str, Json]]
) -> tuple[Numbers, Numbers, Numbers]:
    """What the attribute of these people shows after each of their writes; what is shown goes to ``documents``."""
    writes: dict[int, list[tuple[int, dict[str, Json]]]] = {person: [] for person in people}
    history, root = asked.folder.history, asked.root
    for who, times_us, attributes in tail:
        for person, time_us, write_ in zip(_numbers(who), _numbers(times_us), _objects(attributes), strict=True):
            if person in writes:
                writes[person].append((time_us, write_))
    files = history.files(parts, "write")
    if files:
        found = history.rows(
            f"SELECT person, time_us, attributes FROM read_parquet($1) WHERE {asked.chosen}"
            " AND contains(attributes, $2) AND person IN (SELECT unnest($3))",
            files,
            (_begun(root), people),
        )
        for person, time_us, attributes in found:
            writes[person].append((time_us, _object(attributes)))
    known: dict[bytes, int] = {}
    rows: list[tuple[int, int, int]] = []
    for person in people:
        document: Document = {}
        for time_us, attributes in sorted(writes[person], key=lambda item: item[0]):
            named = {name: value for name, value in attributes.items() if root_of(name) == root}
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


def _always(folder: Folder, name: str) -> ValueColumn:
    """What people are called today counts for all days."""
    column = "NULL" if name == "cio_id" else f"json_quote({name})"
    blocks = folder.state.read(lambda db: list(read_blocks(db, "person", "person", ("person", column), "true", ())))
    people = [person for numbers, _ in blocks for person in _numbers(numbers)]
    if name == "cio_id":
        named: list[Json] = [cio_id_of(person) for person in people]
    else:
        named = [value for _, texts in blocks for value in _values(texts)]
    numbers = np.array(people, np.uint32)
    return ValueColumn(name, numbers, np.full(len(people), -NEVER_US + 1), np.arange(len(people)), named, [])


def _under_phones(folder: Folder, column: ValueColumn) -> ValueColumn:
    """A phone that is an identifier hides an attribute of that name."""
    over = _always(folder, "phone")
    has = np.array([value is not None for value in over.values], dtype=bool)
    keep = ~np.isin(column.people, over.people[has])
    people = np.concatenate([column.people[keep], over.people[has]])
    order = np.argsort(people, kind="stable")
    codes = column.codes[keep]
    return ValueColumn(
        "phone",
        people[order],
        np.concatenate([column.times_us[keep], over.times_us[has]])[order],
        np.concatenate([codes + len(over.values), over.codes[has]])[order],
        [*over.values, *column.values],
        column.others,
    )
