"""Segment triggers of an import: judged once, at its end, on the net difference it made (design section 9).

What live facts moved meanwhile was judged when it happened and is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyroaring import BitMap

from backstory.core.segment import Transition
from backstory.core.trigger import triggers
from backstory.engine.context import shown_values
from backstory.engine.effective import read_person
from backstory.engine.import_job import Job

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

PEOPLE_PER_STEP = 50


def members_now(workspace: Workspace) -> dict[int, bytes]:
    """On the loop: the members of the segments that running campaigns wait for."""
    segments = workspace.segments.segments
    return {number: segments[number].members.serialize() for number in workspace.campaigns.segment_triggers()}


def judge_segments(job: Job) -> None:
    """Start the journeys of people the import moved, by its policy; count who was held back."""
    workspace = job.workspace
    if not job.saved.before:
        return
    held = 0
    for number, body in job.saved.before.items():
        before = BitMap.deserialize(body)
        moved = workspace.call(lambda: _moved(job, number, before))  # noqa: B023
        if job.options.triggers == "none":
            held += len(moved)
            continue
        for low in range(0, len(moved), PEOPLE_PER_STEP):
            some = moved[low : low + PEOPLE_PER_STEP]
            held += workspace.call(lambda: _judge(job, some))  # noqa: B023

    def note() -> None:
        job.saved.counts.held_segments = held
        # Judged once: an import that is gone on with after this starts nothing again.
        job.saved.before = {}
        job.put()

    workspace.call(note)


def _moved(job: Job, number: int, before: BitMap) -> list[Transition]:
    """On the loop: transitions the import made, of a kind that some running campaign waits for."""
    workspace = job.workspace
    kept = workspace.segments.segments.get(number)
    if kept is None:
        return []
    workspace.folder.tail.flush()
    live = BitMap(
        [
            row[0]
            for row in workspace.folder.state.db.execute(
                "SELECT person FROM transition WHERE segment_id = ? AND seq >= ?", (number, job.saved.start_seq)
            )
        ]
    )
    now_us = workspace.folder.state.now_us
    wanted = workspace.campaigns.transitions_of(number)
    found: list[Transition] = []
    if "entered" in wanted:
        found += [Transition(number, person, True, now_us) for person in kept.members - before - live]
    if "left" in wanted:
        alive = workspace.segments.alive
        found += [Transition(number, person, False, now_us) for person in (before - kept.members - live) & alive]
    return found


def _judge(job: Job, some: list[Transition]) -> int:
    """On the loop: fire what is fresh, or all; returns how many were held back."""
    workspace = job.workspace
    held = 0
    for transition in some:
        if transition.person not in workspace.segments.alive:
            continue
        now_us = workspace.folder.state.now_us
        effective_us = _effective_us(workspace, transition, now_us)
        fresh = triggers(effective_us, job.row.accept_us, workspace.context.trigger_age_us)
        if job.options.triggers == "all" or fresh:
            workspace.campaigns.begin_transition(transition, effective_us, now_us)
        else:
            held += 1
    return held


def _effective_us(workspace: Workspace, transition: Transition, now_us: int) -> int:
    kept = workspace.segments.segments[transition.segment_id]
    assert kept.condition is not None
    profile = workspace.folder.people.profile(transition.person)
    person = read_person(workspace.folder, workspace.segments, transition.person, shown_values(profile, {}))
    return person.since_us(kept.condition, now_us)


