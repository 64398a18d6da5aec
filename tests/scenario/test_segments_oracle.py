"""The segment tables, run through the oracle."""

from pathlib import Path

import pytest

from backstory.core import oracle
from backstory.core.condition import Condition, parse, to_json
from tests.scenario import table
from tests.scenario.table import Scenario, TableError

SCENARIOS = table.read(Path(__file__).with_name("segments.txt"))
CASES = [pytest.param(scenario, id=scenario.title) for scenario in SCENARIOS]
SOME_CONDITION = '{"attribute": {"field": "a", "operator": "exists"}}'


def histories(scenario: Scenario) -> dict[str, oracle.PersonHistory]:
    """The people of a scenario, as the oracle sees them: an email names the person, the rest are attributes."""
    found: dict[str, oracle.PersonHistory] = {}
    for number, name in enumerate(scenario.people):
        history = oracle.PersonHistory(
            person=number,
            identifiers={"id": name},
            events=[(e.kind, e.name, e.time_us, e.data) for e in scenario.events if e.person == name],
            writes=[(write.time_us, dict(write.attributes)) for write in scenario.writes if write.person == name],
            exists_since_us=0,
        )
        for _, attributes in history.writes:
            email = attributes.pop("email", None)
            if isinstance(email, str):
                history.identifiers["email"] = email
        times_us = [time_us for time_us, _ in history.writes] + [event[2] for event in history.events]
        history.exists_since_us = min(times_us)
        found[name] = history
    return found


def segments(scenario: Scenario, people: dict[str, oracle.PersonHistory]) -> dict[int, Condition | frozenset[int]]:
    """The other segments of a scenario, read."""
    return {
        segment_id: frozenset(people[name].person for name in body) if isinstance(body, frozenset) else parse(body)
        for segment_id, body in scenario.segments.items()
    }


@pytest.mark.parametrize("scenario", CASES)
def test_everybody_expected_is_in_and_nobody_else(scenario: Scenario) -> None:
    """At each moment of the table exactly the people named are in."""
    people = histories(scenario)
    condition = parse(scenario.condition)
    for expected in scenario.expected:
        found = oracle.members(condition, people.values(), expected.at_us, segments(scenario, people))
        assert {name for name, history in people.items() if history.person in found} == expected.people, expected


@pytest.mark.parametrize("scenario", CASES)
def test_the_clock_changes_members_only_at_the_moments_foretold(scenario: Scenario) -> None:
    """Between two expected moments a person's membership differs only if a next change was foretold between them."""
    people = histories(scenario)
    condition = parse(scenario.condition)
    known = segments(scenario, people)
    for one, two in zip(scenario.expected, scenario.expected[1:], strict=False):
        for name, history in people.items():
            change_us = oracle.next_change(condition, history, one.at_us, known)
            if (name in one.people) != (name in two.people):
                assert change_us is not None
                assert change_us <= two.at_us
            if change_us is None or change_us > two.at_us:
                assert (name in one.people) == (name in two.people)


@pytest.mark.parametrize("scenario", CASES)
def test_printing_and_reading_keeps_the_condition(scenario: Scenario) -> None:
    """The condition of every table is the same after it was printed and read again."""
    condition = parse(scenario.condition)
    assert parse(to_json(condition)) == condition


def test_every_scenario_has_a_title_of_its_own() -> None:
    """Two scenarios with one title could not be told apart in a report."""
    titles = [scenario.title for scenario in SCENARIOS]
    assert len(titles) == len(set(titles))
    assert len(titles) >= 40


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("people:\n  12:00 | ann", "line 2"),
        ("scenario: s\npeople:\n  noon | ann", "line 3"),
        ("scenario: s\nexpected:\n  12:00", "line 3"),
        ("scenario: s\npeople:\n  12:00 | ann | [1]", "no JSON object"),
        ("scenario: s\ncondition:\n  {\nexpected:\n  12:00 | nobody", "needs a condition"),
        (f"scenario: s\ncondition:\n  {SOME_CONDITION}\nexpected:\n  12:00 | ann", "without any fact"),
        (f"scenario: s\ncondition:\n  {SOME_CONDITION}\nexpected:\n  12:00 | nobody\n  11:00 | nobody", "in order"),
        (
            f"scenario: s\npeople:\n  13:00 | ann\ncondition:\n  {SOME_CONDITION}\nexpected:\n  12:00 | nobody",
            "after the last",
        ),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, message: str) -> None:
    """A slip in a table is an error with its line, not a scenario that tests nothing."""
    with pytest.raises(TableError, match=message):
        table.parse(text)


def test_a_table_is_read_into_plain_structures() -> None:
    """Times without a date are on the day of the tables, kinds come before a colon, JSON may span lines."""
    (scenario,) = table.parse(
        "scenario: s\npeople:\n 2024-05-31 | ann | {\"a\": \"x|y\"}\nevents:\n 12:00:00.7 | ann | page:/prices\n"
        "segments:\n 7 | ann\ncondition:\n {\"segment\":\n  {\"id\": 7}}\nexpected:\n 12:00:01 | ann"
    )
    noon_us = 1_717_243_200_000_000
    assert scenario.writes == [table.Write(time_us=noon_us - 129_600_000_000, person="ann", attributes={"a": "x|y"})]
    assert scenario.events == [
        table.Event(time_us=noon_us + 700_000, person="ann", kind="page", name="/prices", data={})
    ]
    assert scenario.segments == {7: frozenset({"ann"})}
    assert scenario.condition == {"segment": {"id": 7}}
    assert scenario.expected == [table.Expected(at_us=noon_us + 1_000_000, people=frozenset({"ann"}))]
