"""What a reader hands to the edge: plain values, times in microseconds, nothing of the engine's insides.

The edge turns them into the published shapes. ``identifiers`` is always a mapping with the keys ``id``,
``email`` and ``cio_id``; the first two are None where the person has none.
"""

from typing import Literal

import msgspec

from backstory.core.condition import Json

Identifiers = dict[str, str | None]


class PersonView(msgspec.Struct, kw_only=True):
    """A person as now known; ``times_us`` says since when each attribute has its value."""

    person: int
    cio_id: str
    id: str | None
    email: str | None
    attributes: dict[str, Json]
    times_us: dict[str, int]
    created_us: int
    phone: str | None = None
    devices: list[dict[str, Json]] = []


class ObjectView(msgspec.Struct, kw_only=True):
    """An object that is there; ``imports``: of values that came with imports alone, the first of these.

    ``import_id`` is the first import that told of it where nobody else did, else 0.
    """

    type_id: int
    object_id: str
    cio_object_id: str
    attributes: dict[str, Json]
    times_us: dict[str, int]
    imports: dict[str, int]
    import_id: int


class RelationView(ObjectView, kw_only=True):
    """An object somebody is related to, with the attributes of the relationship and their times."""


class ActivityView(msgspec.Struct, kw_only=True):
    """One entry of the activity log; ``processed_us`` is None for an anonymous event nobody claimed yet."""

    id: str
    type: str
    time_us: int
    processed_us: int | None
    person: int | None
    identifiers: Identifiers
    name: str | None
    data: Json
    delivery_id: str | None
    # The import it came with; 0: none.
    import_id: int = 0


class SegmentView(msgspec.Struct, kw_only=True):
    """A segment; ``conditions`` is None for a manual one, ``progress`` percent while it is being built."""

    segment_id: int
    name: str
    description: str
    type: Literal["dynamic", "manual"]
    conditions: Json
    state: str
    progress: int | None
    created_us: int
    updated_us: int


class TransitionView(msgspec.Struct, kw_only=True):
    """Somebody entered or left a segment at ``at_us``; it has been true since ``effective_us`` (None: being looked up).

    ``by_build``: nothing happened to them, the segment was made or edited. ``import_id``: the import that moved them
    when it came in, was taken back, or was brought in again.
    """

    person: int
    identifiers: Identifiers
    entered: bool
    effective_us: int | None
    at_us: int
    by_build: bool
    import_id: int | None = None


class CampaignView(msgspec.Struct, kw_only=True):
    """A campaign; ``definition`` is the canonical JSON of ``core.campaign``."""

    campaign_id: int
    definition: dict[str, Json]
    state: Literal["draft", "running", "stopped"]
    created_us: int
    updated_us: int
    first_started_us: int | None


class StepView(msgspec.Struct, kw_only=True):
    """A decision taken in a journey, with why."""

    type: str
    decision: str
    reason: str
    at_us: int


class JourneyView(msgspec.Struct, kw_only=True):
    """One person's way through a campaign; ``effective_us`` is the time of what triggered it."""

    journey_id: int
    identifiers: Identifiers
    state: str
    started_us: int
    effective_us: int
    steps: list[StepView]
    # Why the last of its messages that failed did, or is in doubt.
    failure: str = ""


class MessageView(msgspec.Struct, kw_only=True):
    """A delivery: one message to one person; ``metrics_us`` has a time for each metric reached."""

    delivery_id: str
    campaign_id: int
    journey_id: int
    action_id: int
    person: int | None
    identifiers: Identifiers
    recipient: str
    subject: str
    body: str
    sender: str
    type: Literal["email", "webhook"]
    state: Literal["queued", "attempting", "sent", "failed", "in_doubt", "dropped"]
    metrics_us: dict[str, int]
    created_us: int
    failure: str | None
    trigger_event_id: str | None


class ImportView(msgspec.Struct, kw_only=True):
    """An import; ``summary`` holds the counts of ``engine.file.options.Summary`` as far as they are known."""

    import_id: int
    name: str
    description: str
    type: Literal["people", "events", "objects", "relationships", "members"]
    state: str
    identifier: str
    rows_to_import: int
    rows_imported: int
    error: str
    created_us: int
    updated_us: int
    data_to_process: str
    summary: dict[str, Json]
    # What it was asked to do; moments in microseconds.
    options: dict[str, Json]
    percent: int = 0
    # Somebody is at work on it, or will be when its turn comes; it may be paused. Its rows are gone for good.
    running: bool = False
    purged: bool = False
    object_type_id: int | None = None
    segment_id: int | None = None
