"""What the edge may ask of a workspace: reads of committed state and of memberships, from any thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec
from pyroaring import BitMap

from backstory.core.condition import Condition, InSegment, Json, Where, parse
from backstory.core.device import shown_device
from backstory.core.error import NotFoundError, RequestError
from backstory.core.explain import Explanation
from backstory.core.fact import Identifier, IdentifierKind, ObjectKey
from backstory.core.identity import normal
from backstory.core.person import decode_document, times_us, values
from backstory.core.segment import Kept
from backstory.engine.answer import activity, inquiry, ledger_view, object_view, transition_view
from backstory.engine.answer.import_view import import_view
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
from backstory.engine.apply.segment import campaign_segments
from backstory.engine.segment.asof import members_as_of
from backstory.store.definition import CampaignRow, SegmentRow, read_campaigns, read_segments
from backstory.store.device import read_devices
from backstory.store.folder import Folder
from backstory.store.manifest import read_imports
from backstory.store.object import read_object_types
from backstory.store.people import COLUMN_OF, PROFILE_COLUMNS, cio_id_of, person_of
from backstory.store.retraction import PURGED, read_retractions

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

_decode = msgspec.json.Decoder().decode
_PERSON = f"SELECT {PROFILE_COLUMNS}, document FROM person WHERE "
ROWS_AT_ONCE = 500


class Reader:
    """Every method is synchronous and thread-safe; what is missing raises ``NotFoundError``."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    @property
    def _folder(self) -> Folder:
        return self._workspace.folder

    # -- people ---------------------------------------------------------------------------------------------------

    def person(self, kind: IdentifierKind, value: str) -> PersonView | None:
        identifier = normal(Identifier(kind, value))
        if kind == "cio_id":
            number = person_of(identifier.value)
            rows = [] if number is None else self._folder.state.rows(_PERSON + "person = ?", (number,))
        else:
            rows = self._folder.state.rows(_PERSON + f"{COLUMN_OF[kind]} = ?", (identifier.value,))
        if not rows:
            return None
        devices = self._folder.state.read(lambda db: read_devices(db, rows[0][0]))
        return _person_view(rows[0], [shown_device(token, record) for token, record in devices])

    def people_by_email(self, email: str) -> list[PersonView]:
        found = self.person("email", email)
        return [] if found is None else [found]

    def search(self, condition: Condition, *, start: str, limit: int) -> tuple[list[Identifiers], str]:
        members = members_as_of(self._folder, self._workspace.segments, condition, self._folder.state.now_us)
        return self._page(members, start, limit)

    def object_types(self) -> list[int]:
        return self._folder.state.read(read_object_types)

    def object(self, key: ObjectKey) -> ObjectView:
        found = self._folder.state.read(lambda db: object_view.read_object(db, key))
        if found is None:
            raise _no_object(key)
        return found

    def objects(self, type_id: int, where: Where, *, start: str, limit: int) -> tuple[list[ObjectView], str]:
        first, now_us = _number(start) if start else 0, self._folder.state.now_us
        return self._folder.state.read(lambda db: object_view.objects_where(db, type_id, where, first, limit, now_us))

    def people_of_object(self, key: ObjectKey, *, start: str, limit: int) -> tuple[list[Identifiers], str]:
        first = _number(start) if start else 0
        found = self._folder.state.read(lambda db: object_view.people_of_object(db, key, first, limit))
        if found is None:
            raise _no_object(key)
        return found

    def relationships(
        self, kind: IdentifierKind, value: str, *, start: str, limit: int
    ) -> tuple[list[RelationView], str] | None:
        person, first = self.person(kind, value), _number(start) if start else 0
        if person is None:
            return None
        return self._folder.state.read(lambda db: object_view.relations_of(db, person.person, first, limit))

    def segments_of(self, kind: IdentifierKind, value: str) -> list[SegmentView] | None:
        person = self.person(kind, value)
        if person is None:
            return None
        segments = self._workspace.segments.segments
        inside = [number for number, kept in list(segments.items()) if person.person in kept.members]
        return self.segments(inside)

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
        return activity.activities(
            self._folder,
            kind,
            value,
            types=types,
            name=name,
            deleted=deleted,
            before=before,
            limit=limit,
            everything=everything,
            now_us=self._workspace.clock.now_us(),
        )

    # -- segments -------------------------------------------------------------------------------------------------

    def segments(self, chosen: Iterable[int] | None = None) -> list[SegmentView]:
        """All segments, or those with these numbers."""
        return [self._segment_view(row) for row in self._folder.state.read(lambda db: read_segments(db, chosen))]

    def segment(self, segment_id: int) -> SegmentView:
        for view in self.segments([segment_id]):
            return view
        raise NotFoundError(f"there is no segment {segment_id}")

    def _segment_view(self, row: SegmentRow) -> SegmentView:
        kept = self._workspace.segments.segments.get(row.segment_id)
        building = not row.built or (kept is not None and kept.building)
        progress = self._workspace.builder.progress(row.segment_id) if building else None
        return SegmentView(
            segment_id=row.segment_id,
            name=row.name,
            description=row.description,
            type="manual" if row.conditions is None else "dynamic",
            conditions=None if row.conditions is None else _decode(row.conditions),
            state="finished" if progress is None else progress.state,
            progress=None if progress is None else progress.percent,
            created_us=row.created_us,
            updated_us=row.updated_us,
        )

    def _kept(self, segment_id: int) -> Kept:
        kept = self._workspace.segments.segments.get(segment_id)
        if kept is None:
            raise NotFoundError(f"there is no segment {segment_id}")
        return kept

    def _condition(self, segment_id: int) -> Condition:
        condition = self._kept(segment_id).condition
        return InSegment(segment_id) if condition is None else condition

    def _members(self, segment_id: int, as_of_us: int | None, known_at_us: int | None) -> BitMap:
        if as_of_us is None and known_at_us is None:
            return BitMap(self._kept(segment_id).members)
        return inquiry.preview(self._workspace, self._condition(segment_id), as_of_us, known_at_us)

    def member_count(
        self, segment_id: int, as_of_us: int | None = None, known_at_us: int | None = None
    ) -> int:
        if as_of_us is None and known_at_us is None:
            return len(self._kept(segment_id).members)
        return len(self._members(segment_id, as_of_us, known_at_us))

    def members(
        self,
        segment_id: int,
        *,
        start: str,
        limit: int,
        as_of_us: int | None = None,
        known_at_us: int | None = None,
    ) -> tuple[list[Identifiers], str]:
        return self._page(self._members(segment_id, as_of_us, known_at_us), start, limit)

    def explain(
        self, kind: IdentifierKind, value: str, segment_id: int, *, as_of_us: int | None, known_at_us: int | None
    ) -> Explanation:
        person = self.person(kind, value)
        if person is None:
            raise NotFoundError(f"there is no person with {kind} {value!r}")
        return inquiry.explanation(self._workspace, person.person, segment_id, as_of_us, known_at_us)

    def segments_past(self, kind: IdentifierKind, value: str) -> dict[int, list[inquiry.Interval]] | None:
        person = self.person(kind, value)
        return None if person is None else inquiry.past_of(self._workspace, person.person)

    def preview(
        self, condition: Condition, *, limit: int, as_of_us: int | None, known_at_us: int | None
    ) -> tuple[int, list[Identifiers]]:
        found = inquiry.preview(self._workspace, condition, as_of_us, known_at_us)
        return len(found), self._identifiers(list(found[:limit]))

    def segment_history(self, segment_id: int, points_us: list[int], *, known_at_us: int | None) -> list[int]:
        return inquiry.counts(self._workspace, self._condition(segment_id), points_us, known_at_us)

    def transitions(self, segment_id: int, *, start: str, limit: int) -> tuple[list[TransitionView], str]:
        self._kept(segment_id)
        before = transition_view.read_cursor(start)
        found, following = self._folder.state.read(lambda db: transition_view.page(db, segment_id, before, limit))
        transition_view.look_up(self._workspace, segment_id, found)
        return found, following

    def now_us(self) -> int:
        return self._folder.state.now_us

    def _page(self, members: BitMap, start: str, limit: int) -> tuple[list[Identifiers], str]:
        """A page of people in the order of their numbers; the cursor is the number to go on with."""
        first = _number(start) if start else 0
        found = BitMap(members)
        found.remove_range(0, first)
        more = len(found) > limit
        page = list(found[: limit + 1 if more else limit])
        following = str(page[-1]) if more else ""
        return self._identifiers(page[:limit]), following

    def _identifiers(self, people: list[int]) -> list[Identifiers]:
        found: list[Identifiers] = []
        for low in range(0, len(people), ROWS_AT_ONCE):
            chunk = people[low : low + ROWS_AT_ONCE]
            marks = ", ".join("?" * len(chunk))
            rows = self._folder.state.rows(
                f"SELECT person, id, email FROM person WHERE person IN ({marks}) ORDER BY person", tuple(chunk)
            )
            found += [{"id": row[1], "email": row[2], "cio_id": cio_id_of(row[0])} for row in rows]
        return found

    def used_by(self, segment_id: int) -> list[int]:
        self.segment(segment_id)
        rows = self._folder.state.read(read_campaigns)
        return [row.campaign_id for row in rows if segment_id in campaign_segments(row.definition)]

    def conditions_of(self, segment_id: int) -> Condition | None:
        view = self.segment(segment_id)
        return None if view.conditions is None else parse(view.conditions)

    # -- campaigns, messages, imports -----------------------------------------------------------------------------

    def campaigns(self) -> list[CampaignView]:
        return [_campaign_view(row) for row in self._folder.state.read(read_campaigns)]

    def campaign(self, campaign_id: int) -> CampaignView:
        for view in self.campaigns():
            if view.campaign_id == campaign_id:
                return view
        raise NotFoundError(f"there is no campaign {campaign_id}")

    def journeys(self, campaign_id: int, *, start: str, limit: int) -> tuple[list[JourneyView], str]:
        self.campaign(campaign_id)
        return ledger_view.journeys(self._folder, campaign_id, _number(start) if start else 0, limit)

    def messages(
        self,
        *,
        person: tuple[IdentifierKind, str] | None,
        campaign_id: int | None,
        action_id: int | None = None,
        type: str | None,
        metric: str | None,
        state: str | None = None,
        start: str,
        limit: int,
        start_us: int | None,
        end_us: int | None,
    ) -> tuple[list[MessageView], str]:
        number: int | None = None
        if person is not None:
            found = self.person(*person)
            if found is None:
                raise NotFoundError(f"there is no person with {person[0]} {person[1]!r}")
            number = found.person
        return ledger_view.messages(
            self._folder,
            person=number,
            campaign_id=campaign_id,
            action_id=action_id,
            kind=type,
            metric=metric,
            state=state,
            before=_number(start) if start else None,
            limit=limit,
            start_us=start_us,
            end_us=end_us,
        )

    def message(self, delivery_id: str) -> MessageView:
        return ledger_view.message(self._folder, delivery_id)

    def imports(self) -> list[ImportView]:
        rows, gone = self._folder.state.read(lambda db: (read_imports(db), read_retractions(db)))
        purged = {number for number, one in gone.items() if one.was == PURGED}
        at_work = self._workspace.imports.attended
        return [import_view(row, running=at_work(row.import_id), purged=row.import_id in purged) for row in rows]

    def import_(self, import_id: int) -> ImportView:
        for view in self.imports():
            if view.import_id == import_id:
                return view
        raise NotFoundError(f"there is no import {import_id}")

    def health(self) -> dict[str, Json]:
        loop = self._workspace.loop
        faults: list[Json] = [*self._workspace.faults]
        return {
            "status": "failed" if not self._workspace.healthy else "degraded" if faults else "ok",
            "clock": "jumped" if loop.guard.jumped() else "ok",
            "faults": faults,
        }


def _no_object(key: ObjectKey) -> NotFoundError:
    named = f"cio_object_id {key.cio_object_id!r}" if key.object_id is None else f"object_id {key.object_id!r}"
    return NotFoundError(f"there is no object of type {key.type_id} with {named}")


def _number(cursor: str) -> int:
    try:
        return int(cursor)
    except ValueError:
        raise RequestError(f"start is {cursor!r}; give the value of next of the page before", path="start") from None


def _person_view(
    row: tuple[int, str | None, str | None, str | None, int, bytes], devices: list[dict[str, Json]]
) -> PersonView:
    document = decode_document(row[5])
    return PersonView(
        person=row[0],
        cio_id=cio_id_of(row[0]),
        id=row[1],
        email=row[2],
        attributes=values(document),
        times_us=times_us(document),
        created_us=row[4],
        phone=row[3],
        devices=devices,
    )


def _campaign_view(row: CampaignRow) -> CampaignView:
    return CampaignView(
        campaign_id=row.campaign_id,
        definition=_decode(row.definition),
        state=row.state,  # pyright: ignore[reportArgumentType]
        created_us=row.created_us,
        updated_us=row.updated_us,
        first_started_us=row.first_started_us,
    )
