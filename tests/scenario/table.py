"""Reads scenario tables: people, events, a condition, and who is in at which moment. Plain structures come out.

A file holds scenarios one after another; ``#`` begins a comment line, columns stand apart by ``|``:

    scenario: One sentence that says what must be true
    people:
      2024-01-01 | ann | {"plan": "Pro"}            attributes that became true then; the first line makes the person
    events:
      12:00:00.7 | ann | purchased | {"price": 10}  the data may be left out; page:/prices and screen:Home are kinds
    segments:
      7 | ann, bob                                  a manual segment: its people, or "nobody"
      8 | {"attribute": {…}}                        a dynamic one
    condition:
      {"event": {"name": "purchased"}}              JSON, over as many lines as it needs
    expected:
      12:00:03.7 | ann, bob                         a moment and who is in then, or "nobody"

Times are UTC; one without a date is on 2024-06-01. A person's name is their id; an attribute ``email`` is their email.
Nobody's facts lie in the future of the last expected moment but events, which count from their moment on.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from backstory.core.condition import Json
from backstory.core.time import TimeUnreadable, from_text

DAY = "2024-06-01"
SECTIONS = ("people", "events", "segments", "condition", "expected")


class TableError(ValueError):
    """A line of a table cannot be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Attributes of a person that became true at ``time_us``."""

    time_us: int
    person: str
    attributes: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a person did at ``time_us``."""

    time_us: int
    person: str
    kind: str
    name: str
    data: dict[str, Json]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Who is in at ``at_us``."""

    at_us: int
    people: frozenset[str]


@dataclass(slots=True, kw_only=True)
class Scenario:
    """One scenario; ``segments`` gives the people of a manual segment and the JSON of a dynamic one."""

    title: str
    line: int
    writes: list[Write] = field(default_factory=list[Write])
    events: list[Event] = field(default_factory=list[Event])
    segments: dict[int, frozenset[str] | dict[str, Json]] = field(
        default_factory=dict[int, frozenset[str] | dict[str, Json]]
    )
    condition: Json = None
    expected: list[Expected] = field(default_factory=list[Expected])

    @property
    def people(self) -> list[str]:
        """Everybody with a fact, in the order of the table."""
        return list(dict.fromkeys([write.person for write in self.writes] + [event.person for event in self.events]))


def read(path: Path) -> list[Scenario]:
    """The scenarios of a file; raises ``TableError`` with the line that cannot be read."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> list[Scenario]:
    """The scenarios of a text; raises ``TableError`` with the line that cannot be read."""
    scenarios: list[Scenario] = []
    section, condition = "", ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith("scenario:"):
                scenarios.append(Scenario(title=line.removeprefix("scenario:").strip(), line=number))
                section, condition = "", ""
            elif line.endswith(":") and line[:-1] in SECTIONS:
                section = line[:-1]
            elif section == "condition":
                condition += line
                scenarios[-1].condition = _json_so_far(condition)
            else:
                read_line, columns = _READERS[section]
                read_line(scenarios[-1], [cell.strip() for cell in line.split("|", maxsplit=columns - 1)])
        except (KeyError, IndexError, ValueError) as error:
            raise TableError(f"line {number}: cannot read {line!r}: {error!r}") from error
    for scenario in scenarios:
        _check(scenario)
    return scenarios


def time_us(text: str) -> int:
    """A moment of a table in microseconds."""
    day, _, clock = text.partition(" ") if "-" in text else (DAY, "", text)
    try:
        return from_text(f"{day} {clock or '00:00'}Z")[0]
    except TimeUnreadable as error:
        raise ValueError(str(error)) from None


def _json_so_far(text: str) -> Json:
    """The JSON of a condition; None while lines are still missing."""
    try:
        return cast("Json", json.loads(text))
    except json.JSONDecodeError:
        return None


def _object(text: str) -> dict[str, Json]:
    value = cast("Json", json.loads(text))
    if not isinstance(value, dict):
        raise ValueError(f"{text} is no JSON object")
    return value


def _names(text: str) -> frozenset[str]:
    return frozenset() if text == "nobody" else frozenset(name.strip() for name in text.split(","))


def _read_write(scenario: Scenario, cells: list[str]) -> None:
    attributes = _object(cells[2]) if len(cells) > 2 else {}
    scenario.writes.append(Write(time_us=time_us(cells[0]), person=cells[1], attributes=attributes))


def _read_event(scenario: Scenario, cells: list[str]) -> None:
    kind, colon, name = cells[2].partition(":")
    if not colon:
        kind, name = "event", cells[2]
    data = _object(cells[3]) if len(cells) > 3 else {}
    scenario.events.append(Event(time_us=time_us(cells[0]), person=cells[1], kind=kind, name=name, data=data))


def _read_segment(scenario: Scenario, cells: list[str]) -> None:
    body = cells[1]
    scenario.segments[int(cells[0])] = _object(body) if body.startswith("{") else _names(body)


def _read_expected(scenario: Scenario, cells: list[str]) -> None:
    scenario.expected.append(Expected(at_us=time_us(cells[0]), people=_names(cells[1])))


# How a line of each section is read, and how many columns it has at most.
_READERS: dict[str, tuple[Callable[[Scenario, list[str]], None], int]] = {
    "people": (_read_write, 3),
    "events": (_read_event, 4),
    "segments": (_read_segment, 2),
    "expected": (_read_expected, 2),
}


def _check(scenario: Scenario) -> None:
    where = f"line {scenario.line}: {scenario.title!r}"
    if scenario.condition is None or not scenario.expected:
        raise TableError(f"{where} needs a condition (as whole JSON) and something expected")
    named = {name for expected in scenario.expected for name in expected.people}
    if not named <= set(scenario.people):
        raise TableError(f"{where} expects people without any fact: {sorted(named - set(scenario.people))}")
    moments = [expected.at_us for expected in scenario.expected]
    if moments != sorted(moments):
        raise TableError(f"{where} expects its moments in order")
    if any(write.time_us > moments[-1] for write in scenario.writes):
        raise TableError(f"{where} writes attributes after the last expected moment")
