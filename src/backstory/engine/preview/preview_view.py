"""What a preview says, as the edge shows it."""

import msgspec

from backstory.engine.backfill.import_outline import FileOutline
from backstory.engine.file.options import Held, Policy


class SegmentEffect(msgspec.Struct, frozen=True, kw_only=True):
    """How many people would enter and leave a segment, and how many would be in it then."""

    id: int
    name: str
    enter: int
    leave: int
    members: int


class CampaignEffect(msgspec.Struct, frozen=True, kw_only=True):
    """How many journeys a running campaign would start under a trigger policy.

    ``messages`` are those composed at once; ``messages_later_at_most`` bounds those behind delays and filters.
    ``journeys_later_at_most`` bounds what rows dated in the future start when their moment comes. ``messages_failed``
    of the messages would fail at once, as a variable of theirs is missing; ``failure`` says why one of them would.
    """

    id: int
    name: str
    policy: Policy
    journeys: int
    journeys_later_at_most: int
    messages: int
    messages_later_at_most: int
    messages_failed: int = 0
    failure: str = ""


class ValueChange(msgspec.Struct, frozen=True, kw_only=True, rename={"before": "from", "after": "to"}):
    """People whose value would change in the same way; ``before`` "" where it was not set."""

    before: object
    after: object
    people: int


class AttributeEffect(msgspec.Struct, frozen=True, kw_only=True):
    """An attribute: how many new people would get it, how many known ones would have another value.

    ``overwritten``: of those, how many had a value before. ``changes``: the most frequent ones.
    """

    name: str
    new_people: int
    changed: int
    overwritten: int
    changes: list[ValueChange]


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot be used: its line, and why; of an import of several files the ``file`` too, else ""."""

    line: int
    error: str
    file: str = ""


class RowSample(msgspec.Struct, frozen=True, kw_only=True):
    """A row as an example of an outcome: its line and what stands there, cut where it is long; ``file`` as above."""

    line: int
    text: str
    file: str = ""


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a run's summary, and what it would change. Exact for ``now_us`` if nothing else happens meanwhile.

    ``import_id`` is None: nothing was made. ``error_samples`` are the first rows with errors,
    ``samples`` the first of each other outcome.
    """

    import_id: None = None
    state: str = "previewed"
    now_us: int
    rows: int
    created: int
    updated: int
    unchanged: int
    stale: int
    duplicate: int
    skipped: int
    errors: int
    warnings: int
    held_back: Held
    people_created: int
    error_file: None = None
    warning_file: None = None
    seconds: float
    mended: int = 0
    to_mend: int = 0
    journeys_started: int = 0
    hint: str = ""
    segments: list[SegmentEffect]
    campaigns: list[CampaignEffect]
    attributes: list[AttributeEffect]
    samples: dict[str, list[RowSample]] = {}
    error_samples: list[Sample]
    warning_samples: list[Sample]
    # How each file is read, and what each of its columns is taken for.
    files: list[FileOutline] = []
