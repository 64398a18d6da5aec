"""Importing people: rows are made ready beside the loop, many together; the loop inserts those whom nobody knew and
merges the others, register by register, as identify calls would be. Every write becomes a row of history.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core import comparison
from backstory.core.column import Truth
from backstory.core.condition import AttributeTest, Json
from backstory.core.fact import IdentifierKind
from backstory.core.leaf import AttributeLeaf
from backstory.engine.backfill.block_move import Mover
from backstory.engine.backfill.import_job import Counts, Job
from backstory.engine.backfill.people_merge import Merge, written_table
from backstory.engine.backfill.people_sort import sort_out, stand_apart
from backstory.engine.backfill.person_document import Documents
from backstory.engine.backfill.person_table import Coded, PersonRows
from backstory.engine.context import shown_values
from backstory.engine.file.person_row import PersonRow
from backstory.engine.file.source import Place
from backstory.engine.segment.membership_log import settle_moved
from backstory.store.people import Profile
from backstory.store.write_block import SEQ_STEP, writes

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

_decode = msgspec.json.Decoder().decode
T = TypeVar("T")
IDENTIFIERS = ("id", "email", "cio_id")
VERDICTS_REMEMBERED = 20_000


@dataclass(slots=True, kw_only=True)
class Batch:
    """A few rows made ready: ``quick`` ones with their times, documents and attributes as text, and ``odd`` ones.

    ``errors`` and ``warnings`` are lines for the reports, each with its number; ``line_of`` makes such a line of a
    row that its person's state refuses.
    """

    quick: PersonRows
    times_us: NDArray[np.int64]
    documents: Documents
    texts: pa.Array
    odd: list[PersonRow]
    # Does every quick row name identifiers that no other row of the batch names?
    apart: bool
    counts: Counts
    errors: list[tuple[int, str]]
    warnings: list[tuple[int, str]]
    line_of: Callable[[int, str], str]
    end: Place


@dataclass(frozen=True, slots=True)
class Ready:
    """Quick rows with their times, documents and attributes as text."""

    quick: PersonRows
    times_us: NDArray[np.int64]
    documents: Documents
    texts: pa.Array

    def part(self, low: int, high: int) -> Ready:
        """Some of them in a row."""
        if (low, high) == (0, len(self.quick)):
            return self
        texts = self.texts.slice(low, high - low)
        return Ready(self.quick.part(low, high), self.times_us[low:high], self.documents.part(low, high), texts)


def ready(quick: PersonRows, untold_us: NDArray[np.int64]) -> Ready:
    """Make rows ready; ``untold_us`` are the times of those that name none."""
    times_us = quick.times_us(untold_us)
    return Ready(quick, times_us, quick.documents(times_us), quick.texts())


def batch_of(
    rows: Ready,
    odd: list[PersonRow],
    *,
    counts: Counts,
    errors: list[tuple[int, str]],
    warnings: list[tuple[int, str]],
    line_of: Callable[[int, str], str],
    end: Place,
) -> Batch:
    """What the loop takes in one step."""
    return Batch(
        quick=rows.quick,
        times_us=rows.times_us,
        documents=rows.documents,
        texts=rows.texts,
        odd=odd,
        apart=stand_apart(rows.quick, odd),
        counts=counts,
        errors=errors,
        warnings=warnings,
        line_of=line_of,
        end=end,
    )


class PeopleImport:
    """The people of one file, a batch at a time."""

    def __init__(self, job: Job, file: int, first_us: int) -> None:
        """``first_us``: the time of the line before the file's first, for rows that name none."""
        self._job = job
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._segments = job.workspace.segments
        self._file = file
        self._first_us = first_us
        # The writes of the batch under way that made people.
        self._made: list[pa.Table] = []
        self._mover = Mover(job)
        # Did the rows before name people who exist?
        self._known_expected = False
        # Of questions that time does not change: for which values they hold, and for those coded together last.
        self._verdicts: dict[AttributeTest, dict[bytes | None, bool]] = {}
        self._held: dict[AttributeTest, tuple[Coded, Truth]] = {}

    def take(self, batch: Batch) -> None:
        """Take in a batch: people, their writes and the place in the source, in one commit."""
        self._job.call(lambda: self._step(batch))
        self._mover.at_step()

    def close(self) -> None:
        """Nothing more comes."""
        self._mover.close()

    def _step(self, batch: Batch) -> None:
        counts = msgspec.structs.replace(batch.counts)
        errors = list(batch.errors)
        merge = Merge(
            self._job,
            self._first_us,
            counts,
            lambda row, reason: errors.append((row.line, batch.line_of(row.line, reason))),
        )
        # Nothing that goes round: what a step holds goes with it, not when somebody looks for cycles.
        merge.keep = self._keep
        made = self._insert_all(batch)
        if made is not None:
            rest = batch.odd
        else:
            deletions = self._folder.tombstones.any
            found = sort_out(
                self._folder,
                batch.quick,
                batch.odd,
                apart=batch.apart,
                deletions=deletions,
                document_bytes=self._job.chunking.document_bytes,
            )
            self._known_expected = len(found.known.people) > len(found.fresh)
            made = self._insert_some(batch, found.fresh, counts)
            merge.known(batch.quick, batch.times_us, batch.documents, batch.texts, found.known)
            rest = found.rest
        counts.created += len(made)
        counts.people_created += len(made)
        merge.rows(rest)
        self._keep(merge)
        self._segments.expect_fed(np.asarray(made.to_array(), np.uint32), self._folder.state.now_us)
        self._settle_all(made | merge.moved)
        errors.sort(key=lambda line: line[0])
        self._job.tell_reports([text for _, text in errors], [text for _, text in batch.warnings])
        self._job.save(file=self._file, place=batch.end, counts=counts)

    # -- unknown people -----------------------------------------------------------------------------------------------

    def _insert_all(self, batch: Batch) -> BitMap | None:
        """Insert all quick rows if the state lets us, for nobody has their identifiers; who was made, else None."""
        if self._known_expected or not batch.apart or self._job.options.rows == "only_existing":
            return None
        if self._folder.tombstones.any:
            return None
        db = self._folder.state.db
        db.execute("SAVEPOINT people")
        try:
            made = self._insert(batch, None)
        except sqlite3.IntegrityError:
            db.execute("ROLLBACK TO people")
            return None
        finally:
            db.execute("RELEASE people")
        return made

    def _insert_some(self, batch: Batch, rows: list[int], counts: Counts) -> BitMap:
        if self._job.options.rows == "only_existing":
            counts.skipped += len(rows)
            self._job.sample("skipped", batch.quick.lines[rows])
            return BitMap()
        return self._insert(batch, rows)

    def _insert(self, batch: Batch, rows: list[int] | None) -> BitMap:
        """People nobody knew: the rows at these places, None for all."""

        def some(values: list[T]) -> list[T]:
            return values if rows is None else [values[at] for at in rows]

        quick, state = batch.quick, self._folder.state
        times_us = batch.times_us if rows is None else batch.times_us[rows]
        count = len(times_us)
        if not count:
            return BitMap()
        first, now_us = state.next_person, state.now_us
        ids, emails, times = some(quick.ids), some(quick.emails), times_us.tolist()
        self._folder.people.insert_many(
            range(first, first + count),
            ids,
            emails,
            some(quick.email_keys),
            created_us=times,
            accept_us=now_us,
            import_id=self._job.import_id,
            documents=some(batch.documents.each),
        )
        state.next_person += count
        if self._job.tally is not None:
            self._job.sample("created", quick.lines if rows is None else quick.lines[rows])
            for name, column in quick.json.items():
                there = column if rows is None else column.take(pa.array(rows))
                self._job.tally.new_people[name] += len(there) - there.null_count
        people = np.arange(first, first + count, dtype=np.uint32)
        texts = batch.texts if rows is None else batch.texts.take(pa.array(rows))
        self._made.append(writes(people, times_us, texts, changes=None, created=True))
        made = BitMap(people)
        self._folder.namings.gave_many("cio_id", people)
        given: tuple[tuple[IdentifierKind, list[str | None]], ...] = (("id", ids), ("email", emails))
        for kind, values in given:
            named = [person for person, value in zip(made, values, strict=True) if value is not None]
            self._folder.namings.gave_many(kind, named)
        self._segments.alive |= made
        self._segments.known.add_many(people, np.minimum(times_us, now_us))
        for leaf in self._segments.attribute_leaves():
            if leaf.root in IDENTIFIERS:
                for person, id_, email in zip(people.tolist(), ids, emails, strict=True):
                    leaf.set(person, shown_values(Profile(person, id_, email, None, 0), {}), now_us)
            else:
                coded, codes = quick.coded(leaf.root)
                self._judge(leaf, people, coded, codes if rows is None else codes[rows])
        return made

    def _judge(self, leaf: AttributeLeaf, people: NDArray[np.uint32], values: Coded, codes: NDArray[np.int32]) -> None:
        """Each distinct value of the attribute is judged once."""
        now_us = self._folder.state.now_us
        if leaf.timed:
            verdicts = [_verdict(leaf, value, now_us) for value in values.distinct]
            holds = np.array([verdict[0] for verdict in verdicts], bool)
            changing = np.array([verdict[1] is not None for verdict in verdicts], bool)[codes]
            for at in np.flatnonzero(changing).tolist():
                leaf.take(int(people[at]), *verdicts[int(codes[at])])
        else:
            holds = self._holding(leaf, values)
        leaf.true |= BitMap(people[holds[codes]])
        if leaf.judged_live is not None:
            leaf.judged_live.update(people.tolist())

    def _holding(self, leaf: AttributeLeaf, values: Coded) -> Truth:
        """For which values a question holds that time does not change; remembered for the rows and values to come."""
        known = self._held.get(leaf.test)
        if known is not None and known[0] is values:
            return known[1]
        verdicts = self._verdicts.setdefault(leaf.test, {})
        if len(verdicts) > VERDICTS_REMEMBERED:
            verdicts.clear()
        for value in values.distinct:
            if value not in verdicts:
                verdicts[value] = _verdict(leaf, value, 0)[0]
        holds = np.array([verdicts[value] for value in values.distinct], bool)
        self._held[leaf.test] = (values, holds)
        return holds

    # -- the end of a step ----------------------------------------------------------------------------------------

    def _keep(self, merge: Merge) -> None:
        """The writes go into the tail: many as one block, few as rows."""
        pieces = [*self._made, *merge.told, written_table(merge.written)]
        for done in (self._made, merge.told, merge.written):
            done.clear()
        history = pa.concat_tables(pieces)
        if not history.num_rows:
            return
        first = self._folder.state.take_seq(SEQ_STEP * history.num_rows) + 1
        accept_us, import_id = self._job.accept_us, self._job.import_id
        packed = self._mover.takes(history.num_rows, history.nbytes)
        self._folder.tail.add_body(history, seq=first, accept_us=accept_us, import_id=import_id, packed=packed)
        people = BitMap(np.asarray(history.column("person").to_numpy(), np.uint32))
        self._workspace.campaigns.on_people(people, self._folder.state.now_us)

    def _settle_all(self, moved: BitMap) -> None:
        # Values came, none of them newer than now.
        self._segments.newest.others.raise_floor(self._folder.state.now_us, self._segments.alive)
        people = np.asarray((moved & self._segments.alive).to_array(), np.uint32)
        if not len(people):
            return
        with self._segments.sharing():
            for segment_id in self._segments.closure(set(self._segments.segments)):
                if self._segments.segments[segment_id].condition is not None:
                    settle_moved(self._workspace.context, segment_id, people, self._job.import_id)


def _verdict(leaf: AttributeLeaf, value: bytes | None, now_us: int) -> tuple[bool, int | None]:
    document: dict[str, Json] = {} if value is None else {leaf.root: _decode(value)}
    found = comparison.read_path(document, leaf.field)
    moment = comparison.next_change_us(leaf.test, found, now_us) if leaf.timed else None
    return comparison.holds(leaf.test, found, now_us), moment
