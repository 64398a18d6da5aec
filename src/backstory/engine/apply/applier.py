"""Applying facts of every kind, and letting time pass: the deterministic heart, on the loop's thread."""

from typing import assert_never

from backstory.core.fact import (
    ChangeMembers,
    DeleteDevice,
    DeleteObject,
    DeletePerson,
    DeleteSegment,
    EffectOutcome,
    Fact,
    FinishImport,
    Identify,
    IdentifyObject,
    MergePeople,
    PutCampaign,
    PutDevice,
    PutSegment,
    Receipt,
    ReinstateImport,
    Relate,
    ReportMetric,
    RetractImport,
    RetryDelivery,
    SetCampaignState,
    StartImport,
    SuppressPerson,
    Track,
    TrackAnonymous,
    Unrelate,
    UnsuppressPerson,
)
from backstory.core.leaf import AttributeLeaf
from backstory.core.record_leaf import RecordLeaf
from backstory.core.segment import LeafKey
from backstory.engine.apply.burst import Bursts
from backstory.engine.apply.campaign import Campaigns
from backstory.engine.apply.claim import Claims
from backstory.engine.apply.device import DeviceFacts
from backstory.engine.apply.event import Events
from backstory.engine.apply.import_state import Imports
from backstory.engine.apply.merge import Merges
from backstory.engine.apply.message import MessageActivity
from backstory.engine.apply.metric import MetricFacts
from backstory.engine.apply.object import ObjectFacts
from backstory.engine.apply.profile import Profiles
from backstory.engine.apply.record import Subjects
from backstory.engine.apply.record_feed import RecordFeed
from backstory.engine.apply.relation import RelationFacts
from backstory.engine.apply.removal import Removals
from backstory.engine.apply.segment import Segments
from backstory.engine.apply.transition import Transitions
from backstory.engine.checkpoint import Checkpoint
from backstory.engine.context import Context
from backstory.engine.segment.build import Builder


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
        self.bursts = Bursts(context, self.transitions, campaigns)
        self._subjects = subjects = Subjects(context, self.profiles, self.transitions, campaigns)
        self.record_feed = RecordFeed(context.folder, context.segments)
        self.devices = DeviceFacts(context, subjects, self.record_feed)
        self.objects = ObjectFacts(context, subjects, self.record_feed)
        self.relations = RelationFacts(context, subjects, self.objects, self.record_feed)
        messages = MessageActivity(context, builder, self.transitions)
        campaigns.deliveries.on_metric = messages.changed
        self.merges = Merges(context, self.events, self.transitions, campaigns, messages)
        self.merges.heirs = [self.devices.merge, self.relations.merge]
        self.claims = Claims(context, self.events)
        self.claims.heirs = [self.relations.claim]
        self.relations.claimant = self.claims.owner
        self.removals = Removals(context, self.transitions, campaigns)
        self.profiles.use(self.merges, self.claims)
        self.definitions = Segments(context, builder, self.transitions)
        self.metrics = MetricFacts(context, self.profiles, self.devices, campaigns.deliveries)
        self.imports = Imports(context)
        self._checkpoint = checkpoint
        campaigns.use(self.profiles)
        builder.on_moved = campaigns.on_people
        builder.on_live = self.transitions.tell

    def apply(self, fact: Fact, now_us: int) -> Receipt:
        match fact:
            case Track():
                return self.events.track(fact, now_us)
            case Identify():
                return self.profiles.identify(fact, now_us)
            case TrackAnonymous():
                return self.claims.track(fact, now_us)
            case DeletePerson():
                return self.removals.delete(fact, now_us)
            case MergePeople():
                return self.merges.merge(fact, now_us)
            case SuppressPerson():
                return self.removals.suppress(fact, now_us)
            case UnsuppressPerson():
                return self.removals.unsuppress(fact, now_us)
            case PutDevice():
                return self.devices.put(fact, now_us)
            case DeleteDevice():
                return self.devices.delete(fact, now_us)
            case IdentifyObject():
                return self.objects.identify(fact, now_us)
            case DeleteObject():
                return self.objects.delete(fact, now_us)
            case Relate():
                return self.relations.relate(fact, now_us)
            case Unrelate():
                return self.relations.unrelate(fact, now_us)
            case ReportMetric():
                return self.metrics.report(fact, now_us)
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
            case RetractImport():
                return self.imports.retract(fact, now_us)
            case ReinstateImport():
                return self.imports.reinstate(fact, now_us)
            case _:
                assert_never(fact)

    # -- time -----------------------------------------------------------------------------------------------------

    def next_moment_us(self) -> int:
        """When time alone has something to do."""
        return min(self._segments.next_moment_us(), self.events.next_arrival_us, self.campaigns.next_wake_us())

    def advance(self, now_us: int) -> None:
        """Let everything happen that is due up to ``now_us``, in order of time."""
        self._segments.aim(now_us)
        while (moment_us := self.next_moment_us()) <= now_us:
            self._state.now_us = max(self._state.now_us, moment_us)
            self._moment(self._state.now_us)

    def time_passed(self, now_us: int) -> None:
        """Nothing is due any more up to ``now_us``."""
        self._segments.time_passed(now_us)

    def _moment(self, at_us: int) -> None:
        """Everything that is due by now. Leaves hear of all of it before anybody is judged: it happens at once."""
        touched: dict[int, list[LeafKey]] = {}
        for _, person, key in self._segments.due(at_us):
            if person in self._segments.alive:
                touched.setdefault(person, []).append(key)
        for person, keys in touched.items():
            self._judge_anew(person, keys, at_us)
        if self.events.next_arrival_us <= at_us:
            self.events.arrivals(at_us)
        for person, keys in touched.items():
            self._changed_by_time(person, keys, at_us)
        if self.campaigns.next_wake_us() <= at_us:
            self.campaigns.wake(at_us)

    def _judge_anew(self, person: int, keys: list[LeafKey], at_us: int) -> None:
        leaves = [self._segments.leaves[key] for key in keys]
        attribute_leaves = [leaf for leaf in leaves if isinstance(leaf, AttributeLeaf)]
        if attribute_leaves:
            _, shown = self.profiles.shown(person)
            for leaf in attribute_leaves:
                leaf.set(person, shown, at_us)
        for leaf in leaves:
            if isinstance(leaf, RecordLeaf):
                self.record_feed.one(person, leaf.test, at_us)

    def _changed_by_time(self, person: int, keys: list[LeafKey], at_us: int) -> None:
        moved = self._segments.settle(person, keys, at_us)
        if moved:
            self.transitions.take(moved, at_us)
            self.campaigns.on_person(person, at_us)
        for key in keys:
            self._segments.expect_next(key, person, at_us)

    def waits(self, now_us: int) -> bool:
        """Is there work that goes on in steps, between facts?"""
        return self.campaigns.begins or self._segments.coming.lags(now_us)

    def work_some(self) -> None:
        """Inside a transaction: a step of it."""
        if self.campaigns.begins:
            self.campaigns.begin_some(self._state.now_us)
        else:
            self._segments.coming.read_some()

    def checkpoint_some(self) -> None:
        """Inside a transaction: store some dirty leaves."""
        self._checkpoint.some()

    def checkpoint_next(self) -> bool:
        """Inside a transaction: store the dirty leaf that lags furthest behind; False when there is none."""
        return self._checkpoint.some(leaves_max=1) > 0

    def checkpoint_all(self) -> None:
        """Inside a transaction: store every leaf."""
        self._checkpoint.everything()
