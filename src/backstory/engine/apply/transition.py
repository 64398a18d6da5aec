"""Transitions: what follows when people enter and leave segments by a fact or by the clock."""

from collections.abc import Sequence

import numpy as np

from backstory.core.condition import InSegment
from backstory.core.error import StorageError
from backstory.core.lateness import may_have_turned
from backstory.core.segment import Transition
from backstory.core.since import UNKNOWN_US, Since, Told
from backstory.engine.context import Audience, Context
from backstory.engine.segment.effective import PersonInTime, stored_person
from backstory.engine.segment.membership_log import note_transitions
from backstory.engine.segment.past import EventInTime, Stored


class Transitions:
    """Records each transition with its effective moment and tells the campaigns."""

    def __init__(self, context: Context, audience: Audience) -> None:
        self._context = context
        self._audience = audience

    def take(
        self,
        transitions: Sequence[Transition],
        now_us: int,
        *,
        late: bool = False,
        alone_us: int | None = None,
        told: Told | None = None,
    ) -> None:
        """``late``: the fact that caused them is dated before now, so since when they are true has to be found out.

        ``alone_us``: its time, where no event of the person is as new (``core.lateness``). ``told``: it is this event.
        What a row of an import moved is logged as that; what starts by it is judged at the import's end.
        """
        if self._context.importing:
            note_transitions(self._context, transitions)
            return
        if late:
            moments_us = self.moments_us(transitions, now_us, alone_us=alone_us, told=told)
        else:
            moments_us = [transition.at_us for transition in transitions]
        self.tell(transitions, moments_us, now_us)

    def tell(self, transitions: Sequence[Transition], moments_us: Sequence[int], now_us: int) -> None:
        """Record transitions that have been true since these moments."""
        for transition, effective_us in zip(transitions, moments_us, strict=True):
            self._record(transition, effective_us)
            self._audience.on_transition(transition, effective_us, now_us)

    def moments_us(
        self,
        transitions: Sequence[Transition],
        now_us: int,
        *,
        alone_us: int | None = None,
        told: Told | None = None,
        stored: Stored | None = None,
        also: Sequence[EventInTime] = (),
    ) -> list[int]:
        """Since when a late fact of one person moved them.

        ``stored``: histories of several people, theirs among them, which are read at once; ``also``: events of theirs
        that are not yet in the tail.
        """
        moments_us: list[int] = []
        person: PersonInTime | None = None
        for transition in transitions:
            if alone_us is not None and self._stands_alone(transition, alone_us, now_us):
                moments_us.append(alone_us)
                continue
            leaves_us = UNKNOWN_US if told is None else self._leaves_us(transition, told, now_us)
            if leaves_us != UNKNOWN_US:
                moments_us.append(leaves_us)
                continue
            try:
                person = person or self._read(transition.person, stored, also)
                effective_us = self._since_us(person, transition, now_us)
            except StorageError as error:
                # Rather held back as too old than sent again for what may be long past.
                self._context.folder.fault(f"since when people are in segments cannot be told: {error}")
                effective_us = min(transition.at_us, self._context.segments.known.get_us(transition.person))
            moments_us.append(effective_us)
        return moments_us

    def note(self, transitions: Sequence[Transition]) -> None:
        """Record transitions that are nobody's doing: the person goes, and campaigns hear nothing of it."""
        for transition in transitions:
            self._record(transition, transition.at_us)

    def _stands_alone(self, transition: Transition, since_us: int, now_us: int) -> bool:
        """Has nothing else that the segment asks for changed since the time of a fact that no event is as new as?"""
        segments, person = self._context.segments, transition.person
        basis = segments.basis(transition.segment_id)
        if not basis.events_only and not segments.newest.others.is_before(person, since_us):
            return False
        return not any(may_have_turned(leaf, person, since_us, now_us) for leaf in basis.timed)

    def _leaves_us(self, transition: Transition, told: Told, now_us: int) -> int:
        """Since when it is true as far as leaves know, once they were told of an event."""
        segments, condition = self._context.segments, self._context.segments.segments[transition.segment_id].condition
        if condition is None:
            return UNKNOWN_US
        people, nows_us = np.array([transition.person], np.uint32), np.array([now_us], np.int64)
        since_us, answer = Since(segments, people, nows_us, told).of(condition)
        return int(since_us[0]) if answer[0] == transition.entered else UNKNOWN_US

    def _read(self, number: int, stored: Stored | None, also: Sequence[EventInTime]) -> PersonInTime:
        folder = self._context.folder
        return stored_person(folder, self._context.segments, stored or Stored(folder, [number]), number, also=also)

    def _since_us(self, person: PersonInTime, transition: Transition, now_us: int) -> int:
        kept = self._context.segments.segments[transition.segment_id]
        condition = InSegment(transition.segment_id) if kept.condition is None else kept.condition
        since_us, answer = person.since_us(condition, now_us)
        return since_us if answer == transition.entered else transition.at_us

    def _record(self, transition: Transition, effective_us: int) -> None:
        seq = self._context.folder.state.take_seq()
        self._context.folder.tail.add_transition(
            seq, transition.segment_id, transition.person, transition.entered, effective_us, transition.at_us
        )
