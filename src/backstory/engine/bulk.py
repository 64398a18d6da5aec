"""Feeding many rows to leaves and settling the people they moved, in steps short enough for live facts to go between.

The commit of a chunk says which leaves have to be told of it (``hold``); a leaf attached later scans the part
itself. Until all are told, no leaf is checkpointed. After a crash leaves are fed from the part instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyroaring import BitMap

from backstory.core.column import People, Truth, bitmap_of
from backstory.core.condition import Where
from backstory.core.known import KnownLeaf
from backstory.core.leaf import CountLeaf, WindowLeaf, member_many
from backstory.core.limit import LOOP_EVENTS, LOOP_PEOPLE
from backstory.core.segment import LeafKey
from backstory.core.trigger import EventTrigger
from backstory.engine.event_chunk import Rows
from backstory.engine.mask import Coded, keys_of, values_in, where_mask
from backstory.engine.membership_log import settle_moved
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


# A leaf, and the people and times of the events it is told of.
Told = tuple[CountLeaf | WindowLeaf, NDArray[np.uint32], NDArray[np.int64]]
# Of so many events together leaves are told in one step: each step is a commit, and these are quickly told.
TOLD_EVENTS = 4 * LOOP_EVENTS.value


class Bulk:
    """The bulk path of one import into memory."""

    def __init__(self, workspace: Workspace, import_id: int) -> None:
        self._workspace = workspace
        self._import_id = import_id
        self._segments = workspace.segments
        self._folder = workspace.folder
        # How values are found in data, where something quicker than DuckDB is at hand.
        self.values_at: Callable[[pa.Array, str], Coded] | None = None
        self._tombstones = workspace.folder.tombstones.count

    def slices(self, rows: Rows, first_seq: int) -> list[Slice]:
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
        for found in self._masks(slice_, wheres).values():
            mask |= found
        return mask

    def _masks(self, slice_: Slice, wheres: Iterable[Where | None]) -> dict[Where, Truth]:
        """The rows for which each where-test holds; the values at each key are found once for all of them."""
        asked = {where: keys_of(where) for where in wheres if where is not None}
        keys = list(dict.fromkeys(key for some in asked.values() for key in some))
        quick = self.values_at
        slow = keys if quick is None else [key for key in keys if key is None]
        by_duck = values_in(slow, self._folder.duck.texts_at(slow, pa.chunked_array([slice_.data])))

        @cache
        def values_at(key: str | None) -> Coded:
            return by_duck(key) if quick is None or key is None else quick(slice_.data, key)

        return {where: where_mask(where, values_at, slice_.times_us) for where in asked}

    def hold(self, rows: Rows, slices: list[Slice], *, fires: bool) -> None:
        """On the loop, inside the chunk's commit: who has to be told, and what waits for its moment.

        ``fires``: what waits may start journeys when its moment comes.
        """
        for slice_ in slices:
            slice_.leaves = self._segments.event_leaves([(slice_.kind, slice_.name)])
            self._put_off(rows, slice_, fires=fires)
        self._workspace.checkpoint.held += 1

    def _put_off(self, rows: Rows, slice_: Slice, *, fires: bool) -> None:
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
            for segment_id in call(lambda: self._segments.closure(set(moved))):
                self._settle(segment_id, moved)
        except BaseException:
            # No leaf is checkpointed any more in this run, so that a restart feeds them from the parts.
            self._folder.fault("segments were not told of all that an import brought: restart to have them right")
            raise
        for slice_ in slices:
            who = bitmap_of(slice_.people[runs(slice_.people)])
            call(lambda: self._workspace.campaigns.on_people(who, self._folder.state.now_us))  # noqa: B023
        call(self._done)

    def _feed_slice(self, slice_: Slice, moved: dict[int, BitMap]) -> None:
        masks = self._masks(slice_, (leaf.test.where for leaf in slice_.leaves))
        for some in stretches(slice_.people, LOOP_EVENTS.value):
            people, times_us = slice_.people[some], slice_.times_us[some]
            self._workspace.call(lambda: self._feed_known(people, times_us, moved))  # noqa: B023
            for together in batches(_told(slice_, some, masks), TOLD_EVENTS):
                self._workspace.call(lambda: self._feed_leaves(together, moved))  # noqa: B023

    def _feed_leaves(self, told: Sequence[Told], moved: dict[int, BitMap]) -> None:
        for leaf, people, times_us in told:
            self._feed_leaf(leaf, people, times_us, moved)

    def _done(self) -> None:
        self._workspace.checkpoint.held -= 1

    def _living(self, people: NDArray[np.uint32]) -> Truth | None:
        """Which of the people are still there; None: all of them, nobody was deleted since the import began."""
        if self._folder.tombstones.count == self._tombstones:
            return None
        living = member_many(self._segments.alive, people)
        return None if living.all() else living

    def _feed_known(self, people: NDArray[np.uint32], times_us: NDArray[np.int64], moved: dict[int, BitMap]) -> None:
        living = self._living(people)
        if living is not None:
            people, times_us = people[living], times_us[living]
        first = runs(people)
        if len(first):
            last = np.append(first[1:], len(people)) - 1
            self._segments.newest.events.put_many(people[last], times_us[last])
        people, times_us = people[first], times_us[first]
        earlier = times_us < self._segments.known.gather_us(people)
        if not earlier.any():
            return
        people = people[earlier]
        self._segments.known.add_many(people, times_us[earlier])
        guards: list[LeafKey] = [key for key, leaf in self._segments.leaves.items() if isinstance(leaf, KnownLeaf)]
        if guards:
            self._segments.expect_fed(people, self._folder.state.now_us, guards)
            self._note(guards, people, moved)

    def _feed_leaf(
        self,
        leaf: CountLeaf | WindowLeaf,
        people: NDArray[np.uint32],
        times_us: NDArray[np.int64],
        moved: dict[int, BitMap],
    ) -> None:
        if self._segments.leaves.get(leaf.test) is not leaf:
            return
        living = self._living(people)
        if living is not None:
            people, times_us = people[living], times_us[living]
        if not len(people):
            return
        first = runs(people)
        now_us = self._folder.state.now_us
        fed = leaf.add_many(people[first], first, times_us)
        # What it answers of whom is not known until it is filled.
        turned = leaf.answers(fed.before, now_us) != leaf.answers(fed.after, now_us)
        self._segments.expect_fed(fed.people, now_us, [leaf.test])
        self._note([leaf.test], people[first] if leaf.filling else fed.people[turned], moved)

    def _note(self, keys: list[LeafKey], people: People, moved: dict[int, BitMap]) -> None:
        if len(people):
            found = bitmap_of(people)
            for segment_id in self._segments.segments_over(keys):
                moved[segment_id] = moved.get(segment_id, BitMap()) | found

    def _settle(self, segment_id: int, moved: dict[int, BitMap]) -> None:
        people = np.asarray(moved.get(segment_id, BitMap()).to_array(), np.uint32)
        for low in range(0, len(people), LOOP_PEOPLE.value):
            some = people[low : low + LOOP_PEOPLE.value]
            self._workspace.call(lambda: self._settle_some(segment_id, some, moved))  # noqa: B023

    def _settle_some(self, segment_id: int, people: People, moved: dict[int, BitMap]) -> None:
        kept = self._segments.segments.get(segment_id)
        if kept is None or kept.condition is None:
            return
        living = self._living(people)
        some = people if living is None else people[living]
        entered, left = settle_moved(self._workspace.context, segment_id, some, self._import_id)
        for other in self._segments.refer_to(segment_id):
            moved[other] = moved.get(other, BitMap()) | entered | left


def stretches(people: People, rows_max: int) -> Iterator[slice]:
    """Cut rows sorted by person, at most so many in each piece but where one person alone has more."""
    low = 0
    while low < len(people):
        high = low + rows_max
        if high < len(people):
            # All of a person's rows stay together.
            own = people[high : high + 1]
            start = int(np.searchsorted(people, own)[0])
            high = start if start > low else int(np.searchsorted(people, own, side="right")[0])
        yield slice(low, min(high, len(people)))
        low = high


def _told(slice_: Slice, some: slice, masks: dict[Where, Truth]) -> Iterator[Told]:
    """What each leaf is told of some rows, where that is anything."""
    people, times_us = slice_.people[some], slice_.times_us[some]
    for leaf in slice_.leaves:
        if leaf.test.where is None:
            yield leaf, people, times_us
        elif (mask := masks[leaf.test.where][some]).any():
            yield leaf, people[mask], times_us[mask]


def batches(told: Iterable[Told], events_max: int) -> Iterator[list[Told]]:
    """Put together what has at most so many events, but where one leaf alone is told of more."""
    together: list[Told] = []
    events = 0
    for one in told:
        count = len(one[1])
        if together and events + count > events_max:
            yield together
            together, events = [], 0
        together.append(one)
        events += count
    if together:
        yield together
