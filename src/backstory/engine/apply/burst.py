"""Bursts: plain events that follow each other, applied together; the state after them is that of one by one.

Plain is an event of somebody who exists, under a name that starts nothing, not dated ahead, not a repetition, and
met by no change that time alone makes meanwhile. Of people of whom there is anything else among the facts, all events
are left to ``apply.event``, one by one: people do not touch each other, so these may come after the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from backstory.core.burst import Burst, BurstFeed, Moves, nth, rounds
from backstory.core.condition import Json
from backstory.core.event import event_keys
from backstory.core.fact import Fact, Track
from backstory.core.identity import normal
from backstory.core.segment import Transition
from backstory.core.since import UNKNOWN_US
from backstory.engine.apply.addressee import Addressees
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Audience, Context
from backstory.engine.segment.past import Stored
from backstory.store.tail_index import Block
from backstory.store.tombstone import Gone

_decode = msgspec.json.Decoder(list[dict[str, object]]).decode
# Fewer are faster one by one.
BURST_MIN = 48
# A round costs the same for however few people: whoever would be in a later one with fewer, or in too many rounds, has
# all their events applied one by one.
ROUND_MIN = 4
ROUNDS_MAX = 8
_NOBODY = np.uint32(0xFFFFFFFF)

Rows = NDArray[np.int64]
Truth = NDArray[np.bool_]


@dataclass(slots=True, kw_only=True)
class _Columns:
    """Facts as columns; people are ``_NOBODY`` where a fact is no matter for a burst."""

    facts: Sequence[Track]
    people: NDArray[np.uint32]
    times_us: Rows
    nows_us: Rows
    codes: Rows
    names: list[tuple[str, str]]
    keys: Rows
    keyed: Truth


class Bursts:
    """Used on the loop's thread."""

    def __init__(self, context: Context, transitions: Transitions, audience: Audience) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._transitions = transitions
        self._audience = audience
        self._addressees = Addressees(context.folder)
        self.at_least = BURST_MIN
        self.round_min = ROUND_MIN

    @staticmethod
    def end(facts: Sequence[Fact], start: int) -> int:
        """Where the facts from ``start`` on are no longer events of known people."""
        at = start
        while at < len(facts) and facts[at].__class__ is Track:
            at += 1
        return at

    def apply(self, facts: Sequence[Track], nows_us: Sequence[int]) -> list[int]:
        """Apply what is plain; returns the places of what is left to do, afterwards and one by one.

        Time alone must have nothing to do from the first to the last of these moments.
        """
        columns = self._columns(facts, nows_us)
        feed = BurstFeed(self._segments, columns.names)
        rows = self._plain(columns, feed)
        if len(rows):
            self._take(columns, rows, feed)
        left = np.ones(len(facts), dtype=bool)
        left[rows] = False
        return np.nonzero(left)[0].tolist()

    # -- what is plain ------------------------------------------------------------------------------------------------

    def _columns(self, facts: Sequence[Track], nows_us: Sequence[int]) -> _Columns:
        nows = np.array(nows_us, np.int64)
        timed = np.array([fact.time_us is not None for fact in facts], dtype=bool)
        times = nows.copy()
        times[timed] = [fact.time_us for fact in facts if fact.time_us is not None]
        places: dict[tuple[str, str], int] = {}
        codes = [places.setdefault((fact.kind, fact.name), len(places)) for fact in facts]
        keys, keyed = event_keys(facts)
        return _Columns(
            facts=facts,
            people=self._people(facts),
            times_us=times,
            nows_us=nows,
            codes=np.array(codes, np.int64),
            names=list(places),
            keys=keys,
            keyed=keyed,
        )

    def _people(self, facts: Sequence[Track]) -> NDArray[np.uint32]:
        """Whom the facts are about, as those of ``apply.event`` are found."""
        nobody = int(_NOBODY)
        found = self._folder.people.find_many([fact.person for fact in facts])
        latest_us = self._addressees.latest_us
        for at, fact in enumerate(facts):
            if fact.time_us is not None and fact.time_us < latest_us:
                one = self._addressees.find(normal(fact.person), fact.time_us)
                found[at] = None if isinstance(one, Gone) else one
        return np.array([nobody if one is None else one for one in found], np.uint32)

    def _plain(self, columns: _Columns, feed: BurstFeed) -> Rows:
        """The rows that make the burst, in order."""
        people = columns.people
        odd = (people == _NOBODY) | (columns.times_us > columns.nows_us)
        odd |= np.array([fact.rescaled for fact in columns.facts], dtype=bool)
        odd |= self._alone(columns.names)[columns.codes]
        odd |= self._repeating(columns)
        odd |= self._crowding(people)
        watched = self._audience.people_waiting()
        if watched:
            odd |= np.isin(people, np.fromiter(watched, np.uint32, len(watched)))
        rows = self._without(columns, odd)
        doubt = feed.doubtful(self._burst(columns, rows))
        if doubt.any():
            odd[rows[doubt]] = True
            rows = self._without(columns, odd)
        return rows

    def _crowding(self, people: NDArray[np.uint32]) -> Truth:
        """Which events are one too many of their person: a round is worth its while only with many people in it."""
        ranks = nth(people)
        sizes = np.bincount(ranks)
        full = int(np.argmax(np.append(sizes < self.round_min, True)))
        return ranks >= min(max(full, 1), ROUNDS_MAX)

    @staticmethod
    def _without(columns: _Columns, odd: Truth) -> Rows:
        """The rows of those people of whom nothing is odd."""
        if not odd.any():
            return np.arange(len(odd))
        return np.nonzero(~np.isin(columns.people, np.append(columns.people[odd], _NOBODY)))[0]

    def _alone(self, names: list[tuple[str, str]]) -> Truth:
        """The events of which names are applied one by one.

        Those that may start journeys, by themselves or by whom they move into and out of segments; and those that a
        segment under construction asks for: what they change is not known yet, so whom they may move is noted of each.
        """
        asked = self._audience.segment_triggers() | {
            segment_id for segment_id, kept in self._segments.segments.items() if kept.building
        }
        out: list[bool] = []
        for name in names:
            alone = self._audience.waits_for(*name)
            if asked and not alone:
                over = self._segments.segments_over([leaf.test for leaf in self._segments.event_leaves([name])])
                alone = not asked.isdisjoint(self._segments.closure(over))
            out.append(alone)
        return np.array(out, dtype=bool)

    def _repeating(self, columns: _Columns) -> Truth:
        """Which events may repeat another that is known, or one of their own burst."""
        keys, keyed = columns.keys, columns.keyed
        out = np.zeros(len(keys), dtype=bool)
        order = np.argsort(keys, kind="stable")
        order = order[keyed[order]]
        same = keys[order][1:] == keys[order][:-1]
        out[order[1:][same]] = out[order[:-1][same]] = True
        tail = self._folder.tail
        for row in order[tail.may_hold(keys[order])].tolist():
            out[row] |= bool(tail.key_counts(int(keys[row]), int(columns.people[row])))
        for run in self._folder.keys.runs:
            out[order] |= run.count_many(keys[order], columns.people[order]) > 0
        return out

    # -- applying -----------------------------------------------------------------------------------------------------

    def _burst(self, columns: _Columns, rows: Rows) -> Burst:
        places: list[int] = rows.tolist()
        decoded: dict[int, Mapping[str, Json]] = {}

        def data(asked: list[int]) -> list[Mapping[str, Json]]:
            new = [at for at in asked if at not in decoded]
            # One list is decoded faster than many objects.
            found = _decode(b"[%s]" % b",".join([columns.facts[places[at]].data for at in new]))
            decoded.update(zip(new, cast("list[Mapping[str, Json]]", found), strict=True))
            return [decoded[at] for at in asked]

        return Burst(
            people=columns.people[rows],
            times_us=columns.times_us[rows],
            nows_us=columns.nows_us[rows],
            codes=columns.codes[rows],
            names=columns.names,
            data=data,
        )

    def _take(self, columns: _Columns, rows: Rows, feed: BurstFeed) -> None:
        if self._folder.people.listening:
            places: list[int] = rows.tolist()
            people: list[int] = columns.people[rows].tolist()
            self._folder.people.hear([columns.facts[at].person for at in places], people)
        burst = self._burst(columns, rows)
        moved: list[tuple[Moves, list[int]]] = []
        for some in rounds(burst.people):
            moves = feed.feed(burst, some)
            moved.append((moves, self._moments(burst, moves)))
        self._write(columns, rows, burst, moved)

    def _moments(self, burst: Burst, moves: Moves) -> list[int]:
        """Since when what each move says is true; where leaves do not know it, people's histories are read."""
        moments_us: list[int] = moves.since_us.tolist()
        late = np.nonzero(moves.since_us == UNKNOWN_US)[0]
        if not len(late):
            return moments_us
        of_people = _by_person(burst.people)
        moved_in: list[int] = np.unique(moves.segment_ids[late]).tolist()
        names = frozenset[str]().union(*(self._segments.basis(segment_id).names for segment_id in moved_in))
        stored = Stored(self._folder, np.unique(burst.people[moves.rows[late]]).tolist(), names)
        # One person has one event in a round: what it moved is told together.
        for some in np.split(late, np.nonzero(np.diff(moves.rows[late]))[0] + 1):
            row = int(moves.rows[some[0]])
            moved = [_transition(burst, moves, at) for at in some.tolist()]
            found = self._transitions.moments_us(
                moved, int(burst.nows_us[row]), stored=stored, also=_up_to(burst, of_people, row)
            )
            for at, moment_us in zip(some.tolist(), found, strict=True):
                moments_us[at] = moment_us
        return moments_us

    def _write(self, columns: _Columns, rows: Rows, burst: Burst, moved: list[tuple[Moves, list[int]]]) -> None:
        """The events and what they moved, numbered as one by one would."""
        at_rows = np.concatenate([moves.rows for moves, _ in moved])
        order = np.argsort(at_rows, kind="stable")
        at_rows = at_rows[order]
        first = self._folder.state.take_seq(len(rows) + len(order))
        seqs = first + np.arange(len(rows)) + np.searchsorted(at_rows, np.arange(len(rows)))
        self._folder.tail.add_block(*_block(columns, rows, seqs))
        moves = (
            (seqs[at_rows] + 1 + _nth_of_run(at_rows)).tolist(),
            np.concatenate([moves.segment_ids for moves, _ in moved])[order].tolist(),
            burst.people[at_rows].tolist(),
            np.concatenate([moves.entered for moves, _ in moved])[order].tolist(),
            np.concatenate([np.array(moments_us, np.int64) for _, moments_us in moved])[order].tolist(),
            burst.nows_us[at_rows].tolist(),
        )
        self._folder.tail.add_transitions(moves)


def _block(columns: _Columns, rows: Rows, seqs: Rows) -> tuple[list[list[Any]], Block]:
    places: list[int] = rows.tolist()
    facts = [columns.facts[row] for row in places]
    keys, keyed = columns.keys[rows], columns.keyed[rows]
    at = np.nonzero(keyed)[0]
    at = at[np.argsort(keys[at], kind="stable")]
    found: list[list[Any]] = [
        seqs.tolist(), columns.people[rows].tolist(), [fact.name for fact in facts], [fact.kind for fact in facts],
        columns.times_us[rows].tolist(), columns.nows_us[rows].tolist(), [fact.data.decode() for fact in facts],
        [fact.event_id for fact in facts],
        [key if has else None for key, has in zip(keys.tolist(), keyed.tolist(), strict=True)],
    ]  # fmt: skip
    return found, Block(seqs=seqs, people=columns.people[rows], keys=keys[at], keyed=at)


def _transition(burst: Burst, moves: Moves, at: int) -> Transition:
    row = moves.rows[at]
    return Transition(
        int(moves.segment_ids[at]), int(burst.people[row]), bool(moves.entered[at]), int(burst.nows_us[row])
    )


def _by_person(people: NDArray[np.uint32]) -> dict[int, list[int]]:
    """The rows of each, ascending."""
    found: dict[int, list[int]] = {}
    for row, person in enumerate(people.tolist()):
        found.setdefault(person, []).append(row)
    return found


def _up_to(
    burst: Burst, of_people: Mapping[int, list[int]], row: int
) -> list[tuple[str, str, int, Mapping[str, Json]]]:
    """The events of the burst that a person had up to one of them: (kind, name, time, data)."""
    rows = [one for one in of_people[int(burst.people[row])] if one <= row]
    found = zip(rows, burst.data(rows), strict=True)
    return [(*burst.names[burst.codes[at]], int(burst.times_us[at]), data) for at, data in found]


def _nth_of_run(ascending: Rows) -> Rows:
    """Of ascending numbers: how many equal ones come before each."""
    return np.arange(len(ascending)) - np.searchsorted(ascending, ascending)
