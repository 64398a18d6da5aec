"""What everybody's values of an attribute were over time, as columns, against folding each person's writes."""

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from backstory.core.comparison import holds, read_path
from backstory.core.condition import AttributeTest, Json
from backstory.core.person import folded, values
from backstory.core.time import SECOND_US
from backstory.core.timeline import root_of
from backstory.engine.segment.value_column import ValueColumn, read_shown
from backstory.store.compaction import Sizes
from tests.hunt import examples
from tests.live import NOW_US, live_worlds

PEOPLE = ("ann", "bob", "eve")
ROOTS = ("plan", "tags", 'o"dd', "id", "email", "phone")
MOMENTS_US = tuple(NOW_US + number * SECOND_US for number in range(-5, 3))
# Everything in the tail leaves it.
SIZES = Sizes(tail_rows=1, move_rows=1000, part_rows=1000, run_rows=1000)
TESTS = (AttributeTest("plan", "eq", b'"b"'), AttributeTest("plan.x", "exists"), AttributeTest("tags[0]", "!eq", b"1"))

items: st.SearchStrategy[Json] = st.sampled_from((None, "", "a", "b", "B", 1, 1.5, True, [1, 2], {"x": 1}, {"y": "ü"}))
names = st.sampled_from(("plan", "tags", "plan.x", "plan.y", "tags[0]", "planned", 'o"dd', "phone"))
writes = st.tuples(st.sampled_from(PEOPLE), st.sampled_from(MOMENTS_US[:5]), st.dictionaries(names, items, max_size=3))
Write = tuple[str, int, dict[str, Json]]


@settings(max_examples=examples(30), deadline=None)
@given(told=st.lists(st.lists(writes, max_size=4), max_size=3))
@example([[("ann", NOW_US, {"plan": "a"})], [("ann", NOW_US, {"plan": None}), ("ann", NOW_US, {"plan": "B"})]])
@example([[("ann", NOW_US, {"plan": {"x": 1}})], [("ann", NOW_US - SECOND_US, {"plan.y": 2})]])
def test_columns_are_what_folding_each_person_says(told: list[list[Write]]) -> None:
    """Writes in any order, to paths too, in parts and in the tail: the same at every moment, and judged the same."""
    with live_worlds("live") as ((live,), _):
        for stretch in told:
            live.workspace.compactor.sizes = SIZES
            live.workspace.compactor.work_off()
            for person, time_us, attributes in stretch:
                live.identify(person, time_us, **attributes)
        everything: list[Write] = [write for stretch in told for write in stretch]
        numbers = {view["id"]: person for person, view in people_of(live)}
        for root in ROOTS:
            column = read_shown(live.workspace.folder, root, until_us=MOMENTS_US[-1])
            for moment_us in MOMENTS_US:
                shown = shown_at(column, moment_us)
                for person, number in numbers.items():
                    expected = expected_of(root, person, number, everything, moment_us)
                    assert shown.get(number, {}) == expected, (root, person, moment_us)
        for test in TESTS:
            column = read_shown(live.workspace.folder, root_of(test.field), until_us=MOMENTS_US[-1])
            now = column.at(MOMENTS_US[-1])
            truths = dict(zip(now.people.tolist(), now.truths(test, NOW_US)[now.codes].tolist(), strict=True))
            for person, number in numbers.items():
                document = expected_of(root_of(test.field), person, number, everything, MOMENTS_US[-1])
                truth = holds(test, read_path(document, test.field), NOW_US)
                assert truths.get(number, holds(test, [], NOW_US)) == truth, (test, person)


def people_of(live: Any) -> list[tuple[int, dict[str, str]]]:
    rows = live.workspace.folder.state.rows("SELECT person, id FROM person")
    return [(row[0], {"id": row[1]}) for row in rows]


def shown_at(column: ValueColumn, moment_us: int) -> dict[int, dict[str, Json]]:
    """What each person shows under the names that begin like the attribute, of whom the column tells."""
    now = column.at(moment_us)
    plain: list[dict[str, Json]] = [{} if value is None else {column.root: value} for value in column.values]
    documents = [*plain, *column.others]
    return {person: documents[code] for person, code in zip(now.people.tolist(), now.codes.tolist(), strict=True)}


def expected_of(root: str, person: str, number: int, told: list[Write], moment_us: int) -> dict[str, Json]:
    """The obvious way: what somebody's writes up to a moment come to."""
    if root == "id":
        return {"id": person}
    if root == "email":
        return {}
    done = [(time_us, write) for who, time_us, write in told if who == person and time_us <= moment_us]
    return {name: value for name, value in values(folded(done)).items() if root_of(name) == root}
