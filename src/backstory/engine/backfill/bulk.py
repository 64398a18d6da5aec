"""Feeding many rows to leaves and settling the people they moved, in steps short enough for live facts to go between.

The commit of a chunk says which leaves have to be told of it (``hold``); a leaf attached later scans the part
itself. Until all are told, no leaf is checkpointed. After a crash leaves are fed from the part instead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import People, Truth, bitmap_of, member_many
from backstory.core.condition import Where
from backstory.core.known import KnownLeaf
from backstory.core.leaf import CountLeaf, WindowLeaf
from backstory.core.limit import LOOP_EVENTS, LOOP_PEOPLE
from backstory.core.segment import LeafKey
from backstory.core.trigger import EventTrigger
from backstory.engine.backfill.event_chunk import Sorted
from backstory.engine.backfill.feed import AnyEventLeaf, Feed, PlainFeed, Told, batches, living_rows, stretches, told_of
from backstory.engine.segment.mask import Coded, keys_of, values_in, where_mask
from backstory.engine.segment.membership_log import settle_moved
from backstory.store.history import runs

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace


@dataclass(slots=True, kw_only=True)
class Slice:
    """The rows of one event name, sorted by person, then time: rows ``low`` to ``high`` of the chunk."""

    kind: str
    name: str
    low: int
    high: int
    first_seq: int
    people: NDArray[np.uint32]
    times_us: NDArray[np.int64]
    data: pa.Array
    leaves: list[CountLeaf | WindowLeaf] = field(default_factory=list[CountLeaf | WindowLeaf])


QuickValues = Callable[[pa.Array, str], Coded]
# So many events are told in one step, of one leaf or several: each step is a commit, and these are quickly told.
TOLD_EVENTS = 4 * LOOP_EVENTS.value


class Bulk:
    """The bulk path of one import into memory."""

    def __init__(self, workspace: Workspace, import_id: int) -> None:
        self._workspace = workspace
        self._import_id = import_id
        self._segments = workspace.segments
        self._folder = workspace.folder
        # How values are found in data, where something quicker than DuckDB is at hand: for leaves, and for triggers
        # beside them.
        self.leaf_values: QuickValues | None = None
        self.trigger_values: QuickValues | None = None
        # How leaves are told; something quicker where that is at hand.
        self.tell: Feed = PlainFeed()
        self._tombstones = workspace.folder.tombstones.count

    def slices(self, rows: Sorted, first_seq: int) -> list[Slice]:
        """Cut sorted rows by kind and name."""
        if not len(rows):
            return []
        kinds = rows.kinds.indices.to_numpy(zero_copy_only=False)
        names = rows.names.indices.to_numpy(zero_copy_only=False)
        cuts = np.nonzero((kinds[1:] != kinds[:-1]) | (names[1:] != names[:-1]))[0] + 1
        edges = [0, *cuts.tolist(), len(rows)]
        return [
            Slice(
                kind=rows.kinds[low].as_py(),
                name=rows.names[low].as_py(),
                low=low,
                high=high,
                first_seq=first_seq,
                people=rows.people[low:high],
                times_us=rows.times_us[low:high],
                data=rows.data.slice(low, high - low),
            )
            for low, high in pairwise(edges)
        ]

    def trigger_mask(self, slice_: Slice, triggers: Iterable[EventTrigger]) -> Truth:
        """The rows for which one of these triggers holds."""
        wheres = [trigger.where for trigger in triggers]
        if None in wheres:
            return np.ones(slice_.high - slice_.low, dtype=bool)
        mask = np.zeros(slice_.high - slice_.low, dtype=bool)
        for found in self._masks(slice_, wheres, self.trigger_values).values():
            mask |= found
        return mask

    def _masks(
        self, slice_: Slice, wheres: Iterable[Where | None], quick: QuickValues | None
    ) -> dict[Where, Truth]:
        """The rows for which each where-test holds; the values at each key are found once for all of them."""
        asked = {where: keys_of(where) for where in wheres if where is not None}
        keys = list(dict.fromkeys(key for some in asked.values() for key in some))
        slow = keys if quick is None else [key for key in keys if key is None]
        by_duck = values_in(slow, self._folder.duck.texts_at(slow, pa.chunked_array([slice_.data])))

        @cache
        def values_at(key: str | None) -> Coded:
            return by_duck(key) if quick is None or key is None else quick(slice_.data, key)

        return {where: where_mask(where, values_at, slice_.times_us) for where in asked}

    def hold(self, rows: Sorted, slices: list[Slice], *, fires: bool) -> None:
        """On the loop, inside the chunk's commit: who has to be told, and what waits for its moment.

        ``fires``: what waits may start journeys when its moment comes.
        """
        for slice_ in slices:
            slice_.leaves = self._segments.event_leaves([(slice_.kind, slice_.name)])
            self._put_off(rows, slice_, fires=fires)
        self._workspace.checkpoint.held += 1

    def _put_off(self, rows: Sorted, slice_: Slice, *, fires: bool) -> None:
        """Rows dated in the future wait as live ones do."""
        now_us = self._folder.state.now_us
        late = np.nonzero(slice_.times_us > now_us)[0]
        for at in late.tolist():
            self._workspace.applier.events.wait_bulk(
                seq=slice_.first_seq + slice_.low + at,
                person=int(slice_.people[at]),
                kind=slice_.kind,
                name=slice_.name,
                time_us=int(slice_.times_us[at]),
                data=slice_.data[at].as_py().encode(),
                event_id=rows.event_ids[slice_.low + at].as_py(),
                fires=fires,
                import_id=self._import_id,
            )
        if len(late):
            keep = slice_.times_us <= now_us
            slice_.people, slice_.times_us = slice_.people[keep], slice_.times_us[keep]
            slice_.data = slice_.data.filter(pa.array(keep))

    def feed(self, slices: list[Slice], newcomers: BitMap) -> None:
        """Tell leaves and settle segments, step by step; live facts go on between the steps."""
        moved: dict[int, BitMap] = {}
        call = self._workspace.call
        try:
            for slice_ in slices:
                if len(slice_.people):
                    self._feed_slice(slice_, moved)
            if newcomers:
                for segment_id in list(self._segments.segments):
                    moved[segment_id] = moved.get(segment_id, BitMap()) | newcomers
            self._settle(deque(call(lambda: self._segments.closure(set(moved)))), moved)
        except BaseException:
            # No leaf is checkpointed any more in this run, so that a restart feeds them from the parts.
            self._folder.fault("segments were not told of all that an import brought: restart to have them right")
            raise
        call(lambda: self._done(slices))

    def _feed_slice(self, slice_: Slice, moved: dict[int, BitMap]) -> None:
        masks = self._masks(slice_, (leaf.test.where for leaf in slice_.leaves), self.leaf_values)
        for some in stretches(slice_.people, LOOP_EVENTS.value):
            people, times_us = slice_.people[some], slice_.times_us[some]
            masked = {where: mask[some] for where, mask in masks.items()}
            told = told_of([None, *slice_.leaves], people, times_us, masked)
            for together in batches(told, TOLD_EVENTS):
                self._workspace.call(lambda: self._feed_some(together, moved))  # noqa: B023

    def _feed_some(self, together: Sequence[Told], moved: dict[int, BitMap]) -> None:
        for told in together:
            if self._anybody_gone():
                told = told.only(living_rows(self._segments.alive, told.people))
            if told.leaf is None:
                self._feed_known(told, moved)
            else:
                self._feed_leaf(told.leaf, told, moved)

    def _done(self, slices: list[Slice]) -> None:
        """All are told: journeys that waited for that may go on."""
        self._workspace.checkpoint.held -= 1
        campaigns = self._workspace.campaigns
        for slice_ in slices:
            if campaigns.people_waiting():
                who = bitmap_of(slice_.people[runs(slice_.people)])
                campaigns.on_people(who, self._folder.state.now_us)

    def _anybody_gone(self) -> bool:
        """Was anybody deleted since the import began?"""
        return self._folder.tombstones.count != self._tombstones

    def _feed_known(self, told: Told, moved: dict[int, BitMap]) -> None:
        people = self.tell.known(self._segments.newest.events, self._segments.known, told)
        guards: list[LeafKey] = [key for key, leaf in self._segments.leaves.items() if isinstance(leaf, KnownLeaf)]
        if guards and len(people):
            self._segments.expect_fed(people, self._folder.state.now_us, guards)
            self._note(guards, people, moved)

    def _feed_leaf(self, leaf: AnyEventLeaf, told: Told, moved: dict[int, BitMap]) -> None:
        if self._segments.leaves.get(leaf.test) is not leaf:
            return
        now_us = self._folder.state.now_us
        fed = self.tell.leaf(leaf, told)
        if leaf.filling:
            # What it answers of whom is not known until it is filled.
            self._note([leaf.test], told.whom(), moved)
        else:
            turned = leaf.answers(fed.before, now_us) != leaf.answers(fed.after, now_us)
            self._note([leaf.test], fed.people[turned], moved)
        if isinstance(leaf, WindowLeaf):
            self._segments.expect_many(leaf, fed.people, leaf.moments_of(fed.after), now_us)

    def _note(self, keys: list[LeafKey], people: People, moved: dict[int, BitMap]) -> None:
        if len(people):
            found = bitmap_of(people)
            for segment_id in self._segments.segments_over(keys):
                moved[segment_id] = moved.get(segment_id, BitMap()) | found

    def _settle(self, ahead: deque[int], moved: dict[int, BitMap]) -> None:
        """Judge whom each segment may have moved; those ahead refer only to those before them."""
        rest: People | None = None
        while ahead:
            rest = self._workspace.call(lambda: self._settle_some(ahead, rest, moved))  # noqa: B023

    def _settle_some(self, ahead: deque[int], rest: People | None, moved: dict[int, BitMap]) -> People | None:
        """Judge so many people of the segments ahead; returns who of the first of them is left (None: everybody)."""
        room = LOOP_PEOPLE.value
        while ahead and room > 0:
            people = np.asarray(moved.get(ahead[0], BitMap()).to_array(), np.uint32) if rest is None else rest
            some, rest = people[:room], people[room:]
            self._settle_people(ahead[0], some, moved)
            room -= len(some)
            if not len(rest):
                ahead.popleft()
                rest = None
        return rest

    def _settle_people(self, segment_id: int, people: People, moved: dict[int, BitMap]) -> None:
        kept = self._segments.segments.get(segment_id)
        if kept is None or kept.condition is None:
            return
        some = people[member_many(self._segments.alive, people)] if self._anybody_gone() else people
        entered, left = settle_moved(self._workspace.context, segment_id, some, self._import_id)
        for other in self._segments.refer_to(segment_id):
            moved[other] = moved.get(other, BitMap()) | entered | left
