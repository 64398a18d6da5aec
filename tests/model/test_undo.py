"""Undo: an import that was taken back might as well never have been, and one brought back never have gone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.condition import Json
from backstory.core.error import ConflictError
from backstory.core.fact import DeletePerson, Fact, Identifier, Identify, Track
from backstory.core.time import HOUR_US, SECOND_US
from backstory.engine.compactor import Compactor
from backstory.engine.file.options import BackfillOptions
from backstory.engine.undo import undo
from backstory.engine.verify import verify
from backstory.store.compaction import Sizes
from tests.hunt import examples
from tests.live import Live, live_worlds
from tests.model.imported import Row, bring_in, json_lines, state, tell, written
from tests.model.strategy import NAMES, NOW_S, NOW_US, encoded
from tests.model.test_backfill import CAMPAIGNS, SEGMENTS, chunkings, conditions_json, live_facts, start_campaign
from tests.model.test_backfill import UUID as SOME_UUID

IDS = ("ann", "bob", "cid", "7")
EMAILS = ("dan@x.org", "Eve@x.org")
AGES_S = (0, 1, 19, 299, 301, 86_400, 71 * 3600, 90 * 86_400, -1, -20, -300)
Kind = Literal["events", "people"]
# ("calls", facts), ("import", (kind, rows)), ("pause", what the workspace goes through)
Step = tuple[str, Any]

who = st.sampled_from((*IDS, *EMAILS))
ages_s = st.sampled_from(AGES_S)


@st.composite
def calls(draw: st.DrawFn) -> list[Fact]:
    """Timed facts of people named by one identifier each: nothing is decided by what somebody else said."""
    facts: list[Fact] = []
    for _ in range(draw(st.integers(0, 5))):
        name = draw(who)
        person = Identifier("email" if "@" in name else "id", name)
        if draw(st.booleans()):
            event_id = draw(st.sampled_from((None, None, "e1", SOME_UUID)))
            data = draw(st.sampled_from((b"{}", b'{"n":0}', b'{"n":1}')))
            time_us = (NOW_S - draw(ages_s)) * SECOND_US
            facts.append(
                Track(person=person, name=draw(st.sampled_from(NAMES)), data=data, time_us=time_us, event_id=event_id)
            )
        else:
            names = draw(st.lists(st.sampled_from(("plan", "n", "a.b", "a")), max_size=2, unique=True))
            values = {one: draw(st.sampled_from(("pro", "free", 1, None))) for one in names}
            age_s = draw(st.sampled_from((0, 1, 5, 60, 86_400)))
            facts.append(Identify(person=person, attributes=encoded(values), time_us=(NOW_S - age_s) * SECOND_US))
    return facts


@st.composite
def events(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 8))):
        row: Row = {
            "customer_id": draw(who),
            "name": draw(st.sampled_from(NAMES)),
            "timestamp": NOW_S - draw(ages_s),
        }
        if draw(st.integers(0, 3)) == 0:
            row["event_id"] = draw(st.sampled_from(("e1", SOME_UUID, SOME_UUID.upper())))
        if draw(st.booleans()):
            row["data"] = {"n": draw(st.sampled_from((0, 1)))}
        rows.append(row)
    return rows


@st.composite
def people(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    for _ in range(draw(st.integers(0, 8))):
        name = draw(who)
        row: Row = {"email" if "@" in name else "id": name, "_timestamp": NOW_S - draw(st.sampled_from((0, 1, 5, 60)))}
        for one in draw(st.lists(st.sampled_from(("plan", "n", "a.b", "a", "when")), max_size=3, unique=True)):
            row[one] = draw(st.sampled_from(("pro", "free", 1, NOW_S - 10, "")))
        rows.append(row)
    return rows


@st.composite
def imports(draw: st.DrawFn) -> Step:
    kind: Kind = draw(st.sampled_from(("events", "people")))
    return "import", (kind, draw(events() if kind == "events" else people()), draw(chunkings))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("calls"), calls()), imports(), imports(),
        st.tuples(st.just("pause"), st.sampled_from(("crash", "reopen", "compact", "time"))),
    ),
    max_size=5,
)  # fmt: skip


@contextmanager
def worlds(count: int, extra: list[Json]) -> Iterator[tuple[list[Live], Path]]:
    """Equal workspaces with segments and campaigns."""
    with live_worlds(*(f"world{number}" for number in range(count)), now_us=NOW_US) as (made, folder):
        for world in made:
            for condition in (*SEGMENTS, *extra):
                world.segment(condition)
            for trigger in CAMPAIGNS:
                start_campaign(world, trigger)
        yield made, folder


def play(world: Live, folder: Path, some: list[Step]) -> list[int]:
    """Live through some steps; returns the numbers of the imports."""
    numbers: list[int] = []
    for kind, what in some:
        match kind:
            case "calls":
                tell(world, what)
            case "import":
                sort, rows, chunking = what
                path = written(folder, f"{world.path.name}-{len(list(folder.iterdir()))}.jsonl", json_lines(rows))
                numbers.append(bring_in(world, BackfillOptions(kind=sort, paths=(path,)), chunking).import_id)
            case _:
                pause(world, what)
    return numbers


def pause(world: Live, how: str) -> None:
    match how:
        case "crash":
            world.crash()
        case "reopen":
            world.reopen()
        case "compact":
            Compactor(world.workspace, Sizes(tail_rows=2, move_rows=3, part_rows=40, run_rows=40)).work_off()
        case _:
            # Less than makes a difference where accept times are compared.
            world.advance(SECOND_US // 50)


def seen(world: Live) -> dict[str, Any]:
    """What is true but for journeys: those that were begun have ended, and are listed still."""
    world.workspace.builder.work_off()
    shown = state(world, now_us=NOW_US)
    del shown["journeys"]
    return shown


def clean(world: Live) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    verify.run(world.workspace, lines.append)
    return [line for line in lines if "difference" in line]


def agree(one: Live, other: Live) -> None:
    assert seen(one) == seen(other)
    for by_us in (20 * SECOND_US, 280 * SECOND_US):
        one.advance(by_us)
        other.advance(by_us)
        assert seen(one) == seen(other)
    assert clean(one) == [], clean(one)
    one.crash()
    other.crash()
    one.advance(HOUR_US)
    other.advance(HOUR_US)
    assert seen(one) == seen(other)
    assert clean(one) == [], clean(one)


class Killed(Exception):
    pass


def undone(world: Live, number: int, crashes: list[int], work: Callable[..., undo.Undone] = undo.undo) -> undo.Undone:
    """Take an import back, killed behind so many steps each time before it may finish."""
    for left in crashes:
        rest = iter(range(left))

        def on_step(step: str, rest: Iterator[int] = rest) -> None:
            if next(rest, None) is None:
                raise Killed

        try:
            return work(world.workspace, number, on_step)
        except Killed:
            world.crash()
    return work(world.workspace, number)


@settings(max_examples=examples(6))
@given(
    before=live_facts(), first=steps, wrong=imports(), then=steps, after=steps, extra=conditions_json,
    crashes=st.lists(st.integers(0, 8), max_size=2),
)  # fmt: skip
def test_an_import_that_was_taken_back_might_as_well_never_have_been(
    before: list[Fact], first: list[Step], wrong: Step, then: list[Step], after: list[Step], extra: list[Json],
    crashes: list[int],
) -> None:  # fmt: skip
    """People, identifiers, values with their times, events and memberships, whatever came before, between and after."""
    with worlds(2, extra) as ((world, without), folder):
        tell(world, before)
        tell(without, before)
        play(world, folder, first)
        play(without, folder, first)
        (number,) = play(world, folder, [wrong])
        play(world, folder, then)
        play(without, folder, then)
        undone(world, number, crashes)
        assert world.workspace.reader.import_(number).state == "retracted"
        assert not world.workspace.folder.state.rows(
            "SELECT 1 FROM journey WHERE import_id = ? AND state IN ('filtering', 'active')", (number,)
        )
        play(world, folder, after)
        play(without, folder, after)
        agree(world, without)


@settings(max_examples=examples(4))
@given(
    before=live_facts(), first=steps, wrong=imports(), then=steps, between=steps,
    crashes=st.lists(st.integers(0, 8), max_size=2), others=st.lists(st.booleans(), max_size=4),
)  # fmt: skip
def test_an_import_that_came_back_might_as_well_never_have_gone(
    before: list[Fact], first: list[Step], wrong: Step, then: list[Step], between: list[Step], crashes: list[int],
    others: list[bool],
) -> None:  # fmt: skip
    """Also where other imports go and come meanwhile, and calls name the people who were gone."""
    with worlds(2, []) as ((world, steady), folder):
        tell(world, before)
        tell(steady, before)
        play(steady, folder, first)
        numbers = play(world, folder, first)
        numbers += play(world, folder, [wrong])
        play(steady, folder, [wrong])
        numbers += play(world, folder, then)
        play(steady, folder, then)
        gone = [number for number, goes in zip(numbers, others, strict=False) if goes] or numbers[-1:]
        for number in gone:
            undone(world, number, crashes)
        play(world, folder, between)
        play(steady, folder, between)
        returned = [came_back(world, number, crashes) for number in gone]
        if all(returned):
            agree(world, steady)


def came_back(world: Live, number: int, crashes: list[int]) -> bool:
    """Bring an import in again; where that is refused, nothing may have changed."""
    before = seen(world)
    try:
        undone(world, number, crashes, undo.redo)
    except ConflictError:
        assert seen(world) == before
        assert world.workspace.reader.import_(number).state == "retracted"
        assert clean(world) == []
        return False
    return True


PAIRED = st.sampled_from(("ann", "bob"))


@st.composite
def paired_imports(draw: st.DrawFn) -> Step:
    """Of people whose emails come with imports alone; ids are everybody's."""
    rows: list[Row] = []
    kind: Kind = draw(st.sampled_from(("people", "people", "events")))
    for _ in range(draw(st.integers(1, 4))):
        name, age_s = draw(PAIRED), draw(st.sampled_from((0, 1, 5, 60)))
        if kind == "people":
            row: Row = {"id": name, "plan": draw(st.sampled_from(("pro", "free"))), "_timestamp": NOW_S - age_s}
            if draw(st.booleans()):
                # One each: a second one would be refused because of the first, and such decisions stand.
                row["email"] = name + "@x.org"
        else:
            row = {"customer_id": name, "name": draw(st.sampled_from(NAMES)), "timestamp": NOW_S - age_s}
            if draw(st.booleans()):
                row["event_id"] = draw(st.sampled_from(("e1", "e2")))
        rows.append(row)
    return "import", (kind, rows, draw(chunkings))


@st.composite
def one_call(draw: st.DrawFn) -> Step:
    """As of now: what is older may be refused because of a deletion that only one of two worlds has seen."""
    person = Identifier("id", draw(PAIRED))
    kind = draw(st.sampled_from(("track", "identify", "delete")))
    if kind == "delete":
        return "calls", [DeletePerson(person=person)]
    if kind == "identify":
        return "calls", [Identify(person=person, attributes=encoded({"plan": draw(st.sampled_from(("pro", "free")))}))]
    event_id = draw(st.sampled_from((None, "e1", "e2")))
    return "calls", [Track(person=person, name=draw(st.sampled_from(NAMES)), data=b"{}", event_id=event_id)]


@settings(max_examples=examples(6))
@given(
    first=st.lists(one_call(), max_size=2), some=st.lists(paired_imports(), min_size=2, max_size=3),
    then=st.lists(one_call(), max_size=2),
    turns=st.lists(
        st.tuples(st.integers(0, 2), st.lists(one_call(), max_size=1), st.booleans()), min_size=2, max_size=5
    ),
)  # fmt: skip
def test_imports_come_and_go_in_any_order(
    first: list[Step], some: list[Step], then: list[Step], turns: list[tuple[int, list[Step], bool]]
) -> None:
    """Whatever is called, deleted and made again meanwhile: as if only those that count had been, or refused."""
    with worlds(2, []) as ((world, only), folder):
        calls: list[Step] = []
        play(world, folder, first)
        numbers: list[int] = []
        for step in some:
            numbers += play(world, folder, [step])
            pause(world, "time")
        play(world, folder, then)
        out: set[int] = set()
        for at, between, crash in turns:
            number = numbers[at % len(numbers)]
            if number not in out:
                undone(world, number, [])
                out.add(number)
            elif came_back(world, number, []):
                out.discard(number)
            pause(world, "time")
            play(world, folder, between)
            calls += [("pause", "time"), *between]
            if crash:
                world.crash()
        play(only, folder, first)
        for number, step in zip(numbers, some, strict=True):
            play(only, folder, [] if number in out else [step])
            pause(only, "time")
        play(only, folder, then)
        play(only, folder, calls)
        agree(world, only)
