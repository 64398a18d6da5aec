"""Taking an import back as if it had never been, and taking that back: placed by a fact, done beside the loop.

Three steps, each of which may be done again after a crash: the import's rows leave history in one commit (``retract``);
people, identifiers and values become what they are without it (``withdraw``); leaves are made anew and memberships
follow (``releaf``). Nothing starts by any of it. The way back is the same with the import counting again.
Source: design section 10, ``docs/decisions/0024-undo.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from pyroaring import BitMap

from backstory.core.error import BackstoryError, ConflictError, NotFoundError
from backstory.core.fact import ReinstateImport, RetractImport
from backstory.core.limit import LOOP_ROWS
from backstory.engine.undo.comeback import InTheWay, bring_people_back, check_way
from backstory.engine.undo.countable import Reconciled, Tell
from backstory.engine.undo.person_date import date_people
from backstory.engine.undo.releaf import rebuild_known, rebuild_leaves
from backstory.engine.undo.retract import Plan, take_out_or_in
from backstory.engine.undo.undo_record import record_counts, turn_records
from backstory.engine.undo.withdraw import reconcile
from backstory.store.knowledge import resume_absence
from backstory.store.manifest import find_import, read_parts
from backstory.store.retraction import PURGED, Retraction, drop_retraction, put_retraction, read_retractions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

RETRACTED = "retracted"
# A stage: its people are being forgotten.
PURGING = "purging"
ALONE_S = 2.0


class Undone(msgspec.Struct, frozen=True, kw_only=True):
    """What taking back an import (or taking that back) did: how many of each."""

    import_id: int
    state: str
    people_gone: int = 0
    people_returned: int = 0
    people_changed: int = 0
    identifiers_changed: int = 0
    events: int = 0
    writes: int = 0
    records: int = 0
    members: int = 0
    events_of_others: int = 0
    journeys_ended: int = 0
    messages_dropped: int = 0
    messages_sent: int = 0


def undo(workspace: Workspace, import_id: int, tell: Tell = lambda step: None) -> Undone:
    """Take an import back; one that was interrupted is gone on with, one that is done is done.

    Raises ``NotFoundError``, and ``ConflictError`` while the import is not over.
    """
    return _through(workspace, import_id, RetractImport(import_id=import_id), tell)


def redo(workspace: Workspace, import_id: int, tell: Tell = lambda step: None) -> Undone:
    """Have an import count again that was taken back. Raises as ``undo`` does.

    Also ``ConflictError``, before anything is changed, where that cannot be exact any more.
    """
    return _through(workspace, import_id, ReinstateImport(import_id=import_id), tell)


def _through(
    workspace: Workspace, import_id: int, fact: RetractImport | ReinstateImport, tell: Tell
) -> Undone:
    with alone(workspace):
        one = workspace.folder.state.read(read_retractions).get(import_id)
        if isinstance(fact, ReinstateImport) and one is not None and one.stage == "done" and one.was != PURGED:
            check_way(workspace, one)
        receipt = workspace.apply([fact])[0]
        if receipt.result == "dropped":
            raise NotFoundError(receipt.reason)
        if receipt.result == "conflict":
            raise ConflictError(receipt.reason)
        return _finish(workspace, import_id, tell)


@contextmanager
def alone(workspace: Workspace) -> Generator[None]:
    """No import runs meanwhile. Raises ``ConflictError`` when one does."""
    with workspace.turns.alone(ALONE_S) as found:
        if not found:
            raise ConflictError("an import is at work: wait for it, or end it with 'backstory imports cancel'")
        yield


def resume(workspace: Workspace) -> None:
    """Go on with what a crash interrupted."""
    for import_id, one in sorted(workspace.folder.state.read(read_retractions).items()):
        if one.stage not in ("done", PURGING):
            # What was in the way is as before; who asked may ask again.
            with workspace.turns.alone(), suppress(InTheWay):
                _finish(workspace, import_id, lambda step: None)


def _finish(workspace: Workspace, import_id: int, tell: Tell) -> Undone:
    """From where it stands to the end. Imports wait."""
    one = workspace.folder.state.read(read_retractions).get(import_id)
    if one is None or one.stage in ("done", PURGING):
        return Undone(import_id=import_id, state=workspace.imports.row(import_id).state)
    workspace.call(lambda: _hold(workspace))
    workspace.context.import_at_work = import_id
    try:
        return _work(workspace, one, tell)
    except InTheWay:
        raise
    except BackstoryError:
        workspace.folder.fault(
            f"import {import_id} is half taken back or brought in again: 'backstory imports "
            f"{'redo' if one.returning else 'undo'} {import_id}' goes on with it"
        )
        raise
    finally:
        workspace.context.import_at_work = 0
        workspace.call(lambda: _release(workspace))


def _work(workspace: Workspace, one: Retraction, tell: Tell) -> Undone:
    plan: Plan | None = None
    back = Reconciled()
    obstacle: InTheWay | None = None
    if one.stage == "begun":
        tell("history")
        try:
            if one.returning:
                bring_people_back(workspace, one, back)
            plan = take_out_or_in(workspace, one)
        except InTheWay as error:
            # Somebody came in between: nothing of history has moved yet, and whoever is back already goes again.
            obstacle, turned = error, replace(one, returning=False)
            workspace.call(lambda: _turn_around(workspace, turned))
            one = turned
        one = replace(one, stage="taken")
    writers = _in_parts(workspace, one, "write")
    named = workspace.call(lambda: workspace.folder.namings.named(one.import_id))
    people = named | writers | _in_parts(workspace, one, "event")
    turn_records(workspace, one)
    tell("people")
    done = reconcile(workspace, people, writers, tell)
    date_people(workspace)
    tell("segments")
    rebuild_known(workspace, people, tell)
    rebuild_leaves(workspace, None if plan is None else plan.names, tell)
    dropped, ended = (0, 0) if one.returning else _end_journeys(workspace, one.import_id)
    events, writes = _counts(workspace, one)
    records, members = record_counts(workspace, one.import_id, counting=one.returning)
    state = workspace.call(lambda: _end(workspace, one))
    workspace.folder.state.sync()
    if obstacle is not None:
        raise obstacle
    return Undone(
        import_id=one.import_id,
        state=state,
        people_gone=done.gone,
        people_returned=back.returned,
        people_changed=done.changed,
        identifiers_changed=done.renamed,
        events=events,
        writes=writes,
        records=records,
        members=members,
        events_of_others=0 if plan is None else sum(plan.tally.values()),
        journeys_ended=ended,
        messages_dropped=dropped,
        messages_sent=messages_sent(workspace, one.import_id),
    )


def _turn_around(workspace: Workspace, turned: Retraction) -> None:
    """On the loop: the import does not come back."""
    put_retraction(workspace.folder.state.db, replace(turned, stage="taken"))
    resume_absence(workspace.folder.state.db, turned.import_id)


def _hold(workspace: Workspace) -> None:
    """On the loop: stored leaves would be wrong after a crash; none is stored until all are right again."""
    workspace.checkpoint.held += 1
    workspace.checkpoint.drop()


def _release(workspace: Workspace) -> None:
    workspace.checkpoint.held -= 1


def _in_parts(workspace: Workspace, one: Retraction, kind: str) -> BitMap:
    """Everybody of whom the import has rows of a kind: those who were merged with somebody it named, too."""
    history = workspace.folder.history
    with history.reading():
        found = workspace.folder.state.read(lambda db: read_parts(db, retracted=not one.returning))
        files = history.files([part for part in found if part.kind == kind], kind)
        asked = "SELECT DISTINCT person FROM read_parquet($1) WHERE import_id = $2"
        if not files:
            return BitMap()
        return BitMap(np.asarray(history.table(asked, files, (one.import_id,)).column(0).to_numpy(), np.uint32))


def _counts(workspace: Workspace, one: Retraction) -> tuple[int, int]:
    """How many events that count, and how many writes, the import has."""
    history = workspace.folder.history
    counts: list[int] = []
    with history.reading():
        found = workspace.folder.state.read(lambda db: read_parts(db, retracted=not one.returning))
        for kind, counting in (("event", " AND NOT duplicate"), ("write", "")):
            files = history.files([part for part in found if part.kind == kind], kind)
            asked = f"SELECT count(*) FROM read_parquet($1) WHERE import_id = $2{counting}"
            counts.append(history.rows(asked, files, (one.import_id,))[0][0] if files else 0)
    return counts[0], counts[1]


def _end_journeys(workspace: Workspace, import_id: int) -> tuple[int, int]:
    """What the import began does not go on. Returns (messages not sent, journeys ended)."""
    journeys, deliveries, most = workspace.campaigns.journeys, workspace.campaigns.deliveries, LOOP_ROWS.value

    def in_turns(end: Callable[[int, int, int], int]) -> int:
        count = 0
        while more := workspace.call(lambda: end(import_id, workspace.folder.state.now_us, most)):
            count += more
        return count

    ended = in_turns(journeys.end_of_import)
    return in_turns(deliveries.drop_of_import), ended


def _end(workspace: Workspace, one: Retraction) -> str:
    """On the loop: the import is out, or in again."""
    folder = workspace.folder
    row = find_import(folder.state.db, one.import_id)
    assert row is not None
    state = one.was if one.returning else RETRACTED
    folder.manifest.put_import(replace(row, state=state, updated_us=folder.state.now_us))
    if one.returning:
        drop_retraction(folder.state.db, one.import_id)
    else:
        put_retraction(folder.state.db, replace(one, stage="done"))
    return state


def messages_sent(workspace: Workspace, import_id: int) -> int:
    """How many messages of journeys that an import began have been sent: they count for frequencies still."""
    rows = workspace.folder.state.rows(
        "SELECT count(*) FROM delivery JOIN journey USING (journey_id) WHERE import_id = ? AND delivery.state IN"
        " ('sent', 'in_doubt', 'attempting')",
        (import_id,),
    )
    return rows[0][0]

