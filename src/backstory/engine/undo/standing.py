"""Decisions that stand when an import is taken back: merges, claims and refusals made while its identifiers were there.

They acted at their place in the journal (design section 10). Whoever thinks that one would have gone otherwise without
the import says it again with the command given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from pyroaring import BitMap

from backstory.core.time import to_unix
from backstory.core.trace import ANON_MERGE, FAILED_ATTRIBUTE_CHANGE, PROFILE_MERGE
from backstory.store.manifest import find_import
from backstory.store.people import cio_id_of

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

LISTED_MAX = 1000
_WORDS = {PROFILE_MERGE: "merge", ANON_MERGE: "claim", FAILED_ATTRIBUTE_CHANGE: "refusal"}


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided about whom, and what to do to have it decided anew. ``at`` is in unix seconds."""

    what: str
    person: str
    at: int
    said: object
    command: str


def standing_decisions(workspace: Workspace, import_id: int) -> list[Decision]:
    """Those since the import began about people to whom it gave identifiers, oldest first."""
    folder = workspace.folder
    people = workspace.call(lambda: folder.namings.given_names(import_id))
    row = folder.state.read(lambda db: find_import(db, import_id))
    if row is None:
        return []
    kinds = ", ".join("?" * len(_WORDS))
    rows = folder.state.rows(
        f"SELECT person, type, accept_us, data FROM activity WHERE accept_us >= ? AND type IN ({kinds})"
        " AND person IS NOT NULL ORDER BY seq",
        (row.accept_us, *_WORDS),
    )
    merged = dict(folder.state.rows("SELECT person, survivor FROM deleted WHERE survivor IS NOT NULL"))
    about = people | BitMap([survivor for person, survivor in merged.items() if person in people])
    return [_decision(*found) for found in rows if found[0] in about][:LISTED_MAX]


def _decision(person: int, kind: str, accept_us: int, data: str) -> Decision:
    said: Any = msgspec.json.decode(data)
    number = cio_id_of(person)
    commands = {
        PROFILE_MERGE: f"POST /api/v1/merge_customers with cio_id {number} as the primary, or nothing: it stands",
        ANON_MERGE: f"an identify call with the anonymous_id for whoever it is, after deleting cio_id {number}",
        FAILED_ATTRIBUTE_CHANGE: f"the same identify call again for cio_id {number}",
    }
    return Decision(what=_WORDS[kind], person=number, at=to_unix(accept_us), said=said, command=commands[kind])
