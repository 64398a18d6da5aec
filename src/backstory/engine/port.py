"""What the edge asks of a workspace: the methods the APIs call, and nothing else.

The engine's own classes have these methods; tests put fakes in their place. All of them are synchronous and
safe to call from any thread. Methods for one thing raise ``NotFoundError``. Cursors (``start``, ``next``) are
opaque text, empty at the beginning and at the end; one that was never handed out raises ``RequestError``.
"""

from typing import Protocol

from backstory.core.condition import Condition, Where
from backstory.core.explain import Explanation
from backstory.core.fact import Fact, IdentifierKind, ObjectKey, Receipt
from backstory.engine.answer.view import (
    ActivityView,
    CampaignView,
    Identifiers,
    ImportView,
    JourneyView,
    MessageView,
    ObjectView,
    PersonView,
    RelationView,
    SegmentView,
    TransitionView,
)
from backstory.engine.backfill.import_control import ImportControl


class Reader(Protocol):
    """Reads of a workspace. Activities and messages come newest first, everything else ascending."""

    def person(self, kind: IdentifierKind, value: str) -> PersonView | None: ...

    def people_by_email(self, email: str) -> list[PersonView]: ...

    def search(self, condition: Condition, *, start: str, limit: int) -> tuple[list[Identifiers], str]:
        """The people for whom the condition (attributes and segments only) holds now."""
        ...

    def object_types(self) -> list[int]:
        """The types that have been used."""
        ...

    def object(self, key: ObjectKey) -> ObjectView: ...

    def objects(self, type_id: int, where: Where, *, start: str, limit: int) -> tuple[list[ObjectView], str]:
        """The objects of a type whose attributes pass."""
        ...

    def people_of_object(self, key: ObjectKey, *, start: str, limit: int) -> tuple[list[Identifiers], str]: ...

    def relationships(
        self, kind: IdentifierKind, value: str, *, start: str, limit: int
    ) -> tuple[list[RelationView], str] | None:
        """What a person is related to; None when there is no such person."""
        ...

    def segments_of(self, kind: IdentifierKind, value: str) -> list[SegmentView] | None:
        """The segments a person is in; None when there is no such person."""
        ...

    def activities(
        self,
        kind: IdentifierKind | None,
        value: str | None,
        *,
        types: str | None,
        name: str | None,
        deleted: bool,
        before: str | None,
        limit: int,
        everything: bool,
    ) -> tuple[list[ActivityView], str]:
        """Entries of one person or (``kind`` None) of all; ``everything`` lifts the 30 days."""
        ...

    def segments(self) -> list[SegmentView]: ...

    def segment(self, segment_id: int) -> SegmentView: ...

    def member_count(
        self, segment_id: int, as_of_us: int | None = None, known_at_us: int | None = None
    ) -> int:
        """As of a moment, and as it was known at another; now without."""
        ...

    def members(
        self,
        segment_id: int,
        *,
        start: str,
        limit: int,
        as_of_us: int | None = None,
        known_at_us: int | None = None,
    ) -> tuple[list[Identifiers], str]: ...

    def explain(
        self, kind: IdentifierKind, value: str, segment_id: int, *, as_of_us: int | None, known_at_us: int | None
    ) -> Explanation: ...

    def segments_past(self, kind: IdentifierKind, value: str) -> dict[int, list[tuple[int, int | None]]] | None:
        """[from, to) of a person's times in each segment (None: until now); None when there is no such person."""
        ...

    def preview(
        self, condition: Condition, *, limit: int, as_of_us: int | None, known_at_us: int | None
    ) -> tuple[int, list[Identifiers]]:
        """How many a condition holds for, and some of them."""
        ...

    def segment_history(self, segment_id: int, points_us: list[int], *, known_at_us: int | None) -> list[int]:
        """How many were in a segment at each of some ascending moments."""
        ...

    def transitions(self, segment_id: int, *, start: str, limit: int) -> tuple[list[TransitionView], str]:
        """Who entered and left a segment, newest first."""
        ...

    def now_us(self) -> int:
        """The moment up to which everything is told."""
        ...

    def used_by(self, segment_id: int) -> list[int]:
        """The numbers of the campaigns that use a segment."""
        ...

    def campaigns(self) -> list[CampaignView]: ...

    def campaign(self, campaign_id: int) -> CampaignView: ...

    def journeys(self, campaign_id: int, *, start: str, limit: int) -> tuple[list[JourneyView], str]: ...

    def messages(
        self,
        *,
        person: tuple[IdentifierKind, str] | None,
        campaign_id: int | None,
        action_id: int | None,
        type: str | None,
        metric: str | None,
        state: str | None,
        start: str,
        limit: int,
        start_us: int | None,
        end_us: int | None,
    ) -> tuple[list[MessageView], str]:
        """Deliveries made in [start_us, end_us]; ``metric``: only those that reached it."""
        ...

    def message(self, delivery_id: str) -> MessageView: ...

    def imports(self) -> list[ImportView]: ...

    def import_(self, import_id: int) -> ImportView: ...


class Workspace(Protocol):
    """A workspace as the cold paths use it."""

    @property
    def name(self) -> str: ...

    @property
    def reader(self) -> Reader: ...

    @property
    def imports(self) -> ImportControl: ...

    def apply(self, facts: list[Fact], *, timeout_s: float = 30) -> list[Receipt]:
        """Accept facts and wait until they are applied; ``pending`` receipts when that takes longer.

        Raises ``Busy`` or ``StorageError`` when nothing was accepted.
        """
        ...

    def await_built(self, segment_id: int, timeout_s: float = 30) -> bool:
        """Wait until a new or edited segment is complete; False when it takes longer."""
        ...
