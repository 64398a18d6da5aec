"""What an import is asked to do, what it tells while it runs, and what it says at the end.

These values cross the boundary between the command line and the engine as JSON.
Sources: design sections 7, 9 and 10.
"""

from typing import Literal

import msgspec

from backstory.core.error import BackstoryError
from backstory.engine.file.notation import DateOrder, DecimalMark
from backstory.engine.file.row_shape import ItemShape, PinnedType

# What an import may start: what is recent, nothing, or everything as if live (design section 9).
Policy = Literal["recent", "none", "all"]


class BackfillOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same options over the same files are the same import, which goes on where it was.

    ``paths`` are absolute. ``identifier`` None: found by the columns (``id``, ``customer_id``, ``email``).
    ``map`` gives a column another name (column to field). ``time`` names the column that holds the time;
    ``as_of_us`` is the time of rows that name none; with neither such rows are true from the import's start.
    """

    kind: Literal["people", "events", "objects", "relationships", "members"]
    paths: tuple[str, ...]
    identifier: Literal["id", "email"] | None = None
    map: dict[str, str] = {}
    on_empty: Literal["ignore", "clear"] = "ignore"
    rows: Literal["all", "only_new", "only_existing"] = "all"
    triggers: Policy = "recent"
    time: str | None = None
    as_of_us: int | None = None
    name: str = ""
    description: str = ""
    # How CSV files are written, and of all text its encoding; None: found by their beginnings. ``quote`` "": none.
    delimiter: str | None = None
    encoding: Literal["utf-8", "utf-16", "latin-1", "cp1252"] | None = None
    quote: Literal['"', "'", ""] | None = None
    # What items of JSON lines look like; the zone of times that name none; types of columns that are not to be found.
    shape: ItemShape = "auto"
    zone: str | None = None
    types: dict[str, PinnedType] = {}
    # How numbers in CSV cells and dates in texts are written; None: with a point, and as ISO 8601 writes them.
    decimal: DecimalMark | None = None
    dates: DateOrder | None = None
    # Equal events without an id count once for each time the fuller source has them, or every time (design section 7).
    same_rows: Literal["once", "all"] = "once"
    # The type of objects whose rows name none; the manual segment that members are put into.
    object_type_id: int = 1
    segment_id: int | None = None
    # What was named where the paths are only what came of it: URLs, a database, standard input, an upload; no secrets.
    sources: tuple[str, ...] = ()


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a running import is; ``rows_total_estimate`` is None as long as nothing says."""

    rows: int
    rows_total_estimate: int | None
    bytes: int
    bytes_total: int
    rows_per_s: float
    phase: str


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """Triggers the 72-hour rule held back, by what would have triggered."""

    event: int = 0
    segment: int = 0


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of every row: the object ``backstory backfill --json`` prints."""

    import_id: int
    state: str
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
    error_file: str | None
    warning_file: str | None
    seconds: float
    # How many lines of the input that had failed were mended since (``engine.backfill.mend``).
    mended: int = 0
    # How many of them are not: as many as there are errors.
    to_mend: int = 0
    journeys_started: int = 0
    # What to do when no row could be taken because of how the files are (``engine.backfill.import_hint``).
    hint: str = ""


class Stopped(BackstoryError):
    """Whoever asked for the work went away: the work stops at a safe place and goes on when asked again.

    Raised out of the ``on_progress`` or ``on_line`` that long work calls.
    """
