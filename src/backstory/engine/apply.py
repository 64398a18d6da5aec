"""Applying facts of every kind, and letting time pass: the deterministic heart, on the loop's thread."""

from typing import assert_never

from backstory.core.fact import (
    ChangeMembers,
    DeletePerson,
    DeleteSegment,
    EffectOutcome,
    Fact,
    FinishImport,
    Identify,
    PutCampaign,
    PutSegment,
    Receipt,
    RetryDelivery,
    SetCampaignState,
    StartImport,
    Track,
    TrackAnonymous,
)
from backstory.core.leaf import AttributeLeaf
from backstory.core.segment import LeafKey
from backstory.engine.apply_campaign import Campaigns
from backstory.engine.apply_event import Events
from backstory.engine.apply_import import Imports
from backstory.engine.apply_profile import Profiles
from backstory.engine.apply_segment import Segments
from backstory.engine.build import Builder
from backstory.engine.checkpoint import Checkpoint
from backstory.engine.context import Context
from backstory.engine.transition import Transitions


class Applier:
    """One fact in, one receipt out; all that follows is in the stores when the transaction commits."""

    def __init__(self, context: Context, builder: Builder, campaigns: Campaigns, checkpoint: Checkpoint) -> None:
        self.context = context
        self.campaigns = campaigns
        self._segments = context.segments
        self._state = context.folder.state
        self.transitions = Transitions(context, campaigns)
        self.profiles = Profiles(context, self.transitions, campaigns)
        self.events = Events(context, self.profiles, self.transitions, campaigns)
        self.definitions = Segments(context, builder, self.transitions)
        self.imports = Imports(context)
        self._checkpoint = checkpoint
        campaigns.use(self.profiles)

    def apply(self, fact: Fact, now_us: int) -> Receipt:
        match fact:
            case Track():
                return self.events.track(fact, now_us)
            case Identify():
                return self.profiles.identify(fact, now_us)
            case TrackAnonymous():
                return self.events.anonymous(fact, now_us)
            case DeletePerson():
                return self.profiles.delete(fact, now_us)
            case EffectOutcome():
                return self.campaigns.outcome(fact, now_us)
            case PutSegment():
                return self.definitions.put(fact, now_us)
            case DeleteSegment():
                return self.definitions.delete(fact)
            case ChangeMembers():
                return self.definitions.change_members(fact, now_us)
            case PutCampaign():
                return self.campaigns.put(fact, now_us)
            case SetCampaignState():
                return self.campaigns.set_state(fact, now_us)
            case RetryDelivery():
                return self.campaigns.retry(fact, now_us)
            case StartImport():
                return self.imports.start(fact, now_us)
            case FinishImport():
                return self.imports.finish(fact, now_us)
            case _:
                assert_never(fact)

    # -- time -----------------------------------------------------------------------------------------------------

    def next_moment_us(self) -> int:
        """When time alone has something to do."""
        return min(self._segments.next_moment_us(), self.events.next_arrival_us, self.campaigns.next_wake_us)

    def advance(self, now_us: int) -> None:
        """Let everything happen that is due up to ``now_us``, in order of time."""
        while (moment_us := self.next_moment_us()) <= now_us:
            self._state.now_us = max(self._state.now_us, moment_us)
            at_us = self._state.now_us
            if self.events.next_arrival_us <= at_us:
                self.events.arrivals(at_us)
            for changed_us, person, key in self._segments.due(at_us):
                self._changed_by_time(changed_us, person, key)
            if self.campaigns.next_wake_us <= at_us:
                self.campaigns.wake(at_us)

    def _changed_by_time(self, moment_us: int, person: int, key: LeafKey) -> None:
        if person not in self._segments.alive:
            return
        leaf = self._segments.leaves[key]
        if isinstance(leaf, AttributeLeaf):
            _, shown = self.profiles.shown(person)
            leaf.set(person, shown, moment_us)
        moved = self._segments.settle(person, (key,), moment_us)
        if moved:
            self.transitions.take(moved, moment_us)
            self.campaigns.on_person(person, moment_us)
        self._segments.expect_next(key, person, moment_us)

    def checkpoint_some(self) -> None:
        """Inside a transaction: store some dirty leaves."""
        self._checkpoint.some()

    def checkpoint_all(self) -> None:
        """Inside a transaction: store every leaf."""
        self._checkpoint.everything()
