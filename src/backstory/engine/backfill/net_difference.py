"""Segment triggers of an import: judged once, at its end, on the net difference it made (design section 9).

What live facts moved meanwhile was judged when it happened: what the import made of it is its difference. People are
read beside the loop, many at once; the loop then begins journeys in short steps, and notes how far it is with the
journeys it began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pyroaring import BitMap

from backstory.core.condition import (
    AttributeTest,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Last,
    RelationTest,
    segments_in,
)
from backstory.core.leaf_key import LeafKey, leaf_keys
from backstory.core.segment import SegmentEngine, Transition
from backstory.core.trigger import triggers
from backstory.engine.backfill.import_job import Job
from backstory.engine.segment.people_in_time import PEOPLE_AT_ONCE, read_people
from backstory.store.history import NO_END_SEQ
from backstory.store.transition import Block, blocks_of

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

# Tests whose answer time alone changes.
_RELATIVE = frozenset({"timestamp_gt", "timestamp_lt"})


def members_now(workspace: Workspace) -> dict[int, BitMap]:
    """On the loop: the members of the complete segments that running campaigns wait for."""
    segments = workspace.segments.segments
    return {
        number: segments[number].members
        for number in workspace.campaigns.segment_triggers()
        if not segments[number].building
    }


def judge_segments(job: Job) -> None:
    """Start the journeys of people the import moved, by its policy; count who was held back."""
    baselines = job.workspace.folder.baselines
    if not job.workspace.call(lambda: bool(baselines.of(job.import_id))):
        return
    held = 0
    for number, entered, people in _moved_people(job):
        fresh = _maybe_fresh(job, number, people) if _may_fire(job) else BitMap()
        held += len(people) - len(fresh)
        waiting = list(fresh)
        for low in range(0, len(waiting), PEOPLE_AT_ONCE):
            held += _judge_some(job, number, entered, waiting[low : low + PEOPLE_AT_ONCE])

    def note() -> None:
        job.saved.counts.held_segments += held
        # Judged once: an import that is gone on with after this starts nothing again.
        baselines.end(job.import_id)
        job.put()

    job.workspace.call(note)


def _may_fire(job: Job) -> bool:
    """May any move fire? Rows of members have no time at all."""
    return job.options.triggers == "all" or (job.options.triggers == "recent" and job.options.kind != "members")


# -- who was moved ----------------------------------------------------------------------------------------------------


def _moved_people(job: Job) -> Iterator[tuple[int, bool, BitMap]]:
    """Segment by segment, who left and who entered."""
    baselines = job.workspace.folder.baselines
    for number in job.workspace.call(lambda: sorted(baselines.of(job.import_id))):
        for entered in (False, True):
            people = job.workspace.call(lambda: _moved(job, number, entered))  # noqa: B023
            if people:
                yield number, entered, people


def _moved(job: Job, number: int, entered: bool) -> BitMap:
    """On the loop: whom the import moved, where some running campaign waits for it."""
    workspace = job.workspace
    before = workspace.folder.baselines.of(job.import_id)[number]
    kept = workspace.segments.segments.get(number)
    wanted = workspace.campaigns.transitions_of(number)
    if kept is None or kept.building or ("entered" if entered else "left") not in wanted:
        return BitMap()
    workspace.folder.tail.flush()
    db = workspace.folder.state.db
    changed = db.execute("SELECT 1 FROM segment WHERE segment_id = ? AND updated_us > ?", (number, job.accept_us))
    if changed.fetchone() is not None:
        # Another question than before the import: the difference is that of the questions.
        return BitMap()
    blocks = [block for block in blocks_of(db, number, NO_END_SEQ) if block.seq >= job.saved.start_seq]
    before = _with_live(job, number, before, blocks)
    moved = kept.members - before if entered else before - kept.members
    # Nor those whom the build of another segment moved, which this one refers to.
    built = [block.people for block in blocks if block.import_id is None]
    people = (moved & workspace.segments.alive) - BitMap.union(BitMap(), *built)
    if job.options.kind in ("people", "events"):
        # What a crash left unsettled of another import is that one's.
        people &= workspace.folder.namings.named(job.import_id)
    workspace.folder.baselines.moved(job.import_id, number, *((people, BitMap()) if entered else (BitMap(), people)))
    return people


def _with_live(job: Job, number: int, before: BitMap, blocks: list[Block]) -> BitMap:
    """Who would be in a segment but for the import: whom facts and the clock moved since is where the last put them."""
    live: dict[int, tuple[int, bool]] = {
        person: (seq, bool(entered))
        for person, seq, entered in job.workspace.folder.state.db.execute(
            "SELECT person, max(seq), entered FROM transition WHERE segment_id = ? AND seq >= ? GROUP BY person",
            (number, job.saved.start_seq),
        )
    }
    # Those whom another import moved after that are where it has put them.
    for block in blocks:
        if block.import_id not in (None, job.import_id):
            for person in block.people & BitMap(live):
                if live[person][0] < block.seq:
                    del live[person]
    inside = BitMap([person for person, (_, entered) in live.items() if entered])
    return (before | inside) - (BitMap(live) - inside)


# -- since when -------------------------------------------------------------------------------------------------------


def _maybe_fresh(job: Job, number: int, people: BitMap) -> BitMap:
    """Who may fire: a condition that time alone does not change has held since some fact, so an old one is old."""
    workspace = job.workspace
    kept = workspace.segments.segments.get(number)
    if job.options.triggers == "all" or kept is None or kept.condition is None:
        return people
    if _manual(workspace.segments, kept.condition):
        return people
    if any(_moves_by_itself(key) for key in _keys(workspace.segments, kept.condition)):
        return people
    since_us = job.accept_us - workspace.context.trigger_age_us
    return people & BitMap(workspace.folder.history.people_since(since_us))


def _keys(segments: SegmentEngine, condition: Condition) -> Iterator[LeafKey]:
    """The leaves of a condition and of the segments it refers to."""
    yield from leaf_keys(condition)
    for other in segments_in(condition):
        kept = segments.segments.get(other)
        if kept is not None and kept.condition is not None:
            yield from _keys(segments, kept.condition)


def _manual(segments: SegmentEngine, condition: Condition) -> bool:
    """Does a condition lead to a manual segment?"""
    found = [segments.segments.get(other) for other in segments_in(condition)]
    return any(kept is not None and (kept.condition is None or _manual(segments, kept.condition)) for kept in found)


def _moves_by_itself(key: LeafKey) -> bool:
    match key:
        case EventTest():
            return isinstance(key.window, Last)
        case DeviceTest() | RelationTest():
            # What was written to records is asked for person by person.
            return True
        case AttributeTest():
            return key.operator.removeprefix("!") in _RELATIVE
        case (kind, _):
            return kind == "last"


# -- what follows -----------------------------------------------------------------------------------------------------


def _judge_some(job: Job, number: int, entered: bool, people: list[int]) -> int:
    """Begin the journeys of those whose move is fresh enough; returns how many were held back."""
    workspace = job.workspace
    kept = workspace.segments.segments.get(number)
    if kept is None:
        return 0
    # The last rows that named no time may be true from a moment that is still to come.
    now_us = max(workspace.folder.state.now_us, job.row.accept_us + job.lines)
    condition = kept.condition or InSegment(number)
    read = read_people(workspace.folder, workspace.segments, people)
    effective_us = {person: history.since_us(condition, now_us)[0] for person, history in read.items()}
    fires = {person: us for person, us in effective_us.items() if _fires(job, us)}
    # What a crash interrupted goes on behind the last journeys begun.
    begin = {person: us for person, us in fires.items() if (number, entered, person) > job.saved.judged}
    if begin:
        job.call(lambda: _begin(job, number, entered, begin))
    return len(effective_us) - len(fires)


def _fires(job: Job, since_us: int) -> bool:
    """Does a move of that age start anything by the import's policy?

    Rows without any time fire nothing unless all do (design section 9). They stand in the microseconds behind the start
    of the import, one for each line, where no other fact and hardly a row with a time does.
    """
    if job.options.triggers == "all":
        return True
    untold = job.options.as_of_us is None and job.row.accept_us <= since_us <= job.row.accept_us + job.lines
    return not untold and triggers(since_us, job.accept_us, job.workspace.context.trigger_age_us)


def _begin(job: Job, number: int, entered: bool, effective_us: dict[int, int]) -> None:
    """On the loop: begin journeys, and note that they were begun."""
    workspace = job.workspace
    kept = workspace.segments.segments.get(number)
    now_us = workspace.folder.state.now_us
    for person, since_us in effective_us.items():
        if kept is not None and person in workspace.segments.alive and (person in kept.members) == entered:
            transition = Transition(number, person, entered, now_us)
            workspace.campaigns.begin_transition(transition, since_us, now_us, accept_us=job.accept_us)
    job.saved.judged = (number, entered, max(effective_us))
    job.put()
