"""Rows of an import that need a decision, and rows of people who are known: merged as identify calls would be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, assert_never

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.condition import Json
from backstory.core.fact import IdentifierKind, Receipt
from backstory.core.identity import Apply, Drop, Join, Refuse, decide, normal
from backstory.core.limit import ATTRIBUTES_PER_PERSON
from backstory.core.person import root_names, write
from backstory.core.time import MINUTE_US
from backstory.engine.apply.addressee import FORGOTTEN
from backstory.engine.apply.profile import changes_json, losses_json
from backstory.engine.backfill.conflict import conflict
from backstory.engine.backfill.import_job import Counts, Job
from backstory.engine.backfill.people_sort import Known
from backstory.engine.backfill.person_document import NEWER, OTHER, Documents, compared
from backstory.engine.backfill.person_table import PersonRows
from backstory.engine.context import encode_json, shown_values
from backstory.engine.file.person_row import PersonRow
from backstory.engine.file.report import FORGOTTEN_ROW, OLDER_ROW
from backstory.store.write_block import BODY, writes

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

_decode = msgspec.json.Decoder().decode
UNCHANGED = "{}"


# One identify call's worth of attributes, for the history: the person, the time, the attributes, the changes (None: all
# of it, of a new person) and whether the person was made by it.
Written = tuple[int, int, str, str | None, bool]


def _traced(changes: str, lost: str) -> str:
    """What the activity log shows of a row: its changes, with what was lost behind them."""
    return f"[{changes},{lost}]" if lost else changes


class Merge:
    """On the loop: the rows of one step; ``told``, ``written`` and ``moved`` tell what has to be kept and settled."""

    def __init__(
        self, job: Job, first_us: int, counts: Counts, refuse: Callable[[PersonRow, str], None]
    ) -> None:
        self._job = job
        self._workspace: Workspace = job.workspace
        self._folder = job.workspace.folder
        self._segments = job.workspace.segments
        self._first_us = first_us
        self._counts = counts
        self._refuse = refuse
        self._keys: dict[str, bytes] = {}
        # Of many rows at once, and one by one behind them.
        self.told: list[pa.Table] = []
        self.written: list[Written] = []
        self.moved = BitMap()
        # Puts what was written so far into history, for whoever reads it before the step is over.
        self.keep: Callable[[Merge], None] = lambda merge: None

    def told_us(self, row: PersonRow) -> int | None:
        """The time that was named for a row, by itself or for all; None for none, and for one still to come."""
        told_us = self._job.options.as_of_us if row.time_us is None else row.time_us
        return None if told_us is None or told_us > self._job.accept_us + MINUTE_US else told_us

    def time_us(self, row: PersonRow) -> int:
        """The row's time; else the import's, later rows a microsecond later, as calls one by one would be."""
        told_us = self.told_us(row)
        return self._first_us + self._job.origin(row.line) if told_us is None else told_us

    # -- people as they are known -------------------------------------------------------------------------------------

    def known(
        self, quick: PersonRows, times_us: NDArray[np.int64], documents: Documents, texts: pa.Array, rows: Known
    ) -> None:
        """Rows that name one person each, and none the same: the values are the same, mostly."""
        count = len(rows.people)
        if self._job.options.rows == "only_new":
            self._counts.skipped += count
            self._job.sample("skipped", quick.lines if rows.at is None else quick.lines[rows.at])
            return
        if not count:
            return
        people = rows.numbers()
        self._heard(quick, rows, people)
        places = range(count) if rows.at is None else rows.at
        if rows.at is not None:
            documents, times_us, texts = documents.take(rows.at), times_us[rows.at], texts.take(pa.array(rows.at))
        what = compared(rows.documents, documents)
        # Rows come in any order, but columns and tables are read and written in that of people.
        order = np.argsort(people)
        known_us = np.empty(count, np.int64)
        known_us[order] = self._segments.known.gather_us(people[order])
        what[times_us < known_us] = OTHER
        if (what == NEWER).all() and (people[1:] > people[:-1]).all():
            self._folder.people.set_documents(list(zip(documents.each, rows.people, strict=True)))
        else:
            newer: list[int] = order[what[order] == NEWER].tolist()
            self._folder.people.set_documents([(documents.each[at], rows.people[at]) for at in newer])
        # Kept though it changes nothing: it stands when another import that said the same is taken back.
        quiet = what != OTHER
        self._counts.unchanged += int(quiet.sum())
        if self._job.tally is not None:
            self._job.sample("unchanged", (quick.lines if rows.at is None else quick.lines[rows.at])[quiet])
        if not quiet.all():
            texts = texts.filter(pa.array(quiet))
        self.told.append(writes(people[quiet], times_us[quiet], texts, changes=UNCHANGED, created=False))
        for at in np.flatnonzero(~quiet).tolist():
            self._apply(quick.row(places[at]), Apply(rows.people[at], ()))

    def _heard(self, quick: PersonRows, rows: Known, people: NDArray[np.uint32]) -> None:
        """Note whom the rows named, and by what."""
        named_by: tuple[tuple[IdentifierKind, list[str | None]], ...] = (("id", quick.ids), ("email", quick.emails))
        for kind, sent in named_by:
            mine = sent if rows.at is None else [sent[at] for at in rows.at]
            has = people if None not in mine else people[[one is not None for one in mine]]
            self._folder.namings.heard_many(kind, has)

    # -- rows that need a decision --------------------------------------------------------------------------------

    def rows(self, rows: list[PersonRow]) -> None:
        """In their order."""
        for row in rows:
            self._one(row)

    def _one(self, row: PersonRow) -> None:
        path, *body = row.identifiers()
        found = self._workspace.applier.profiles.owners(path, tuple(body), self.told_us(row))
        if isinstance(found, Receipt):
            nameless = found.result == "suppressed" or found.reason == FORGOTTEN
            self._refused(row, FORGOTTEN_ROW if nameless else OLDER_ROW)
            return
        decision = decide(path, tuple(body), *found, update_only=False, rules=self._workspace.context.rules)
        match decision:
            case Join() if self._job.options.rows == "only_new":
                self._count("skipped", row)
            case Join(primary=primary, secondary=secondary):
                # Campaigns hear of it at the end of the import, as of all that it moved.
                now_us = self._folder.state.now_us
                self.keep(self)
                self._workspace.applier.merges.join(primary, secondary, now_us, quiet=True)
                self._one(row)
            case Drop(reason=reason):
                self._refused(row, reason)
            case Refuse():
                self._refused(row, conflict(decision, (path, *body), *found))
            case Apply():
                self._apply(row, decision)
            case _:
                assert_never(decision)

    def _count(self, outcome: Literal["created", "updated", "unchanged", "stale", "skipped"], row: PersonRow) -> None:
        setattr(self._counts, outcome, getattr(self._counts, outcome) + 1)
        self._job.sample(outcome, [row.line])

    def _refused(self, row: PersonRow, reason: str) -> None:
        self._counts.errors += 1
        self._refuse(row, reason)

    def _apply(self, row: PersonRow, decision: Apply) -> None:
        is_new = decision.person is None
        wanted = self._job.options.rows
        if (wanted == "only_new" and not is_new) or (wanted == "only_existing" and is_new):
            self._count("skipped", row)
            return
        folder, counts = self._folder, self._counts
        now_us = folder.state.now_us
        time_us = self.time_us(row)
        attributes: dict[str, Json] = {name: None if v is None else _decode(v) for name, v in row.attributes.items()}
        document = {} if decision.person is None else folder.people.document(decision.person)
        written = write(document, attributes, time_us)
        if len(document) > ATTRIBUTES_PER_PERSON.value:
            self._refused(row, ATTRIBUTES_PER_PERSON.message.format(value=ATTRIBUTES_PER_PERSON.value))
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
            self._count("created", row)
            counts.people_created += 1
        else:
            person = decision.person
            if assign:
                folder.people.assign(person, assign)
            if written.touched:
                folder.people.set_document(person, document)
            if written.changed or assign:
                self._count("updated", row)
            elif written.lost and not written.touched:
                self._count("stale", row)
            else:
                self._count("unchanged", row)
        changes = changes_json(written.changed) | {i.kind: {"from": "", "to": i.value} for i in assign}
        lost = encode_json(losses_json(written.lost)).decode() if written.lost else ""
        text = attributes_text(row.attributes, self._keys)
        self.written.append((person, time_us, text, _traced(encode_json(changes).decode(), lost), is_new))
        touched = self._segments.feed_known(person, time_us, now_us)
        roots = None if is_new else root_names(written.changed) | {identifier.kind for identifier in assign}
        if is_new or roots:
            profile = folder.people.profile(person)
            touched |= self._segments.feed_attributes(person, roots, lambda: shown_values(profile, document), now_us)
        if touched or is_new:
            self.moved.add(person)


def attributes_text(attributes: dict[str, bytes | None], keys: dict[str, bytes]) -> str:
    """A JSON object of values that are JSON already; ``keys`` remembers the names as JSON."""
    pieces: list[bytes] = []
    for name, value in attributes.items():
        key = keys.get(name)
        if key is None:
            keys[name] = key = msgspec.json.encode(name) + b":"
        pieces.append(key + (value or b"null"))
    return (b"{" + b",".join(pieces) + b"}").decode()


def written_table(rows: list[Written]) -> pa.Table:
    """Writes one by one as the body of a block."""
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(BODY.names)
    return pa.table([pa.array(list(one), of.type) for one, of in zip(columns, BODY, strict=True)], schema=BODY)
