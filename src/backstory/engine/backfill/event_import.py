"""Importing events: chunks are made ready beside the loop, and committed by it in short steps.

A chunk becomes one part with one run of keys. Its commit names both in the manifest together with the place in the
source, in one transaction; then leaves are fed and segments settled in slices, between which live facts go on.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import People, Truth, bitmap_of
from backstory.core.fact import IdentifierKind
from backstory.engine.backfill.bulk import Bulk, Slice
from backstory.engine.backfill.event_chunk import (
    Arranged,
    CountKnown,
    Rows,
    Seen,
    Sorted,
    arranged,
    by_flag,
    count_known,
    ranks_in_file,
    repeated,
    rows_of,
)
from backstory.engine.backfill.event_part import named_part, write_rows
from backstory.engine.backfill.event_read import EventReader, Refuse, Staged
from backstory.engine.backfill.import_job import Counts, Departed, Job, Retry
from backstory.engine.backfill.import_trigger import hold_back, matches, start_journeys
from backstory.engine.backfill.named import Named
from backstory.engine.backfill.newcomer import Newcomers
from backstory.engine.file.buffer import Buffers
from backstory.engine.file.event_row import EventRow
from backstory.engine.file.row_shape import RowShape
from backstory.engine.file.source import Chunk, Place
from backstory.store.keyrun import write_run
from backstory.store.manifest import KeyRun

if TYPE_CHECKING:
    from backstory.engine.backfill.preload import First
    from backstory.engine.file.text_column import Memory
    from backstory.engine.workspace import Workspace

# So often a chunk is made ready beside the loop; then while nothing else happens.
TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ready:
    """A chunk whose files are written. ``commit`` names them, on the loop, and returns who has to be told of what."""

    everything: Rows
    known: Truth
    rows: Sorted
    slices: list[Slice]
    named: dict[IdentifierKind, People]
    files: list[Path]
    commit: Callable[[], list[Slice]]


class EventImport:
    """The events of one import, chunk by chunk."""

    def __init__(self, job: Job, shape: RowShape) -> None:
        self._job = job
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._newcomers = Newcomers(job)
        self._arranger = ThreadPoolExecutor(1, thread_name_prefix="arrange")
        self._reader = EventReader(job, shape, self._newcomers, self._arranger)
        self._bulk = Bulk(job.workspace, job.import_id)
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="feed")
        self._feeding: Future[None] | None = None
        self._take: Callable[[pa.Array, NDArray[np.int64], Memory], pa.Array] | None = None
        # The rows of one chunk are fed while the next one is written.
        self._take_into = (Buffers(), Buffers())
        self._repeat_into = Buffers()
        self._count: CountKnown = count_known
        self._named = Named()

    # -- reading ------------------------------------------------------------------------------------------------------

    def look(self, chunk: Chunk, first: First | None = None) -> None:
        """Find out by the first chunk whether the file is worth what is compiled, and can be read by it.

        ``first``: it has been.
        """
        if not self._reader.look(chunk, first):
            return
        # Only here: it brings Numba with it.
        from backstory.engine.backfill.feed_kernel import CompiledFeed
        from backstory.engine.backfill.field_column import FieldColumns
        from backstory.engine.backfill.known_key import KnownKeys
        from backstory.engine.file.text_column import taken

        self._bulk.leaf_values, self._bulk.trigger_values = FieldColumns().values_at, FieldColumns().values_at
        self._bulk.tell = CompiledFeed()
        self._take = taken
        self._count = KnownKeys().count

    def json_chunk(self, chunk: Chunk) -> Staged:
        """Read a chunk of a JSON lines file and find its people; ``commit`` takes it from there."""
        return self._reader.chunk(chunk)

    # -- committing ---------------------------------------------------------------------------------------------------

    def take(self, rows: list[EventRow], *, file: int, end: Place, counts: Counts, refuse: Refuse) -> None:
        """Take in rows of the strict lane as one chunk; ``refuse`` hears of those their person's state refuses."""
        table = self._reader.stage(rows, counts, refuse)
        self.commit(self._reader.staged(rows_of(table), end, counts), file)

    def commit(self, staged: Staged, file: int) -> None:
        """Sort, write and commit a chunk; made ready anew when live facts got in between."""
        self._job.tell_reports(staged.errors, staged.warnings)
        rows, counts = staged.rows.result(), staged.counts
        self._take_into = self._take_into[::-1]
        for _ in range(TRIES):
            ready = self._prepare(rows, file, staged.end, counts)
            # A chunk is fed while the next one is sorted and written; none is committed before the one before is fed.
            self.settle()
            try:
                told = self._job.call(ready.commit)
            except Retry as why:
                # Nobody names them, and they may hold what is to be forgotten.
                for path in ready.files:
                    path.unlink(missing_ok=True)
                if isinstance(why, Departed):
                    rows, counts = self._leave_out(rows, counts, why.people)
            else:
                self._follow(ready, told)
                return
        # Live calls repeat its rows, or delete its people, over and over: they wait this once.
        self._follow(*self._job.call(lambda: self._held(rows, file, staged.end, counts)))

    def _leave_out(self, rows: Arranged, counts: Counts, people: BitMap) -> tuple[Arranged, Counts]:
        left, left_out = self._newcomers.leave_out(rows.rows, people)
        return arranged(left), counts.add(Counts(skipped=left_out))

    def _held(self, rows: Arranged, file: int, end: Place, counts: Counts) -> tuple[_Ready, list[Slice]]:
        """On the loop: make a chunk ready and commit it at once. Holds up whoever calls meanwhile."""
        if departed := self._newcomers.departed(rows.rows.people):
            rows, counts = self._leave_out(rows, counts, departed)
        ready = self._prepare(rows, file, end, counts)
        return ready, ready.commit()

    def _follow(self, ready: _Ready, told: list[Slice]) -> None:
        """Behind the commit of a chunk: what it starts, and telling segments of it beside the next one."""
        self._named.add(ready.named)
        if self._job.tally is not None:
            self._job.sample("created", ready.everything.places[~ready.known])
            self._job.sample("duplicate", ready.everything.places[ready.known])
        try:
            start_journeys(self._job, ready.rows, ready.slices)
        finally:
            self._feeding = self._feeder.submit(self._bulk.feed, told, self._newcomers.taken())

    def _prepare(self, chunk: Arranged, file: int, end: Place, counts: Counts) -> _Ready:
        """Write a chunk."""
        everything = chunk.rows
        seen, upto_seq = self._tail_keys()
        known = repeated(everything, chunk.by_key, self._folder.keys.runs, seen, self._job.import_id, self._count)
        if self._job.options.same_rows == "all":
            known &= everything.has_id
        rows = self._sorted(everything, chunk.order_where(~known), self._take_into[0])
        name = f"{self._job.import_id}-{file}-{end.offset}-{upto_seq}"
        first_seq = self._workspace.call(lambda: self._folder.state.take_seq(max(len(rows), 1)))
        row, path, lasting = self._job.accepted, self._folder.parts_path, self._folder.state.lasting
        parts = [(write_rows(self._folder, name, rows, first_seq, row), rows)] if len(rows) else []
        # What repeats an id is kept whole: it may say something else, and counts when the first is taken back.
        again = known & everything.has_id
        if again.any():
            order = chunk.order_where(again)
            repeats = self._sorted(everything, order, self._repeat_into)
            first = self._workspace.call(lambda: self._folder.state.take_seq(len(repeats)))
            # The first of the file is the first to count.
            places = ranks_in_file(everything, np.nonzero(again)[0])[order]
            part = write_rows(self._folder, f"{name}-again", repeats, first, row, places=places)
            parts.append((part, repeats))
        runs = [
            (write_run(path, f"{name}-{flag}", some.keys, some.people, lasting=lasting), len(some.rows), flag)
            for some, flag in by_flag(chunk.by_key, known)
        ]
        tally = counts.add(Counts(created=len(rows), duplicate=int(known.sum())))
        slices = self._bulk.slices(rows, first_seq)
        firing = matches(self._job, self._bulk, slices)
        named = self._named.new(everything)

        def commit() -> list[Slice]:
            self._check_unchanged(everything, upto_seq)
            seq = self._folder.state.take_seq()
            for part, its_rows in parts:
                whole = named_part(part, its_rows, self._next("part", "part_id"), self._job.import_id, seq)
                self._folder.manifest.add_part(whole)
            for kind, people in named.items():
                self._folder.namings.heard_many(kind, bitmap_of(people))
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

        files = [path / name for name in (*(part.path for part, _ in parts), *(name for (name, _), _, _ in runs))]
        return _Ready(
            everything=everything, known=known, rows=rows, slices=slices, named=named, files=files, commit=commit
        )

    def _sorted(self, rows: Rows, order: NDArray[np.int64], buffers: Buffers) -> Sorted:
        """The rows at these positions; their texts lie in the buffers, if compiled code puts them in order."""
        take = self._take
        if take is None:
            return rows.sorted(order)
        return rows.sorted(
            order, lambda name, texts, order: take(texts, order, partial(buffers.array, name, dtype=np.uint8))
        )

    def settle(self) -> None:
        """Wait until segments know of all that was committed; raises what went wrong there."""
        feeding, self._feeding = self._feeding, None
        if feeding is not None:
            feeding.result()

    def close(self) -> None:
        with self._arranger, self._feeder:
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

    def _check_unchanged(self, everything: Rows, upto_seq: int) -> None:
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
