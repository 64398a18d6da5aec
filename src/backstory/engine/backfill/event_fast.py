"""The fast lane of event files in JSON lines: compiled kernels read the lines they are sure of, into columns.

Importing this module imports Numba; it is done where a file is large enough to be worth it.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from backstory.core.column import Truth
from backstory.engine.backfill.event_chunk import Rows
from backstory.engine.backfill.identifier_table import UNKNOWN, IdentifierTable
from backstory.engine.file.buffer import Buffers
from backstory.engine.file.event_field import BY_ANY, BY_EMAIL, BY_ID, KINDS
from backstory.engine.file.event_key import keys_of
from backstory.engine.file.event_scan import Scan, scan
from backstory.engine.file.row_value import doubt_of
from backstory.engine.file.source import Chunk, Place
from backstory.engine.file.text_column import gather, in_a_row
from backstory.store.everybody import Kind, Known

# Reads everybody by a kind of identifier.
ReadTable = Callable[[Kind], IdentifierTable]
# All rows, or those at some positions.
Picked = slice | NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Stranger:
    """Somebody unknown: as sent, at which line first, and with which time (None: the row names none)."""

    kind: Kind
    sent: str
    line: int
    time_us: int | None


class Found:
    """The lines of one chunk that were taken, and the people they name."""

    def __init__(self, chunk: Chunk, scanned: Scan, buffers: Buffers) -> None:
        self._chunk = chunk
        self._scan = scanned
        self._buffers = buffers
        self._unsure = set[int]()
        self.people = np.full(len(scanned.line), UNKNOWN, np.int64)

    def __len__(self) -> int:
        return len(self.people)

    @property
    def first_line(self) -> int:
        return self._chunk.first_line

    @property
    def lines(self) -> NDArray[np.int64]:
        """Which line of the file each of them is."""
        return np.add(self._scan.line, self._chunk.first_line, dtype=np.int64)

    def others(self) -> list[tuple[int, bytes]]:
        """The (line, text) of the lines that were not taken."""
        body, starts = self._chunk.body, self._scan.line_at
        numbers = sorted({*self._scan.unsure.tolist(), *self._unsure})
        return [
            (self._chunk.first_line + at, bytes(body[starts[at] : starts[at + 1]]).removesuffix(b"\n"))
            for at in numbers
        ]

    def doubtful(self) -> NDArray[np.int64]:
        """The rows whose identifiers the strict lane says something about."""
        found, body = self._scan, self._chunk.body
        texts = ((found.who_at, found.who_len), (found.id_at, found.id_len))
        rows = [
            row
            for row in found.peculiar.tolist()
            if any(doubt_of("", bytes(body[at[row] : at[row] + max(length[row], 0)]).decode()) for at, length in texts)
        ]
        return np.array(rows, np.int64)

    def leave(self, rows: NDArray[np.int64]) -> None:
        """Give lines back that were taken: ``others`` has them now, too."""
        self._unsure.update(self._scan.line[rows].tolist())
        self.keep(~np.isin(np.arange(len(self)), rows))

    def keep(self, which: Truth) -> None:
        """Go on with these rows only."""
        found = self._scan
        # The data of the others stays where it is; the cuts of those kept are made when rows are.
        self._scan = Scan(
            line=found.line[which], kind=found.kind[which], who_at=found.who_at[which], who_len=found.who_len[which],
            by_email=found.by_email[which], name=found.name[which], timed=found.timed[which],
            time_us=found.time_us[which], id_at=found.id_at[which], id_len=found.id_len[which],
            data_at=found.data_at[which], data_len=found.data_len[which], texts=found.texts, names=found.names,
            unsure=found.unsure, line_at=found.line_at, peculiar=found.peculiar[:0],
        )  # fmt: skip
        self.people = self.people[which]

    def look_up(self, tables: "Tables") -> None:
        """Find the people of the rows that have none yet."""
        unknown = self.people == UNKNOWN
        # At first nobody is known, and most files name people in one way: then no rows have to be picked out.
        for kind, rows in self._by_kind(slice(None) if unknown.all() else np.nonzero(unknown)[0]):
            self.people[rows] = tables.of(kind).find(
                self._chunk.body, self._scan.who_at[rows], self._scan.who_len[rows]
            )

    def in_table(self, tables: dict[Kind, IdentifierTable]) -> NDArray[np.int64]:
        """The rows whose identifiers are in one of these tables."""
        hits: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        for kind, rows in self._by_kind(slice(None)):
            if kind in tables:
                found = tables[kind].find(self._chunk.body, self._scan.who_at[rows], self._scan.who_len[rows])
                hits.append(np.arange(len(self))[rows][found != UNKNOWN])
        return np.concatenate(hits)

    def _by_kind(self, rows: Picked) -> list[tuple[Kind, Picked]]:
        by_email = self._scan.by_email[rows]
        if not len(by_email):
            return []
        if not by_email.any():
            return [("id", rows)]
        if by_email.all():
            return [("email", rows)]
        some = np.arange(len(self))[rows]
        return [("id", some[~by_email]), ("email", some[by_email])]

    def kinds(self) -> list[Kind]:
        """By which identifiers the lines name people."""
        return [kind for kind, _ in self._by_kind(slice(None))]

    def strangers(self) -> list[Stranger]:
        """Each of those unknown once, by the first row that names them."""
        body, found = self._chunk.body, self._scan
        out: list[Stranger] = []
        for kind, rows in self._by_kind(np.nonzero(self.people == UNKNOWN)[0]):
            seen = IdentifierTable(lower=kind == "email")
            at, length = found.who_at[rows], found.who_len[rows]
            first = np.unique(seen.put(body, at, length, np.arange(len(at)), keep=True))
            out += [
                Stranger(
                    kind,
                    bytes(body[place : place + size]).decode(),
                    self._chunk.first_line + line,
                    time if timed else None,
                )
                for place, size, line, time, timed in zip(
                    at[first].tolist(), length[first].tolist(), found.line[rows][first].tolist(),
                    found.time_us[rows][first].tolist(), found.timed[rows][first].tolist(), strict=True,
                )
            ]  # fmt: skip
        return out

    def rows(self, now_us: int, *, all_timed: bool) -> Rows:
        """The rows as columns; ``now_us`` where a row names no time, ``all_timed``: as if it had named that."""
        found = self._scan
        if not found.timed.all():
            found.time_us = np.where(found.timed, found.time_us, now_us)
        if all_timed:
            found.timed = np.ones(len(self), bool)
        has_id = found.id_len >= 0
        kinds = pa.array(KINDS, pa.string())
        names = pa.array([name.decode() for name in found.names], pa.string())
        return Rows(
            people=self.people.astype(np.uint32),
            times_us=found.time_us,
            timed=found.timed,
            keys=keys_of(self._chunk.body, found),
            keyed=has_id | found.timed,
            has_id=has_id,
            kinds=pa.DictionaryArray.from_arrays(pa.array(found.kind.astype(np.int32)), kinds),
            names=pa.DictionaryArray.from_arrays(pa.array(found.name), names),
            data=self._data(),
            event_ids=self._event_ids(),
            named=found.by_email.astype(np.int8),
            places=self.lines,
        )

    def _data(self) -> pa.Array:
        found = self._scan
        if int(found.data_len.sum(dtype=np.int64)) == len(found.texts):
            return in_a_row(found.texts, found.data_len)
        return gather(found.texts, found.data_at, found.data_len, np.arange(len(self)))

    def _event_ids(self) -> pa.Array:
        found = self._scan
        if not (found.id_len >= 0).any():
            return pa.nulls(len(self), pa.string())
        body, memory = np.frombuffer(self._chunk.body, np.uint8), partial(self._buffers.array, "ids", dtype=np.uint8)
        return gather(body, found.id_at, found.id_len, np.arange(len(self)), memory)


def read_fast(chunk: Chunk, identifier: Kind | None, buffers: Buffers | None = None) -> Found:
    """Read a chunk; ``identifier`` as the import was told. The rows lie in the ``buffers``."""
    count = chunk.end.line - chunk.first_line + 1
    by = BY_ANY if identifier is None else BY_EMAIL if identifier == "email" else BY_ID
    buffers = buffers or Buffers()
    found = Found(chunk, scan(chunk.body, count, by, buffers), buffers)
    doubtful = found.doubtful()
    if len(doubtful):
        found.leave(doubtful)
    return found


def load() -> None:
    """Have all that reads chunks at hand: kernels are fetched, or compiled, when they are used first."""
    line = b'{"id":"a","name":"b","timestamp":1}\n'
    read_fast(Chunk(line, 1, Place(len(line), 1, 0)), None).rows(0, all_timed=False)


def table_of(kind: Kind, everybody: Iterable[Known]) -> IdentifierTable:
    """People by a kind of identifier."""
    pieces = list(everybody)
    table = IdentifierTable(lower=kind == "email")
    table.make_room(sum(len(people) for _, _, _, people in pieces), sum(len(texts) for texts, _, _, _ in pieces))
    for piece in pieces:
        table.put(*piece)
    return table


class Tables:
    """Everybody known by the identifiers that rows name them by; each kind is read when a row needs it."""

    def __init__(self, read: ReadTable) -> None:
        self._read = read
        self._tables: dict[Kind, Future[IdentifierTable]] = {}

    def begin(self, kind: Kind) -> None:
        """Read a kind beside what the caller does next, which will need it."""
        if kind not in self._tables:
            reading = ThreadPoolExecutor(1, thread_name_prefix="everybody")
            self._tables[kind] = reading.submit(self._read, kind)
            reading.shutdown(wait=False)

    def of(self, kind: Kind) -> IdentifierTable:
        self.begin(kind)
        return self._tables[kind].result()

    def forget(self) -> None:
        """Identifiers have changed hands: read them anew when they are needed."""
        self._tables.clear()

    def add(self, kind: Kind, texts: list[str], people: list[int]) -> None:
        """Take up people who came to be, or were found, since."""
        if kind in self._tables:
            self.of(kind).put_texts([text.encode() for text in texts], people)
