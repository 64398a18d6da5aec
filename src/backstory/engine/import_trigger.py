"""Event triggers of an import: which of a chunk's rows start journeys, by the import's policy and the rows' age."""

import numpy as np

from backstory.engine.bulk import Bulk, Slice
from backstory.engine.context import Happened
from backstory.engine.event_chunk import Rows
from backstory.engine.import_job import Job


def start_journeys(job: Job, bulk: Bulk, rows: Rows, slices: list[Slice]) -> int:
    """On the loop: start what the policy lets start; returns how many events were held back.

    ``recent`` fires events that name their own time, at most as old as the limit at the import's start; ``all`` fires
    every one, ``none`` nothing (design section 9). Events of the future wait for their moment instead.
    """
    workspace = job.workspace
    waited = workspace.campaigns.names()
    accept_us = job.accept_us
    held = 0
    for slice_ in slices:
        if slice_.kind != "event" or slice_.name not in waited:
            continue
        stretch = slice(slice_.low, slice_.high)
        mask = bulk.trigger_mask(slice_, waited[slice_.name])
        fresh = rows.timed[stretch] & (accept_us - rows.times_us[stretch] <= workspace.context.trigger_age_us)
        match job.options.triggers:
            case "all":
                fires = mask
            case "recent":
                fires = mask & fresh
            case "none":
                fires = np.zeros_like(mask)
        held += int((mask & ~fires).sum())
        for at in np.nonzero(fires & (rows.times_us[stretch] <= workspace.folder.state.now_us))[0].tolist():
            _start(job, rows, slice_, slice_.low + at)
    return held


def _start(job: Job, rows: Rows, slice_: Slice, position: int) -> None:
    event_id = rows.event_ids[position].as_py()
    event = Happened(
        seq=slice_.first_seq + position,
        kind=slice_.kind,
        name=slice_.name,
        event_id=event_id,
        time_us=int(rows.times_us[position]),
        accept_us=job.accept_us,
        data=str(rows.data[position].as_py()).encode(),
    )
    now_us = job.workspace.folder.state.now_us
    job.workspace.campaigns.on_event(int(rows.people[position]), event, now_us, any_age=True)
