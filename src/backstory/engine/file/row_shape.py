"""How the rows of a file are to be read: from the options of the import, and by what an item looks like."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from backstory.core.condition import Json
from backstory.engine.file.notation import DateOrder

PERSON_FIELDS = ("customer_id", "id", "email")
ItemShape = Literal["auto", "flat", "track2", "pipelines"]
TimeUnit = Literal["seconds", "milliseconds", "microseconds"]
# What a column can be told to hold; times of any form become unix seconds.
PinnedType = Literal["string", "number", "boolean", "json", "time", "seconds", "milliseconds", "microseconds"]
PIPELINES = frozenset(("track", "page", "screen", "identify", "group", "alias"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowShape:
    """``columns`` renames fields (column to field); ``types`` are by column, those of CSV cells are known elsewhere."""

    identifier: Literal["id", "email"] | None = None
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    time_column: str | None = None
    # The rows carry the verdict of an earlier import.
    is_report: bool = False
    # What the items of JSON lines look like; "auto": each is taken for what it looks like.
    items: ItemShape = "auto"
    # The zone of times that name none, and the unit of those that are numbers.
    zone: ZoneInfo | None = None
    unit: TimeUnit | None = None
    types: Mapping[str, PinnedType] = field(default_factory=dict[str, PinnedType])
    # In which order dates are written that are not as ISO 8601 has them; whether numbers in texts have a decimal comma.
    dates: DateOrder | None = None
    comma: bool = False

    @property
    def plain(self) -> bool:
        """Are fields read as they are, by their own names?"""
        told = self.columns or self.time_column or self.is_report or self.types or self.unit
        return not told and self.items in ("auto", "flat")


def shape_of(row: Mapping[str, Json], wanted: ItemShape = "auto") -> ItemShape:
    """What an item looks like: one of Track v2 has ``identifiers``, a call of Pipelines a ``type`` and names somebody
    by ``userId`` or ``anonymousId`` only.
    """
    if wanted != "auto":
        return wanted
    if isinstance(row.get("identifiers"), dict):
        return "track2"
    called = row.get("type") in PIPELINES and ("userId" in row or "anonymousId" in row)
    return "pipelines" if called and not any(name in row for name in PERSON_FIELDS) else "flat"
