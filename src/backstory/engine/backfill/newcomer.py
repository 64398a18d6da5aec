"""People an import names: found, or made by the loop in short steps before their rows are committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
from pyroaring import BitMap

from backstory.core.fact import Identifier, IdentifierKind
from backstory.core.identity import normal
from backstory.core.person import encode_document
from backstory.core.segment import SegmentEngine
from backstory.core.trace import FAILED_EVENT
from backstory.engine.apply.addressee import Addressees
from backstory.engine.backfill.event_chunk import Rows
from backstory.engine.backfill.import_job import Job
from backstory.engine.context import shown_values
from backstory.engine.segment.membership_log import settle_moved
from backstory.store.everybody import Kind, everybody
from backstory.store.people import INSERT_PERSON, Profile
from backstory.store.tombstone import Gone

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

MADE_AT_ONCE = 4000
ASKED_AT_ONCE = 500
# Is told of a kind of identifier, identifiers, and whose they are.
OnNew = Callable[[Kind, list[str], list[int]], None]
_NOTHING = encode_document({})
# A person, somebody who is gone for good, or (None) somebody suppressed.
Fate = int | Gone | None


class Newcomers:
    """Finds and makes people; remembers whom it made since the last chunk, for their segments."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._made: list[int] = []
        self._deleted = self._deleted_count()
        self._addressees = Addressees(job.workspace.folder)
        # Names that people have whose owners before were suppressed, and as of what that is so.
        self._had_before: set[Identifier] = set()
        self._had_as_of = (-1, -1)
        self._on_new: OnNew = lambda kind, who, people: None

    def watch(self, on_new: OnNew) -> None:
        """Have people told who were made, or found to be there, by their identifiers in normal form."""
        self._on_new = on_new

    def find(self, wanted: dict[Identifier, tuple[str, int, int]], *, create: bool) -> dict[Identifier, int]:
        """People by (normal) identifier, made where missing.

        ``wanted`` has each identifier's value as it was sent, a time at which the person is known, and the line.
        """
        found: dict[Identifier, int] = {}
        for kind, column in (("id", "id"), ("email", "email_key"), ("cio_id", "")):
            names = [identifier.value for identifier in wanted if identifier.kind == kind]
            if kind == "cio_id":
                found.update(self._by_cio_id(names))
                continue
            for low in range(0, len(names), ASKED_AT_ONCE):
                some = names[low : low + ASKED_AT_ONCE]
                rows = self._folder.state.rows(
                    f"SELECT {column}, person FROM person WHERE {column} IN ({', '.join('?' * len(some))})", tuple(some)
                )
                found.update({Identifier(kind, row[0]): row[1] for row in rows})  # pyright: ignore[reportArgumentType]
                # Live calls, or another import, may have made them since everybody was read.
                self._on_new(kind, [row[0] for row in rows], [row[1] for row in rows])  # pyright: ignore[reportArgumentType]
        missing = {who: sent for who, sent in wanted.items() if who not in found and who.kind != "cio_id"}
        if create and missing:
            self.make([(Identifier(who.kind, sent), at_us) for who, (sent, at_us, _) in missing.items()])
            found.update(self.find(missing, create=False))
        return found

    def _by_cio_id(self, names: Sequence[str]) -> dict[Identifier, int]:
        found: dict[Identifier, int | None] = {}
        for low in range(0, len(names), ASKED_AT_ONCE):
            some = [Identifier("cio_id", name) for name in names[low : low + ASKED_AT_ONCE]]
            found |= self._job.call(lambda: {one: self._folder.people.find(one) for one in some})  # noqa: B023
        return {one: person for one, person in found.items() if person is not None}

    def make(self, people: list[tuple[Identifier, int]]) -> None:
        """Have the loop make people by identifiers as they were sent, a slice at a time, where they do not exist."""
        for low in range(0, len(people), MADE_AT_ONCE):
            some = people[low : low + MADE_AT_ONCE]
            numbers = self._job.call(lambda: self._make_some(some))  # noqa: B023
            for kind in ("id", "email"):
                found = [
                    (normal(sent).value, person)
                    for (sent, _), person in zip(some, numbers, strict=True)
                    if sent.kind == kind
                ]
                self._on_new(kind, [who for who, _ in found], [person for _, person in found])

    def _make_some(self, people: list[tuple[Identifier, int]]) -> list[int]:
        """On the loop: insert those who are still unknown; returns the numbers of all."""
        state = self._folder.state
        now_us = max(state.now_us, self._job.row.accept_us)
        rows: list[tuple[object, ...]] = []
        numbers: list[int] = []
        for sent, at_us in people:
            identifier = normal(sent)
            person = self._folder.people.find(identifier)
            if person is None:
                person = state.next_person
                state.next_person += 1
                is_id = identifier.kind == "id"
                rows.append(
                    (
                        person,
                        sent.value if is_id else None,
                        None if is_id else sent.value,
                        None if is_id else identifier.value,
                        min(at_us, now_us),
                        now_us,
                        self._job.import_id,
                        _NOTHING,
                        None,
                    )
                )
                self._made.append(person)
            numbers.append(person)
        state.db.executemany(INSERT_PERSON, rows)
        kinds: tuple[tuple[IdentifierKind, int], ...] = (("cio_id", 0), ("id", 1), ("email", 2))
        for kind, at in kinds:
            self._folder.namings.gave_many(kind, [cast("int", row[0]) for row in rows if row[at] is not None])
        self._folder.people.version += 1
        self._job.note_people(len(rows))
        self._introduce(rows)
        return numbers

    def _introduce(self, rows: list[tuple[object, ...]]) -> None:
        """People without attributes come to be: leaves that hold for a missing attribute hold for them."""
        made = [cast("int", row[0]) for row in rows]
        if not made:
            return
        segments: SegmentEngine = self._workspace.segments
        people = BitMap(made)
        segments.alive |= people
        now_us = self._folder.state.now_us
        segments.known.add_many(np.array(made, np.uint32), np.array([row[4] for row in rows], np.int64))
        for leaf in segments.attribute_leaves():
            if leaf.root in ("id", "email", "cio_id"):
                for row in rows:
                    profile = Profile(row[0], row[1], row[2], None, 0)  # pyright: ignore[reportArgumentType]
                    leaf.set(profile.person, shown_values(profile, {}), now_us)
            elif leaf.holds_nothing(now_us):
                leaf.true |= people
        # They exist from now on, before their first events are committed: whoever is in a segment without having
        # done anything is in it already.
        everybody = np.array(made, np.uint32)
        segments.expect_fed(everybody, now_us)
        with segments.sharing():
            for segment_id in segments.closure(set(segments.segments)):
                if segments.segments[segment_id].condition is not None:
                    settle_moved(self._workspace.context, segment_id, everybody, self._job.import_id)

    def taken(self) -> BitMap:
        """Who was made since this was asked last."""
        made, self._made = BitMap(self._made), []
        return made

    def fates(self, asked: Iterable[tuple[Identifier, int | None]]) -> dict[tuple[Identifier, int | None], Fate]:
        """Of names at moments: whom each meant, where somebody who had it is gone, or that it is suppressed."""
        if not self._folder.tombstones.any:
            return {}
        wanted = list(dict.fromkeys(asked))
        found: dict[tuple[Identifier, int | None], Fate] = {}
        for low in range(0, len(wanted), ASKED_AT_ONCE):
            some = wanted[low : low + ASKED_AT_ONCE]
            found.update(self._job.call(lambda: self._fates(some)))  # noqa: B023
        return found

    def _fates(self, asked: list[tuple[Identifier, int | None]]) -> dict[tuple[Identifier, int | None], Fate]:
        """On the loop."""
        found: dict[tuple[Identifier, int | None], Fate] = {}
        for identifier, time_us in asked:
            person = self._addressees.find(identifier, time_us)
            if person is not None:
                found[identifier, time_us] = person
            elif self._addressees.blocked(identifier):
                found[identifier, time_us] = None
        return found

    def left_behind(self, strangers: Iterable[tuple[Literal["id", "email"], str]]) -> set[Identifier]:
        """Names that meant somebody who is gone, at some time: all known ones, and those among the ``strangers``."""
        rows = self._folder.state.rows("SELECT DISTINCT kind, value FROM tombstone WHERE kind IN ('id', 'email')")
        names = {Identifier(row[0], row[1]) for row in rows}
        tombstones = self._folder.tombstones
        if not tombstones.hiding:
            return names
        secret_known = self._workspace.call(lambda: tombstones.hashed("id", ""))
        assert secret_known
        hashes = {row[0] for row in self._folder.state.rows("SELECT DISTINCT hash FROM suppressed")}
        as_of = (self._folder.people.renamed, len(hashes))
        if self._had_as_of != as_of:
            self._had_as_of = as_of
            self._had_before = set(self._hidden(hashes, self._everybody()))
        unknown = (normal(Identifier(kind, sent)) for kind, sent in strangers)
        return names | self._had_before | set(self._hidden(hashes, unknown))

    def _hidden(self, hashes: set[bytes], names: Iterable[Identifier]) -> Iterator[Identifier]:
        hashed = self._folder.tombstones.hashed
        return (one for one in names if hashed(one.kind, one.value) in hashes)

    def _everybody(self) -> Iterator[Identifier]:
        kinds: tuple[Kind, ...] = ("id", "email")
        for kind in kinds:
            for texts, at, lengths, _ in everybody(self._folder.state.rows, kind):
                for low, length in zip(at.tolist(), lengths.tolist(), strict=True):
                    yield Identifier(kind, texts[low : low + length].decode())

    def _deleted_count(self) -> int:
        return self._folder.state.rows("SELECT count(*) FROM deleted")[0][0]

    def departed(self, people: np.ndarray) -> BitMap:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        """On the loop: which of these people, alive when the import began or made by it, were deleted since."""
        if self._folder.state.db.execute("SELECT count(*) FROM deleted").fetchone()[0] == self._deleted:
            return BitMap()
        return BitMap(people.astype(np.uint32)) - self._workspace.segments.alive

    def leave_out(self, rows: Rows, departed: BitMap) -> tuple[Rows, int]:
        """Rows about people who went since they were read: the survivors' where they were merged, else left out.

        How many were left out is told in each one's log.
        """
        rows = rows.take(np.arange(len(rows)))
        rows.people = self._survivors(rows.people, departed)
        departed = departed & BitMap(rows.people.astype(np.uint32))
        gone = np.isin(rows.people, np.array(departed.to_array(), np.uint32))
        context = self._workspace.context
        left_out = zip(*(found.tolist() for found in np.unique(rows.people[gone], return_counts=True)), strict=True)

        def tell() -> None:
            now_us = self._folder.state.now_us
            for person, count in left_out:
                reason = f"{count} events: the person was deleted while they came in."
                data = {"import": self._job.import_id, "reason": reason}
                context.activity(person, FAILED_EVENT, now_us, now_us, data)

        self._workspace.call(tell)
        return rows.take(np.nonzero(~gone)[0]), int(gone.sum())

    def _survivors(self, people: np.ndarray, departed: BitMap) -> np.ndarray:  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
        """The same people, with those who were merged into somebody replaced by who survived."""
        found = self._workspace.call(lambda: {one: self._folder.tombstones.survivor(one) for one in departed})
        for one, survivor in found.items():
            if survivor is not None:
                people = np.where(people == one, np.uint32(survivor), people)
        return people
