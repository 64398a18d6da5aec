"""Objects and relationships: made, changed, ended and deleted, in any order, with their traces and limits."""

from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import (
    DeleteObject,
    DeletePerson,
    Fact,
    Identifier,
    Identify,
    IdentifyObject,
    ObjectKey,
    Receipt,
    Relate,
    Unrelate,
)
from backstory.core.limit import OBJECT_ATTRIBUTE_BYTES, OBJECT_ATTRIBUTES, RELATIONSHIPS_PER_PERSON
from backstory.core.person import values
from backstory.store.object import cio_object_id_of, read_object_types
from tests.live import NOW_US, Live

S = 1_000_000
T = NOW_US - 1000 * S


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    world = Live(tmp_path / "w")
    yield world
    world.close()


def obj(object_id: str = "acme", time_us: int | None = None, **attributes: Json) -> IdentifyObject:
    return IdentifyObject(
        object=ObjectKey(1, object_id), attributes=msgspec.json.encode(attributes), time_us=time_us
    )


def rel(person: str = "a", object_id: str = "acme", time_us: int | None = None, **attributes: Json) -> Relate:
    return Relate(
        object=ObjectKey(1, object_id),
        person=Identifier("id", person),
        attributes=msgspec.json.encode(attributes),
        time_us=time_us,
    )


def unrel(person: str = "a", object_id: str = "acme", time_us: int | None = None) -> Unrelate:
    return Unrelate(object=ObjectKey(1, object_id), person=Identifier("id", person), time_us=time_us)


def one(live: Live, fact: Fact) -> Receipt:
    return live.send(fact)[0]


def related(live: Live, person: str = "a") -> dict[str, tuple[dict[str, Json], dict[str, Json]]]:
    """``{object_id: (attributes, attributes of the relationship)}``."""
    number = live.workspace.folder.people.find(Identifier("id", person))
    if number is None:
        return {}
    found = live.workspace.folder.relations.of_person(number)
    return {row.object_id: (values(row.record.document), values(record.document)) for row, record in found}


def types(live: Live) -> list[str]:
    return [row[0] for row in live.workspace.folder.state.rows("SELECT type FROM activity ORDER BY seq")]


def test_an_object_and_its_type_are_made_when_first_named(live: Live) -> None:
    """An object has attributes of its own; null and the empty text remove."""
    assert one(live, obj(name="Acme", size=3)).result == "applied"
    assert one(live, obj(size=None, name="")).result == "applied"
    one(live, rel())
    assert related(live) == {"acme": ({}, {})}
    assert live.workspace.folder.state.read(read_object_types) == [1]
    assert types(live)[:2] == ["_o:1:create", "_o:1:attribute_change"]


def test_relating_makes_person_and_object(live: Live) -> None:
    """Neither has to be known; both logs tell of it."""
    assert one(live, rel(role="admin")).result == "applied"
    assert related(live) == {"acme": ({}, {"role": "admin"})}
    assert types(live) == ["profile_create", "_o:1:create", "add_relationship", "_o:1:add_relationship"]
    one(live, rel(role="owner"))
    assert types(live)[4:] == ["relationship_attribute_change", "_r:1:attribute_change"]


def test_an_update_makes_nothing(live: Live) -> None:
    """With update_only nothing is made, of either side."""
    update = msgspec.structs.replace(rel(), update_only=True)
    assert one(live, update).result == "dropped"
    one(live, obj())
    assert one(live, update).result == "dropped"
    live.identify("a")
    assert one(live, update).result == "applied"
    assert one(live, msgspec.structs.replace(obj("other"), update_only=True)).result == "dropped"


def test_an_object_is_addressed_by_the_id_we_gave_it(live: Live) -> None:
    """A cio_object_id names an object that is there; nothing is made under one."""
    one(live, obj())
    given = cio_object_id_of(1)
    assert one(live, IdentifyObject(object=ObjectKey(1, None, given), attributes=b'{"x":1}')).result == "applied"
    assert one(live, Relate(object=ObjectKey(0, None, given), person=Identifier("id", "a"))).result == "applied"
    assert related(live) == {"acme": ({"x": 1}, {})}
    for unknown in (cio_object_id_of(2), "obzz", "x"):
        assert one(live, IdentifyObject(object=ObjectKey(1, None, unknown))).result == "dropped"
        assert one(live, Unrelate(object=ObjectKey(1, None, unknown), person=Identifier("id", "a"))).result == "skipped"


def test_timed_facts_in_any_order_end_alike(tmp_path: Path) -> None:
    """Beginning, ending, beginning again and attributes of both sides: only their times matter."""
    facts: list[Fact] = [
        rel(time_us=T, role="old", since=1),
        unrel(time_us=T + 1),
        rel(time_us=T + 2, role="new"),
        obj(time_us=T + 1, name="Acme"),
        obj(time_us=T + 2, name=None, size=3),
    ]
    for number, order in enumerate(list(permutations(facts))[::11]):
        live = Live(tmp_path / str(number))
        live.send(*order)
        assert related(live) == {"acme": ({"size": 3}, {"role": "new"})}, order
        live.close()


def test_an_end_told_before_the_beginning_and_before_the_person(live: Live) -> None:
    """A relationship that ended does not begin by an older fact, though nobody was known when the end was told."""
    assert one(live, unrel(time_us=T + 5)).result == "skipped"
    assert one(live, rel(time_us=T)).result == "dropped"
    assert related(live) == {}
    assert one(live, rel(time_us=T + 6)).result == "applied"
    assert related(live) == {"acme": ({}, {})}


def test_deleting_an_object_ends_its_relationships_for_older_facts_too(live: Live) -> None:
    """What is dated before the deletion is refused with a trace; what is later makes the object anew."""
    one(live, obj(name="Acme"))
    one(live, rel())
    assert one(live, DeleteObject(object=ObjectKey(1, "acme"))).result == "applied"
    assert related(live) == {}
    assert one(live, DeleteObject(object=ObjectKey(1, "acme"))).result == "skipped"
    assert one(live, rel(time_us=T)).result == "dropped"
    assert one(live, obj(time_us=T, name="x")).result == "dropped"
    assert "_o:1:failed_attribute_change" in types(live)
    live.advance(S)
    one(live, rel())
    assert related(live) == {"acme": ({}, {})}


def test_what_is_older_than_a_deletion_is_refused_under_an_anonymous_id_too(live: Live) -> None:
    """As under any other identifier: whoever claims the id later does not inherit it, and the log says why."""
    live.send(Identify(person=Identifier("id", "old"), attributes=b"{}", anonymous_id="anon"))
    live.send(DeletePerson(person=Identifier("id", "old")))
    key = ObjectKey(1, "acme")
    assert one(live, Relate(object=key, anonymous_id="anon", time_us=T)).result == "dropped"
    assert one(live, Unrelate(object=key, anonymous_id="anon", time_us=T)).result == "dropped"
    assert one(live, Relate(object=ObjectKey(1, "new"), anonymous_id="anon")).result == "applied"
    live.send(Identify(person=Identifier("id", "next"), attributes=b"{}", anonymous_id="anon"))
    assert list(related(live, "next")) == ["new"]


def test_relationships_of_an_anonymous_id_move_when_it_is_claimed(live: Live) -> None:
    """What was told under an anonymous id becomes its person's."""
    fact = Relate(object=ObjectKey(1, "acme"), anonymous_id="anon", attributes=b'{"role":"guest"}')
    assert one(live, fact).result == "applied"
    assert one(live, Unrelate(object=ObjectKey(1, "other"), anonymous_id="anon")).result == "skipped"
    live.identify("a")
    person = live.workspace.folder.people.find(Identifier("id", "a"))
    assert person is not None
    live.workspace.call(lambda: live.workspace.applier.relations.claim("anon", person, live.now_us))
    assert related(live) == {"acme": ({}, {"role": "guest"})}


def test_merging_takes_relationships_and_devices_along(live: Live) -> None:
    """Attributes of the same relationship are decided by their times."""
    live.send(rel("a", time_us=T, role="old", kept=1), rel("b", time_us=T + 1, role="new"), rel("b", "other"))
    a, b = (live.workspace.folder.people.find(Identifier("id", who)) for who in "ab")
    assert a is not None
    assert b is not None
    live.workspace.call(lambda: live.workspace.applier.relations.merge(b, a, live.now_us))
    assert related(live) == {"acme": ({}, {"role": "new", "kept": 1}), "other": ({}, {})}
    assert related(live, "b") == {}


def test_relationships_go_with_their_person(live: Live) -> None:
    """Deleting a person leaves nothing of their relationships; the object stays."""
    one(live, rel())
    live.send(DeletePerson(person=Identifier("id", "a")))
    assert live.workspace.folder.state.rows("SELECT * FROM relationship") == []
    assert live.workspace.folder.state.rows("SELECT kind FROM record_write") == [("object",)]


def test_a_forbidden_name_is_refused(live: Live) -> None:
    """An object cannot have an attribute under which its relationship is shown."""
    assert one(live, obj(relationship="x")).result == "conflict"
    assert one(live, rel(relationship="x")).result == "applied"


@pytest.mark.parametrize("make", [obj, rel])
def test_attributes_are_limited_in_number(live: Live, make: type[IdentifyObject] | type[Relate]) -> None:
    """As many attributes as the limit says, and not one more, over several calls too."""
    most = {f"a{number}": 1 for number in range(OBJECT_ATTRIBUTES.value)}
    assert one(live, make(**most)).result == "applied"  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert one(live, make(one_more=1)).result == "conflict"  # pyright: ignore[reportArgumentType, reportCallIssue]


@pytest.mark.parametrize("make", [obj, rel])
def test_what_was_removed_does_not_count_as_an_attribute(live: Live, make: type[IdentifyObject] | type[Relate]) -> None:
    """As many as the limit says again; paths of one attribute are one."""
    most = {f"a{number}": 1 for number in range(OBJECT_ATTRIBUTES.value)}
    assert one(live, make(**most)).result == "applied"  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert one(live, make(a0=None)).result == "applied"  # pyright: ignore[reportArgumentType, reportCallIssue]
    paths = {"b.x": 1, "b.y": 2}
    assert one(live, make(**paths)).result == "applied"  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert one(live, make(c=1)).result == "conflict"  # pyright: ignore[reportArgumentType, reportCallIssue]


def test_attributes_are_limited_in_size(live: Live) -> None:
    """Names and values together: at the limit and one byte past it."""
    room = OBJECT_ATTRIBUTE_BYTES.value - len('{"t":""}')
    assert one(live, obj("fits", t="x" * room)).result == "applied"
    assert one(live, obj("one more", t="x" * (room + 1))).result == "conflict"


def test_relationships_are_limited_in_number(live: Live) -> None:
    """As many relationships as the limit says, and not one more; known ones can still change."""
    facts: list[Fact] = [rel(object_id=str(number)) for number in range(RELATIONSHIPS_PER_PERSON.value)]
    assert {receipt.result for receipt in live.send(*facts)} == {"applied"}
    assert one(live, rel(object_id="one more")).result == "conflict"
    assert one(live, rel(object_id="0", role="x")).result == "applied"


def test_being_there_beats_being_gone_at_the_same_moment(tmp_path: Path) -> None:
    """As a value beats a removal: whichever was told first."""
    for number, order in enumerate(permutations([rel(time_us=T, role="x"), unrel(time_us=T)])):
        live = Live(tmp_path / str(number))
        live.send(*order)
        assert related(live) == {"acme": ({}, {"role": "x"})}, order
        live.close()
