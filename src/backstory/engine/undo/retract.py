"""An import's rows leave history, or come back: files are prepared beside the loop, one commit swaps them in.

Everything in the tail becomes parts first, so that all there is to look at are immutable files. The commit holds what
was prepared against what came in since: whatever touches the import's rows has it prepared anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa

from backstory.engine.backfill.import_job import Retry, Saved
from backstory.engine.undo.comeback import refused
from backstory.store.keyrun import OpenRun, map_run
from backstory.store.manifest import KeyRun, Part, read_imports, read_key_runs, read_parts
from backstory.store.part_file import File
from backstory.store.retraction import (
    Edit,
    Recount,
    Retraction,
    check_seqs,
    moved_runs,
    put_retraction,
    recount,
    rewritten,
    rows_of_import,
    rows_with_seq,
    shared_keys,
    write_made,
)

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

RETRIES_MAX = 20
# seq, person, kind, name, time, data, event id, import id
Revived = tuple[int, int, str, str, int, str, str | None, int]

_COLUMNS = "seq, person, kind, name, time_us, data, event_id, import_id"


@dataclass(slots=True, kw_only=True)
class Plan:
    """What one commit is to do, and as of which files it was made ready.

    ``names`` are the (kind, name) of events that come to count or do not any more, ``tally`` how many more events of
    other imports count. ``revived`` rows (seq, person, kind, name, time, data, event id, import id) come to count
    at a moment that is still to come.
    """

    one: Retraction
    parts: list[Part]
    runs: list[KeyRun]
    mine: list[OpenRun]
    parts_gone: list[Part] = field(default_factory=list[Part])
    parts_made: list[Part] = field(default_factory=list[Part])
    runs_gone: list[KeyRun] = field(default_factory=list[KeyRun])
    runs_made: list[KeyRun] = field(default_factory=list[KeyRun])
    names: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    tally: Counter[int] = field(default_factory=Counter[int])
    revived: list[Revived] = field(default_factory=list[Revived])


def take_out_or_in(workspace: Workspace, one: Retraction) -> Plan:
    """Swap the files of history; returns what was done. Nobody merges files meanwhile: they are read here for long."""
    with workspace.compactor.turn:
        return _swap(workspace, one)


def _swap(workspace: Workspace, one: Retraction) -> Plan:
    for _ in range(RETRIES_MAX):
        workspace.compactor.move_everything()
        plan = _prepare(workspace, one)
        try:
            workspace.call(lambda: _commit(workspace, plan))  # noqa: B023
        except Retry:
            _give_up(workspace, plan)
            continue
        workspace.folder.state.sync()
        gone = [part.path for part in plan.parts_gone] + [run.path for run in plan.runs_gone]
        kept = {part.path for part in plan.parts_made} | {run.path for run in plan.runs_made}
        workspace.folder.history.readings.retire(name for name in gone if name not in kept)
        workspace.compactor.delete_unread()
        return plan
    raise Retry("live events repeat the rows of the import over and over: try again later")


def _give_up(workspace: Workspace, plan: Plan) -> None:
    """Delete the files that were written for a plan that is not carried out: nobody names them."""
    standing = {one.path for one in (*plan.parts, *plan.runs)}
    for one in (*plan.parts_made, *plan.runs_made):
        if one.path not in standing:
            (workspace.folder.parts_path / one.path).unlink(missing_ok=True)


# -- beside the loop --------------------------------------------------------------------------------------------------


def _prepare(workspace: Workspace, one: Retraction) -> Plan:
    folder = workspace.folder
    parts, runs = folder.state.read(
        lambda db: (read_parts(db, retracted=None), read_key_runs(db, retracted=None))
    )
    path, import_id = folder.parts_path, one.import_id
    own = [run for run in runs if run.import_id == import_id]
    others = [run for run in runs if run.import_id != import_id and not run.retracted]
    mine = [map_run(path, run) for run in own]
    plan = Plan(one=one, parts=parts, runs=runs, mine=mine)
    theirs = [map_run(path, run) for run in others]
    # What comes back may repeat rows, or have been repeated by rows, of imports that do not count any more.
    out = [run for run in runs if one.returning and run.retracted and run.import_id != import_id]
    repeats = [run for run in mine if one.returning and run.run.duplicate]
    shared = shared_keys(mine, [*theirs, *(map_run(path, run) for run in out), *repeats])
    counted = Recount([], None)
    if len(shared[0]):
        counting = [*theirs, *(mine if one.returning else [])]
        counted = _recount(workspace, plan, shared, counting)
        if counted.lost and one.returning:
            raise refused(one, f"{counted.lost} of its events are kept only in an import that was purged since")
    _cut_parts(workspace, plan, counted)
    _move_keys(workspace, plan, counted, own, others)
    plan.names |= _names_of(workspace, plan)
    if one.returning:
        plan.revived += _coming(workspace, plan)
    return plan


def _recount(
    workspace: Workspace, plan: Plan, shared: tuple[np.ndarray, np.ndarray], runs: list[OpenRun]  # pyright: ignore[reportMissingTypeArgument, reportUnknownParameterType]
) -> Recount:
    folder, one = workspace.folder, plan.one
    events = [part for part in plan.parts if part.kind == "event"]
    counting = [
        part for part in events if not part.retracted or (one.returning and part.import_id == one.import_id)
    ]
    if not one.returning:
        # What is wholly the import's does not count any more; of mixed parts the others' rows do.
        counting = [part for part in counting if part.import_id != one.import_id]
    duck = folder.duck.fresh()
    try:
        leave_out = -1 if one.returning else one.import_id
        return recount(duck, folder.parts_path, shared, runs, counting, events, leave_out)
    finally:
        duck.close()


def _cut_parts(workspace: Workspace, plan: Plan, counted: Recount) -> None:
    """Each part as it is to be: the import's rows apart, and those changed that count otherwise than before."""
    folder, one = workspace.folder, plan.one
    seqs = check_seqs(counted.changes)
    for change in counted.changes:
        plan.names.add((change.kind, change.name))
        plan.tally[change.import_id] += -1 if change.duplicate else 1
    for part in plan.parts:
        if part.retracted and not (one.returning and part.import_id == one.import_id):
            continue
        own = rows_of_import(folder.parts_path, part, one.import_id)
        flips = rows_with_seq(folder.parts_path, part, seqs) if part.kind == "event" and len(seqs) else own & False
        whole = own.all() or not own.any()
        if whole and not flips.any():
            if own.any():
                _come(plan, part, replace(part, retracted=not one.returning, import_id=one.import_id))
            continue
        edit = Edit(flips=flips, at_us=one.at_us)
        for mask, retracted in ((own, not one.returning), (~own, False)):
            way = "back" if one.returning else "out"
            name = f"{way}-{one.import_id}-{part.part_id}-{int(retracted)}-{_stamp(workspace)}"
            file = rewritten(folder.parts_path, part, name, mask, edit)
            if file is not None:
                of = one.import_id if mask is own else part.import_id
                plan.parts_made.append(_part(file, part.kind, of, retracted=retracted))
        plan.parts_gone.append(part)
    if counted.made is not None:
        _make(workspace, plan, counted.made)
    if len(seqs):
        plan.revived += _rows_with(workspace, plan, [change.seq for change in counted.changes if not change.duplicate])


def _come(plan: Plan, before: Part, after: Part) -> None:
    plan.parts_gone.append(before)
    plan.parts_made.append(after)


def _make(workspace: Workspace, plan: Plan, made: pa.Table) -> None:
    first = workspace.call(lambda: workspace.folder.state.take_seq(made.num_rows))
    name = f"again-{plan.one.import_id}-{first}"
    file = write_made(workspace.folder.parts_path, name, made, first, plan.one.at_us)
    part = _part(file, "event", 0, retracted=False)
    plan.parts_made.append(part)
    columns = (made.column(one).to_pylist() for one in ("import_id", "kind", "name"))
    for import_id, kind, event in zip(*columns, strict=True):
        plan.names.add((kind, event))
        plan.tally[import_id] += 1
    plan.revived += workspace.folder.history.rows(
        f"SELECT {_COLUMNS} FROM read_parquet($1) WHERE time_us > $2",
        workspace.folder.history.files([part], "event"),
        (workspace.folder.state.now_us,),
    )


def _rows_with(workspace: Workspace, plan: Plan, seqs: Sequence[int]) -> list[Revived]:
    parts = [part for part in plan.parts_made if part.kind == "event" and not part.retracted]
    files = workspace.folder.history.files(parts, "event")
    found = f"SELECT {_COLUMNS} FROM read_parquet($1) WHERE seq IN (SELECT unnest($2)) AND time_us > $3"
    now_us = workspace.folder.state.now_us
    return workspace.folder.history.rows(found, files, (list(seqs), now_us)) if files and seqs else []


def _move_keys(
    workspace: Workspace,
    plan: Plan,
    counted: Recount,
    own: list[KeyRun],
    others: list[KeyRun],
) -> None:
    path, one = workspace.folder.parts_path, plan.one
    stamp = f"keys-{one.import_id}-{_stamp(workspace)}"
    moves = [(change.import_id, change.key, change.person, change.duplicate) for change in counted.changes]
    if counted.made is not None:
        made = (counted.made.column(name).to_pylist() for name in ("import_id", "key", "person"))
        moves += [(*row, False) for row in zip(*made, strict=True)]
    standing = [*others, *(own if one.returning else [])]
    gone, files = moved_runs(path, stamp, standing, moves)
    plan.runs_gone += gone
    plan.runs_made += [_run(file, retracted=False) for file in files]
    for run in own:
        if run in gone:
            continue
        plan.runs_gone.append(run)
        plan.runs_made.append(replace(run, retracted=not one.returning))


def _names_of(workspace: Workspace, plan: Plan) -> set[tuple[str, str]]:
    """The names of the import's own events that count."""
    parts = [
        part
        for part in plan.parts_made
        if part.kind == "event" and part.import_id == plan.one.import_id and part.retracted != plan.one.returning
    ]
    history = workspace.folder.history
    files = history.files(parts, "event")
    found = "SELECT DISTINCT kind, name FROM read_parquet($1) WHERE NOT duplicate"
    return {(row[0], row[1]) for row in history.rows(found, files)} if files else set()


def _coming(workspace: Workspace, plan: Plan) -> list[Revived]:
    """The import's events whose moment is still to come."""
    parts = [part for part in plan.parts_made if part.kind == "event" and part.import_id == plan.one.import_id]
    files = workspace.folder.history.files(parts, "event")
    found = f"SELECT {_COLUMNS} FROM read_parquet($1) WHERE time_us > $2 AND NOT duplicate AND import_id = $3"
    now_us = workspace.folder.state.now_us
    return workspace.folder.history.rows(found, files, (now_us, plan.one.import_id)) if files else []


def _stamp(workspace: Workspace) -> int:
    """Makes names of files that were not used before."""
    return workspace.call(workspace.folder.state.take_seq)


def _part(file: File, kind: str, import_id: int, *, retracted: bool) -> Part:
    return Part(
        part_id=0, kind=kind, path=file.path, rows=file.rows, checksum=file.checksum, bytes=file.bytes,
        low_us=file.low_us, high_us=file.high_us, import_id=import_id, seq=file.seq, mixed=True, retracted=retracted,
    )  # fmt: skip


def _run(file: File, *, retracted: bool) -> KeyRun:
    return KeyRun(
        run_id=0, path=file.path, rows=file.rows, checksum=file.checksum, import_id=file.import_id,
        duplicate=file.duplicate, retracted=retracted,
    )  # fmt: skip


# -- on the loop ------------------------------------------------------------------------------------------------------


def _commit(workspace: Workspace, plan: Plan) -> None:
    folder, one = workspace.folder, plan.one
    _check_unchanged(workspace, plan)
    manifest = folder.manifest
    manifest.remove_parts(part.part_id for part in plan.parts_gone)
    for part in plan.parts_made:
        manifest.add_part(replace(part, part_id=manifest.next_part_id()))
    manifest.remove_key_runs(run.run_id for run in plan.runs_gone if run.run_id)
    for run in plan.runs_made:
        manifest.add_key_run(replace(run, run_id=manifest.next_run_id()))
    events, now_us = workspace.applier.events, folder.state.now_us
    if not one.returning:
        events.forget_waiting(one.import_id)
    for seq, person, kind, name, time_us, data, event_id, import_id in plan.revived:
        if time_us > now_us:
            events.wait_bulk(
                seq=seq, person=person, kind=kind, name=name, time_us=time_us, data=data.encode(), event_id=event_id,
                fires=False, import_id=import_id,
            )  # fmt: skip
    _tell_imports(workspace, plan.tally)
    put_retraction(folder.state.db, replace(one, stage="taken"))
    folder.reload_manifest()


def _check_unchanged(workspace: Workspace, plan: Plan) -> None:
    folder, import_id = workspace.folder, plan.one.import_id
    folder.tail.flush()
    db = folder.state.db
    parts, runs = read_parts(db, retracted=None), read_key_runs(db, retracted=None)
    if parts != plan.parts or runs != plan.runs:
        raise Retry("files were merged meanwhile")
    for table in ("event", "attribute_write", "write_block"):
        if db.execute(f"SELECT 1 FROM {table} WHERE import_id = ? LIMIT 1", (import_id,)).fetchone():
            raise Retry("rows of the import were written again meanwhile")
    rows = db.execute("SELECT key, person FROM event WHERE key IS NOT NULL").fetchall()
    for key, person in rows:
        if any(run.count(key, person) for run in plan.mine):
            raise Retry("a live event repeats a row of the import")


def _tell_imports(workspace: Workspace, tally: Counter[int]) -> None:
    """Rows of other imports that were duplicates are events of theirs now, or the other way round."""
    folder = workspace.folder
    for row in read_imports(folder.state.db):
        more = tally.get(row.import_id, 0)
        if not more or not row.import_id:
            continue
        saved = msgspec.json.decode(row.progress, type=Saved)
        saved.counts.created += more
        saved.counts.duplicate -= more
        saved.summary |= {"created": saved.counts.created, "duplicate": saved.counts.duplicate}
        folder.manifest.put_import(
            replace(row, progress=msgspec.json.encode(saved).decode(), updated_us=folder.state.now_us)
        )
