"""Devices, objects and relationships: the live engine against lists of writes read by the oracle, after every step.

Random puts, removals and relations of few people, tokens and objects, with times that meet; with restarts and crashes.
And promise 1: timed facts in any order and any batches end alike.
"""

import shutil
import tempfile
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from backstory.core import oracle
from backstory.core.condition import Condition, Json, parse
from backstory.core.fact import (
    DeleteDevice,
    DeleteObject,
    DeletePerson,
    Fact,
    Identifier,
    IdentifyObject,
    ObjectKey,
    PutDevice,
    Relate,
    Unrelate,
)
from backstory.core.oracle import PersonHistory
from backstory.core.time import HOUR_US, SECOND_US
from backstory.engine.verify import verify
from tests.hunt import examples
from tests.live import Live
from tests.model.strategy import NOW_S, NOW_US, encoded, past_us

PEOPLE = ("ann", "bob")
TOKENS = ("t", "u")
OBJECTS = ((1, "acme"), (1, "globex"), (2, "acme"))
EVER_US = 1 << 62

values = st.sampled_from(("a", "b", None, "", 1, NOW_S - 5, NOW_S + 5))
attributes = st.dictionaries(st.sampled_from(("p", "q", "q.x")), values, max_size=2)
flat = st.dictionaries(st.sampled_from(("p", "when")), st.sampled_from(("a", None, NOW_S - 5, NOW_S + 5)), max_size=2)
ages_us = st.one_of(st.just(None), past_us)


def asks(field: str, operator: str, value: Json = None) -> Json:
    return {"attribute": {"field": field, "operator": operator, **({} if value is None else {"value": value})}}


CONDITIONS: tuple[Json, ...] = (
    {"device": {}},
    {"device": {"count": {"at_most": 1}}},
    {"device": {"platform": "ios", "where": asks("p", "eq", "a")}},
    {"device": {"where": asks("when", "timestamp_gt", -3)}},
    {"device": {"where": asks("last_used", "timestamp_lt", -4), "count": {"exactly": 1}}},
    {"relationship": {"object_type_id": 1}},
    {"relationship": {"object_type_id": 1, "count": {"between": [0, 1]}}},
    {"relationship": {"object_type_id": 2, "object_id": "acme", "inverse": True}},
    {
        "relationship": {
            "object_type_id": 1,
            "where": {"or": [asks("p", "eq", "a"), asks("relationship.p", "!exists")]},
        }
    },
    {"relationship": {"object_type_id": 1, "where": asks("p", "timestamp_gt", -3)}},
    {"relationship": {"object_type_id": 1, "where": {"not": asks("relationship.q", "timestamp_lt", -4)}}},
    {"and": [{"segment": {"id": 1}}, {"not": {"segment": {"id": 6}}}]},
)  # fmt: skip


def put_device(person: str, token: str, given: dict[str, Json], platform: str, time_us: int | None) -> PutDevice:
    who = Identifier("id", person)
    return PutDevice(person=who, token=token, platform=platform, attributes=encoded(given), time_us=time_us)


devices = st.builds(put_device, st.sampled_from(PEOPLE), st.sampled_from(TOKENS), flat, st.sampled_from(("ios", "android")), ages_us)  # fmt: skip # noqa: E501
keys = st.sampled_from(OBJECTS).map(lambda key: ObjectKey(*key))
people = st.sampled_from(PEOPLE).map(lambda person: Identifier("id", person))
objects = st.builds(lambda key, given, us: IdentifyObject(object=key, attributes=encoded(given), time_us=us), keys, attributes, ages_us)  # fmt: skip # noqa: E501
relations = st.builds(
    lambda key, person, given, us: Relate(object=key, person=person, attributes=encoded(given), time_us=us),
    keys,
    people,
    attributes,
    ages_us,
)
ends = st.builds(lambda key, person, us: Unrelate(object=key, person=person, time_us=us), keys, people, ages_us)
timed = st.one_of(devices, relations, relations, objects, ends)


class Naive:
    """Who was told to have what, as lists of (time, attributes), None for an end; people by name."""

    def __init__(self) -> None:
        self.since_us: dict[str, int] = {}
        self.deleted_us: dict[str, int] = {}
        self.devices: list[tuple[str, str, int, dict[str, Json] | None]] = []
        self.relations: list[tuple[str, int, str, int, dict[str, Json] | None]] = []
        self.objects: list[tuple[int, str, int, dict[str, Json] | None]] = []
        # Ends told of somebody nobody knew: they are kept, and count once that person is there.
        self.numbers: dict[str, int] = {}
        self._next = count()

    def apply(self, fact: Fact, now_us: int) -> None:
        match fact:
            case PutDevice():
                time_us, person = fact.time_us or now_us, fact.person.value
                if self._make(person, fact.time_us, time_us):
                    given = {name: value if value is None or isinstance(value, str) else str(value)
                             for name, value in msgspec.json.decode(fact.attributes).items()}  # fmt: skip
                    known = {**given, ":platform": fact.platform, ":last_used": time_us}
                    self.devices.append((person, fact.token, time_us, known))
            case DeleteDevice():
                person = fact.person.value
                if person in self.since_us and any(
                    one["id"] == fact.token for one in oracle.devices_at(self.history(person), EVER_US)
                ):
                    self.devices.append((person, fact.token, now_us, None))
            case IdentifyObject():
                self.objects.append((fact.object.type_id, fact.object.object_id or "", fact.time_us or now_us, msgspec.json.decode(fact.attributes)))  # noqa: E501
            case DeleteObject():
                key = (fact.object.type_id, fact.object.object_id or "")
                told = [write[2:] for write in self.objects if write[:2] == key]
                ended_us = max((time_us for time_us, given in told if given is None), default=-EVER_US)
                if any(given is not None and time_us >= ended_us for time_us, given in told):
                    self.objects.append((*key, now_us, None))
            case Relate():
                assert fact.person is not None
                time_us, person = fact.time_us or now_us, fact.person.value
                if self._make(person, fact.time_us, time_us):
                    key = (fact.object.type_id, fact.object.object_id or "")
                    self.objects.append((*key, time_us, {}))
                    self.relations.append((person, *key, time_us, msgspec.json.decode(fact.attributes)))
            case Unrelate():
                assert fact.person is not None
                time_us, person = fact.time_us or now_us, fact.person.value
                if not (fact.time_us is not None and self.deleted_us.get(person, -EVER_US) > fact.time_us):
                    if person in self.since_us:
                        self.since_us[person] = min(self.since_us[person], time_us)
                    self.relations.append((person, fact.object.type_id, fact.object.object_id or "", time_us, None))
            case DeletePerson():
                self._forget(fact.person.value, now_us)
            case _:
                raise AssertionError(fact)

    def _make(self, person: str, named_us: int | None, time_us: int) -> bool:
        if named_us is not None and self.deleted_us.get(person, -EVER_US) > named_us:
            return False
        if person not in self.since_us:
            self.numbers[person] = next(self._next)
        self.since_us[person] = min(self.since_us.get(person, time_us), time_us)
        return True

    def _forget(self, person: str, now_us: int) -> None:
        if self.since_us.pop(person, None) is not None:
            self.deleted_us[person] = now_us
            # What a person's device ended elsewhere stays ended.
            ended = [
                (other, token, time_us, None)
                for one, token, time_us, given in self.devices
                for other in {write[0] for write in self.devices if write[1] == token}
                if one == person and given
            ]
            self.devices = [write for write in [*self.devices, *ended] if write[0] != person]
            self.relations = [write for write in self.relations if write[0] != person]

    def history(self, person: str) -> PersonHistory:
        """What the oracle judges: a device ends where somebody else is told to have it."""
        mine = [write[1:] for write in self.devices if write[0] == person]
        taken = [(token, time_us, None) for other, token, time_us, given in self.devices if other != person and given]
        return PersonHistory(
            person=self.numbers[person],
            identifiers={"id": person},
            events=[],
            writes=[],
            exists_since_us=self.since_us[person],
            devices=[*mine, *taken],
            relations=[write[1:] for write in self.relations if write[0] == person],
            objects=self.objects,
        )


def shown(live: Live, person: str) -> dict[str, Any]:
    """What is stored of a person, as conditions see it."""
    number = live.workspace.folder.people.find(Identifier("id", person))
    assert number is not None
    feed = live.workspace.applier.record_feed
    rows = [feed.rows(number, test) for test in (parse({"device": {}}), *map(of_type, (1, 2)))]  # pyright: ignore[reportArgumentType]
    return {"devices": ordered(rows[0]), "1": ordered(rows[1]), "2": ordered(rows[2])}


def true(history: PersonHistory) -> dict[str, Any]:
    """The same, told by the oracle."""
    related = {str(kind): ordered(oracle.relations_at(history, of_type(kind), EVER_US)) for kind in (1, 2)}
    return {"devices": ordered(oracle.devices_at(history, EVER_US)), **related}


def of_type(type_id: int) -> Any:
    return parse({"relationship": {"object_type_id": type_id}})


def ordered(rows: list[dict[str, Json]]) -> list[dict[str, Json]]:
    return sorted(rows, key=repr)


class Records(RuleBasedStateMachine):
    """Everything that can happen to records, one step at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="backstory-record-"))
        self.live = Live(self.folder / "default", now_us=NOW_US)
        self.naive = Naive()
        self.segments: dict[int, Condition] = {}

    def teardown(self) -> None:
        assert verify.run(self.live.workspace, lambda line: None).ok
        self.live.close()
        shutil.rmtree(self.folder)

    def send(self, fact: Fact) -> None:
        # A second between two calls: what was said of the moment of a removal comes before it.
        self.live.clock.advance(SECOND_US)
        time_us = getattr(fact, "time_us", None)
        aged = fact if time_us is None else msgspec.structs.replace(fact, time_us=self.live.now_us - time_us)  # pyright: ignore[reportCallIssue, reportArgumentType]
        self.live.send(aged)
        self.naive.apply(aged, self.live.workspace.folder.state.now_us)

    @rule(fact=timed)
    def timed_fact(self, fact: Fact) -> None:
        self.send(fact)

    @rule(person=people, token=st.sampled_from(TOKENS))
    def delete_device(self, person: Identifier, token: str) -> None:
        self.send(DeleteDevice(person=person, token=token))

    @rule(key=keys)
    def delete_object(self, key: ObjectKey) -> None:
        self.send(DeleteObject(object=key))

    @rule(person=people)
    def delete_person(self, person: Identifier) -> None:
        self.send(DeletePerson(person=person))

    @precondition(lambda self: len(self.segments) < len(CONDITIONS))
    @rule(many=st.integers(1, len(CONDITIONS)))
    def make_segments(self, many: int) -> None:
        for conditions in CONDITIONS[len(self.segments) :][:many]:
            self.segments[self.live.segment(conditions)] = parse(conditions)

    @rule(by_us=st.sampled_from((1, SECOND_US, 5 * SECOND_US, 400 * SECOND_US)))
    def time_passes(self, by_us: int) -> None:
        self.live.advance(by_us)

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        self.live.crash() if crash else self.live.reopen()

    @invariant()
    def all_is_as_told(self) -> None:
        histories = {person: self.naive.history(person) for person in self.naive.since_us}
        for person, history in histories.items():
            assert shown(self.live, person) == true(history), person
        now_us = self.live.workspace.folder.state.now_us
        conditions: dict[int, Condition | frozenset[int]] = {**self.segments}
        for segment_id, condition in self.segments.items():
            expected = {
                person for person, history in histories.items() if oracle.member(condition, history, now_us, conditions)
            }
            assert self.live.members(segment_id) == expected, (segment_id, condition)


Records.TestCase.settings = settings(max_examples=examples(12), stateful_step_count=16)
TestRecords = Records.TestCase


def outcome(batches: list[list[Fact]]) -> dict[str, Any]:
    folder = Path(tempfile.mkdtemp(prefix="backstory-record-"))
    live = Live(folder / "default", now_us=NOW_US)
    try:
        live.send(*[Relate(object=ObjectKey(3, "all"), person=Identifier("id", who), time_us=0) for who in PEOPLE])
        ids = [live.segment(condition) for condition in CONDITIONS]
        for batch in batches:
            live.send(*batch)
        live.advance(NOW_US + HOUR_US - live.now_us)
        now_us = live.now_us
        as_of = {
            ago_s: [live.workspace.reader.member_count(one, now_us - HOUR_US - ago_s * SECOND_US) for one in ids]
            for ago_s in (0, 5, 60)
        }
        return {**{who: shown(live, who) for who in PEOPLE}, "members": [live.members(one) for one in ids], **as_of}
    finally:
        live.close()
        shutil.rmtree(folder)


@settings(max_examples=examples(12))
@given(facts=st.lists(timed, max_size=8), data=st.data())
def test_order_does_not_matter(facts: list[Fact], data: st.DataObject) -> None:
    """Two orders of the same timed facts, in one batch or in many, end in equal records and members on every day."""
    dated: list[Fact] = [
        msgspec.structs.replace(fact, time_us=NOW_US - (getattr(fact, "time_us", None) or 0))  # pyright: ignore[reportCallIssue, reportArgumentType]
        for fact in facts
    ]
    other = data.draw(st.permutations(dated))
    assert outcome([dated]) == outcome([[fact] for fact in other])
