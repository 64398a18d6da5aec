"""Which rows of an import are new people, which are people just as they are known, and which need a decision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from backstory.core.fact import Identifier
from backstory.engine.backfill.person_document import Packed
from backstory.engine.backfill.person_table import PersonRows
from backstory.engine.file.person_row import PersonRow
from backstory.store.folder import Folder

ASKED_AT_ONCE = 500
# What is read of somebody's document together with others': nothing of one that is too long, whose row is then merged
# by itself. A document has up to 1.9 MB, and SQLite makes no value of more than a thousand million bytes.
_DOCUMENT = "CASE WHEN length(document) <= {most} THEN document ELSE x'' END"
_BETWEEN = "\n"


@dataclass(slots=True)
class Known:
    """Rows about one person each, and none about the same: their places, the people and these people's documents.

    ``at`` None: all the rows there are, in their order. A document too long to be read with others is empty.
    """

    at: list[int] | None
    people: Sequence[int]
    documents: Packed

    def numbers(self) -> NDArray[np.uint32]:
        """The people as an array."""
        people = self.people
        if isinstance(people, range):
            return np.arange(people.start, people.stop, dtype=np.uint32)
        return np.array(people, np.uint32)


def _nobody() -> Known:
    return Known([], [], Packed.of([]))


@dataclass(slots=True)
class Sorted:
    """Rows by what is to be done: ``fresh`` and ``known`` are places among the quick rows.

    ``fresh``: nobody has or had one of the row's identifiers, nor does a row before it name one. ``known``: all of
    them are those of one person, and no other row is about that person. ``rest``: the other rows, in their order.
    """

    fresh: list[int] = field(default_factory=list[int])
    known: Known = field(default_factory=_nobody)
    rest: list[PersonRow] = field(default_factory=list[PersonRow])


def stand_apart(quick: PersonRows, odd: list[PersonRow]) -> bool:
    """Does every quick row name identifiers that no other row names?"""
    ids, keys = quick.ids, quick.email_keys
    distinct_ids, distinct_keys = set(ids) - {None}, set(keys) - {None}
    if len(distinct_ids) != len(ids) - ids.count(None) or len(distinct_keys) != len(keys) - keys.count(None):
        return False
    named = {identifier for row in odd for identifier in row.identifiers()}
    return not any(i.value in (distinct_ids if i.kind == "id" else distinct_keys) for i in named)


def sort_out(
    folder: Folder, quick: PersonRows, odd: list[PersonRow], *, apart: bool, deletions: bool, document_bytes: int
) -> Sorted:
    """On the loop: the rows by what is to be done, as the state is now.

    ``apart``: see ``stand_apart``. ``deletions``: somebody was deleted, merged or suppressed once. No more than about
    ``document_bytes`` of documents are read.
    """
    most_bytes = document_bytes // max(len(quick) + len(odd), 1)
    if not len(quick):
        return Sorted(rest=odd)
    if apart and not odd and not deletions:
        known = _all_known(folder, quick, most_bytes)
        if known is not None:
            return Sorted(known=known)
    owners = _Owners(folder, quick, odd, deletions=deletions, most_bytes=most_bytes)
    out = Sorted()
    placed: list[tuple[int, int]] = []
    named: set[Identifier] = set()
    # People whom a row before is about, so that what comes of a later one depends on it.
    taken: set[int] = set()
    for at, row in _in_order(quick, odd):
        identifiers = quick.identifiers(at) if row is None else row.identifiers()
        people = owners.of(identifiers)
        decide = row is not None or owners.left_behind(identifiers) or not named.isdisjoint(identifiers)
        named.update(identifiers)
        if not decide and not people:
            out.fresh.append(at)
        elif not decide and len(people) == 1 and people.isdisjoint(taken) and owners.all_known(identifiers):
            (person,) = people
            placed.append((at, person))
        else:
            out.rest.append(quick.row(at) if row is None else row)
        taken |= people
    numbers = [person for _, person in placed]
    out.known = Known([at for at, _ in placed], numbers, Packed.of([owners.document[person] for person in numbers]))
    return out


def _all_known(folder: Folder, quick: PersonRows, most_bytes: int) -> Known | None:
    """As when a file is read again: each row's id is somebody's, and its email is theirs; None where one is not."""
    if None in quick.ids:
        return None
    found = _in_a_row(folder, quick, most_bytes) or _one_by_one(folder, quick, most_bytes)
    if found is None:
        return None
    known, keys = found
    asked = quick.email_keys
    if asked != keys and any(one is not None and one != key for one, key in zip(asked, keys, strict=True)):
        return None
    return known


def _in_a_row(folder: Folder, quick: PersonRows, most_bytes: int) -> tuple[Known, list[str | None]] | None:
    """People who lie in the order of the rows, as the import that made them left them, and their emails; None: not so.

    Each column comes as one value: a row of its own for each would cost three times as much.
    """
    db, count = folder.state.db, len(quick)
    first = db.execute("SELECT person FROM person WHERE id = ?", (quick.ids[0],)).fetchone()
    if first is None:
        return None
    last = first[0] + count - 1
    if db.execute("SELECT id FROM person WHERE person = ?", (last,)).fetchone() != (quick.ids[-1],):
        return None
    # A range of the table is read in its order; that of the identifiers is compared.
    document = _DOCUMENT.format(most=most_bytes)
    ids, keys, sizes, body = db.execute(
        "SELECT group_concat(id, ?3), group_concat(ifnull(email_key, ''), ?3),"
        f" group_concat(length({document})), CAST(group_concat(CAST({document} AS TEXT), '') AS BLOB)"
        " FROM person WHERE person BETWEEN ?1 AND ?2",
        (first[0], last, _BETWEEN),
    ).fetchone()
    if ids.count(_BETWEEN) != count - 1 or keys.count(_BETWEEN) != count - 1 or ids.split(_BETWEEN) != quick.ids:
        return None
    documents = Packed(body, np.fromstring(sizes, np.int64, sep=","))
    return Known(None, range(first[0], last + 1), documents), [key or None for key in keys.split(_BETWEEN)]


def _one_by_one(folder: Folder, quick: PersonRows, most_bytes: int) -> tuple[Known, list[str | None]] | None:
    """The same of people who lie anywhere; None: somebody is not known."""
    found: dict[str | None, tuple[str, str | None, int, bytes]] = {}
    document = _DOCUMENT.format(most=most_bytes)
    for marks, some in _stretches(quick.ids):
        query = f"SELECT id, email_key, person, {document} FROM person WHERE id IN ({marks})"
        found.update((row[0], row) for row in folder.state.db.execute(query, some))
    if len(found) < len(quick):
        return None
    rows = [found[id_] for id_ in quick.ids]
    known = Known(None, [row[2] for row in rows], Packed.of([row[3] for row in rows]))
    return known, [row[1] for row in rows]


def _in_order(quick: PersonRows, odd: list[PersonRow]) -> Iterator[tuple[int, PersonRow | None]]:
    """All rows by their lines: the place of a quick one, or an odd one."""
    waiting = iter([*odd, None])
    next_odd = next(waiting)
    for at, line in enumerate(quick.lines.tolist()):
        while next_odd is not None and next_odd.line < line:
            yield -1, next_odd
            next_odd = next(waiting)
        yield at, None
    while next_odd is not None:
        yield -1, next_odd
        next_odd = next(waiting)


class _Owners:
    """Whose identifiers the rows name."""

    def __init__(
        self, folder: Folder, quick: PersonRows, odd: list[PersonRow], *, deletions: bool, most_bytes: int
    ) -> None:
        self._db = folder.state.db
        self._tombstones = folder.tombstones
        self._owner: dict[Identifier, int] = {}
        self.document: dict[int, bytes] = {}
        self._gone: set[Identifier] = set()
        # Whom a row names by id and by email may be two.
        self._document = _DOCUMENT.format(most=most_bytes // 2)
        wanted = {identifier for row in odd for identifier in row.identifiers()}
        ids = {one.value for one in wanted if one.kind == "id"}.union(quick.ids) - {None}
        keys = {one.value for one in wanted if one.kind == "email"}.union(quick.email_keys) - {None}
        # Who is found by id needs no second look for the email that is theirs.
        keys -= self._look("id", ids)
        self._look("email_key", keys)
        for one in wanted:
            person = folder.people.find(one) if one.kind not in ("id", "email") else None
            if person is not None:
                self._owner[one] = person
        if deletions:
            self._look_for_deleted("id", ids)
            self._look_for_deleted("email", keys | {one.value for one in self._owner if one.kind == "email"})

    def _look(self, column: str, values: Iterable[str | None]) -> set[str | None]:
        """Note who has these; returns the emails of those who were found."""
        emails: set[str | None] = set()
        for marks, some in _stretches(values):
            query = f"SELECT person, id, email_key, {self._document} FROM person WHERE {column} IN ({marks})"
            for person, id_, key, document in self._db.execute(query, some):
                self.document[person] = document
                if id_ is not None:
                    self._owner[Identifier("id", id_)] = person
                if key is not None:
                    self._owner[Identifier("email", key)] = person
                    emails.add(key)
        return emails

    def _look_for_deleted(self, kind: str, values: Iterable[str | None]) -> None:
        for marks, some in _stretches(values):
            query = f"SELECT value FROM tombstone WHERE kind = ? AND value IN ({marks})"
            gone = [row[0] for row in self._db.execute(query, (kind, *some))]
            if self._tombstones.hiding:
                gone += [value for value in some if value and self._tombstones.hidden_among(kind, (value,))]
            self._gone.update(Identifier(kind, value) for value in gone)  # pyright: ignore[reportArgumentType]

    def of(self, identifiers: Iterable[Identifier]) -> set[int]:
        return {self._owner[one] for one in identifiers if one in self._owner}

    def all_known(self, identifiers: Iterable[Identifier]) -> bool:
        return all(one in self._owner for one in identifiers)

    def left_behind(self, identifiers: Iterable[Identifier]) -> bool:
        """Is one of them that of somebody who was deleted, merged or suppressed?"""
        return bool(self._gone) and not self._gone.isdisjoint(identifiers)


def _stretches(values: Iterable[str | None]) -> Iterator[tuple[str, tuple[str | None, ...]]]:
    """The values in lists short enough for one question each, with the marks for it."""
    everything = tuple(values)
    for low in range(0, len(everything), ASKED_AT_ONCE):
        some = everything[low : low + ASKED_AT_ONCE]
        yield ", ".join("?" * len(some)), some
