"""The segment tables, lived through by the engine: facts in the order of the table and backwards, live and built."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import msgspec
import pytest

from backstory.core.condition import Json
from backstory.core.fact import ChangeMembers, Fact, Identifier, Identify, Track
from backstory.core.time import SECOND_US
from tests.live import Live
from tests.scenario import table
from tests.scenario.table import Event, Scenario, Write

SCENARIOS = table.read(Path(__file__).with_name("segments.txt"))
CASES = [pytest.param(scenario, id=scenario.title) for scenario in SCENARIOS]


def fact(row: Write | Event) -> Fact:
    """A row as the call that brings it; an attribute ``email`` is the person's email."""
    person = Identifier("id", row.person)
    if isinstance(row, Event):
        data = msgspec.json.encode(row.data)
        return Track(person=person, kind=row.kind, name=row.name, data=data, time_us=row.time_us)  # pyright: ignore[reportArgumentType]
    attributes = dict(row.attributes)
    email = cast("str | None", attributes.pop("email", None))
    return Identify(
        person=person, attributes=msgspec.json.encode(attributes), body_email=email, time_us=row.time_us
    )


class Story:
    """A scenario under way: its segments by the numbers the engine gave them."""

    def __init__(self, path: Path, scenario: Scenario, *, backwards: bool) -> None:
        self.scenario = scenario
        rows: list[Write | Event] = [*scenario.writes, *scenario.events]
        self.rows = rows[::-1] if backwards else rows
        # Every fact is accepted a microsecond after the one before; they all have to fit in before the first moment.
        self.live = Live(path, now_us=scenario.expected[0].at_us - 2 * len(rows) - len(scenario.segments) - 10)
        self.numbers: dict[int, int] = {}
        for number, body in sorted(scenario.segments.items()):
            self.numbers[number] = self.live.segment(None if isinstance(body, frozenset) else self.renumbered(body))
        self.segment_id = self.segment()

    def segment(self) -> int:
        """The condition of the table as a new segment, built."""
        return self.live.segment(self.renumbered(self.scenario.condition))

    def renumbered(self, value: Json) -> Json:
        """A condition that refers to the engine's numbers."""
        if isinstance(value, dict):
            if isinstance(value.get("segment"), dict):
                segment = cast("dict[str, Json]", value["segment"])
                return {"segment": {**segment, "id": self.numbers[cast("int", segment["id"])]}}
            return {name: self.renumbered(item) for name, item in value.items()}
        return [self.renumbered(item) for item in value] if isinstance(value, list) else value

    def moments(self) -> Iterator[tuple[int, frozenset[str]]]:
        """Live up to each expected moment, told of everything that happened until then, and stop there."""
        told_us = -(1 << 62)
        for expected in self.scenario.expected:
            facts = [fact(row) for row in self.rows if told_us < row.time_us <= expected.at_us]
            told_us = expected.at_us
            room_us = expected.at_us - len(facts) - len(self.numbers) - self.live.now_us
            if room_us > 0:
                self.live.advance(room_us)
            self.live.send(*facts, *self.manual_members())
            if expected.at_us > self.live.now_us:
                self.live.advance(expected.at_us - self.live.now_us)
            yield expected.at_us, expected.people

    def manual_members(self) -> list[Fact]:
        """Put everybody known by now into the manual segments."""
        return [
            ChangeMembers(
                segment_id=self.numbers[number], people=tuple(Identifier("id", name) for name in sorted(body)), add=True
            )
            for number, body in self.scenario.segments.items()
            if isinstance(body, frozenset) and body
        ]


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
@pytest.mark.parametrize("scenario", CASES)
def test_everybody_expected_is_in_and_nobody_else(scenario: Scenario, backwards: bool, tmp_path: Path) -> None:
    """At each moment exactly the people named are in, in the live segment and in one built at that moment."""
    story = Story(tmp_path / "default", scenario, backwards=backwards)
    for _, people in story.moments():
        assert story.live.members(story.segment_id) == people
        assert story.live.members(story.segment()) == people
    story.live.close()


@pytest.mark.parametrize("scenario", CASES)
def test_a_restart_at_any_moment_changes_nothing(scenario: Scenario, tmp_path: Path) -> None:
    """After a clean restart, and after a crash, the same people are in."""
    story = Story(tmp_path / "default", scenario, backwards=False)
    for number, (_, people) in enumerate(story.moments()):
        story.live.crash() if number % 2 else story.live.reopen()
        assert story.live.members(story.segment_id) == people
    story.live.close()


@pytest.mark.parametrize("scenario", CASES)
def test_each_moment_can_be_asked_about_afterwards(scenario: Scenario, tmp_path: Path) -> None:
    """Told of everything only after the last, the segment as of each moment has the people expected then."""
    story = Story(tmp_path / "default", scenario, backwards=True)
    facts = [fact(row) for row in story.rows]
    # Manual segments have members from when these are put there: nobody can be put there afterwards.
    by_hand = story.manual_members()
    if by_hand:
        first_us = scenario.expected[0].at_us
        known = [fact(row) for row in story.rows if isinstance(row, Write) and row.time_us <= first_us]
        story.live.send(*known, *by_hand)
    story.live.advance(scenario.expected[-1].at_us + SECOND_US - story.live.now_us)
    story.live.send(*facts)
    for expected in scenario.expected:
        found, _ = story.live.workspace.reader.members(
            story.segment_id, start="", limit=100, as_of_us=expected.at_us
        )
        assert {identity["id"] for identity in found} == expected.people
    story.live.close()
