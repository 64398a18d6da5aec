"""Writes that say again what was said last: the short way of them against the long one."""

from typing import Any, cast

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from backstory.core.fact import DeletePerson, Fact, Identifier, Identify, MergePeople, Track
from backstory.core.person import Register, decode_document, encode_document, is_repeatable, repeated, write
from backstory.core.time import HOUR_US, SECOND_US
from tests.hunt import examples
from tests.live import Live, live_worlds
from tests.model.strategy import NOW_US, encoded, past_us

ANN, BOB, CLEO = PEOPLE = (Identifier("id", "ann"), Identifier("id", "bob"), Identifier("email", "Cleo@X.org"))
# Few, so that they come again; some in another order, of another sort, or with a path.
SAID: tuple[dict[str, Json], ...] = (
    {},
    {"p": 1, "q": "a"},
    {"q": "a", "p": 1},
    {"p": 1.0, "q": "a"},
    {"p": None, "q": ""},
    {"q": {"x": 1, "a": [True]}, "when": NOW_US // SECOND_US},
    {"q.x": 2},
    {"p": "\u0092\u00cf\u03d2", "\u0092": 1},
)
SEGMENTS: tuple[Json, ...] = (
    {"attribute": {"field": "p", "operator": "eq", "value": 1}},
    {"attribute": {"field": "q.x", "operator": "exists"}},
    {"attribute": {"field": "when", "operator": "timestamp_gt", "value": -3}},
    {"event": {"name": "seen", "performed": False, "within": {"last_s": 5}}},
)
moments = st.integers(0, 3).map(lambda number: NOW_US + number)
values = st.sampled_from(cast("tuple[Json, ...]", ("a", "", 1, 1.0, True, None, ["a"], {"x": 1})))
others = st.dictionaries(st.sampled_from(("p", "q", "q.x", "q[]")), values, max_size=3)
bodies = st.one_of(st.sampled_from(SAID), others)
documents = st.lists(st.tuples(bodies, moments), max_size=3)


@settings(max_examples=examples(200))
@given(before=documents, said=bodies, at_us=moments, times_us=st.lists(moments, min_size=1, max_size=3))
def test_what_is_repeatable_changes_times_and_nothing_else(
    before: list[tuple[dict[str, Json], int]], said: dict[str, Json], at_us: int, times_us: list[int]
) -> None:
    """Where a document says so, repeating in its bytes is what writing once more comes to, and that changes nothing."""
    document: dict[str, Register] = {}
    for earlier, time_us in before:
        write(document, earlier, time_us)
    first = write(document, said, at_us)
    body = encode_document(document)
    assume(is_repeatable(body, first, at_us))
    for again_us in times_us:
        found = repeated(body, at_us, again_us)
        assert found is None or again_us > at_us
        if found is None:
            break
        again = write(document, said, again_us)
        assert not again.changed
        assert not again.lost
        assert found == encode_document(document)
        body, at_us = found, again_us


def test_plain_attributes_are_repeatable() -> None:
    """Numbers, texts, removals and objects are, whatever else the person has; a document with a path never is."""
    for said in SAID[1:6] + SAID[7:]:
        document = {"other": Register(5, b"1"), "newer": Register(NOW_US + 1, b"2")}
        written = write(document, said, NOW_US)
        body = encode_document(document)
        assert is_repeatable(body, written, NOW_US)
        found = repeated(body, NOW_US, NOW_US + 7)
        assert found is not None
        assert {decode_document(found)[name].time_us for name in said} == {NOW_US + 7}
    document = {"p.x": Register(NOW_US + 5, b"1")}
    written = write(document, {"p": {"y": 1}}, NOW_US)
    assert not is_repeatable(encode_document(document), written, NOW_US)


def test_a_register_with_the_same_time_keeps_it() -> None:
    """What somebody else wrote with the very same time is not repeated with it."""
    document: dict[str, Register] = {}
    write(document, {"p": 1}, NOW_US)
    written = write(document, {"q": 2}, NOW_US)
    assert not is_repeatable(encode_document(document), written, NOW_US)


def test_repeating_at_the_time_of_another_register_leaves_that_alone() -> None:
    """Said once more with the very time of something else, and then again: only what was said gets newer times."""
    document: dict[str, Register] = {}
    write(document, {"newer": 1}, NOW_US + 2)
    written = write(document, {"p": 1}, NOW_US)
    body = encode_document(document)
    assert is_repeatable(body, written, NOW_US)
    assert repeated(body, NOW_US, NOW_US + 1) is not None
    assert repeated(body, NOW_US, NOW_US + 2) is None
    with live_worlds("short", "long") as ((short, long), _):
        told = (("newer", 1, 20), ("p", 1, 10), ("p", 1, 20), ("p", 1, 40), ("newer", 2, 30))
        for name, value, at_us in told:
            fact = Identify(person=ANN, attributes=encoded({name: value}), time_us=NOW_US - 50 + at_us)
            assert short.send(fact) == long.send(fact)
            long.workspace.folder.people.forget_cache()
        assert everything(short, []) == everything(long, [])


@st.composite
def stories(draw: st.DrawFn) -> list[tuple[Fact, int]]:
    """Facts, each with the time that passes after it."""
    writes = st.builds(
        Identify,
        person=st.sampled_from(PEOPLE),
        attributes=st.sampled_from(SAID).map(encoded),
        time_us=st.one_of(st.none(), st.none(), past_us.map(lambda age_us: NOW_US - age_us), moments),
        body_email=st.sampled_from((None, None, None, "bob@x.org")),
        anonymous_id=st.sampled_from((None, None, None, "b1")),
    )
    placed: tuple[Fact, ...] = (
        MergePeople(primary=ANN, secondary=BOB),
        DeletePerson(person=CLEO),
        Track(person=ANN, name="seen"),
    )
    facts = st.one_of(writes, writes, writes, st.sampled_from(placed))
    return draw(st.lists(st.tuples(facts, st.sampled_from((0, 0, 1, 4 * SECOND_US, HOUR_US))), max_size=12))


@settings(max_examples=examples(40))
@given(story=stories())
def test_the_short_way_is_the_long_one(story: list[tuple[Fact, int]]) -> None:
    """A workspace that forgets what was said last after every fact ends in the same state, with the same receipts."""
    with live_worlds("short", "long") as ((short, long), _):
        ids = [[world.segment(condition) for condition in SEGMENTS] for world in (short, long)]
        for fact, passes_us in story:
            assert short.send(fact) == long.send(fact)
            long.workspace.folder.people.forget_cache()
            for world in (short, long):
                world.advance(passes_us)
        assert everything(short, ids[0]) == everything(long, ids[1])


def everything(live: Live, segment_ids: list[int]) -> dict[str, Any]:
    rows = live.workspace.folder.state.rows
    return {
        "people": rows("SELECT * FROM person ORDER BY person"),
        "writes": rows("SELECT * FROM attribute_write ORDER BY seq"),
        "traces": rows("SELECT * FROM activity ORDER BY seq"),
        "transitions": [live.transitions(one) for one in segment_ids],
        "members": [live.members(one) for one in segment_ids],
        "position": live.workspace.folder.state.position,
    }
