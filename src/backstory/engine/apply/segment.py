"""Applying definitions of segments and changes of manual members."""

import msgspec

from backstory.core.condition import parse, segments_in
from backstory.core.error import RequestError
from backstory.core.fact import ChangeMembers, DeleteSegment, PutSegment, Receipt
from backstory.core.identity import normal
from backstory.engine.apply.transition import Transitions
from backstory.engine.context import Context
from backstory.engine.segment.build import Builder
from backstory.store.definition import SegmentRow, read_campaigns, read_segments
from backstory.store.folder import Folder

_decode = msgspec.json.Decoder().decode


class Segments:
    """Segments are made, edited and deleted here; building is the builder's work."""

    def __init__(self, context: Context, builder: Builder, transitions: Transitions) -> None:
        self._context = context
        self._folder = context.folder
        self._segments = context.segments
        self._builder = builder
        self._transitions = transitions

    def put(self, fact: PutSegment, now_us: int) -> Receipt:
        rows = {row.segment_id: row for row in read_segments(self._folder.state.db)}
        old = rows.get(fact.segment_id) if fact.segment_id is not None else None
        if fact.segment_id is not None and old is None:
            return Receipt("dropped", reason=f"there is no segment {fact.segment_id}")
        if old is not None and (old.conditions is None) != (fact.conditions is None):
            return Receipt("dropped", reason="a segment cannot change between dynamic and manual")
        refusal = self._refusal(fact, rows)
        if refusal:
            return Receipt("dropped", reason=refusal)
        known = fact.segment_id if old is not None else None
        segment_id = known or self._folder.definitions.next_id("segment")
        conditions = None if fact.conditions is None else fact.conditions.decode()
        same = old is not None and old.conditions == conditions and old.built
        row = SegmentRow(
            segment_id=segment_id,
            name=fact.name,
            description=fact.description,
            conditions=conditions,
            created_us=old.created_us if old else now_us,
            updated_us=now_us,
            built=conditions is None or same,
        )
        self._folder.definitions.put_segment(row)
        if not row.built:
            self._builder.begin(segment_id, parse(_decode(conditions or "")), now_us)
        elif old is None:
            self._segments.put(segment_id, None)
        return Receipt("applied", subject=segment_id)

    def _refusal(self, fact: PutSegment, rows: dict[int, SegmentRow]) -> str:
        if fact.conditions is None:
            return ""
        try:
            condition = parse(_decode(fact.conditions))
        except RequestError as error:
            return error.message
        for other in sorted(segments_in(condition)):
            if other not in rows:
                return f"the conditions name segment {other}, which does not exist"
        if fact.segment_id is not None and self._segments.would_cycle(fact.segment_id, condition):
            return "the conditions lead back to the segment itself"
        return ""

    def delete(self, fact: DeleteSegment) -> Receipt:
        rows = read_segments(self._folder.state.db)
        if all(row.segment_id != fact.segment_id for row in rows):
            return Receipt("dropped", reason=f"there is no segment {fact.segment_id}")
        users = used_by(self._folder, fact.segment_id)
        if users:
            return Receipt("conflict", reason=f"the segment is used by {', '.join(users)}")
        self._folder.definitions.delete_segment(fact.segment_id)
        self._segments.drop(fact.segment_id)
        return Receipt("applied", subject=fact.segment_id)

    def change_members(self, fact: ChangeMembers, now_us: int) -> Receipt:
        kept = self._segments.segments.get(fact.segment_id)
        if kept is None or kept.condition is not None:
            return Receipt("dropped", reason="there is no manual segment with this number")
        changed = 0
        for identifier in fact.people:
            person = self._folder.people.find(normal(identifier))
            if person is not None:
                changed += self._place(fact.segment_id, person, fact.add, now_us)
        return Receipt("applied", subject=fact.segment_id, changed=changed)

    def _place(self, segment_id: int, person: int, add: bool, now_us: int) -> bool:
        """Whether that moved them."""
        importing, definitions = self._context.importing, self._folder.definitions
        said = definitions.last_placement(segment_id, person)
        moved = self._segments.place(segment_id, person, add, now_us)
        # What only another import said has to be said again: that import may be taken back, or come back.
        again = said is not None and (said[0] != add or said[1] not in (0, importing))
        if moved or again:
            definitions.place(self._folder.state.take_seq(), segment_id, person, add, now_us, importing)
        if moved:
            self._transitions.take(moved, now_us)
        return bool(moved)


def used_by(folder: Folder, segment_id: int) -> list[str]:
    """What refers to a segment, in words."""
    users: list[str] = []
    for row in read_segments(folder.state.db):
        if row.conditions is not None and segment_id in segments_in(parse(_decode(row.conditions))):
            users.append(f"segment {row.segment_id}")
    for campaign in read_campaigns(folder.state.db):
        if segment_id in campaign_segments(campaign.definition):
            users.append(f"campaign {campaign.campaign_id}")
    return users


def campaign_segments(definition: str) -> set[int]:
    """The numbers of the segments a campaign's definition names anywhere."""
    found: set[int] = set()

    def walk(value: object) -> None:
        if isinstance(value, dict):
            segment = value.get("segment")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            if isinstance(segment, dict) and isinstance(segment.get("id"), int):  # pyright: ignore[reportUnknownMemberType]
                found.add(segment["id"])  # pyright: ignore[reportUnknownArgumentType]
            for item in value.values():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
                walk(item)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(value, list):
            for item in value:  # pyright: ignore[reportUnknownVariableType]
                walk(item)  # pyright: ignore[reportUnknownArgumentType]

    walk(_decode(definition))
    return found
