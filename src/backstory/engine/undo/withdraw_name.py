"""Identifiers when imports do not count, or count again: what each person is called by what is left.

An identifier that came of imports which do not count, and that nobody else has used, goes; what it replaced returns.
Where imports replaced one another's, each has left what it found and what it gave, so any of them can be left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyroaring import BitMap

from backstory.core.fact import IdentifierKind
from backstory.core.leaf_key import LeafKey
from backstory.engine.context import shown_values
from backstory.engine.undo.countable import FOLDED_AT_ONCE, Reconciled, Standing, owner_of, settle, standing_now
from backstory.store.provenance import NAMES

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Name:
    """What somebody is called, by one kind of identifier, and what they are to be called."""

    person: int
    kind: IdentifierKind
    now: str | None
    due: str | None


def due_names(workspace: Workspace, people: Iterable[int], standing: Standing) -> list[Name]:
    """On the loop: what people (those who are withdrawn, too) are called, and would be with these imports.

    An identifier that others than imports have used stays as it is.
    """
    some = BitMap(people)
    marks = ", ".join(map(str, some))
    db = workspace.folder.state.db
    found: dict[int, tuple[str | None, ...]] = {
        row[0]: row[1:] for row in db.execute(f"SELECT person, id, email, phone FROM person WHERE person IN ({marks})")
    }
    kept: dict[int, tuple[str | None, ...]] = {
        row[0]: row[1:]
        for row in db.execute(f"SELECT person, id, email, phone FROM withdrawn WHERE person IN ({marks})")
    }
    chains: dict[tuple[int, str], list[tuple[int, str, str]]] = {}
    for import_id, person, kind, value, given in db.execute(
        f"SELECT import_id, person, kind, value, given FROM replaced WHERE person IN ({marks}) ORDER BY import_id"
    ):
        chains.setdefault((person, kind), []).append((import_id, value, given))
    nothing = (None, None, None)
    names: list[Name] = []
    for person in some:
        now, was = found.get(person, nothing), kept.get(person, nothing)
        for at, kind in enumerate(NAMES):
            due = now[at]
            if workspace.folder.namings.unconfirmed(kind, person):
                chain = chains.get((person, kind))
                if chain is not None:
                    due = _along(workspace, person, kind, chain, standing)
                else:
                    due = None if person in standing.nameless[kind] else was[at] if now[at] is None else now[at]
            elif person not in found:
                due = was[at]
            names.append(Name(person, kind, now[at], due))
    return names


def _along(
    workspace: Workspace, person: int, kind: IdentifierKind, chain: Sequence[tuple[int, str, str]], standing: Standing
) -> str | None:
    """What the last import that counts gave; before the first of them, what that one found."""
    first, due = chain[0][0], None
    givers = workspace.folder.namings.givers(kind, person)
    earlier = [giver for giver in givers if giver < first]
    if not earlier or any(giver in standing.imports for giver in earlier):
        due = chain[0][1]
    before = chain[0][1]
    for import_id, found, given in chain:
        if found != before:
            # Others than imports have changed it in between.
            due = found
        if import_id in standing.imports:
            due = given
        before = given
    return due


def rename_people(workspace: Workspace, people: BitMap, done: Reconciled) -> None:
    """Have these people called by what counts: first what goes is taken, then what is due given where it is free."""
    everybody = list(people & concerned(workspace))
    moved = BitMap()
    for give in (False, True):
        for low in range(0, len(everybody), FOLDED_AT_ONCE):
            some = everybody[low : low + FOLDED_AT_ONCE]
            moved |= workspace.call(lambda: _rename_some(workspace, some, give=give))  # noqa: B023
    done.renamed += len(moved)


def concerned(workspace: Workspace, also: frozenset[int] = frozenset()) -> BitMap:
    """Everybody whose identifiers may be others than is due with the imports that count, or with some more."""
    rows = workspace.folder.state.rows("SELECT person FROM withdrawn UNION SELECT person FROM replaced")
    people = BitMap([row[0] for row in rows])
    nameless = workspace.call(lambda: standing_now(workspace, also).nameless.values())
    return BitMap.union(people, *nameless)


def _rename_some(workspace: Workspace, people: Sequence[int], *, give: bool) -> BitMap:
    """On the loop; returns whose identifiers changed."""
    folder, moved = workspace.folder, BitMap()
    changed: dict[IdentifierKind, BitMap] = {kind: BitMap() for kind in NAMES}
    alive = BitMap(people) & workspace.segments.alive
    for name in due_names(workspace, alive, standing_now(workspace, among=alive)):
        person, kind = name.person, name.kind
        if name.now == name.due:
            continue
        if not give and name.now is not None:
            _note_withdrawn(workspace, person, kind, name.now)
            folder.people.unassign(person, [kind])
            changed[kind].add(person)
        elif give and name.due is not None and owner_of(workspace, {kind: name.due}) is None:
            folder.people.restore(person, kind, name.due)
            folder.state.db.execute(
                f"UPDATE withdrawn SET {kind} = NULL WHERE person = ? AND {kind} = ?", (person, name.due)
            )
            changed[kind].add(person)
    for kind, some in changed.items():
        _feed_names(workspace, some, kind)
        moved |= some
    return moved


def _note_withdrawn(workspace: Workspace, person: int, kind: IdentifierKind, value: str) -> None:
    db = workspace.folder.state.db
    db.execute(
        "INSERT OR IGNORE INTO withdrawn SELECT person, 0, NULL, NULL, NULL, created_us, accept_us, import_id, 0, NULL"
        " FROM person WHERE person = ?",
        (person,),
    )
    db.execute(f"UPDATE withdrawn SET {kind} = ? WHERE person = ?", (value, person))
    if kind == "email":
        db.execute("UPDATE withdrawn SET email_key = ? WHERE person = ?", (value.strip().lower(), person))


def _feed_names(workspace: Workspace, people: BitMap, kind: IdentifierKind) -> None:
    folder, touched = workspace.folder, set[LeafKey]()
    for person in people:
        profile, document = folder.people.profile(person), folder.people.document(person)
        touched |= workspace.segments.feed_attributes(
            person, [kind], lambda: shown_values(profile, document), folder.state.now_us  # noqa: B023
        )
    settle(workspace, people, touched)
