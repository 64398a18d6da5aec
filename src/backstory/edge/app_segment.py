"""Segments over the App API, dynamic and manual.

The published operations, and of ours: conditions on create, ``PUT``, ``as_of`` and ``known_at`` for counts and members.
Sources: ``api-surface.md`` section 7.1, design section 8.
"""

import msgspec
from starlette.responses import Response

from backstory.core import condition
from backstory.core.condition import Json
from backstory.core.error import ConflictError, RequestError
from backstory.core.fact import DeleteSegment, PutSegment
from backstory.edge import app_shape
from backstory.edge.app_answer import UnprocessableError, answer, nothing
from backstory.edge.app_definition import check_segments, judged, known_keys, name_of, text_of
from backstory.edge.app_request import Call, Handler
from backstory.engine.answer.view import SegmentView
from backstory.engine.port import Reader

_OURS = frozenset({"name", "description", "type", "conditions"})
_SERVER = frozenset({"id", "deduplicate_id", "state", "progress", "tags", "created_at", "updated_at"})


def all_segments(call: Call) -> Response:
    """``GET /v1/segments``."""
    return answer({"segments": [app_shape.segment(view) for view in call.reader.segments()]})


def one(call: Call) -> Response:
    """``GET /v1/segments/{id}``."""
    return answer({"segment": app_shape.segment(_segment(call))})


def create(call: Call) -> Response:
    """``POST /v1/segments``: manual unless it has conditions, as in the original."""
    wanted = known_keys(call.part("segment"), ours=_OURS, server=_SERVER, path="$.segment")
    conditions = wanted.get("conditions")
    kind = wanted.get("type", "manual" if conditions is None else "dynamic")
    if kind not in ("dynamic", "manual"):
        raise RequestError(f"type must be dynamic or manual, not {kind!r}", path="$.segment.type")
    fact = PutSegment(
        name=name_of(wanted.get("name"), path="$.segment.name"),
        description=text_of(wanted.get("description"), path="$.segment.description"),
        conditions=_conditions(call.reader, conditions, dynamic=kind == "dynamic"),
    )
    return _put(call, fact)


def change(call: Call) -> Response:
    """``PUT /v1/segments/{id}``: what is left out stays as it is; the type cannot change."""
    view = _segment(call)
    wanted = known_keys(call.part("segment"), ours=_OURS, server=_SERVER, path="$.segment")
    if wanted.get("type", view.type) != view.type:
        raise UnprocessableError(
            f"segment {view.segment_id} is {view.type}: make a new one instead", path="$.segment.type"
        )
    fact = PutSegment(
        segment_id=view.segment_id,
        name=name_of(wanted.get("name", view.name), path="$.segment.name"),
        description=text_of(wanted.get("description", view.description), path="$.segment.description"),
        conditions=_conditions(call.reader, wanted.get("conditions", view.conditions), dynamic=view.type == "dynamic"),
    )
    return _put(call, fact)


def delete(call: Call) -> Response:
    """``DELETE /v1/segments/{id}``: 409 while a campaign or another segment uses it."""
    view = _segment(call)
    campaigns = call.reader.used_by(view.segment_id)
    if campaigns:
        names = ", ".join(str(number) for number in campaigns)
        raise ConflictError(f"segment {view.segment_id} is used by campaign {names}: change that first")
    receipt = call.apply(DeleteSegment(segment_id=view.segment_id))
    return call.written({}, receipt) if call.wants_receipt else nothing()


def members(call: Call) -> Response:
    """``GET /v1/segments/{id}/membership``; ``as_of`` shows the members of a past moment.

    With ``known_at`` as it was known then: what was accepted later is left out.
    """
    segment_id = call.number("segment_id", "segment")
    people, next_start = call.reader.members(
        segment_id,
        start=call.query.get("start", ""),
        limit=call.limit(default=1000, greatest=30_000),
        as_of_us=call.moment_us("as_of"),
        known_at_us=call.moment_us("known_at"),
    )
    return answer({"segment_id": segment_id, **app_shape.page_of_people(people, next_start)})


def count(call: Call) -> Response:
    """``GET /v1/segments/{id}/customer_count``; ``as_of`` counts at a past moment."""
    segment_id = call.number("segment_id", "segment")
    number = call.reader.member_count(segment_id, call.moment_us("as_of"), call.moment_us("known_at"))
    return answer({"segment_id": segment_id, "count": number})


def used_by(call: Call) -> Response:
    """``GET /v1/segments/{id}/used_by``."""
    segment_id = call.number("segment_id", "segment")
    users = {"campaigns": call.reader.used_by(segment_id), "sent_newsletters": [], "draft_newsletters": []}
    return answer({"segment_id": segment_id, "used_by": users})


def _segment(call: Call) -> SegmentView:
    return call.reader.segment(call.number("segment_id", "segment"))


def _conditions(reader: Reader, value: Json, *, dynamic: bool) -> bytes | None:
    path = "$.segment.conditions"
    if not dynamic:
        if value is not None:
            raise UnprocessableError("a manual segment has no conditions; leave them out or make it dynamic", path=path)
        return None
    if value is None:
        raise UnprocessableError("a dynamic segment needs conditions", path=path)
    tree = judged(lambda given, place: condition.parse(given, path=place), value, path)
    check_segments(reader, value, path)
    return msgspec.json.encode(condition.to_json(tree))


def _put(call: Call, fact: PutSegment) -> Response:
    receipt = call.apply(fact, refused=UnprocessableError, path="$.segment")
    segment_id = fact.segment_id if fact.segment_id is not None else receipt.subject
    assert segment_id is not None, "the receipt of a new segment carries its number"
    # Answered when its counts are right, as long as that takes no more than half a minute.
    call.workspace.await_built(segment_id)
    return call.written({"segment": app_shape.segment(call.reader.segment(segment_id))}, receipt)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/segments", all_segments),
    ("POST", "/v1/segments", create),
    ("GET", "/v1/segments/{segment_id}", one),
    ("PUT", "/v1/segments/{segment_id}", change),
    ("DELETE", "/v1/segments/{segment_id}", delete),
    ("GET", "/v1/segments/{segment_id}/membership", members),
    ("GET", "/v1/segments/{segment_id}/customer_count", count),
    ("GET", "/v1/segments/{segment_id}/used_by", used_by),
]
