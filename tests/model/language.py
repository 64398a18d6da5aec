"""Random conditions over the whole language, with few values that often meet, and facts about records."""

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from hypothesis import strategies as st

from backstory.core.condition import AttributeTest, Condition, InSegment, Json, parse, to_json
from backstory.core.fact import (
    DeleteDevice,
    DeleteObject,
    Fact,
    Identifier,
    Identify,
    IdentifyObject,
    ObjectKey,
    PutDevice,
    Relate,
    Track,
    Unrelate,
)
from backstory.core.metric import REPORTED
from backstory.core.operand import OPERATORS
from backstory.core.time import SECOND_US
from tests.model.strategy import (
    NAMES,
    attribute_tests,
    attribute_values,
    encoded,
    event_data,
    event_tests,
    fields,
    near_s,
    seconds,
)
from tests.model.test_comparison import trees

TOKENS = ("t", "u")
UUID = "01890a5d-ac96-774b-bcce-b302099a8057"
OBJECTS = ((1, "acme"), (1, "globex"), (2, "acme"))
DEVICE_FIELDS = ("p", "when", "id", "platform", "last_used", "_last_status")
OBJECT_FIELDS = ("p", "q", "q.x", "when", "object_id", "relationship.p", "relationship.q.x", "relationship.when")
# What our own ledger tells, and what somebody outside reports.
METRICS = ("created", "failed", "opened", "clicked", "bounced")

words = st.sampled_from(("a", "b", "A", "1", "ann"))
numbers = st.sampled_from((0, 1, 2))


@st.composite
def any_attribute_test(draw: st.DrawFn, of: st.SearchStrategy[str]) -> AttributeTest:
    """Any operator."""
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    body: dict[str, Json] = {"field": draw(of), "operator": operator}
    match OPERATORS[operator]:
        case "none":
            pass
        case "scalar":
            body["value"] = draw(st.one_of(words, numbers, st.just(True)))
        case "text":
            body["value"] = draw(words)
        case "list":
            body["value"] = draw(st.lists(st.one_of(words, numbers), min_size=1, max_size=2))
        case "number":
            body["value"] = draw(numbers)
        case "offset":
            body["value"] = draw(st.sampled_from((0, -5, 5, -60, 300)))
        case "moment":
            body["value"] = draw(near_s)
        case "numbers" | "moments" as operand:
            usual = numbers if operand == "numbers" else near_s
            body["value"] = cast("list[Json]", sorted([draw(usual), draw(usual)]))
    condition = parse({"attribute": body})
    assert isinstance(condition, AttributeTest)
    return condition


counts = st.one_of(
    st.none(), st.none(),
    st.sampled_from(({"at_least": 1}, {"at_least": 2}, {"at_most": 0}, {"at_most": 1})),
    st.sampled_from(({"exactly": 1}, {"between": [0, 1]})),
)  # fmt: skip
withins = st.one_of(
    st.none(),
    st.sampled_from((1, 5, 20, 60, 300)).map(lambda last_s: {"last_s": last_s}),
    near_s.map(lambda from_s: {"from": from_s}),
    near_s.map(lambda to_s: {"to": to_s}),
)


def asked(name: str, **given: Json) -> Condition:
    return parse({name: {key: value for key, value in given.items() if value is not None}})


def wheres(names: tuple[str, ...]) -> st.SearchStrategy[Json]:
    tests = cast("st.SearchStrategy[Condition]", any_attribute_test(st.sampled_from(names)))
    return st.one_of(st.none(), trees(tests).map(to_json))


device_tests = st.builds(
    lambda count, platform, where: asked("device", count=count, platform=platform, where=where),
    counts, st.sampled_from((None, None, "ios")), wheres(DEVICE_FIELDS),
)  # fmt: skip
relation_tests = st.builds(
    lambda kind, thing, count, where: asked(
        "relationship", object_type_id=kind, object_id=thing, count=count, where=where
    ),
    st.sampled_from((1, 1, 2)), st.sampled_from((None, None, "acme")), counts, wheres(OBJECT_FIELDS),
)  # fmt: skip
message_tests = st.builds(
    lambda metric, channel, within, count: asked("message", metric=metric, channel=channel, within=within, count=count),
    st.sampled_from(METRICS), st.sampled_from((None, "webhook", "email")), withins, counts,
)  # fmt: skip


def whole_conditions(segment_ids: tuple[int, ...] = ()) -> st.SearchStrategy[Condition]:
    """Trees over all there is to ask."""
    leaves: list[st.SearchStrategy[Condition]] = [
        event_tests(), event_tests(), event_tests(), attribute_tests, any_attribute_test(fields), device_tests,
        relation_tests, message_tests,
    ]  # fmt: skip
    if segment_ids:
        leaves.append(st.sampled_from(segment_ids).map(InSegment))
    return trees(st.one_of(leaves))


# -- facts about records ----------------------------------------------------------------------------------------------

flat = st.dictionaries(
    st.sampled_from(("p", "when")), st.one_of(st.sampled_from(("a", "b", None, 1, True)), near_s), max_size=2
)
nested = st.dictionaries(st.sampled_from(("p", "q", "q.x", "when")), attribute_values, max_size=2)
objects = st.sampled_from(OBJECTS).map(lambda key: ObjectKey(*key))


@st.composite
def record_facts(
    draw: st.DrawFn,
    people: st.SearchStrategy[Identifier],
    times_us: st.SearchStrategy[int | None],
    browsers: Sequence[str] = (),
) -> Fact:
    """A device, an object or a relationship, put or gone; relationships of people not yet known with ``browsers``."""
    kinds = ("device", "device", "relate", "relate", "object", "unrelate", "no device", "no object")
    kind = draw(st.sampled_from(kinds))
    time_us, person = draw(times_us), draw(people)
    nobody = draw(st.sampled_from((None, None, *browsers)))
    who: dict[str, Any] = {"person": person, "anonymous_id": None}
    if nobody is not None:
        who = {"person": None, "anonymous_id": nobody}
    match kind:
        case "device":
            platform = draw(st.sampled_from(("ios", "android")))
            given, token = encoded(draw(flat)), draw(st.sampled_from(TOKENS))
            return PutDevice(person=person, token=token, platform=platform, attributes=given, time_us=time_us)
        case "no device":
            return DeleteDevice(person=person, token=draw(st.sampled_from(TOKENS)))
        case "object":
            return IdentifyObject(object=draw(objects), attributes=encoded(draw(nested)), time_us=time_us)
        case "no object":
            return DeleteObject(object=draw(objects))
        case "relate":
            return Relate(object=draw(objects), attributes=encoded(draw(nested)), time_us=time_us, **who)
        case _:
            return Unrelate(object=draw(objects), time_us=time_us, **who)


reported = st.sampled_from([metric for metric in METRICS if metric in REPORTED])


# -- rows of imports --------------------------------------------------------------------------------------------------

# A row, and the call that says the same.
ImportRows = list[tuple[dict[str, Json], Identify | Track]]


@st.composite
def import_rows(draw: st.DrawFn, kind: str, now_us: int) -> ImportRows:
    """Events of people named by one identifier, people named by an id and an email too; few, as of a small file."""
    rows: ImportRows = []
    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(("ann", "bob", "cid", "ann@x.org", "Bob@x.org")))
        person = Identifier("email" if "@" in name else "id", name)
        age_s = draw(st.one_of(seconds, st.sampled_from((-20,) if kind == "people" else (-20, -300))))
        time_us = now_us - now_us % SECOND_US - age_s * SECOND_US
        row: dict[str, Json]
        if kind == "people":
            values = draw(st.dictionaries(st.sampled_from(("p", "q.x", "when")), attribute_values, max_size=2))
            values = {key: value for key, value in values.items() if value != "" and value is not None}
            row = {person.kind: name, **values, "_timestamp": time_us // SECOND_US}
            email = draw(st.sampled_from((None, "ann@x.org", "Bob@x.org"))) if person.kind == "id" else None
            row |= {} if email is None else {"email": email}
            rows.append((row, Identify(person=person, attributes=encoded(values), body_email=email, time_us=time_us)))
        else:
            data = encoded(draw(event_data))
            event_id = draw(st.sampled_from((None, None, UUID, "bulk-1")))
            event = draw(st.sampled_from(NAMES))
            row = {"customer_id" if person.kind == "id" else "email": name, "name": event}
            row |= {"timestamp": time_us // SECOND_US, "data": msgspec.json.decode(data)}
            row |= {} if event_id is None else {"event_id": event_id}
            rows.append((row, Track(person=person, name=event, data=data, time_us=time_us, event_id=event_id)))
    return rows
