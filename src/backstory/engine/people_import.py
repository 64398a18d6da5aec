"""Importing people: rows of unknown people are made ready beside the loop and inserted in slices; rows of known ones
are merged by the loop, register by register, as identify calls would be. Every write becomes a row of a part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core import comparison
from backstory.core.condition import Json
from backstory.core.fact import Identifier
from backstory.core.identity import Apply, Drop, Refuse, decide, normal
from backstory.core.leaf import AttributeLeaf
from backstory.core.limit import ATTRIBUTES_PER_PERSON
from backstory.core.person import Register, encode_document, root_names, write
from backstory.core.time import MINUTE_US
from backstory.engine.apply_profile import changes_json, losses_json
from backstory.engine.context import encode_json, shown_values
from backstory.engine.import_job import Counts, Job
from backstory.engine.person_row import PersonRow
from backstory.engine.source import Place
from backstory.store.people import Profile

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

ASKED_AT_ONCE = 500
_decode = msgspec.json.Decoder().decode
IDENTIFIERS = ("id", "email", "cio_id")


@dataclass(slots=True)
class Written:
    """A row of the part to be written: one identify call's worth of attributes."""

    person: int
    time_us: int
    attributes: str
    changes: str | None
    created: bool
    # What lost against newer values: a JSON object, "" for nothing.
    lost: str = ""


class PeopleImport:
    """The people of one import, chunk by chunk."""

    def __init__(self, job: Job, refuse: Callable[[PersonRow, str], None]) -> None:
        self._job = job
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._segments = job.workspace.segments
        self._refuse = refuse
        self._written: list[Written] = []
        self._moved = BitMap()
        self._keys: dict[str, bytes] = {}
        # The time of the line before the file's first, for rows that name none.
        self._first_us = 0

    def take(self, rows: list[PersonRow], *, file: int, end: Place, counts: Counts) -> None:
        """Take in a few rows: people, their writes and the place in the source, in one commit."""
        self._first_us = self._job.row.accept_us + self._job.lines_before(file)
        version, owner = self._owners(rows)
        fresh, rest = _sorted_out(rows, owner)
        ready = self._make_ready(fresh)

        def step() -> None:
            tally = msgspec.structs.replace(counts)
            if self._folder.people.version == version:
                self._insert(fresh, ready, tally)
                self._merge(rest, tally)
            else:
                self._merge(rows, tally)
            self._finish()
            self._job.tell_reports(*self._job.take_reports())
            self._job.save(file=file, place=end, counts=tally)

        self._workspace.call(step)

    def _owners(self, rows: list[PersonRow]) -> tuple[int, set[Identifier]]:
        """The identifiers of these rows that somebody has or had, and a version at which that was so."""
        # Asked of the loop, so that all it counts is committed; what is committed since makes it another.
        version = self._workspace.call(lambda: self._folder.people.version)
        found: set[Identifier] = set()
        wanted = {identifier for row in rows for identifier in row.identifiers()}
        for kind, column in (("id", "id"), ("email", "email_key")):
            names = [identifier.value for identifier in wanted if identifier.kind == kind]
            for low in range(0, len(names), ASKED_AT_ONCE):
                some = names[low : low + ASKED_AT_ONCE]
                marks = ", ".join("?" * len(some))
                known = self._folder.state.rows(f"SELECT {column} FROM person WHERE {column} IN ({marks})", tuple(some))
                gone = f"SELECT value FROM tombstone WHERE kind = ? AND value IN ({marks})"
                known += self._folder.state.rows(gone, (kind, *some))
                found.update(Identifier(kind, row[0]) for row in known)  # pyright: ignore[reportArgumentType]
        return version, found

    def _told_us(self, row: PersonRow) -> int | None:
        """The time that was named for a row, by itself or for all; None for none, and for one still to come."""
        told_us = self._job.options.as_of_us if row.time_us is None else row.time_us
        return None if told_us is None or told_us > self._job.row.accept_us + MINUTE_US else told_us

    def _time_us(self, row: PersonRow) -> int:
        """The row's time; else the import's, later rows a microsecond later, as calls one by one would be."""
        told_us = self._told_us(row)
        return self._first_us + row.line if told_us is None else told_us

    # -- unknown people -----------------------------------------------------------------------------------------------

    def _make_ready(self, rows: list[PersonRow]) -> list[tuple[int, bytes, str]]:
        """(time, document, attributes) of rows that will be new people."""
        ready: list[tuple[int, bytes, str]] = []
        for row in rows:
            time_us = self._time_us(row)
            document = {name: Register(time_us, value) for name, value in row.attributes.items()}
            ready.append((time_us, encode_document(document), attributes_text(row.attributes, self._keys)))
        return ready

    def _insert(self, rows: list[PersonRow], ready: list[tuple[int, bytes, str]], counts: Counts) -> None:
        """On the loop: people nobody knew."""
        if not rows:
            return
        if self._job.options.rows == "only_existing":
            counts.skipped += len(rows)
            return
        state = self._folder.state
        first = state.next_person
        state.next_person += len(rows)
        now_us = state.now_us
        records: list[tuple[object, ...]] = []
        for person, (row, judged) in enumerate(zip(rows, ready, strict=True), first):
            time_us, document, attributes = judged
            named = {identifier.kind: identifier.value for identifier in (row.path, *row.body)}
            email = named.get("email")
            key = email.strip().lower() if email is not None else None
            records.append(
                (person, named.get("id"), email, key, time_us, now_us, self._job.import_id, document)
            )
            self._written.append(Written(person, time_us, attributes, None, True))
        state.db.executemany("INSERT INTO person VALUES (?, ?, ?, ?, ?, ?, ?, ?)", records)
        self._folder.people.version += 1
        people = np.arange(first, first + len(rows), dtype=np.uint32)
        made = BitMap(people)
        self._segments.alive |= made
        self._moved |= made
        known_us = np.array([min(at_us, now_us) for at_us, _, _ in ready], np.int64)
        self._segments.known.add_many(people, known_us)
        for leaf in self._segments.attribute_leaves():
            self._judge(leaf, first, rows, now_us)
        counts.created += len(rows)
        counts.people_created += len(rows)

    def _judge(self, leaf: AttributeLeaf, first: int, rows: list[PersonRow], now_us: int) -> None:
        """Each distinct value of the attribute is judged once."""
        if leaf.root in IDENTIFIERS:
            for person, row in enumerate(rows, start=first):
                named: dict[str, str] = {i.kind: i.value for i in (row.path, *row.body)}
                leaf.set(person, shown_values(Profile(person, named.get("id"), named.get("email"), 0), {}), now_us)
            return
        verdicts: dict[bytes | None, tuple[bool, int | None]] = {}
        root = leaf.root
        for person, row in enumerate(rows, start=first):
            value = row.attributes.get(root)
            verdict = verdicts.get(value)
            if verdict is None:
                document: dict[str, Json] = {} if value is None else {root: _decode(value)}
                found = comparison.read_path(document, leaf.field)
                moment = comparison.next_change_us(leaf.test, found, now_us) if leaf.timed else None
                verdict = (comparison.holds(leaf.test, found, now_us), moment)
                verdicts[value] = verdict
            if verdict[0] or verdict[1] is not None:
                leaf.take(person, *verdict)
        if leaf.judged_live is not None:
            leaf.judged_live.update(range(first, first + len(rows)))

    # -- known people -------------------------------------------------------------------------------------------------

    def _merge(self, rows: list[PersonRow], counts: Counts) -> None:
        """On the loop: rows that need a decision, in their order."""
        profiles = self._workspace.applier.profiles
        for row in rows:
            path = normal(row.path)
            if profiles.refused_by_deletion(path, self._told_us(row)) is not None:
                self._refused(row, "is older than the deletion of this person", counts)
            else:
                self._merge_one(row, path, counts)

    def _merge_one(self, row: PersonRow, path: Identifier, counts: Counts) -> None:
        people = self._folder.people
        body = tuple(normal(identifier) for identifier in row.body)
        owner = {i: p for i in (path, *body) if (p := people.find(i)) is not None}
        owned = {person: people.profile(person).owned() for person in set(owner.values())}
        decision = decide(path, body, owner, owned, update_only=False)
        match decision:
            case Drop(reason=reason):
                self._refused(row, reason, counts)
            case Refuse():
                self._refused(row, f"{decision.attribute}: {decision.reason}", counts)
            case Apply():
                self._apply(row, decision, counts)

    def _refused(self, row: PersonRow, reason: str, counts: Counts) -> None:
        counts.errors += 1
        self._refuse(row, reason)

    def _apply(self, row: PersonRow, decision: Apply, counts: Counts) -> None:
        is_new = decision.person is None
        wanted = self._job.options.rows
        if (wanted == "only_new" and not is_new) or (wanted == "only_existing" and is_new):
            counts.skipped += 1
            return
        folder = self._folder
        now_us = folder.state.now_us
        time_us = self._time_us(row)
        attributes: dict[str, Json] = {name: None if v is None else _decode(v) for name, v in row.attributes.items()}
        document = {} if decision.person is None else folder.people.document(decision.person)
        written = write(document, attributes, time_us)
        if len(document) > ATTRIBUTES_PER_PERSON.value:
            self._refused(row, ATTRIBUTES_PER_PERSON.message.format(value=ATTRIBUTES_PER_PERSON.value), counts)
            return
        sent = {normal(identifier): identifier for identifier in (row.path, *row.body)}
        assign = tuple(sent.get(identifier, identifier) for identifier in decision.assign)
        if decision.person is None:
            person = folder.state.next_person
            folder.state.next_person += 1
            folder.people.insert(
                person, assign, document, created_us=time_us, accept_us=now_us, import_id=self._job.import_id
            )
            self._segments.add_person(person)
            counts.created += 1
            counts.people_created += 1
        else:
            person = decision.person
            if assign:
                folder.people.assign(person, assign)
            if written.touched:
                folder.people.set_document(person, document)
            if written.changed or assign:
                counts.updated += 1
            elif written.lost and not written.touched:
                counts.stale += 1
            else:
                counts.unchanged += 1
        changes = changes_json(written.changed) | {i.kind: {"from": "", "to": i.value} for i in assign}
        text = attributes_text(row.attributes, self._keys)
        earlier = time_us < self._segments.known.get_us(person)
        if is_new or written.touched or written.lost or assign or earlier:
            lost = encode_json(losses_json(written.lost)).decode() if written.lost else ""
            self._written.append(Written(person, time_us, text, encode_json(changes).decode(), is_new, lost))
        touched = self._segments.feed_known(person, time_us, now_us)
        roots = None if is_new else root_names(written.changed) | {identifier.kind for identifier in assign}
        if is_new or roots:
            profile = folder.people.profile(person)
            touched |= self._segments.feed_attributes(person, roots, lambda: shown_values(profile, document), now_us)
        if touched or is_new:
            self._moved.add(person)

    # -- the end of a step ----------------------------------------------------------------------------------------

    def _finish(self) -> None:
        """On the loop: the writes go into the tail, the people who moved are settled."""
        written, self._written = self._written, []
        if written:
            first = self._folder.state.take_seq(2 * len(written)) + 1
            accept_us, import_id = self._job.row.accept_us, self._job.import_id
            self._folder.tail.add_imported(
                [
                    (first + 2 * at, w.person, w.time_us, accept_us, w.attributes, _traced(w), w.created, import_id)
                    for at, w in enumerate(written)
                ]
            )
        moved, self._moved = self._moved, BitMap()
        self._segments.bulk_fed()
        for segment_id in self._segments.closure(set(self._segments.segments)):
            self._settle(segment_id, moved)
        self._workspace.campaigns.on_people(BitMap([w.person for w in written]), self._folder.state.now_us)

    def _settle(self, segment_id: int, moved: BitMap) -> None:
        kept = self._segments.segments.get(segment_id)
        people = moved & self._segments.alive
        if kept is None or kept.building or kept.condition is None or not people:
            return
        self._segments.settle_many(segment_id, np.asarray(people.to_array(), np.uint32), self._folder.state.now_us)


def _sorted_out(rows: list[PersonRow], owner: set[Identifier]) -> tuple[list[PersonRow], list[PersonRow]]:
    """Rows that will be new people beyond doubt, and the rest."""
    fresh: list[PersonRow] = []
    rest: list[PersonRow] = []
    named: set[Identifier] = set()
    for row in rows:
        identifiers = row.identifiers()
        new = (
            row.path.kind != "cio_id"
            and not any(identifier in owner or identifier in named for identifier in identifiers)
            and len({identifier.kind for identifier in identifiers}) == len(identifiers)
            and not any("." in name for name in row.attributes)
        )
        named.update(identifiers)
        (fresh if new else rest).append(row)
    return fresh, rest


def _traced(written: Written) -> str | None:
    """What the activity log shows of a row: its changes, with what was lost behind them."""
    return f"[{written.changes},{written.lost}]" if written.lost else written.changes


def attributes_text(attributes: dict[str, bytes | None], keys: dict[str, bytes]) -> str:
    """A JSON object of values that are JSON already; ``keys`` remembers the names as JSON."""
    pieces: list[bytes] = []
    for name, value in attributes.items():
        key = keys.get(name)
        if key is None:
            keys[name] = key = msgspec.json.encode(name) + b":"
        pieces.append(key + (value or b"null"))
    return (b"{" + b",".join(pieces) + b"}").decode()
