"""Event triggers of an import: which of a chunk's rows start journeys, by the import's policy and the rows' age.

The commit of a chunk says which they are; the loop then starts them some at a time, and what is still to be started
stands in the import's row: gone on with after a crash, each starts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pyroaring import BitMap

from backstory.core.column import Truth
from backstory.core.trigger import EventTrigger
from backstory.engine.backfill.bulk import Bulk, Slice
from backstory.engine.backfill.event_chunk import Sorted
from backstory.engine.backfill.import_job import Job
from backstory.engine.context import Happened

# A person, and what happened.
Cause = tuple[int, Happened]
Asked = dict[str, tuple[EventTrigger, ...]]


@dataclass(frozen=True, slots=True)
class Matches:
    """For which rows of each slice a trigger of a running campaign holds, and which triggers these were."""

    asked: Asked
    masks: list[Truth | None]


def matches(job: Job, bulk: Bulk, slices: list[Slice]) -> Matches:
    """Beside the loop: rows against the campaigns of this moment."""
    return _matches(bulk, slices, job.workspace.call(lambda: _asked(job)))


def _matches(bulk: Bulk, slices: list[Slice], asked: Asked) -> Matches:
    masks = [
        bulk.trigger_mask(one, asked[one.name]) if one.kind == "event" and one.name in asked else None
        for one in slices
    ]
    return Matches(asked, masks)


def _asked(job: Job) -> Asked:
    campaigns = job.workspace.campaigns
    found: Asked = {}
    for name, numbers in campaigns.names().items():
        triggers = (campaigns.trigger_of(number) for number in numbers)
        found[name] = tuple(trigger for trigger in triggers if isinstance(trigger, EventTrigger))
    return found


def hold_back(job: Job, bulk: Bulk, rows: Sorted, slices: list[Slice], found: Matches, first_seq: int) -> int:
    """On the loop, in the chunk's commit: note what is to start; returns how many events were held back.

    ``recent`` fires events that name their own time, at most as old as the limit at the import's start; ``all`` fires
    every one, ``none`` nothing (design section 9). Events of the future wait for their moment instead.
    """
    workspace, accept_us = job.workspace, job.accept_us
    asked = _asked(job)
    if asked != found.asked:
        # A campaign began or ended meanwhile.
        found = _matches(bulk, slices, asked)
    held, firing = 0, BitMap()
    for slice_, mask in zip(slices, found.masks, strict=True):
        if mask is None:
            continue
        stretch = slice(slice_.low, slice_.high)
        fresh = rows.timed[stretch] & (accept_us - rows.times_us[stretch] <= workspace.context.trigger_age_us)
        match job.options.triggers:
            case "all":
                fires = mask
            case "recent":
                fires = mask & fresh
            case "none":
                fires = np.zeros_like(mask)
        held += int((mask & ~fires).sum())
        due = np.nonzero(fires & (rows.times_us[stretch] <= workspace.folder.state.now_us))[0]
        firing |= BitMap((due + slice_.low).astype(np.uint32))
    job.saved.firing_seq, job.saved.firing = first_seq, firing.serialize() if firing else b""
    return held


def start_journeys(job: Job, rows: Sorted, slices: list[Slice]) -> None:
    """Behind the commit of a chunk: start what it noted."""
    if not job.saved.firing:
        return
    waiting = BitMap.deserialize(job.saved.firing)
    causes: list[tuple[int, Cause]] = []
    for slice_ in slices:
        for position in waiting & BitMap(range(slice_.low, slice_.high)):
            event = Happened(
                seq=job.saved.firing_seq + position,
                kind=slice_.kind,
                name=slice_.name,
                event_id=rows.event_ids[position].as_py(),
                time_us=int(rows.times_us[position]),
                accept_us=job.accept_us,
                data=str(rows.data[position].as_py()).encode(),
            )
            causes.append((position, (int(rows.people[position]), event)))
    _start(job, causes)


def go_on(job: Job) -> None:
    """At the start of a run: what a crash left to be started, read from history."""
    if not job.saved.firing:
        return
    history, first = job.workspace.folder.history, job.saved.firing_seq
    waiting = BitMap.deserialize(job.saved.firing)
    found = history.table(
        "SELECT seq, person, kind, name, event_id, time_us, data FROM read_parquet($1)"
        " WHERE import_id = $2 AND seq BETWEEN $3 AND $4 ORDER BY seq",
        history.files(history.parts, "event"),
        (job.import_id, first + waiting.min(), first + waiting.max()),
    )
    causes: list[tuple[int, Cause]] = []
    for row in found.to_pylist():
        if row["seq"] - first in waiting:
            person, data = int(row.pop("person")), str(row.pop("data")).encode()
            causes.append((row["seq"] - first, (person, Happened(**row, accept_us=job.accept_us, data=data))))
    _start(job, causes)


def _start(job: Job, causes: Sequence[tuple[int, Cause]]) -> None:
    at_once = job.chunking.starts_max
    for low in range(0, len(causes), at_once):
        some = causes[low : low + at_once]
        left = BitMap([position for position, _ in causes[low + at_once :]])
        job.call(lambda: _start_some(job, [cause for _, cause in some], left))  # noqa: B023


def _start_some(job: Job, causes: list[Cause], left: BitMap) -> None:
    """On the loop."""
    workspace = job.workspace
    for person, event in causes:
        alive = person in workspace.segments.alive
        who = person if alive else workspace.folder.tombstones.survivor(person)
        if who is not None:
            workspace.campaigns.on_event(who, event, workspace.folder.state.now_us, any_age=True)
    job.saved.firing = left.serialize() if left else b""
    job.put()
