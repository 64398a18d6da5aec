"""Rehearsals: the run of an import on a replica of the workspace, and what it changed there.

``python -m backstory.engine.preview.rehearsal`` reads one ``Rehearsal`` (JSON) and prints ``Outcome`` lines.
See ``preview``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from pyroaring import BitMap

from backstory.core import campaign
from backstory.core.error import BackstoryError
from backstory.core.step import messages_max
from backstory.core.time import HOUR_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking, Saved, row_of
from backstory.engine.backfill.import_outline import outline
from backstory.engine.backfill.preload import Preload
from backstory.engine.clock import ManualClock
from backstory.engine.cycle import collect_seldom
from backstory.engine.file.options import Policy, Progress, Summary
from backstory.engine.file.report import first_rows
from backstory.engine.preview.later import most_later
from backstory.engine.preview.preview import Outcome, Rehearsal, replica_of
from backstory.engine.preview.preview_view import (
    AttributeEffect,
    CampaignEffect,
    Preview,
    Sample,
    SegmentEffect,
    ValueChange,
)
from backstory.engine.preview.tally import Tally
from backstory.engine.settings import PREFIX, Settings, load
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.journal import MemoryJournal
from backstory.store.reading import NotWritten
from backstory.store.state import State
from backstory.store.write_block import blocks_of

LOG_PAGES = 4000
SAMPLES_MAX = 10
CHANGES_MAX = 5
SAME_SETTINGS = ("duckdb_memory_mb", "duckdb_threads", "auto_merge", "change_by_cio_id", "change_email_by_id")


def rehearse(
    tried: Rehearsal, on_progress: Callable[[Progress], None], *,
    chunking: Chunking | None = None, preload: Preload | None = None,
) -> Preview:  # fmt: skip
    """Run the import on the replica; what it left there is what the run would leave."""
    hours = tried.trigger_age_us / HOUR_US
    with opened(replica_of(tried), tried.now_us, trigger_hours=hours, preload=preload) as workspace:
        return rehearse_in(workspace, tried, on_progress, chunking=chunking)


def rehearse_in(
    workspace: Workspace, tried: Rehearsal, on_progress: Callable[[Progress], None], *, chunking: Chunking | None = None
) -> Preview:
    """The same in a replica that is opened already. Raises ``NotWritten`` where it has to be done with its history."""
    started_s = time.monotonic()
    before = {number: kept.members.copy() for number, kept in workspace.segments.segments.items()}
    marks = _Marks(workspace)
    tally = Tally()
    # Who starts a journey may be asked for what they did.
    waits = any(view.state == "running" for view in workspace.reader.campaigns())
    workspace.folder.history.kept = tried.keep or waits
    summary = backfill.run(workspace, tried.options, on_progress, chunking=chunking, tally=tally)
    seconds = time.monotonic() - started_s
    return _preview(workspace, tried, summary, before, marks, tally, seconds)


@contextmanager
def opened(
    path: Path, now_us: int, *, trigger_hours: float, settings: Settings | None = None, preload: Preload | None = None
) -> Generator[Workspace]:
    """A replica as a workspace whose clock stands still; by default with the settings that the environment has."""
    state = State(path / "state.db")
    position = state.position
    state.close()
    if settings is None:
        chosen = {PREFIX + name.upper(): os.environ.get(PREFIX + name.upper(), "") for name in SAME_SETTINGS}
        settings = load(chosen, {"data": path, "trigger_age_hours": trigger_hours})
    workspace = open_workspace(
        path, clock=ManualClock(now_us), settings=settings, journal=MemoryJournal(position), threads=False,
        preload=preload,
    )  # fmt: skip
    workspace.folder.state.lasting = False
    # Nothing is to last, and nobody else moves the log into the file: long ones make every reading slow.
    workspace.folder.state.db.execute("PRAGMA synchronous = OFF")
    workspace.folder.state.db.execute("PRAGMA secure_delete = OFF")
    workspace.folder.state.db.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    try:
        workspace.loop.turn()
        workspace.builder.work_off()
        yield workspace
    finally:
        if preload is not None:
            preload.end()
        # Nothing of a replica is kept: no leaf has to be stored.
        workspace.folder.close()


class _Marks:
    """How far the ledger of a workspace had come before the run."""

    def __init__(self, workspace: Workspace) -> None:
        workspace.folder.tail.flush()
        rows = workspace.folder.state.rows
        self.journey: int = rows("SELECT coalesce(max(journey_id), 0) FROM journey")[0][0]
        self.delivery: int = rows("SELECT coalesce(max(seq), 0) FROM delivery")[0][0]


def _preview(
    workspace: Workspace,
    tried: Rehearsal,
    summary: Summary,
    before: dict[int, BitMap],
    marks: _Marks,
    tally: Tally,
    seconds: float,
) -> Preview:
    kept = {name: getattr(summary, name) for name in Summary.__struct_fields__ if name in _SAME}
    return Preview(
        **kept,
        now_us=tried.now_us,
        seconds=round(seconds, 3),
        segments=list(segment_effects(workspace, before)),
        campaigns=list(_campaigns(workspace, tried.options.triggers, marks, summary.import_id)),
        attributes=_attributes(workspace, summary.import_id, tally) if tried.options.kind == "people" else [],
        files=outline(tried.options, found=_types_found(workspace, summary.import_id)),
        samples=tally.shown(tried.options),
        error_samples=_samples(summary.error_file, tried.options.paths),
        warning_samples=_samples(summary.warning_file, tried.options.paths),
    )


def _types_found(workspace: Workspace, import_id: int) -> dict[int, dict[str, str]]:
    """The types of columns as the run found them, by file: there is no need to look twice."""
    return msgspec.json.decode(row_of(workspace, import_id).progress, type=Saved).columns


def _samples(report: str | None, paths: Sequence[str]) -> list[Sample]:
    return [
        Sample(line=line, error=error, file=Path(paths[at]).name if len(paths) > 1 else "")
        for at, line, error in first_rows(report, SAMPLES_MAX)
    ]


_SAME = frozenset(
    (
        "rows", "created", "updated", "unchanged", "stale", "duplicate", "skipped", "errors", "warnings", "held_back",
        "people_created", "to_mend", "journeys_started", "hint",
    )
)  # fmt: skip


def segment_effects(workspace: Workspace, before: dict[int, BitMap]) -> Iterator[SegmentEffect]:
    """Who entered and left each dynamic segment, and each manual one that changed, since it had these members."""
    names = {view.segment_id: view.name for view in workspace.reader.segments()}
    for number, kept in sorted(workspace.segments.segments.items()):
        old, new = before.get(number, BitMap()), kept.members
        if kept.condition is not None or old != new:
            yield SegmentEffect(
                id=number, name=names[number], enter=len(new - old), leave=len(old - new), members=len(new)
            )


def _campaigns(workspace: Workspace, policy: Policy, marks: _Marks, import_id: int) -> Iterator[CampaignEffect]:
    rows = workspace.folder.state.rows
    journeys = dict(
        rows("SELECT campaign_id, count(*) FROM journey WHERE journey_id > ? GROUP BY 1", (marks.journey,))
    )
    waiting = dict(
        rows(
            "SELECT campaign_id, count(*) FROM journey WHERE journey_id > ? AND state IN ('filtering', 'active')"
            " GROUP BY 1",
            (marks.journey,),
        )
    )
    messages = dict(rows("SELECT campaign_id, count(*) FROM delivery WHERE seq > ? GROUP BY 1", (marks.delivery,)))
    failures = {
        number: (count, failure)
        for number, count, failure in rows(
            "SELECT campaign_id, count(*), min(failure) FROM delivery WHERE seq > ? AND state = 'failed' GROUP BY 1",
            (marks.delivery,),
        )
    }
    running = {
        view.campaign_id: campaign.parse(view.definition)
        for view in workspace.reader.campaigns()
        if view.state == "running"
    }
    once = [(number, definition.frequency.mode == "once") for number, definition in running.items()]
    later = most_later(workspace, import_id, once)
    for number, definition in running.items():
        made, of_each = messages.get(number, 0), messages_max(definition.steps)
        failed, failure = failures.get(number, (0, ""))
        behind = max(journeys.get(number, 0) * of_each - made, 0) if waiting.get(number) else 0
        yield CampaignEffect(
            id=number,
            name=definition.name,
            policy=policy,
            journeys=journeys.get(number, 0),
            journeys_later_at_most=later[number],
            messages=made,
            messages_later_at_most=behind + later[number] * of_each,
            messages_failed=failed,
            failure=failure,
        )


# -- attributes -------------------------------------------------------------------------------------------------------


def _attributes(workspace: Workspace, import_id: int, tally: Tally) -> list[AttributeEffect]:
    """What the run counted of plain new people, and the writes of all others that changed something, in DuckDB.

    ``changes`` may be a pair of what changed and what was lost.
    """
    duck = workspace.folder.duck.fresh()
    try:
        duck.register("writes", _writes(workspace, import_id))
        new = Counter(tally.new_people)
        of_made = "SELECT j.key, count(*) FROM writes, json_each(attributes) j WHERE created AND j.type <> 'NULL'"
        new.update(dict(duck.execute(of_made + " GROUP BY 1").fetchall()))
        changes = duck.execute(
            "SELECT j.key, j.value, count(*) FROM (SELECT CASE WHEN starts_with(changes, '[') THEN changes->0"
            " ELSE changes END AS made FROM writes WHERE NOT created AND changes IS NOT NULL), json_each(made) j"
            " GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
        ).fetchall()
    finally:
        duck.close()
    changed: dict[str, list[ValueChange]] = {}
    for name, text, people in changes:
        value = json.loads(text)
        changed.setdefault(name, []).append(ValueChange(before=value["from"], after=value["to"], people=people))
    return [
        AttributeEffect(
            name=name,
            new_people=new[name],
            changed=sum(change.people for change in changed.get(name, [])),
            overwritten=sum(change.people for change in changed.get(name, []) if change.before != ""),
            changes=changed.get(name, [])[:CHANGES_MAX],
        )
        for name in sorted(new.keys() | changed.keys())
    ]


# Of writes that made plain new people, what changed is not told (``PeopleImport._insert``): all did.
_CHANGING = "changes IS NOT NULL AND changes <> '{}'"


def _writes(workspace: Workspace, import_id: int) -> pa.Table:
    rows, packed = workspace.folder.state.read(lambda db: _stored_writes(db, import_id))
    table = pa.table(
        {
            "attributes": pa.array([row[0] for row in rows], pa.string()),
            "changes": pa.array([row[1] for row in rows], pa.string()),
            "created": pa.array([bool(row[2]) for row in rows], pa.bool_()),
        }
    )
    table = pa.concat_tables([table, *packed])
    history = workspace.folder.history
    files = history.files(history.parts, "write")
    if not files:
        return table
    found = f"SELECT attributes, changes, created FROM read_parquet($1) WHERE import_id = $2 AND {_CHANGING}"
    return pa.concat_tables([table, history.table(found, files, (import_id,)).cast(table.schema)])


def _stored_writes(db: sqlite3.Connection, import_id: int) -> tuple[list[Any], list[pa.Table]]:
    """The writes of the tail that changed something: rows, and those of blocks, of which a large preview has many."""
    rows = db.execute(
        f"SELECT attributes, changes, created FROM attribute_write WHERE import_id = ? AND {_CHANGING}", (import_id,)
    ).fetchall()
    packed: list[pa.Table] = []
    for block in blocks_of(db, import_id):
        table = block.table().select(["attributes", "changes", "created"])
        changed = pc.fill_null(pc.not_equal(table.column("changes"), "{}"), False)
        table = table.filter(changed)
        if table.num_rows:
            packed.append(table)
    return rows, packed


# -- the process ------------------------------------------------------------------------------------------------------


def main() -> int:
    """Do the one rehearsal that standard input asks for."""

    def say(outcome: Outcome) -> None:
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()

    collect_seldom()
    tried = msgspec.json.decode(sys.stdin.buffer.read(), type=Rehearsal)
    preload = Preload(tried.options)
    try:
        say(Outcome(preview=rehearse(tried, lambda progress: say(Outcome(progress=progress)), preload=preload)))
    except NotWritten:
        say(Outcome(not_written=True))
    except BackstoryError as error:
        say(Outcome(error=str(error)))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
