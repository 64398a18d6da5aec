"""The truth about conditions, slow and obvious: every question is answered by reading a person's whole history.

The fast code (leaves, comparison, bulk scans) is tested against this module and ``verify`` checks stored state with
it. So it shares nothing with them but the shape of conditions, keeps no state, and has comparisons of its own.
To be checked by eye against design sections 6 and 8, semantics section 5.4. Times are microseconds.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import assert_never, cast

import msgspec

from backstory.core.condition import (
    And,
    AttributeTest,
    Between,
    Condition,
    DeviceTest,
    EventTest,
    InSegment,
    Json,
    Last,
    Not,
    Or,
    RelationTest,
    Window,
)
from backstory.core.oracle_value import attribute_true, is_timestamp, read, us

Segments = Mapping[int, Condition | frozenset[int]]


class PersonHistory(msgspec.Struct, kw_only=True):
    """Everything that ever became true of one person, in any order.

    ``identifiers`` has id, email, cio_id as of today; ``events`` are (kind, name, time_us, data); ``writes`` are
    (time_us, attributes), where null and "" remove and a name with dots is a path. ``exists_since_us`` is the
    earliest effective time of any fact.
    """

    person: int
    identifiers: dict[str, str]
    events: list[tuple[str, str, int, dict[str, Json]]]
    writes: list[tuple[int, dict[str, Json]]]
    exists_since_us: int
    # What was written to devices (token, time_us, attributes), to relationships and to the objects they are with
    # (type, object_id, time_us, attributes); attributes None: it went.
    devices: list[tuple[str, int, dict[str, Json] | None]] = []
    relations: list[tuple[int, str, int, dict[str, Json] | None]] = []
    objects: list[tuple[int, str, int, dict[str, Json] | None]] = []
    # When the person was put into manual segments or taken out: (segment, time_us, in or out), in order.
    placements: list[tuple[int, int, bool]] = []


def members(condition: Condition, histories: Iterable[PersonHistory], at_us: int, segments: Segments) -> set[int]:
    """The numbers of the people for whom the condition holds at ``at_us``."""
    return {history.person for history in histories if member(condition, history, at_us, segments)}


def member(condition: Condition, history: PersonHistory, at_us: int, segments: Segments) -> bool:
    """Does the condition hold for the person at ``at_us``? Whoever does not exist yet is a member of nothing.

    ``segments`` gives the condition of each dynamic segment and the people of each manual one.
    """
    return history.exists_since_us <= at_us and _true(condition, history, at_us, segments)


def _true(condition: Condition, history: PersonHistory, at_us: int, segments: Segments) -> bool:
    match condition:
        case And():
            return all(_true(child, history, at_us, segments) for child in condition.children)
        case Or():
            return any(_true(child, history, at_us, segments) for child in condition.children)
        case Not():
            return not _true(condition.child, history, at_us, segments)
        case InSegment():
            segment = segments[condition.segment_id]
            if isinstance(segment, frozenset):
                return _placed(condition.segment_id, segment, history, at_us)
            return _true(segment, history, at_us, segments)
        case AttributeTest():
            return attribute_true(condition, _seen(history, at_us), at_us)
        case EventTest():
            return _event_true(condition, history, at_us)
        case DeviceTest():
            return _enough(condition, devices_at(history, at_us), at_us)
        case RelationTest():
            return _enough(condition, relations_at(history, condition, at_us), at_us)
        case _:
            assert_never(condition)


def _placed(segment_id: int, people: frozenset[int], history: PersonHistory, at_us: int) -> bool:
    """In a manual segment is who was put in last; where nothing is told of that, who is in it now always was."""
    told = [(moment_us, entered) for number, moment_us, entered in history.placements if number == segment_id]
    if not told:
        return history.person in people
    inside = False
    for moment_us, entered in told:
        if moment_us <= at_us:
            inside = entered
    return inside


# -- events ---------------------------------------------------------------------------------------------------


def _event_true(test: EventTest, history: PersonHistory, at_us: int) -> bool:
    count = 0
    for kind, name, time_us, data in history.events:
        # A star stands for any characters. What messages came to are events of the kind "message".
        named = re.fullmatch(re.escape(test.name).replace(r"\*", ".*"), name, re.DOTALL)
        same_event = kind == test.kind and named is not None
        happened = time_us <= at_us and _inside(test.window, time_us, at_us)
        if same_event and happened and (test.where is None or where_true(test.where, data, time_us)):
            count += 1
    if not test.performed:
        return count == 0 and _known_long_enough(test.window, history, at_us)
    return count >= test.at_least and (test.at_most is None or count <= test.at_most)


def _inside(window: Window | None, time_us: int, at_us: int) -> bool:
    match window:
        case None:
            return True
        case Last():
            return at_us - window.last_us < time_us <= at_us
        case Between():
            begun = window.from_us is None or window.from_us <= time_us
            ended = window.to_us is not None and window.to_us <= time_us
            return begun and not ended
        case _:
            assert_never(window)


def _known_long_enough(window: Window | None, history: PersonHistory, at_us: int) -> bool:
    match window:
        case None:
            return True
        case Last():
            return history.exists_since_us <= at_us - window.last_us
        case Between():
            return window.from_us is None or history.exists_since_us <= window.from_us
        case _:
            assert_never(window)


def where_true(where: Condition, data: Mapping[str, Json], time_us: int) -> bool:
    """Does a where-tree hold for the data of an event? "Now" is the event's own time."""
    match where:
        case And():
            return all(where_true(child, data, time_us) for child in where.children)
        case Or():
            return any(where_true(child, data, time_us) for child in where.children)
        case Not():
            return not where_true(where.child, data, time_us)
        case AttributeTest():
            return attribute_true(where, data, time_us)
        case InSegment() | EventTest() | DeviceTest() | RelationTest():
            raise AssertionError("where knows only event data")
        case _:
            assert_never(where)


# -- attributes as they were at a moment ----------------------------------------------------------------------


def values_at(history: PersonHistory, at_us: int) -> dict[str, Json]:
    """The attributes at ``at_us``."""
    return _values_of(history.writes, at_us)


def _values_of(writes: Iterable[tuple[int, dict[str, Json]]], at_us: int) -> dict[str, Json]:
    """Of each name the newest write, then later paths laid over their wholes."""
    newest: dict[str, tuple[int, bool, bytes, Json]] = {}
    for time_us, attributes in writes:
        for name, value in attributes.items():
            removal = value is None or value == ""
            # At equal times a value beats a removal, then the larger canonical JSON wins.
            write = (time_us, not removal, msgspec.json.encode(value, order="sorted"), None if removal else value)
            if time_us <= at_us and (name not in newest or write[:3] > newest[name][:3]):
                newest[name] = write

    values: dict[str, Json] = {}
    values.update((name, value) for name, (_, _, _, value) in newest.items() if "." not in name and value is not None)
    paths = sorted((time_us, name, value) for name, (time_us, _, _, value) in newest.items() if "." in name)
    for time_us, name, value in paths:
        root, *path = name.split(".")
        if root not in newest or time_us > newest[root][0]:
            laid = _laid(values.get(root), path, value)
            if laid is not None:
                values[root] = laid
    return values


def _laid(whole: Json, path: list[str], value: Json) -> Json:
    """``whole`` with ``value`` at the path; None removes what is there and makes nothing new."""
    if not path:
        return value
    if not isinstance(whole, dict):
        if value is None:
            return whole
        whole = {}
    below = _laid(whole.get(path[0]), path[1:], value)
    others = {name: item for name, item in whole.items() if name != path[0]}
    return others if below is None else {**others, path[0]: below}


def _seen(history: PersonHistory, at_us: int) -> dict[str, Json]:
    """What attribute tests see: the attributes of that moment and today's identifiers."""
    return {**values_at(history, at_us), **history.identifiers}


# -- devices and relationships as they were at a moment --------------------------------------------------------


def _enough(test: DeviceTest | RelationTest, rows: list[dict[str, Json]], at_us: int) -> bool:
    count = len([row for row in rows if test.where is None or where_true(test.where, row, at_us)])
    return count >= test.at_least and (test.at_most is None or count <= test.at_most)


def record_at(writes: list[tuple[int, dict[str, Json] | None]], at_us: int) -> dict[str, Json] | None:
    """What a record was; None when it was not there. What was written before it last went does not count."""
    gone_us = max((time_us for time_us, attributes in writes if attributes is None and time_us <= at_us), default=None)
    puts = [
        (time_us, attributes)
        for time_us, attributes in writes
        if attributes is not None and time_us <= at_us and (gone_us is None or time_us >= gone_us)
    ]
    return _values_of(puts, at_us) if puts else None


def devices_at(history: PersonHistory, at_us: int) -> list[dict[str, Json]]:
    """The devices there were, each with its attributes, id, platform and last_used."""
    rows: list[dict[str, Json]] = []
    for token in sorted({write[0] for write in history.devices}):
        held = record_at([write[1:] for write in history.devices if write[0] == token], at_us)
        if held is not None:
            own = {name: value for name, value in held.items() if not name.startswith(":")}
            last_used = int(cast("int", held[":last_used"]) // 1_000_000)
            rows.append({**own, "id": token, "platform": held[":platform"], "last_used": last_used})
    return rows


def relations_at(history: PersonHistory, test: RelationTest, at_us: int) -> list[dict[str, Json]]:
    """The objects of the type the person was related to, each with its attributes and those of the relationship."""
    rows: list[dict[str, Json]] = []
    for key in sorted({write[:2] for write in history.relations}):
        object_writes = [write[2:] for write in history.objects if write[:2] == key]
        ends = [write for write in object_writes if write[1] is None]
        held = record_at([write[2:] for write in history.relations if write[:2] == key] + ends, at_us)
        if held is not None and key[0] == test.type_id and test.object_id in (None, key[1]):
            rows.append({**(record_at(object_writes, at_us) or {}), "object_id": key[1], "relationship": held})
    return rows


# -- the next change ------------------------------------------------------------------------------------------


def next_change(condition: Condition, history: PersonHistory, at_us: int, segments: Segments) -> int | None:
    """The first moment after ``at_us`` at which membership is another, if no more facts come: tries them all."""
    now = member(condition, history, at_us, segments)
    for moment_us in sorted(_moments(condition, history, segments)):
        if moment_us > at_us and member(condition, history, moment_us, segments) != now:
            return moment_us
    return None


def _moments(condition: Condition, history: PersonHistory, segments: Segments) -> set[int]:
    """Every moment at which anything about the condition may become different."""
    facts = {history.exists_since_us, *(event[2] for event in history.events), *(write[0] for write in history.writes)}
    facts |= {write[-2] for write in (*history.devices, *history.relations, *history.objects)}
    facts |= {moment_us for _, moment_us, _ in history.placements}
    match condition:
        case And() | Or():
            return facts.union(*(_moments(child, history, segments) for child in condition.children))
        case Not():
            return facts | _moments(condition.child, history, segments)
        case InSegment():
            segment = segments[condition.segment_id]
            return facts if isinstance(segment, frozenset) else facts | _moments(segment, history, segments)
        case AttributeTest():
            return facts | _moments_of_values(condition, history, facts)
        case EventTest(window=Last(last_us=last_us)):
            return facts | {moment_us + last_us for moment_us in facts}
        case EventTest():
            return facts
        case DeviceTest():
            return facts | _turns(condition.where, [row for us in facts for row in devices_at(history, us)])
        case RelationTest():
            rows = [row for fact_us in facts for row in relations_at(history, condition, fact_us)]
            return facts | _turns(condition.where, rows)
        case _:
            assert_never(condition)


def _moments_of_values(test: AttributeTest, history: PersonHistory, facts: set[int]) -> set[int]:
    """When a relative timestamp test turns: the value less the offset, or one microsecond later."""
    return _turns(test, [_seen(history, fact_us) for fact_us in facts])


def _turns(where: Condition | None, rows: list[dict[str, Json]]) -> set[int]:
    if isinstance(where, And | Or):
        return {turn for child in where.children for turn in _turns(child, rows)}
    if isinstance(where, Not):
        return _turns(where.child, rows)
    test = where
    if not isinstance(test, AttributeTest) or test.operator.removeprefix("!") not in ("timestamp_gt", "timestamp_lt"):
        return set()
    offset_us = us(cast("Json", json.loads(test.value)))
    values = [value for row in rows for value in read(row, test.field)]
    turns = {us(value) - offset_us for value in values if is_timestamp(value)}
    return turns | {turn_us + 1 for turn_us in turns}
