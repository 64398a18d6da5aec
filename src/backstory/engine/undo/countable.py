"""Which imports count, who goes and whose identifiers go with those that do not, and who is in which segment then."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pyroaring import BitMap

from backstory.core.fact import IdentifierKind
from backstory.core.leaf_key import LeafKey
from backstory.engine.segment.membership_log import settle_moved
from backstory.store.manifest import read_imports
from backstory.store.people import COLUMN_OF
from backstory.store.provenance import NAMES
from backstory.store.retraction import read_retractions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

GONE_AT_ONCE = 2000
FOLDED_AT_ONCE = 250
READ_AT_ONCE = 5000
# Is told what is being done, between steps; may end the work there by raising.
Tell = Callable[[str], None]


@dataclass(slots=True)
class Reconciled:
    """How many people went or came, lost or got identifiers, and have other values."""

    gone: int = 0
    returned: int = 0
    renamed: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """What is true with the imports that count: who goes, and who has no right to identifiers of each kind."""

    gone: BitMap
    nameless: dict[IdentifierKind, BitMap]
    imports: frozenset[int]


def standing_imports(workspace: Workspace) -> frozenset[int]:
    """On the loop: the imports that count."""
    db = workspace.folder.state.db
    out = {number for number, one in read_retractions(db).items() if not one.returning}
    return frozenset(row.import_id for row in read_imports(db)) - out


def standing_now(
    workspace: Workspace, also: frozenset[int] = frozenset(), among: BitMap | None = None
) -> Standing:
    """On the loop: what is true with the imports that count, or with some more; ``among``: of these people only."""
    imports = standing_imports(workspace) | also
    namings, alive = workspace.folder.namings, workspace.segments.alive
    nameless: dict[IdentifierKind, BitMap] = {kind: namings.lost(kind, imports, among) for kind in NAMES}
    return Standing(namings.orphans(imports, among) & alive, nameless, imports)


def owner_of(workspace: Workspace, names: dict[IdentifierKind, str]) -> int | None:
    """On the loop: who has one of these identifiers."""
    for kind, value in names.items():
        compared = value.strip().lower() if kind == "email" else value
        found = f"SELECT person FROM person WHERE {COLUMN_OF[kind]} = ?"
        row = workspace.folder.state.db.execute(found, (compared,)).fetchone()
        if row is not None:
            return row[0]
    return None


def settle(workspace: Workspace, people: BitMap, touched: Iterable[LeafKey] | None) -> None:
    """On the loop: who is in which segment now, leaves having been fed person by person; nothing starts by it."""
    segments = workspace.segments
    segments.newest.raise_floor(workspace.folder.state.now_us, segments.alive)
    everybody = np.asarray((people & segments.alive).to_array(), np.uint32)
    if not len(everybody):
        return
    found = set(segments.segments) if touched is None else segments.segments_over(touched)
    for segment_id in segments.closure(found):
        kept = segments.segments[segment_id]
        if kept.condition is not None:
            settle_moved(workspace.context, segment_id, everybody)
