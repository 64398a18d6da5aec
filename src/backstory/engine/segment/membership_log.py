"""The log of memberships where builds and imports move many at once: who, when, and since when they are where they are.

On the loop it is noted who was moved. Since when is looked up beside it for those whom a build moved, from history, for
all of them together (``turning``), and written block by block; for those whom an import moved it is read when somebody
asks, so that an import writes no more than a bitmap for each chunk and segment. Moves by facts and by the clock are
rows of ``transition``.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby

import numpy as np
from pyroaring import BitMap

from backstory.core.column import People
from backstory.core.condition import EventTest
from backstory.core.metric import MESSAGE
from backstory.core.segment import SegmentEngine, Transition
from backstory.engine.context import Context
from backstory.engine.segment.scan import Since, scan
from backstory.engine.segment.turning import Drawing
from backstory.store.folder import Folder
from backstory.store.history import Rows
from backstory.store.transition import Block, logged_members, open_blocks, pages_of, put_block, set_effective

Submit = Callable[[Callable[[], None]], None]
# What a build has read is read again for the moments, unless it is more than this (some 200 MB).
ROWS_REMEMBERED = 16_000_000


class MembershipLog:
    """Blocks of one workspace."""

    def __init__(self, folder: Folder, segments: SegmentEngine, run_on_loop: Submit) -> None:
        self._folder = folder
        self._segments = segments
        self._run_on_loop = run_on_loop
        self._remembered: dict[EventTest, tuple[Since, Rows]] = {}

    def remember(self, test: EventTest, since: Since, rows: Rows) -> None:
        """What a build has just read."""
        held = sum(len(one.people) for _, one in self._remembered.values())
        if held + len(rows.people) <= ROWS_REMEMBERED and test.kind != MESSAGE:
            self._remembered[test] = (since, rows)

    def note(self, segment_id: int, entered: BitMap, left: BitMap, at_us: int) -> bool:
        """On the loop, with the change itself: who was moved; returns whether anybody was."""
        for people, came in ((entered, True), (left, False)):
            for page in pages_of(people):
                put_block(self._folder.state.db, self._folder.state.take_seq(), segment_id, came, at_us, page)
        return bool(entered or left)

    def is_open(self) -> bool:
        """Is there anything to look up?"""
        return bool(self._folder.state.read(open_blocks))

    def look_up(self) -> None:
        """Beside the loop: find since when, of all blocks that do not tell it yet."""
        try:
            blocks = self._folder.state.read(open_blocks)
            for (segment_id, at_us), some in groupby(blocks, key=lambda block: (block.segment_id, block.at_us)):
                self._look_up_of(segment_id, at_us, list(some))
        finally:
            self._remembered.clear()

    def _look_up_of(self, segment_id: int, at_us: int, blocks: list[Block]) -> None:
        who = np.asarray(BitMap.union(*(block.people for block in blocks)).to_array(), np.uint32)
        kept = self._segments.segments.get(segment_id)
        since_us = np.full(len(who), at_us, np.int64)
        answer = np.zeros(len(who), bool)
        if kept is not None and kept.condition is not None:
            drawing = Drawing(
                folder=self._folder,
                segments=self._segments,
                who=who,
                at_us=at_us,
                rows=lambda test: self._rows(test, at_us),
            )
            since_us, answer = drawing.since(kept.condition)
        for block in blocks:
            place = np.searchsorted(who, np.asarray(block.people.to_array(), np.uint32))
            # What history does not say was so only by what is live now: values dated ahead, members put in by hand.
            moments_us = np.where(answer[place] == block.entered, since_us[place], at_us)
            self._run_on_loop(partial(set_effective, self._folder.state.db, block.seq, moments_us))

    def _rows(self, test: EventTest, at_us: int) -> Rows:
        """The events of a test up to a moment: what the build read, and what came since."""
        now = Since(self._folder.state.next_seq - 1, at_us)
        if test not in self._remembered:
            return scan(self._folder, test, now)
        since, rows = self._remembered[test]
        newer = [scan(self._folder, test, now, since_seq=since.seq)]
        if at_us > since.until_us:
            newer.append(scan(self._folder, test, Since(since.seq, at_us), since_us=since.until_us))
        if not any(len(one.people) for one in newer):
            return rows
        people = np.concatenate([rows.people, *(one.people for one in newer)])
        times_us = np.concatenate([rows.times_us, *(one.times_us for one in newer)])
        order = np.lexsort((times_us, people))
        return Rows(people=people[order], times_us=times_us[order])


# -- imports ----------------------------------------------------------------------------------------------------------


def settle_moved(
    context: Context, segment_id: int, people: People, import_id: int | None = None
) -> tuple[BitMap, BitMap]:
    """On the loop: judge people for one segment because of an import; who entered and who left is logged.

    ``import_id`` None: the one on whose behalf the loop works.
    """
    kept = context.segments.segments[segment_id]
    if kept.building:
        kept.imported |= BitMap(people)
    entered, left = context.segments.settle_many(segment_id, people, context.folder.state.now_us)
    number = context.import_at_work if import_id is None else import_id
    note_moved(context, segment_id, entered, left, number)
    context.folder.baselines.moved(number, segment_id, entered, left)
    return entered, left


def note_moved(context: Context, segment_id: int, entered: BitMap, left: BitMap, import_id: int) -> None:
    """On the loop, with the change itself: an import moved these."""
    state = context.folder.state
    for people, came in ((entered, True), (left, False)):
        if people:
            put_block(state.db, state.take_seq(), segment_id, came, state.now_us, people, import_id)


def note_transitions(context: Context, transitions: Sequence[Transition]) -> None:
    """The same of moves one by one, in their order, by the import on whose behalf the loop works."""
    moves: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
    for one in transitions:
        moves[one.segment_id, one.entered].append(one.person)
    for (segment_id, came), people in moves.items():
        entered, left = (BitMap(people), BitMap()) if came else (BitMap(), BitMap(people))
        note_moved(context, segment_id, entered, left, context.import_at_work)
        context.folder.baselines.moved(context.import_at_work, segment_id, entered, left)


def catch_up(context: Context, importing: Iterable[int], turning: Iterable[int]) -> None:
    """On the loop, after a crash: log whom imports had moved and nobody had noted yet.

    Rows that were in are told to segments after their commit; whoever was moved by that is moved again by a restart.
    ``importing``: the imports that are not over; ``turning``: those on their way out or back, which are alone at work.
    """
    turned = max(turning, default=0)
    import_id = turned or max(importing, default=0)
    if not import_id:
        return
    for kept in context.segments.segments.values():
        if kept.condition is not None and not kept.building:
            logged = logged_members(context.folder.state.db, kept.segment_id)
            entered, left = kept.members - logged, logged - kept.members
            note_moved(context, kept.segment_id, entered, left, import_id)
            if turned:
                context.folder.baselines.moved(turned, kept.segment_id, entered, left)
