"""Objects, relationships and members that came with imports, taken back and brought in again, beside live calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from backstory.core.fact import ChangeMembers, Fact, Identifier, Identify, ObjectKey, Unrelate
from backstory.engine.undo import undo, undo_purge
from backstory.engine.verify import verify
from tests.hunt import examples
from tests.live import NOW_US, Live, live_worlds
from tests.model.imported import Row, json_lines, names_of
from tests.model.test_fact_import import (
    CONDITION,
    bring_in,
    call_of,
    member_rows,
    object_rows,
    relation_rows,
    state,
)
from tests.model.test_undo import Killed

IN_MANUAL: Json = {"and": [{"segment": {"id": 1}}, {"attribute": {"field": "vip", "operator": "!exists"}}]}
# ("import", (kind, rows)), ("calls", (kind, rows)), ("remove", name), ("end", (name, object)), ("crash", None)
Step = tuple[str, Any]
KINDS = {"objects": object_rows, "relationships": relation_rows, "members": member_rows}


@st.composite
def of_files(draw: st.DrawFn) -> tuple[str, list[Row]]:
    kind = draw(st.sampled_from(tuple(KINDS)))
    return kind, draw(KINDS[kind])


imports = st.tuples(st.just("import"), of_files())
steps = st.lists(
    st.one_of(
        imports, st.tuples(st.just("calls"), of_files()), st.tuples(st.just("calls"), of_files()),
        st.tuples(st.just("remove"), st.sampled_from(("ann", "bob"))),
        st.tuples(st.just("end"), st.tuples(st.sampled_from(("ann", "bob")), st.sampled_from(("acme", "7")))),
        st.tuples(st.just("crash"), st.none()),
    ),
    max_size=5,
)  # fmt: skip


@contextmanager
def worlds() -> Iterator[tuple[Live, Live, Path]]:
    with live_worlds("world", "other") as (made, folder):
        for world in made:
            # Nobody's being there is what these tests are about.
            world.send(*(Identify(person=Identifier("id", name)) for name in ("ann", "bob", "new")))
            assert world.segment(None) == 1
            assert world.segment(CONDITION) == 2
            assert world.segment(IN_MANUAL) == 3
        yield made[0], made[1], folder


def play(world: Live, folder: Path, some: list[Step]) -> list[int]:
    """Live through some steps; returns the numbers of the imports."""
    numbers: list[int] = []
    for sort, what in some:
        # Calls and files are told apart by the moments they come.
        world.advance(1000)
        match sort:
            case "import":
                kind, rows = what
                path = folder / f"{world.path.name}-{len(list(folder.iterdir()))}.jsonl"
                path.write_bytes(json_lines(rows))
                numbers.append(bring_in(world, path, kind).import_id)
            case "calls":
                kind, rows = what
                world.send(*(call_of(kind, row, 1) for row in rows))
            case "remove":
                out: Fact = ChangeMembers(segment_id=1, people=(Identifier("id", what),), add=False)
                world.send(out)
            case "end":
                name, object_id = what
                time_us = NOW_US - 50_000_000
                world.send(Unrelate(person=Identifier("id", name), object=ObjectKey(1, object_id), time_us=time_us))
            case _:
                world.crash()
    return numbers


def seen(world: Live) -> dict[str, Any]:
    """What is true; when an object was last told of is seen by nobody, nor one that is not there."""
    found = state(world)
    found["objects"] = [(row[0], row[1], found_object(world, row)) for row in found["objects"]]
    found["objects"] = [row for row in found["objects"] if row[2] is not None]
    found["types"] = world.workspace.reader.object_types()
    known = world.workspace.segments.known
    found["known"] = {name: known.get_us(person) for person, name in names_of(world.workspace).items()}
    found["shown"] = [
        world.workspace.reader.relationships("id", name, start="", limit=50) is not None for name in ("ann", "bob")
    ]
    return found


def found_object(world: Live, row: Any) -> Any:
    one = world.workspace.folder.objects.find(ObjectKey(row[0], row[1]))
    assert one is not None
    return one.record.document if one.record.there else None


def clean(world: Live) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    verify.run(world.workspace, lines.append)
    return [line for line in lines if "difference" in line]


def agree(one: Live, other: Live) -> None:
    assert seen(one) == seen(other)
    one.crash()
    assert seen(one) == seen(other)
    assert clean(one) == []


def turned(world: Live, number: int, work: Any, crashes: list[int]) -> None:
    """Take an import back, or bring it in, killed behind so many steps each time before it may finish."""
    for left in crashes:
        rest = iter(range(left))

        def on_step(step: str, rest: Iterator[int] = rest) -> None:
            if next(rest, None) is None:
                raise Killed

        try:
            work(world.workspace, number, on_step)
        except Killed:
            world.crash()
    work(world.workspace, number)


@settings(max_examples=examples(8))
@given(first=steps, wrong=imports, then=steps, after=steps, crashes=st.lists(st.integers(0, 3), max_size=1))
def test_an_import_that_was_taken_back_might_as_well_never_have_been(
    first: list[Step], wrong: Step, then: list[Step], after: list[Step], crashes: list[int]
) -> None:
    """Whatever was said by calls and by other imports before, between and after; purged, it still is."""
    with worlds() as (world, without, folder):
        play(world, folder, first)
        play(without, folder, first)
        (number,) = play(world, folder, [wrong])
        without.advance(1000)
        play(world, folder, then)
        play(without, folder, then)
        turned(world, number, undo.undo, crashes)
        agree(world, without)
        undo_purge.purge(world.workspace, number)
        play(world, folder, after)
        play(without, folder, after)
        agree(world, without)


@settings(max_examples=examples(8))
@given(
    first=steps, wrong=imports, then=steps, between=steps, crashes=st.lists(st.integers(0, 3), max_size=1),
    others=st.lists(st.booleans(), max_size=4),
)  # fmt: skip
def test_an_import_that_came_back_might_as_well_never_have_gone(
    first: list[Step], wrong: Step, then: list[Step], between: list[Step], crashes: list[int], others: list[bool]
) -> None:
    """Also where other imports go and come meanwhile."""
    with worlds() as (world, steady, folder):
        numbers = play(world, folder, [*first, wrong, *then])
        play(steady, folder, [*first, wrong, *then])
        gone = [number for number, goes in zip(numbers, others, strict=False) if goes] or numbers[-1:]
        for number in gone:
            turned(world, number, undo.undo, crashes)
        play(world, folder, between)
        play(steady, folder, between)
        for number in gone:
            turned(world, number, undo.redo, crashes)
        agree(world, steady)


@settings(max_examples=examples(8))
@given(rows=relation_rows, calls=relation_rows)
def test_people_whom_only_an_import_told_of_go_and_come_back(rows: list[Row], calls: list[Row]) -> None:
    """With their relationships and the objects these made; whom calls name too stays."""
    with live_worlds("world", "without", "steady") as ((world, without, steady), folder):
        for one in (world, without, steady):
            assert one.segment(None) == 1
            assert one.segment(CONDITION) == 2
        play(world, folder, [("import", ("relationships", rows))])
        play(steady, folder, [("import", ("relationships", rows))])
        without.advance(1000)
        for one in (world, without, steady):
            play(one, folder, [("calls", ("relationships", calls))])
        undo.undo(world.workspace, 1)
        agree(world, without)
        undo.redo(world.workspace, 1)
        agree(world, steady)
