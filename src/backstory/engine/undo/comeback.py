"""People come back with an import that counts again, exactly as they were, or it is said who is in the way.

Bringing an import in again must come to what is true had it never gone. That cannot be made so any more once others
have the identifiers, or somebody has other ones by now: what was said meanwhile was said of other people then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

from backstory.core.error import ConflictError
from backstory.core.fact import IdentifierKind
from backstory.core.person import encode_document
from backstory.engine.context import shown_values
from backstory.engine.undo.countable import FOLDED_AT_ONCE, Reconciled, Standing, owner_of, settle, standing_now
from backstory.engine.undo.withdraw_name import Name, concerned, due_names
from backstory.store.people import INSERT_PERSON, cio_id_of
from backstory.store.provenance import NAMES
from backstory.store.retraction import Retraction

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace


BACK_AT_ONCE = 500


class InTheWay(ConflictError):
    """An import cannot come back exactly; nothing was changed."""


def check_way(workspace: Workspace, one: Retraction) -> None:
    """Raises ``InTheWay`` when bringing an import in again would not be exact. Changes nothing."""
    named = list(
        workspace.call(lambda: workspace.folder.namings.named(one.import_id))
        # Everybody else is called as before.
        & concerned(workspace, frozenset((one.import_id,)))
    )
    for low in range(0, len(named), FOLDED_AT_ONCE):
        some = named[low : low + FOLDED_AT_ONCE]
        workspace.call(lambda: _check_some(workspace, one, some))  # noqa: B023


def _check_some(workspace: Workspace, one: Retraction, people: Sequence[int]) -> None:
    """On the loop."""
    db = workspace.folder.state.db
    marks = ", ".join(map(str, people))
    for (person,) in db.execute(f"SELECT person FROM withdrawn WHERE unsure AND person IN ({marks})"):
        if any(workspace.folder.namings.gave(one.import_id, kind, person) for kind in NAMES):
            raise refused(one, f"an identifier that it gave to {cio_id_of(person)} was deleted or suppressed since")
    waiting = {row[0] for row in db.execute(f"SELECT person FROM withdrawn WHERE gone AND person IN ({marks})")}
    concerned = [person for person in people if person in waiting or person in workspace.segments.alive]
    for name in due_names(workspace, concerned, standing_now(workspace, frozenset((one.import_id,)), BitMap(people))):
        _check_name(workspace, one, name, returns=name.person in waiting)


def _check_name(workspace: Workspace, one: Retraction, name: Name, *, returns: bool) -> None:
    folder, kind = workspace.folder, name.kind
    mine = folder.namings.gave(one.import_id, kind, name.person)
    if mine and not returns and name.now is not None and not folder.namings.unconfirmed(kind, name.person):
        row = folder.state.db.execute(f"SELECT {kind} FROM withdrawn WHERE person = ?", (name.person,)).fetchone()
        given = folder.state.db.execute(
            "SELECT given FROM replaced WHERE import_id = ? AND person = ? AND kind = ?",
            (one.import_id, name.person, kind),
        ).fetchone()
        if any(found is not None and found[0] not in (None, name.now) for found in (row, given)):
            raise refused(one, f"{kind} {name.now} of {cio_id_of(name.person)} was set or used since")
    if name.due is None or name.due == name.now:
        return
    owner = owner_of(workspace, {kind: name.due})
    if owner is not None and owner != name.person:
        raise refused(one, f"{kind} {name.due} is that of another person by now (cio_id {cio_id_of(owner)})")
    compared = name.due.strip().lower() if kind == "email" else name.due
    buried = "SELECT 1 FROM tombstone WHERE kind = ? AND value = ? AND deleted_us >= ?"
    if folder.state.db.execute(buried, (kind, compared, one.at_us)).fetchone() is not None:
        raise refused(one, f"somebody who was called {kind} {name.due} was deleted or merged since it was taken back")
    if folder.tombstones.blocked(kind, compared):
        raise refused(one, f"an identifier of {cio_id_of(name.person)} is suppressed")


def refused(one: Retraction, why: str) -> InTheWay:
    """Why an import does not come back, and what to do instead."""
    return InTheWay(
        f"import {one.import_id} cannot be brought in again as if it had never gone: {why}. Nothing was changed. Run"
        " its file again instead ('backstory backfill FILE'): its rows then go to whom they name now"
    )


def bring_people_back(workspace: Workspace, one: Retraction, done: Reconciled) -> None:
    """Bring back the people an import made, before its rows. Raises ``InTheWay``; whoever is back then goes again."""
    named = workspace.call(lambda: workspace.folder.namings.named(one.import_id))
    rows = workspace.folder.state.rows("SELECT person FROM withdrawn WHERE gone ORDER BY person")
    waiting = [row[0] for row in rows if row[0] in named]
    for low in range(0, len(waiting), BACK_AT_ONCE):
        some = waiting[low : low + BACK_AT_ONCE]
        done.returned += workspace.call(lambda: _bring_back(workspace, some))  # noqa: B023
    # What came in meanwhile.
    check_way(workspace, one)


def _bring_back(workspace: Workspace, people: Sequence[int]) -> int:
    """On the loop."""
    folder, segments = workspace.folder, workspace.segments
    now_us = folder.state.now_us
    standing = standing_now(workspace, among=BitMap(people))
    back = [person for person in people if _put_back(workspace, person, standing)]
    segments.alive |= BitMap(back)
    folder.people.forget_cache()
    folder.people.version += 1
    for person in back:
        shown = shown_values(folder.people.profile(person), {})
        segments.feed_attributes(person, None, lambda: shown, now_us)  # noqa: B023
    # Moments that came while they were away were passed over, and what follows them with them.
    segments.expect_fed(np.array(sorted(back), np.uint32), now_us)
    settle(workspace, BitMap(back), None)
    return len(back)


def _put_back(workspace: Workspace, person: int, standing: Standing) -> bool:
    db = workspace.folder.state.db
    found = "SELECT created_us, accept_us, creator FROM withdrawn WHERE person = ? AND gone"
    row = db.execute(found, (person,)).fetchone()
    if row is None:
        # Deleted a moment ago.
        return False
    names: dict[IdentifierKind, str] = {
        name.kind: name.due for name in due_names(workspace, [person], standing) if name.due is not None
    }
    if owner_of(workspace, names) is not None:
        # Taken a moment ago: they stay away, and who checks next says why.
        return False
    email = names.get("email")
    db.execute(
        INSERT_PERSON,
        (
            person, names.get("id"), email, None if email is None else email.strip().lower(), *row,
            encode_document({}), names.get("phone"),
        ),
    )  # fmt: skip
    for kind, value in names.items():
        db.execute(f"UPDATE withdrawn SET {kind} = NULL WHERE person = ? AND {kind} = ?", (person, value))
    # Since when they are stays written until the import that made them counts.
    db.execute("UPDATE withdrawn SET gone = 0 WHERE person = ?", (person,))
    workspace.segments.known.add(person, min(row[0], row[1]))
    return True
