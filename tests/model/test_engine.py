"""The live engine against the naive workspace after every step: facts in any order, time, builds, crashes."""

import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from backstory.core.condition import Condition, segments_in, to_json
from backstory.core.error import ConflictError
from backstory.core.fact import (
    ChangeMembers,
    DeletePerson,
    DeleteSegment,
    Fact,
    Identifier,
    IdentifierKind,
    Identify,
    MergePeople,
    PutCampaign,
    PutSegment,
    Receipt,
    ReportMetric,
    SuppressPerson,
    Track,
    TrackAnonymous,
    UnsuppressPerson,
)
from backstory.core.time import DAY_US, HOUR_US, MINUTE_US, SECOND_US
from backstory.engine.backfill import backfill
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.clock import ManualClock
from backstory.engine.file.options import BackfillOptions
from backstory.engine.undo import undo
from backstory.engine.workspace import Workspace, open_workspace
from backstory.store.manifest import read_imports
from backstory.store.people import cio_id_of
from backstory.store.transition import blocks_of, rows_of
from tests.hunt import examples
from tests.model.language import ImportRows, import_rows, record_facts, reported, whole_conditions
from tests.model.naive import Message, Naive, Person
from tests.model.strategy import KINDS, NAMES, NOW_US, attributes, encoded, event_data, past_us

SEGMENTS_MAX = 6
T = TypeVar("T")
# More pieces of work, or steps of one, than there ever are.
ALL = 1000
IDS = ("ann", "bob", "Ann")
EMAILS = ("ann@x.org", "Ann@X.org", "bob@x.org")
PHONES = ("+15550001", "+15550002")
CIO_IDS = tuple(cio_id_of(number) for number in range(4))
BROWSERS = ("b1", "b2")
UUIDS = ("01890a5d-ac96-774b-bcce-b302099a8057", "01890A5D-AC96-774B-BCCE-B302099A8057", "bulk-1")
identifiers = st.one_of(
    st.sampled_from([Identifier("id", value) for value in IDS]),
    st.sampled_from([Identifier("email", value) for value in EMAILS]),
    st.sampled_from([Identifier("phone", value) for value in PHONES]),
    st.sampled_from([Identifier("cio_id", cio_id_of(number)) for number in range(3)]),
)
# How long ago (None: the sender named no time), or how far ahead (negative).
event_ages_us = st.one_of(
    st.none(), past_us, past_us, st.sampled_from((-1, -SECOND_US, -20 * SECOND_US, -HOUR_US))
)
write_ages_us = st.one_of(st.none(), past_us, past_us, st.sampled_from((-30 * SECOND_US, -HOUR_US)))

# How many steps of an import, or of taking one back, are done before each crash in its midst.
crashes = st.one_of(st.just([]), st.just([]), st.lists(st.integers(0, 8), max_size=2))
chunkings = st.builds(
    Chunking,
    bytes_max=st.sampled_from((1, 200, 1 << 20)),
    people_rows_max=st.sampled_from((1, 2, 1000)),
    fast_bytes_min=st.sampled_from((0, 1 << 60)),
    tell_every_s=st.just(0.0),
)


kinds_of_rows = st.sampled_from(("events", "events", "people"))


class Killed(Exception):
    pass


class Life(RuleBasedStateMachine):
    """One workspace through its life, and the naive one beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="backstory-model-"))
        self.folders = itertools.count()
        self.clock = ManualClock(NOW_US)
        self.naive = Naive()
        self.last_accept_us = 0
        # By how much somebody has set the clock without saying so, and a moment behind which time does not go back.
        self.doubt_us = 0
        self.floor_us = 0
        self.path = self.root / "first"
        self.snapshot: tuple[Path, int] | None = None
        self.pieces: list[Callable[[], None]] = []
        # What was brought in last, by kind: it may be brought in again.
        self.rows: dict[str, ImportRows] = {}
        self.workspace = self.open()

    def open(self) -> Workspace:
        workspace = open_workspace(self.path, clock=self.clock, threads=False)
        self.pieces = []
        # Two events that follow each other are a burst already; a replay takes them one by one.
        workspace.applier.bursts.at_least, workspace.applier.bursts.round_min = 2, 1
        workspace.builder.run_on_loop = self.pieces.append
        # Times of acceptance go on after the newest moment the state knows.
        self.last_accept_us = max(self.last_accept_us, workspace.folder.state.now_us)
        workspace.loop.turn()
        return workspace

    def build(self, pieces_max: int = ALL) -> None:
        """Scan history for what is asked for, and do some of the pieces of work that come of it, or all there are."""
        before_seq = self.workspace.folder.state.next_seq
        self.workspace.builder.work_off()
        while self.pieces:
            for piece in self.pieces[:pieces_max]:
                self.workspace.call(piece)
            del self.pieces[:pieces_max]
            if pieces_max < ALL:
                return
            self.workspace.builder.work_off()
        self.check_looked_up(before_seq)

    def check_looked_up(self, since_seq: int) -> None:
        """Whom builds moved came or went at the moment the whole history says; see ``check_effective_moments``."""
        people = {person.number: person for person in self.naive.people}
        state = self.workspace.folder.state
        rows = state.rows("SELECT segment_id, person, effective_us, at_us FROM transition WHERE seq >= ?", (since_seq,))
        for segment_id, number, effective_us, at_us in rows:
            if self.finished(segment_id) and not people[number].ahead(at_us):
                assert effective_us == self.naive.since_us(segment_id, number, at_us), (segment_id, number)
        for segment_id in self.naive.segments:
            for block in state.read(lambda db: list(blocks_of(db, segment_id, state.next_seq))):  # noqa: B023
                if block.import_id is not None or block.seq < since_seq or not self.finished(segment_id):
                    continue
                assert block.effective_us is not None
                for number, effective_us in zip(block.people, block.effective_us.tolist(), strict=True):
                    person = people[number]
                    if not person.ahead(block.at_us):
                        expected_us = self.naive.since_us(segment_id, number, block.at_us)
                        assert effective_us == expected_us, (segment_id, number, expected_us)

    def teardown(self) -> None:
        self.workspace.close()
        shutil.rmtree(self.root)

    # -- facts --------------------------------------------------------------------------------------------------------

    def send(self, *facts: Fact) -> list[Receipt]:
        """Feed facts to both, in one ticket."""
        accept_us = self.next_accept_us
        before_seq = self.workspace.folder.state.next_seq
        named = {person.number: dict(person.identifiers) for person in self.naive.people}
        receipts = self.workspace.apply(list(facts))
        for fact, receipt in zip(facts, receipts, strict=True):
            self.tell(fact, accept_us, receipt)
            self.last_accept_us = accept_us
            accept_us += 1
        self.read_messages()
        if len(facts) == 1:
            self.check_effective_moments(before_seq, named)
        return receipts

    def check_effective_moments(self, before_seq: int, named: dict[int, dict[IdentifierKind, str]]) -> None:
        """Whom a fact moved came or went at the moment the whole history says, also when the fact was late.

        Not of people who got identifiers (they count for all days), nor of manual segments (a fact put them there), nor
        where values are dated ahead (they count at once, but were not yet true).
        """
        rows = self.workspace.folder.state.rows(
            "SELECT segment_id, person, entered, effective_us FROM transition WHERE seq >= ? ORDER BY seq",
            (before_seq,),
        )
        people = {person.number: person for person in self.naive.people}
        for (segment_id, number), row in {(row[0], row[1]): row for row in rows}.items():
            person = people.get(number)
            if person is None or person.ahead(self.now_us):
                continue
            same = named.get(number, person.identifiers) == person.identifiers
            manual = isinstance(self.naive.segments[segment_id], frozenset)
            if same and self.finished(segment_id) and not manual:
                assert row[3] == self.naive.since_us(segment_id, number, self.now_us), row

    def tell(self, fact: Fact, now_us: int, receipt: Receipt | None) -> None:
        """Feed a fact to the naive workspace alone."""
        self.naive.apply(fact, now_us)

    @property
    def now_us(self) -> int:
        return max(self.clock.now_us() - self.doubt_us, self.last_accept_us, self.floor_us)

    @property
    def next_accept_us(self) -> int:
        """When a fact would be accepted that came now."""
        return max(self.clock.now_us() - self.doubt_us, self.last_accept_us + 1, self.floor_us)

    def identify_fact(self, data: st.DataObject) -> Identify:
        age_us = data.draw(write_ages_us, label="age")
        return Identify(
            person=data.draw(identifiers),
            attributes=encoded(data.draw(attributes)),
            body_id=data.draw(st.one_of(st.none(), st.none(), st.sampled_from(IDS))),
            body_email=data.draw(st.one_of(st.none(), st.none(), st.sampled_from(EMAILS))),
            body_phone=data.draw(st.one_of(st.none(), st.none(), st.none(), st.sampled_from(PHONES))),
            body_cio_id=data.draw(st.one_of(st.none(), st.none(), st.none(), st.sampled_from(CIO_IDS))),
            anonymous_id=data.draw(st.one_of(st.none(), st.none(), st.sampled_from(BROWSERS))),
            time_us=None if age_us is None else self.clock.now_us() - age_us,
            update_only=data.draw(st.booleans()) and data.draw(st.booleans()),
        )

    def track_fact(self, data: st.DataObject) -> Track:
        age_us = data.draw(event_ages_us, label="age")
        return Track(
            person=data.draw(identifiers),
            name=data.draw(st.sampled_from(NAMES)),
            kind=data.draw(st.sampled_from(KINDS)),  # pyright: ignore[reportArgumentType]
            data=encoded(data.draw(event_data)),
            event_id=data.draw(st.one_of(st.none(), st.sampled_from(UUIDS))),
            time_us=None if age_us is None else self.clock.now_us() - age_us,
        )

    def anonymous_fact(self, data: st.DataObject) -> TrackAnonymous:
        known = self.track_fact(data)
        return TrackAnonymous(
            anonymous_id=data.draw(st.sampled_from(BROWSERS)),
            name=known.name,
            kind=known.kind,
            data=known.data,
            event_id=known.event_id,
            time_us=known.time_us,
        )

    def placed_fact(self, data: st.DataObject) -> Fact:
        """People merge, go, and are kept out."""
        who = data.draw(identifiers)
        makers: tuple[Callable[[], Fact], ...] = (
            lambda: MergePeople(primary=who, secondary=data.draw(identifiers)),
            lambda: MergePeople(primary=who, secondary=data.draw(identifiers)),
            lambda: DeletePerson(person=who),
            lambda: SuppressPerson(person=who),
            lambda: UnsuppressPerson(person=who),
        )
        return data.draw(st.sampled_from(makers))()

    def record_fact(self, data: st.DataObject) -> Fact:
        """Something about a device, an object or a relationship."""
        now_us = self.clock.now_us()
        times_us = write_ages_us.map(lambda age_us: None if age_us is None else now_us - age_us)
        return data.draw(record_facts(identifiers, times_us, BROWSERS))

    def some_facts(self, data: st.DataObject) -> list[Fact]:
        makers = (
            self.track_fact, self.track_fact, self.identify_fact, self.identify_fact, self.anonymous_fact,
            self.placed_fact, self.record_fact, self.record_fact,
        )
        return [make(data) for make in data.draw(st.lists(st.sampled_from(makers), min_size=1, max_size=4))]

    @rule(data=st.data())
    def facts_in_one_batch(self, data: st.DataObject) -> None:
        self.send(*self.some_facts(data))

    @rule(data=st.data())
    def facts_one_by_one(self, data: st.DataObject) -> None:
        for fact in self.some_facts(data):
            self.send(fact)

    @rule(data=st.data())
    def merge_or_remove(self, data: st.DataObject) -> None:
        self.send(self.placed_fact(data))

    # -- imports ------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), kind=kinds_of_rows, chunking=chunkings, again=st.booleans())
    def import_rows(
        self, data: st.DataObject, kind: Literal["events", "people"], chunking: Chunking, again: bool
    ) -> None:
        """Rows mean what the same calls would mean; a crash in the midst of them changes nothing."""
        rows = self.rows[kind] if again and kind in self.rows else data.draw(import_rows(kind, self.clock.now_us()))
        self.rows[kind] = rows
        path = self.root / f"rows{next(self.folders)}.jsonl"
        path.write_bytes(b"".join(encoded(row) + b"\n" for row, _ in rows))
        options = BackfillOptions(kind=kind, paths=(str(path),), triggers="none")
        accept_us = self.next_accept_us
        crashing = data.draw(crashes, label="crashes")
        done = self.through(lambda tell: backfill.run(self.workspace, options, tell, chunking=chunking), crashing)
        import_id = done.import_id
        self.workspace.loop.turn()
        made = self.naive.bring_in(import_id, [fact for _, fact in rows], accept_us)
        self.naive.number(made, [self.number_of(one) for one in made], self.workspace.folder.state.next_person)
        self.caught_up()
        self.check_moved_by(import_id)

    def check_moved_by(self, import_id: int) -> None:
        """Whom an import moved is in the log, with since when they are where they are, as the whole history says."""
        people = {person.number: person for person in self.naive.people}
        for segment_id in self.naive.segments:
            found, _ = self.workspace.reader.transitions(segment_id, start="", limit=1000)
            for one in found:
                if one.import_id != import_id or not self.finished(segment_id) or people[one.person].ahead(one.at_us):
                    continue
                answer = one.person in self.naive.members(segment_id, one.at_us)
                expected_us = self.naive.since_us(segment_id, one.person, one.at_us)
                assert one.effective_us == (expected_us if answer == one.entered else one.at_us), one

    def number_of(self, person: Person) -> int:
        kind, value = next(iter(person.identifiers.items()))
        column, sought = ("email_key", value.lower()) if kind == "email" else (kind, value)
        return self.workspace.folder.state.rows(f"SELECT person FROM person WHERE {column} = ?", (sought,))[0][0]

    def through(self, work: Callable[[Callable[[object], None]], T], crashing: list[int]) -> T:
        """Do work that is killed behind so many steps each time, and gone on with after the crash."""
        for left in [*crashing, ALL]:
            rest = iter(range(left))

            def step(_: object, rest: Iterator[int] = rest) -> None:
                if next(rest, None) is None:
                    raise Killed

            try:
                return work(step)
            except Killed:
                self.crash_into(self.copied())
        raise AssertionError("it is never done")

    def caught_up(self) -> None:
        """Imports work beside the journal; what was in the state before is synced by now, and cannot be lost."""
        self.snapshot = None
        self.last_accept_us = max(self.last_accept_us, self.workspace.folder.state.now_us)
        self.read_messages()

    @precondition(lambda self: self.imports)
    @rule(data=st.data())
    def undo_or_redo(self, data: st.DataObject) -> None:
        """As if it had never been; brought in again as if it had never gone, or refused and nothing changed."""
        import_id = data.draw(st.sampled_from(self.imports))
        out = import_id in self.naive.out
        work = undo.redo if out else undo.undo
        try:
            self.through(lambda tell: work(self.workspace, import_id, tell), data.draw(crashes, label="crashes"))
            (self.naive.redo if out else self.naive.undo)(import_id)
        except ConflictError:
            assert out
        self.workspace.loop.turn()
        self.caught_up()

    @property
    def imports(self) -> list[int]:
        return [row.import_id for row in self.workspace.folder.state.read(read_imports)]

    # -- messages -----------------------------------------------------------------------------------------------------

    def start_campaign(self) -> None:
        """Whoever sees something is told, over and over."""
        definition = {
            "name": "some",
            "trigger": {"event": {"name": "seen"}},
            "frequency": {"mode": "every"},
            "steps": [{"type": "webhook", "url": "https://example.org/"}],
            "state": "running",
        }
        self.workspace.apply([PutCampaign(definition=encoded(definition))])  # pyright: ignore[reportArgumentType]
        self.note_accept()

    def read_messages(self) -> None:
        """What is sent is decided by campaigns, and no matter here; whose it is stays by the naive one's rules."""
        people = {person.number: person for person in self.naive.people}
        rows = self.workspace.folder.state.rows(
            "SELECT delivery_id, person, kind, campaign_id, action_id, metrics FROM delivery"
        )
        for delivery_id, number, kind, campaign_id, action_id, metrics in rows:
            metrics_us = msgspec.json.decode(metrics)
            known = self.naive.messages.get(delivery_id)
            if known is not None:
                known.metrics_us = metrics_us
                assert known.person not in self.naive.people or known.person.number == number
            elif number in people:
                data = {
                    "delivery_id": delivery_id, "channel": kind, "campaign_id": campaign_id, "action_id": action_id
                }  # fmt: skip
                self.naive.messages[delivery_id] = Message(person=people[number], data=data, metrics_us=metrics_us)

    @precondition(lambda self: self.naive.messages)
    @rule(data=st.data(), metric=reported, age_us=st.one_of(st.none(), past_us))
    def hear_of_a_message(self, data: st.DataObject, metric: str, age_us: int | None) -> None:
        delivery_id = data.draw(st.sampled_from(sorted(self.naive.messages)))
        time_us = None if age_us is None else self.clock.now_us() - age_us
        accept_us = self.next_accept_us
        before_seq = self.workspace.folder.state.next_seq
        before_us = self.naive.messages[delivery_id].metrics_us.get(metric)
        self.workspace.apply([ReportMetric(delivery_id=delivery_id, metric=metric, time_us=time_us)])
        self.note_accept()
        told_us = accept_us if time_us is None else time_us
        self.read_messages()
        expected_us = told_us if before_us is None else min(before_us, told_us)
        assert self.naive.messages[delivery_id].metrics_us[metric] == expected_us
        self.check_effective_moments(before_seq, {})

    # -- segments -----------------------------------------------------------------------------------------------------

    def put(self, segment_id: int | None, condition: Condition | None) -> None:
        body = None if condition is None else encoded(to_json(condition))
        (receipt,) = self.workspace.apply([PutSegment(name="some", segment_id=segment_id, conditions=body)])
        self.note_accept()
        assert receipt.subject == self.naive.put_segment(segment_id, condition), receipt

    def note_accept(self) -> None:
        self.last_accept_us = self.next_accept_us

    @initialize(first=st.lists(st.one_of(whole_conditions(), st.none()), min_size=1, max_size=4))
    def begin(self, first: list[Condition | None]) -> None:
        self.start_campaign()
        for condition in first:
            self.put(None, condition)
        self.build()

    @rule(data=st.data(), manual=st.booleans(), building=st.booleans())
    def make_or_edit_segment(self, data: st.DataObject, manual: bool, building: bool) -> None:
        """``building``: leave the work to a later step, so that facts come in between."""
        edited = len(self.naive.segments) >= SEGMENTS_MAX or (bool(self.naive.segments) and data.draw(st.booleans()))
        old = data.draw(st.sampled_from(sorted(self.naive.segments))) if edited else None
        condition = None if manual and not edited else data.draw(whole_conditions(tuple(self.naive.segments)))
        self.put(old, condition)
        if not building:
            self.build()

    @precondition(lambda self: self.naive.segments)
    @rule(data=st.data())
    def delete_segment(self, data: st.DataObject) -> None:
        segment_id = data.draw(st.sampled_from(sorted(self.naive.segments)))
        (receipt,) = self.workspace.apply([DeleteSegment(segment_id=segment_id)])
        self.note_accept()
        assert (receipt.result == "applied") == self.naive.delete_segment(segment_id)

    @precondition(lambda self: self.naive.segments)
    @rule(data=st.data(), people=st.lists(identifiers, min_size=1, max_size=2), add=st.booleans())
    def change_members(self, data: st.DataObject, people: list[Identifier], add: bool) -> None:
        segment_id = data.draw(st.sampled_from(sorted(self.naive.segments)))
        self.workspace.apply([ChangeMembers(segment_id=segment_id, people=tuple(people), add=add)])
        self.note_accept()
        if not isinstance(self.naive.segments[segment_id], frozenset):
            return  # Refused, before anybody is looked up.
        found = [self.naive.find((who.kind, who.value.lower() if who.kind == "email" else who.value)) for who in people]
        self.naive.place(segment_id, [person for person in found if person is not None], self.last_accept_us, add=add)

    @rule(pieces_max=st.sampled_from((0, 1, 2, 5, ALL)))
    def work_on_building(self, pieces_max: int) -> None:
        self.build(pieces_max)

    # -- time ---------------------------------------------------------------------------------------------------------

    def pass_time(self, by_us: int) -> None:
        """Time passes in one go; what it moves is recorded at its moment, once, in order."""
        finished = [segment_id for segment_id in self.naive.segments if self.finished(segment_id)]
        state = self.workspace.folder.state
        before_us, before_seq = state.now_us, state.next_seq
        self.clock.advance(by_us)
        self.workspace.loop.turn()
        self.read_messages()
        rows = state.rows(
            "SELECT at_us, person, entered, segment_id, effective_us FROM transition WHERE seq >= ? ORDER BY seq",
            (before_seq,),
        )
        for segment_id in finished:
            recorded = Counter[tuple[int, int, bool]]()
            for at_us, person, entered, moved_in, _ in rows:
                # A message that an event brings may turn back at once what that event did.
                if moved_in == segment_id and recorded[at_us, person, not entered]:
                    recorded[at_us, person, not entered] -= 1
                elif moved_in == segment_id:
                    recorded[at_us, person, bool(entered)] += 1
            assert sorted(recorded.elements()) == self.naive.flips(segment_id, before_us, self.now_us)
        assert all(row[4] == row[0] for row in rows)

    @rule(times=st.lists(st.sampled_from((1, 0)), min_size=1, max_size=4))
    def wait_for_the_next_changes(self, times: list[int]) -> None:
        """Up to the edge, or a microsecond before it."""
        for before_us in times:
            self.wait_for_the_next_change(before_us)

    @rule(by_us=st.sampled_from((1, SECOND_US, 5 * SECOND_US, 20 * SECOND_US, 5 * MINUTE_US, HOUR_US)))
    def let_time_pass(self, by_us: int) -> None:
        self.pass_time(by_us)

    @rule(data=st.data(), by_us=st.sampled_from((HOUR_US, -HOUR_US, 365 * DAY_US)), facts=st.booleans())
    def somebody_sets_the_clock(self, data: st.DataObject, by_us: int, facts: bool) -> None:
        """Until they say that it is right, facts come in as time passed and nothing else happens; then it all does."""
        self.workspace.loop.turn()
        self.floor_us = self.workspace.folder.state.now_us
        self.clock.jump(by_us)
        self.doubt_us = by_us
        self.workspace.loop.turn()
        if facts:
            self.send(*self.some_facts(data))
        self.floor_us = self.workspace.folder.state.now_us
        self.workspace.accept_clock()
        self.doubt_us = 0
        self.workspace.loop.turn()

    def wait_for_the_next_change(self, before_us: int) -> None:
        moments = [self.naive.next_change_us(segment_id, self.now_us) for segment_id in self.naive.segments]
        moment_us = min((moment for moment in moments if moment is not None), default=None)
        if moment_us is not None and moment_us - before_us > self.clock.now_us():
            self.pass_time(moment_us - before_us - self.clock.now_us())

    # -- restarts -----------------------------------------------------------------------------------------------------

    @rule()
    def checkpoint(self) -> None:
        self.workspace.loop.commit(self.workspace.applier.checkpoint_some)

    def copied(self) -> Path:
        """The folder as a kill would leave it now."""
        to = self.root / str(next(self.folders))
        shutil.copytree(self.path, to, ignore=shutil.ignore_patterns("temporary", "*-shm"))
        return to

    def crash_into(self, path: Path) -> None:
        self.workspace.folder.close()
        self.path = path
        self.snapshot = None
        self.workspace = self.open()
        self.read_messages()

    @rule(clean=st.booleans())
    def restart(self, clean: bool) -> None:
        if clean:
            self.workspace.close()
            self.snapshot = None
            self.workspace = self.open()
        else:
            self.crash_into(self.copied())

    @rule(data=st.data())
    def crash_between_accept_and_apply(self, data: st.DataObject) -> None:
        copies: list[Path] = []
        facts = self.some_facts(data)
        self.workspace.submit(facts, on_accept=lambda: copies.append(self.copied()), on_error=fail)
        accept_us = self.next_accept_us
        self.workspace.loop.turn()
        for fact in facts:
            self.tell(fact, accept_us, None)
            self.last_accept_us = accept_us
            accept_us += 1
        self.crash_into(copies[0])

    @rule()
    def power_cut(self) -> None:
        """The state falls back to an earlier commit; the journal, which is synced, does not."""
        if self.snapshot is None:
            self.snapshot = (self.copied(), self.workspace.folder.state.position)
            return
        path, position = self.snapshot
        journal = self.workspace.folder.journal
        kept_from = next((entry.position for entry in journal.read_from(0)), journal.position())
        if kept_from > position:
            return  # The journal was trimmed since: the state was synced then, and a power cut leaves at least that.
        for name in ("journal.db", "journal.db-wal"):
            shutil.copy(self.path / name, path / name)
        # Files are synced when they are written: those of later commits are there, and the state names none.
        shutil.copytree(self.path / "parts", path / "parts", dirs_exist_ok=True)
        self.crash_into(path)

    # -- what must be true after every step ---------------------------------------------------------------------------

    def finished(self, segment_id: int) -> bool:
        """Is a segment complete, and all that it refers to?"""
        kept = self.workspace.segments.segments[segment_id]
        condition = self.naive.segments[segment_id]
        named = [] if isinstance(condition, frozenset) else list(segments_in(condition))
        return not kept.building and all(self.finished(number) for number in named)

    @invariant()
    def segments_are_what_the_oracle_says(self) -> None:
        assert set(self.workspace.segments.segments) == set(self.naive.segments)
        for segment_id in self.naive.segments:
            if self.finished(segment_id):
                kept = self.workspace.segments.segments[segment_id]
                expected = self.naive.members_now(segment_id, self.now_us)
                assert set(kept.members) == expected, (segment_id, kept.members, expected, kept.condition)

    @invariant()
    def the_log_leads_to_the_members(self) -> None:
        """Everybody who is in a segment entered it once more than they left it, by a fact, the clock or a build."""
        self.workspace.folder.tail.flush()
        db = self.workspace.folder.state.db
        for segment_id in self.naive.segments:
            found = [(seq, entered, {person}) for seq, person, entered, *_ in rows_of(db, segment_id, 1 << 62, 10_000)]
            found += [(one.seq, one.entered, set(one.people)) for one in blocks_of(db, segment_id, 1 << 62)]
            inside: set[int] = set()
            for _, entered, people in sorted(found, key=lambda row: row[0]):
                assert inside.isdisjoint(people) if entered else people <= inside
                inside = inside | people if entered else inside - people
            assert inside == set(self.workspace.segments.segments[segment_id].members)

    @invariant()
    def people_are_what_the_oracle_says(self) -> None:
        reader = self.workspace.reader
        expected = {person.number for person in self.naive.people}
        assert set(self.workspace.segments.alive) == expected, (self.workspace.segments.alive, expected)
        for person in self.naive.people:
            view = reader.person("cio_id", cio_id_of(person.number))
            assert view is not None
            assert view.attributes == person.values()
            named = (("id", view.id), ("email", view.email), ("phone", view.phone))
            owned = {kind: value for kind, value in named if value is not None}
            assert owned == person.identifiers
        numbers = [person.number for person in self.naive.people]
        counts = Counter(row[0] for row in self.workspace.folder.history.events_of(numbers))
        for person in self.naive.people:
            assert counts[person.number] == len(person.events)

    @invariant()
    def nothing_changes_before_the_next_wake(self) -> None:
        wake_us = self.workspace.applier.next_moment_us()
        for segment_id in self.naive.segments:
            if self.finished(segment_id):
                moment_us = self.naive.next_change_us(segment_id, self.now_us)
                assert moment_us is None or wake_us <= moment_us

    @precondition(lambda self: self.naive.segments)
    @rule(data=st.data(), age_us=past_us)
    def ask_as_of(self, data: st.DataObject, age_us: int) -> None:
        """Any day can be asked about, with today's identities and definitions."""
        segment_id = data.draw(st.sampled_from(sorted(self.naive.segments)))
        at_us = self.now_us - age_us
        found, _ = self.workspace.reader.members(segment_id, start="", limit=100, as_of_us=at_us)
        then = self.naive.members_now if at_us == self.now_us else self.naive.members
        expected = {cio_id_of(number) for number in then(segment_id, at_us)}
        assert {identity["cio_id"] for identity in found} == expected


def fail(error: Exception) -> None:
    raise error


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=examples(30),
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
