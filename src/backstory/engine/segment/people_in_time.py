"""People's histories read together, beside the loop: each asked afterwards about any moment."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec

from backstory.core.condition import Json
from backstory.core.record_time import RecordsInTime
from backstory.core.segment import SegmentEngine
from backstory.engine.context import shown_values
from backstory.engine.segment.effective import PersonInTime
from backstory.engine.segment.past import Told
from backstory.store.definition import placements_of
from backstory.store.folder import Folder
from backstory.store.ledger import MESSAGES, message_events
from backstory.store.people import PROFILE_COLUMNS, Profile
from backstory.store.record import read_records

# So many at a time are read fast, and fit into memory.
PEOPLE_AT_ONCE = 500
_decode = msgspec.json.Decoder().decode


def read_people(folder: Folder, segments: SegmentEngine, people: Sequence[int]) -> dict[int, PersonInTime]:
    """From any thread: the histories of those of these people who are there."""
    marks = ", ".join("?" * len(people))
    found = f"SELECT {PROFILE_COLUMNS} FROM person WHERE person IN ({marks}) ORDER BY person"
    profiles = folder.state.rows(found, tuple(people))
    events: defaultdict[int, list[tuple[str, str, int, dict[str, Json]]]] = defaultdict(list)
    for person, kind, name, time_us, data in folder.history.events_of(people):
        events[person].append((kind, name, time_us, _decode(data)))
    for row in folder.state.rows(f"{MESSAGES} WHERE person IN ({marks})", tuple(people)):
        events[row[0]] += message_events(row)
    writes: defaultdict[int, list[tuple[int, dict[str, Json]]]] = defaultdict(list)
    for person, time_us, attributes in folder.history.writes_of(people):
        writes[person].append((time_us, _decode(attributes)))
    records = folder.state.read(lambda db: read_records(db, people))
    placed = folder.state.read(lambda db: {person: placements_of(db, person) for person in people})

    def past(person: int) -> Told:
        return Told(events[person], writes[person], records.get(person, RecordsInTime()), placed[person])

    return {row[0]: _person(segments, row, past(row[0])) for row in profiles}


def _person(segments: SegmentEngine, row: tuple[Any, ...], past: Told) -> PersonInTime:
    known_us = segments.known.get_us(row[0])
    shown = shown_values(Profile(*row), {})
    return PersonInTime(row[0], shown, past, segments, known_us=known_us)
