"""Reads stories of campaigns: what is running, what happens, and who gets what when. Plain structures come out.

A file holds stories one after another; ``#`` begins a comment line, columns stand apart by ``|``:

    story: One sentence that says what must be true
    people:
      2024-01-01 | ann | {"plan": "Pro"}               known beforehand, with the email ann@example.com
    segments:
      Pros | {"attribute": {…}}                        a dynamic one; they are numbered from 1
      Guests | by hand                                 a manual one
    campaign:
      {"trigger": {…}, "steps": ["wait 3600", "mail Welcome", {…}]}      JSON, over as many lines as it needs
    happens:
      12:00 | ann | purchased | {"price": 10} | 11:00  an event; the data and its own time may be left out
      12:00 | ann | is        | {"plan": "Pro"}        attributes, with a time of their own if they have one
      12:00 | ann | is deleted
      12:00 | ann | joins     | 2                      a manual segment; "leaves" takes out
      12:00 |     | stops     | 1                      a campaign; "starts" too
    expected:
      12:00 | ann | Welcome                            every mail there is, with its subject; or "nothing"
      12:00 | bob | failed: undefined                  one that could not be written, with words of the reason
    journeys:
      ann | finished                                   how each journey ended; of those that end early with words of why
      bob | exited: stopped

Times are UTC; one without a date is on 2024-06-01. Several campaigns are numbered from 1; each runs from the beginning
unless its JSON says ``"state": "draft"``. A campaign without steps sends the mail "Thank you".
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from backstory.core.condition import Json
from tests.scenario.table import TableError, time_us

SECTIONS = ("people", "segments", "campaign", "happens", "expected", "journeys")
SENDER = "shop@example.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """Something that is accepted at ``at_us``; ``time_us`` is its own time, if it has one."""

    at_us: int
    person: str
    what: str
    details: Json = None
    time_us: int | None = None


@dataclass(slots=True, kw_only=True)
class Story:
    """One story; ``people`` are (time, name, attributes), ``segments`` (name, conditions or None)."""

    title: str
    line: int
    people: list[tuple[int, str, dict[str, Json]]] = field(default_factory=list[tuple[int, str, dict[str, Json]]])
    segments: list[tuple[str, Json]] = field(default_factory=list[tuple[str, Json]])
    campaigns: list[dict[str, Json]] = field(default_factory=list[dict[str, Json]])
    happens: list[Happening] = field(default_factory=list[Happening])
    expected: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    journeys: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])


def read(path: Path) -> list[Story]:
    """The stories of a file; raises ``TableError`` with the line that cannot be read."""
    return parse(path.read_text(encoding="utf-8"))


def parse(text: str) -> list[Story]:
    """The stories of a text; raises ``TableError`` with the line that cannot be read."""
    stories: list[Story] = []
    section, definition = "", ""
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if line.startswith("story:"):
                stories.append(Story(title=line.removeprefix("story:").strip(), line=number))
                section = ""
            elif line.endswith(":") and line[:-1] in SECTIONS:
                section, definition = line[:-1], ""
            elif section == "campaign":
                definition += line
                _read_campaign(stories[-1], definition)
            else:
                _READERS[section](stories[-1], [cell.strip() for cell in line.split("|")])
        except (KeyError, IndexError, ValueError) as error:
            raise TableError(f"line {number}: cannot read {line!r}: {error!r}") from error
    for story in stories:
        _check(story)
    return stories


def _read_person(story: Story, cells: list[str]) -> None:
    attributes = json.loads(cells[2]) if len(cells) > 2 else {}
    story.people.append((time_us(cells[0]), cells[1], attributes))


def _read_segment(story: Story, cells: list[str]) -> None:
    story.segments.append((cells[0], None if cells[1] == "by hand" else json.loads(cells[1])))


def _read_campaign(story: Story, text: str) -> None:
    try:
        value = cast("dict[str, Json]", json.loads(text))
    except json.JSONDecodeError:
        return
    steps = cast("list[Json]", value.pop("steps", ["mail Thank you"]))
    story.campaigns.append({"name": story.title, "state": "running", **value, "steps": _steps(steps)})


def _steps(steps: list[Json]) -> list[Json]:
    """Steps with their short forms written out."""
    return [_step(step) for step in steps]


def _step(step: Json) -> Json:
    if isinstance(step, dict):
        ways = {key: _steps(way) for key in ("then", "else") if isinstance(way := step.get(key), list)}
        return {**step, **ways}
    verb, _, rest = str(step).partition(" ")
    match verb:
        case "mail":
            return {"type": "email", "from": SENDER, "subject": rest, "body": "Hello"}
        case "wait":
            return {"type": "delay", "seconds": int(rest)}
        case _:
            raise ValueError(f"{step!r} is no step")


def _read_happening(story: Story, cells: list[str]) -> None:
    details = json.loads(cells[3]) if len(cells) > 3 and cells[3] else None
    own_us = time_us(cells[4]) if len(cells) > 4 else None
    story.happens.append(
        Happening(at_us=time_us(cells[0]), person=cells[1], what=cells[2], details=details, time_us=own_us)
    )


def _read_expected(story: Story, cells: list[str]) -> None:
    if cells != ["nothing"]:
        story.expected.append((time_us(cells[0]), cells[1], cells[2]))


def _read_journey(story: Story, cells: list[str]) -> None:
    story.journeys.append((cells[0], cells[1]))


_READERS = {
    "people": _read_person,
    "segments": _read_segment,
    "happens": _read_happening,
    "expected": _read_expected,
    "journeys": _read_journey,
}


def _check(story: Story) -> None:
    where = f"line {story.line}: {story.title!r}"
    if not story.campaigns or not story.happens:
        raise TableError(f"{where} needs a campaign (as whole JSON) and something that happens")
    for moments in ([one.at_us for one in story.happens], [one[0] for one in story.expected]):
        if moments != sorted(moments):
            raise TableError(f"{where} must tell things in order")
