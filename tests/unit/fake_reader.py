"""A workspace in memory for the tests of the App API and the command line: it keeps what it is told and counts.

Conditions are judged only as far as these tests need: segments, and attributes that exist or are equal.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar, cast

import httpx
import msgspec

from backstory.core.condition import And, AttributeTest, Condition, InSegment, Json, Not, Or, Where
from backstory.core.error import NotFoundError, RequestError
from backstory.core.explain import Explanation
from backstory.core.fact import (
    DeleteSegment,
    Fact,
    IdentifierKind,
    ObjectKey,
    PutCampaign,
    PutSegment,
    Receipt,
    RetryDelivery,
    SetCampaignState,
)
from backstory.edge.app import app_api
from backstory.edge.app_local import LocalTools
from backstory.edge.transport import InProcess
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

K = TypeVar("K")
T = TypeVar("T")

SECOND = 1_000_000
NOW_US = 1_700_000_000 * SECOND


def person(number: int, *, id: str | None = None, email: str | None = None, **attributes: Json) -> PersonView:
    return PersonView(
        person=number,
        cio_id=f"a30000{number:02}",
        id=id,
        email=email,
        attributes=dict(attributes),
        times_us=dict.fromkeys(attributes, NOW_US + number * SECOND),
        created_us=NOW_US,
    )


def ident(view: PersonView) -> Identifiers:
    return {"id": view.id, "email": view.email, "cio_id": view.cio_id}


def activity(number: int, of: PersonView | None, **changes: object) -> ActivityView:
    entry = ActivityView(
        id=f"01{number:024}",
        type="event",
        time_us=NOW_US + number * SECOND + 700_000,
        processed_us=NOW_US + number * SECOND + 900_000,
        person=None if of is None else of.person,
        identifiers={"id": None, "email": None, "cio_id": None} if of is None else ident(of),
        name="purchased",
        data={"price": 23.45},
        delivery_id=None,
    )
    return msgspec.structs.replace(entry, **changes)


def message(name: str, of: PersonView, **changes: object) -> MessageView:
    made = MessageView(
        delivery_id=name,
        campaign_id=1,
        journey_id=7,
        action_id=2,
        person=of.person,
        identifiers=ident(of),
        recipient=of.email or "",
        subject="Thank you",
        body="<p>Hello</p>",
        sender="shop@example.com",
        type="email",
        state="sent",
        metrics_us={"created": NOW_US, "sent": NOW_US + 5 * SECOND},
        created_us=NOW_US,
        failure=None,
        trigger_event_id="01HV0M3S3VJ4Y1S3W7Q0B9E6ZK",
    )
    return msgspec.structs.replace(made, **changes)


def an_import(number: int, **changes: object) -> ImportView:
    made = ImportView(
        import_id=number,
        name="purchases.csv",
        description="",
        type="events",
        state="imported",
        identifier="id",
        rows_to_import=10,
        rows_imported=9,
        error="",
        created_us=NOW_US,
        updated_us=NOW_US + SECOND,
        data_to_process="all",
        summary={"rows": 10, "errors": 1, "error_file": "/data/errors.csv"},
        options={"sources": ["/data/purchases.csv"], "rows": "all", "triggers": "none", "map": {"who": "id"},
                 "on_empty": "ignore", "time": None, "same_rows": "once", "as_of_us": 5 * SECOND},
    )
    return msgspec.structs.replace(made, **changes)


@dataclass
class FakeReader:
    """Lists to be filled by a test; every read is made of them. ``asked`` holds the arguments of the last reads."""

    people: list[PersonView] = field(default_factory=list)
    kept_activities: list[ActivityView] = field(default_factory=list)
    kept_segments: dict[int, SegmentView] = field(default_factory=dict)
    manual: dict[int, list[PersonView]] = field(default_factory=dict)
    kept_campaigns: dict[int, CampaignView] = field(default_factory=dict)
    users: dict[int, list[int]] = field(default_factory=dict)
    kept_journeys: list[JourneyView] = field(default_factory=list)
    kept_messages: list[MessageView] = field(default_factory=list)
    kept_imports: list[ImportView] = field(default_factory=list)
    asked: dict[str, object] = field(default_factory=dict)

    def person(self, kind: IdentifierKind, value: str) -> PersonView | None:
        return next((view for view in self.people if ident(view).get(kind) == value), None)

    def people_by_email(self, email: str) -> list[PersonView]:
        return [view for view in self.people if view.email is not None and view.email.lower() == email.lower()]

    def search(self, condition: Condition, *, start: str, limit: int) -> tuple[list[Identifiers], str]:
        return page([ident(view) for view in self.people if self._holds(condition, view)], start, limit)

    def object_types(self) -> list[int]:
        return []

    def object(self, key: ObjectKey) -> ObjectView:
        raise NotFoundError(f"there is no object {key}")

    def objects(self, type_id: int, where: Where, *, start: str, limit: int) -> tuple[list[ObjectView], str]:
        return [], ""

    def people_of_object(self, key: ObjectKey, *, start: str, limit: int) -> tuple[list[Identifiers], str]:
        raise NotFoundError(f"there is no object {key}")

    def relationships(
        self, kind: IdentifierKind, value: str, *, start: str, limit: int
    ) -> tuple[list[RelationView], str] | None:
        return None if self.person(kind, value) is None else ([], "")

    def segments_of(self, kind: IdentifierKind, value: str) -> list[SegmentView] | None:
        found = self.person(kind, value)
        if found is None:
            return None
        return [view for number, view in self.kept_segments.items() if found in self.manual.get(number, [])]

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
        self.asked["activities"] = {"deleted": deleted, "everything": everything, "limit": limit}
        if kind is not None and self.person(kind, value or "") is None:
            raise NotFoundError(f"there is no customer {value!r}")
        found = [
            view
            for view in self.kept_activities
            if (kind is None or view.identifiers.get(kind) == value) and types in (None, view.type)
            if name in (None, view.name)
        ]
        return page(found[::-1], before or "", limit)

    def segments(self) -> list[SegmentView]:
        return list(self.kept_segments.values())

    def segment(self, segment_id: int) -> SegmentView:
        return one(self.kept_segments, segment_id, "segment")

    def member_count(
        self, segment_id: int, as_of_us: int | None = None, known_at_us: int | None = None
    ) -> int:
        self.asked["as_of_us"] = as_of_us
        self.segment(segment_id)
        return len(self.manual.get(segment_id, []))

    def members(
        self,
        segment_id: int,
        *,
        start: str,
        limit: int,
        as_of_us: int | None = None,
        known_at_us: int | None = None,
    ) -> tuple[list[Identifiers], str]:
        self.asked["as_of_us"] = as_of_us
        self.segment(segment_id)
        return page([ident(view) for view in self.manual.get(segment_id, [])], start, limit)

    def explain(
        self, kind: IdentifierKind, value: str, segment_id: int, *, as_of_us: int | None, known_at_us: int | None
    ) -> Explanation:
        raise NotFoundError("the fake explains nothing")

    def segments_past(self, kind: IdentifierKind, value: str) -> dict[int, list[tuple[int, int | None]]] | None:
        return None if self.person(kind, value) is None else {}

    def preview(
        self, condition: Condition, *, limit: int, as_of_us: int | None, known_at_us: int | None
    ) -> tuple[int, list[Identifiers]]:
        found = [ident(view) for view in self.people if self._holds(condition, view)]
        return len(found), found[:limit]

    def transitions(self, segment_id: int, *, start: str, limit: int) -> tuple[list[TransitionView], str]:
        raise NotImplementedError

    def segment_history(self, segment_id: int, points_us: list[int], *, known_at_us: int | None) -> list[int]:
        self.segment(segment_id)
        return [len(self.manual.get(segment_id, []))] * len(points_us)

    def now_us(self) -> int:
        return NOW_US

    def used_by(self, segment_id: int) -> list[int]:
        self.segment(segment_id)
        return self.users.get(segment_id, [])

    def campaigns(self) -> list[CampaignView]:
        return list(self.kept_campaigns.values())

    def campaign(self, campaign_id: int) -> CampaignView:
        return one(self.kept_campaigns, campaign_id, "campaign")

    def journeys(self, campaign_id: int, *, start: str, limit: int) -> tuple[list[JourneyView], str]:
        return page(self.kept_journeys, start, limit)

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
        self.asked["messages"] = {"start_us": start_us, "end_us": end_us, "action_id": action_id, "limit": limit}
        found = [
            view
            for view in self.kept_messages
            if (person is None or view.identifiers[person[0]] == person[1])
            and campaign_id in (None, view.campaign_id)
            and type in (None, view.type)
            and state in (None, view.state)
            and (metric is None or metric in view.metrics_us)
        ]
        return page(found[::-1], start, limit)

    def message(self, delivery_id: str) -> MessageView:
        return one({view.delivery_id: view for view in self.kept_messages}, delivery_id, "message")

    def imports(self) -> list[ImportView]:
        return self.kept_imports

    def import_(self, import_id: int) -> ImportView:
        return one({view.import_id: view for view in self.kept_imports}, import_id, "import")

    def health(self) -> dict[str, object]:
        return {}

    def _holds(self, condition: Condition, view: PersonView) -> bool:
        match condition:
            case And(children):
                return all(self._holds(child, view) for child in children)
            case Or(children):
                return any(self._holds(child, view) for child in children)
            case Not(child):
                return not self._holds(child, view)
            case InSegment(segment_id):
                return view in self.manual.get(segment_id, [])
            case AttributeTest(field=name, operator="exists"):
                return name in view.attributes
            case AttributeTest(field=name, operator="eq", value=value):
                return name in view.attributes and msgspec.json.encode(view.attributes[name]) == value
            case _:
                return False


class FakeImports:
    """No import runs; there is import 1."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def cancel(self, import_id: int) -> None:
        self.asked.append(("cancel", import_id))

    def progress(self, import_id: int) -> None:
        return None

    def runs(self, import_id: int) -> bool:
        return False


@dataclass
class FakeWorkspace:
    """Applies definitions at once. ``answers`` are receipts (or errors) to give instead, in turn."""

    reader: FakeReader = field(default_factory=FakeReader)
    facts: list[Fact] = field(default_factory=list)
    answers: list[Receipt | Exception] = field(default_factory=list)
    name: str = "default"
    is_closed: bool = False
    imports: FakeImports = field(default_factory=FakeImports)

    def apply(self, facts: list[Fact], *, timeout_s: float = 30) -> list[Receipt]:
        if self.answers:
            given = self.answers.pop(0)
            if isinstance(given, Exception):
                raise given
            return [given]
        self.facts += facts
        return [self._applied(fact) for fact in facts]

    def await_built(self, segment_id: int, timeout_s: float = 30) -> bool:
        self.reader.segment(segment_id).state = "finished"
        return True

    def close(self) -> None:
        self.is_closed = True

    def _applied(self, fact: Fact) -> Receipt:
        subject: int | None = None
        match fact:
            case PutSegment():
                subject = self._put_segment(fact)
            case DeleteSegment(segment_id=number):
                del self.reader.kept_segments[number]
            case PutCampaign():
                subject = self._put_campaign(fact)
            case SetCampaignState():
                self._set_state(fact)
            case RetryDelivery(delivery_id=name):
                self.reader.message(name).state = "queued"
            case _:
                raise AssertionError(f"the fake does not apply {fact}")
        return Receipt(result="applied", position=len(self.facts), subject=subject)

    def _put_segment(self, fact: PutSegment) -> int:
        kept = self.reader.kept_segments
        number = fact.segment_id or max(kept, default=0) + 1
        kept[number] = SegmentView(
            segment_id=number,
            name=fact.name,
            description=fact.description,
            type="manual" if fact.conditions is None else "dynamic",
            conditions=None if fact.conditions is None else msgspec.json.decode(fact.conditions),
            state="finished" if fact.conditions is None else "build",
            progress=None,
            created_us=NOW_US,
            updated_us=NOW_US + len(self.facts) * SECOND,
        )
        return number

    def _put_campaign(self, fact: PutCampaign) -> int:
        kept = self.reader.kept_campaigns
        number = fact.campaign_id or max(kept, default=0) + 1
        before = kept.get(number)
        kept[number] = CampaignView(
            campaign_id=number,
            definition=cast("dict[str, Json]", msgspec.json.decode(fact.definition)),
            state="draft" if before is None else before.state,
            created_us=NOW_US,
            updated_us=NOW_US + len(self.facts) * SECOND,
            first_started_us=None if before is None else before.first_started_us,
        )
        if kept[number].definition.get("state") == "running":
            self._set_state(SetCampaignState(campaign_id=number, state="running"))
        return number

    def _set_state(self, fact: SetCampaignState) -> None:
        view = self.reader.campaign(fact.campaign_id)
        view.state = fact.state
        if fact.state == "running":
            view.first_started_us = view.first_started_us or NOW_US


def page(items: list[T], start: str, limit: int) -> tuple[list[T], str]:
    if start and not start.isdigit():
        raise RequestError(f"start {start!r} was never handed out")
    first = int(start or 0)
    last = first + limit
    return items[first:last], str(last) if last < len(items) else ""


def one(items: dict[K, T], key: K, noun: str) -> T:
    if key not in items:
        raise NotFoundError(f"there is no {noun} {key!r}")
    return items[key]


@contextmanager
def app_client(
    workspace: FakeWorkspace,
    *,
    tools: LocalTools | None = None,
    trusted: bool = True,
    authorise: Callable[[object], bool] = lambda scope: True,
) -> Iterator[httpx.Client]:
    """A client of the App API over a fake workspace."""
    app = app_api(workspace, authorise, trusted=trusted, tools=tools)
    with httpx.Client(transport=InProcess(app), base_url="http://backstory", timeout=None) as client:
        yield client
