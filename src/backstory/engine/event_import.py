"""Importing events: chunks are made ready beside the loop, and committed by it in short steps.

A chunk becomes one part with one run of keys. Its commit names both in the manifest together with the place in the
source, in one transaction; then leaves are fed and segments settled in slices, between which live facts go on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.identity import normal
from backstory.engine.buffer import Buffers
from backstory.engine.bulk import Bulk, Slice
from backstory.engine.event_chunk import (
    NAMED_BY,
    STAGED,
    CountKnown,
    Rows,
    Seen,
    count_known,
    joined,
    key_order,
    order_of,
    repeated,
    rows_of,
)
from backstory.engine.event_part import named_part, write_rows
from backstory.engine.event_row import EventRow, key_of, read_event
from backstory.engine.import_job import Counts, Departed, Job, Retry
from backstory.engine.import_trigger import hold_back, matches, start_journeys
from backstory.engine.newcomer import Newcomers
from backstory.engine.report import FORGOTTEN_ROW, OLDER_ROW
from backstory.engine.row_shape import RowShape
from backstory.engine.row_value import RowError, decode_line
from backstory.engine.source import PEEK_BYTES, Chunk, Place
from backstory.store.keyrun import write_run
from backstory.store.manifest import KeyRun
from backstory.store.tombstone import Gone

if TYPE_CHECKING:
    from backstory.engine.event_fast import Found, Stranger, Tables
    from backstory.engine.identifier_table import IdentifierTable
    from backstory.engine.workspace import Workspace

RETRIES_MAX = 50
# Is told of a row that cannot be used, and why.
Refuse = Callable[[EventRow, str], None]


@dataclass(frozen=True, slots=True)
class Staged:
    """A chunk whose rows are read and whose people are known; report lines wait until it is committed."""

    rows: Rows
    end: Place
    counts: Counts
    errors: list[str]
    warnings: list[str]


class EventImport:
    """The events of one import, chunk by chunk."""

    def __init__(self, job: Job, shape: RowShape) -> None:
        self._job = job
        self._shape = shape
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._newcomers = Newcomers(job)
        self._bulk = Bulk(job.workspace, job.import_id)
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._feeding: Future[None] | None = None
        # Everybody, for the fast lane; None: the file goes the strict way.
        self._tables: Tables | None = None
        self._take_texts: Callable[[pa.Array, NDArray[np.int64], Buffers], pa.Array] | None = None
        # One chunk is read while the one before is written; the rows of that are fed while the next one is written.
        self._read_into = (Buffers(), Buffers())
        self._take_into = (Buffers(), Buffers())
        self._count: CountKnown = count_known
        # As of which renaming of people the tables are.
        self._tables_of = -1

    # -- reading ------------------------------------------------------------------------------------------------------

    def look(self, first: Chunk) -> None:
        """Find out whether the fast lane is worth it and can read files like this."""
        chunking, shape = self._job.chunking, self._shape
        if not (chunking.fast and len(first.body) >= chunking.fast_bytes_min and shape.plain):
            return
        # Only here: it brings Numba with it.
        from backstory.engine.event_fast import Tables, read_fast
        from backstory.engine.field_column import values_at
        from backstory.engine.known_key import KnownKeys
        from backstory.engine.text_column import taken

        self._bulk.values_at = values_at
        self._take_texts = taken
        self._count = KnownKeys().count
        self._tables = Tables(self._newcomers.known)
        self._newcomers.watch(self._tables.add)
        self._tables_of = self._renamed()
        # Everybody is read while the first lines are: the beginning of them shows by which identifiers.
        for kind in read_fast(first.beginning(PEEK_BYTES), shape.identifier).kinds():
            self._tables.begin(kind)

    def json_chunk(self, chunk: Chunk) -> Staged:
        """Read a chunk of a JSON lines file and find its people; ``commit`` takes it from there."""
        if self._tables is None or not len(chunk.body):
            return self._by_strict_lane(chunk)
        return self._by_both_lanes(chunk, self._tables)

    def _by_both_lanes(self, chunk: Chunk, tables: Tables) -> Staged:
        from backstory.engine.event_fast import read_fast

        renamed = self._renamed()
        if self._tables_of != renamed:
            tables.forget()
            self._tables_of = renamed
        counts = Counts()
        self._read_into = self._read_into[::-1]
        found = read_fast(chunk, self._shape.identifier, self._read_into[0])
        self._leave_deleted(found, tables)
        rows = self._strict(found.others(), counts)
        counts.rows += len(found)
        found.look_up(tables)
        strangers = found.strangers()
        if self._job.options.rows == "only_existing":
            counts.skipped += int((found.people < 0).sum())
            self._job.sample("skipped", found.lines[found.people < 0])
            found.keep(found.people >= 0)
            strangers = []
        staged = self._stage_rows(rows, counts, self._refuser(chunk), strangers)
        found.look_up(tables)
        as_of_us = self._job.options.as_of_us
        now_us = self._job.row.accept_us if as_of_us is None else as_of_us
        fast = found.rows(now_us, all_timed=as_of_us is not None)
        both = joined(fast, rows_of(staged)) if staged.num_rows else fast
        return Staged(both, chunk.end, counts, *self._job.take_reports())

    def _renamed(self) -> int:
        # Asked of the loop, so that all it counts is committed.
        return self._workspace.call(lambda: self._folder.people.renamed)

    def _leave_deleted(self, found: Found, tables: Tables) -> None:
        """Whom a row means that names somebody who is gone depends on its time: the strict lane says."""
        from backstory.engine.identifier_table import IdentifierTable

        if not self._folder.tombstones.any:
            return
        strangers: list[tuple[Literal["id", "email"], str]] = []
        if self._folder.tombstones.hiding:
            found.look_up(tables)
            strangers = [(one.kind, one.sent) for one in found.strangers()]
        gone: dict[Literal["id", "email"], IdentifierTable] = {}
        for identifier in self._newcomers.left_behind(strangers):
            if identifier.kind == "id" or identifier.kind == "email":
                table = gone.setdefault(identifier.kind, IdentifierTable(lower=identifier.kind == "email"))
                table.put_texts([identifier.value.encode()], [0])
        if gone:
            found.leave(found.in_table(gone))

    def _by_strict_lane(self, chunk: Chunk) -> Staged:
        counts = Counts()
        for line in chunk.too_long:
            self._job.report("errors").add_json(line, b"", "the line is too long to be read")
            counts = counts.add(Counts(rows=1, errors=1))
        rows = self._strict(enumerate(bytes(chunk.body).split(b"\n"), start=chunk.first_line), counts)
        table = self._stage_rows(rows, counts, self._refuser(chunk))
        return Staged(rows_of(table), chunk.end, counts, *self._job.take_reports())

    def _refuser(self, chunk: Chunk) -> Refuse:
        def refuse(row: EventRow, reason: str) -> None:
            text = bytes(chunk.body).split(b"\n")[row.line - chunk.first_line]
            self._job.report("errors").add_json(row.line, text, reason)

        return refuse

    def _strict(self, lines: Iterable[tuple[int, bytes]], counts: Counts) -> list[EventRow]:
        rows: list[EventRow] = []
        for line, text in lines:
            if not text or text.isspace():
                continue
            counts.rows += 1
            try:
                self._job.admit(line)
                bare = text.removeprefix(b"\xef\xbb\xbf") if line == 1 else text
                row = read_event(decode_line(bare), line, self._shape)
            except RowError as error:
                self._job.refuse_json(error, line, text, counts)
                continue
            rows.append(row)
            if row.warning:
                counts.warnings += 1
                self._job.report("warnings").add_json(line, text, row.warning)
        return rows

    # -- staging: who and what ----------------------------------------------------------------------------------------

    def _stage_rows(
        self, rows: list[EventRow], counts: Counts, refuse: Refuse, strangers: Sequence[Stranger] = ()
    ) -> pa.Table:
        """Rows of the strict lane with their people; ``strangers`` of the fast lane are made with theirs."""
        as_of_us = self._job.options.as_of_us
        now_us = self._job.row.accept_us if as_of_us is None else as_of_us
        # The first row of somebody unknown counts for certain, so its time is one at which the person is known.
        wanted = {
            normal(Identifier(one.kind, one.sent)): (one.sent, now_us if one.time_us is None else one.time_us, one.line)
            for one in strangers
        }
        good: list[tuple[EventRow, Identifier, int | None]] = []
        named = [
            (normal(Identifier(row.person_kind, row.person)), as_of_us if row.time_us is None else row.time_us)
            for row in rows
        ]
        fates = self._newcomers.fates(named)
        for row, (identifier, time_us) in zip(rows, named, strict=True):
            fate = fates.get((identifier, time_us), identifier)
            if fate is None or isinstance(fate, Gone):
                counts.errors += 1
                nameless = fate is None or fate.hidden
                refuse(row, FORGOTTEN_ROW if nameless else OLDER_ROW)
                continue
            good.append((row, identifier, time_us))
            if isinstance(fate, Identifier) and (identifier not in wanted or row.line < wanted[identifier][2]):
                wanted[identifier] = (row.person, now_us if time_us is None else time_us, row.line)
        people = self._newcomers.find(wanted, create=self._job.options.rows != "only_existing")
        staged: list[tuple[object, ...]] = []
        for row, identifier, time_us in good:
            fate = fates.get((identifier, time_us))
            person = fate if isinstance(fate, int) else people.get(identifier)
            if person is None and identifier.kind == "cio_id":
                counts.errors += 1
                refuse(row, "nobody has this cio_id")
                continue
            if person is None:
                counts.skipped += 1
                self._job.sample("skipped", [row.line])
                continue
            key = key_of(row, time_us)
            staged.append(
                (
                    person,
                    now_us if time_us is None else time_us,
                    time_us is not None,
                    (key or 0) & 0xFFFFFFFFFFFFFFFF,
                    key is not None,
                    row.event_id is not None,
                    row.kind,
                    row.name,
                    row.data.decode(),
                    row.event_id,
                    NAMED_BY.index(identifier.kind),
                    row.line,
                )
            )
        columns = list(zip(*staged, strict=True)) if staged else [()] * len(STAGED)
        arrays = [pa.array(list(column), kind) for column, kind in zip(columns, STAGED.values(), strict=True)]
        return pa.table(dict(zip(STAGED, arrays, strict=True)))

    # -- committing ---------------------------------------------------------------------------------------------------

    def take(self, rows: list[EventRow], *, file: int, end: Place, counts: Counts, refuse: Refuse) -> None:
        """Take in rows of the strict lane as one chunk; ``refuse`` hears of those their person's state refuses."""
        table = self._stage_rows(rows, counts, refuse)
        self.commit(Staged(rows_of(table), end, counts, *self._job.take_reports()), file)

    def commit(self, staged: Staged, file: int) -> None:
        """Sort, write and commit a chunk; made ready anew when live facts got in between."""
        self._job.tell_reports(staged.errors, staged.warnings)
        rows, counts = staged.rows, staged.counts
        self._take_into = self._take_into[::-1]
        for _ in range(RETRIES_MAX):
            try:
                self._prepare_and_commit(rows, file, staged.end, counts)
                return
            except Departed as gone:
                rows, left_out = self._newcomers.leave_out(rows, gone.people)
                counts = counts.add(Counts(skipped=left_out))
            except Retry:
                continue
        raise Retry("live events repeat the rows of the import over and over: try again later")

    def _prepare_and_commit(self, everything: Rows, file: int, end: Place, counts: Counts) -> None:
        seen, upto_seq = self._tail_keys()
        by_key = key_order(everything)
        known = repeated(everything, by_key, self._folder.keys.runs, seen, self._job.import_id, self._count)
        if self._job.options.same_rows == "all":
            known &= everything.has_id
        new = np.nonzero(~known)[0] if known.any() else None
        rows = everything.take(order_of(everything, new), self._texts_at)
        name = f"{self._job.import_id}-{file}-{end.offset}-{upto_seq}"
        first_seq = self._workspace.call(lambda: self._folder.state.take_seq(max(len(rows), 1)))
        path, row = self._folder.parts_path, self._job.accepted
        parts = [(write_rows(path, name, rows, first_seq, row), rows)] if len(rows) else []
        # What repeats an id is kept whole: it may say something else, and counts when the first is taken back.
        again = np.nonzero(known & everything.has_id)[0]
        if len(again):
            order = order_of(everything, again)
            repeats = everything.take(order)
            first = self._workspace.call(lambda: self._folder.state.take_seq(len(repeats)))
            # The first of the file is the first to count.
            places = np.searchsorted(again, order)
            part = write_rows(path, f"{name}-again", repeats, first, row, places=places)
            parts.append((part, repeats))
        runs = [
            (write_run(path, f"{name}-{flag}", everything.keys[some], everything.people[some]), len(some), flag)
            for some, flag in ((by_key[~known[by_key]], 0), (by_key[known[by_key]], 1))
            if len(some)
        ]
        tally = counts.add(Counts(created=len(rows), duplicate=int(known.sum())))
        slices = self._bulk.slices(rows, first_seq)
        firing = matches(self._job, self._bulk, slices)
        named: dict[IdentifierKind, BitMap] = {
            kind: BitMap(everything.people[everything.named == at]) for at, kind in enumerate(NAMED_BY)
        }

        def commit() -> list[Slice]:
            self._check_unchanged(everything, known, upto_seq)
            seq = self._folder.state.take_seq()
            for part, held in parts:
                whole = named_part(part, held, self._next("part", "part_id"), self._job.import_id, seq)
                self._folder.manifest.add_part(whole)
            for kind, people in named.items():
                if people:
                    self._folder.namings.heard_many(kind, people)
            for (path, checksum), count, flag in runs:
                run_id = self._next("key_run", "run_id")
                run = KeyRun(
                    run_id=run_id, path=path, rows=count, checksum=checksum,
                    import_id=self._job.import_id, duplicate=bool(flag),
                )  # fmt: skip
                self._folder.manifest.add_key_run(run)
            tally.held_events += hold_back(self._job, self._bulk, rows, slices, firing, first_seq)
            self._bulk.hold(rows, slices, fires=self._job.options.triggers != "none")
            self._job.save(file=file, place=end, counts=tally)
            self._folder.reload_manifest()
            return slices

        # A chunk is fed while the next one is sorted and written; none is committed before the one before it is fed.
        self.settle()
        told = self._job.call(commit)
        self._job.sample("created", everything.places[~known])
        self._job.sample("duplicate", everything.places[known])
        try:
            start_journeys(self._job, rows, slices)
        finally:
            self._feeding = self._feeder.submit(self._bulk.feed, told, self._newcomers.taken())

    def _texts_at(self, texts: pa.Array, order: NDArray[np.int64]) -> pa.Array:
        if self._take_texts is None:
            return texts.take(pa.array(order))
        return self._take_texts(texts, order, self._take_into[0])

    def settle(self) -> None:
        """Wait until segments know of all that was committed; raises what went wrong there."""
        feeding, self._feeding = self._feeding, None
        if feeding is not None:
            feeding.result()

    def close(self) -> None:
        with self._feeder:
            self.settle()

    def _tail_keys(self) -> tuple[Seen, int]:
        """The keys of events in the tail, and the seq up to which they were read."""
        # In one look: an event between two would be missed by both.
        rows, last = self._folder.state.read(
            lambda db: (
                db.execute("SELECT key, person, duplicate, import_id FROM event WHERE key IS NOT NULL").fetchall(),
                db.execute("SELECT value FROM meta WHERE name = 'next_seq'").fetchall(),
            )
        )
        keys, people, again, imports = zip(*rows, strict=True) if rows else ((),) * 4
        seen = Seen(
            np.array(keys, np.int64), np.array(people, np.uint32), np.array(again, bool), np.array(imports, np.int64)
        )
        return seen, int(last[0][0]) - 1 if last else 0

    def _check_unchanged(self, everything: Rows, known: np.ndarray, upto_seq: int) -> None:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        """On the loop: nothing that came in since the chunk was made ready touches its rows."""
        self._folder.tail.flush()
        rows = self._folder.state.db.execute(
            "SELECT key FROM event WHERE seq > ? AND key IS NOT NULL", (upto_seq,)
        ).fetchall()
        if rows and np.isin(np.array([row[0] for row in rows], np.int64), everything.keys[everything.keyed]).any():
            raise Retry("a live event repeats a row of the chunk")
        if departed := self._newcomers.departed(everything.people):
            raise Departed(departed)

    def _next(self, table: str, column: str) -> int:
        return self._folder.state.db.execute(f"SELECT coalesce(max({column}), 0) + 1 FROM {table}").fetchone()[0]
