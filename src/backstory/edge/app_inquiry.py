"""Inquiries about segments over the App API, all of ours: explain, preview, history, transitions.

    GET  /v1/customers/{id}/segments/{segment_id}/explain   ?as_of= &known_at= &id_type=
    GET  /v1/customers/{id}/segments/history                ?id_type=
    POST /v1/segments/preview                               {conditions, as_of, known_at, limit}
    GET  /v1/segments/{id}/history                          ?start= &end= &step= &known_at=
    GET  /v1/segments/{id}/transitions                      ?start= &limit=

Times are unix seconds, with a fraction where they have one. Source: design section 8.
"""

from typing import assert_never

from starlette.responses import Response

from backstory.core.condition import Condition, Json, parse, to_json
from backstory.core.error import LimitError, RequestError
from backstory.core.explain import ByAttribute, ByEvent, ByHand, ByKnown, Node, Reason
from backstory.core.limit import HISTORY_POINTS
from backstory.core.operand import ConditionError, moment_us
from backstory.core.time import DAY_US, SECOND_US
from backstory.edge import app_shape
from backstory.edge.app_answer import UnprocessableError, answer
from backstory.edge.app_definition import check_segments, judged, known_keys
from backstory.edge.app_request import Call, Handler, not_found
from backstory.edge.app_shape import Shape, page_of_people

_PREVIEW = frozenset({"conditions", "as_of", "known_at", "limit"})
_SAMPLE = 10
_SAMPLE_MAX = 1000
_DAYS = 30


def explain(call: Call) -> Response:
    """Why a person is in a segment, or is not."""
    kind, value = call.customer()
    segment_id = call.number("segment_id", "segment")
    found = call.reader.explain(
        kind, value, segment_id, as_of_us=call.moment_us("as_of"), known_at_us=call.moment_us("known_at")
    )
    return answer(
        {
            "segment_id": segment_id,
            "member": found.member,
            "exists": found.exists,
            "as_of": seconds(found.at_us),
            "next_change_at": _moment(found.next_change_us),
            "tree": _node(found.tree),
        }
    )


def past(call: Call) -> Response:
    """When a person was in which segment, in valid time."""
    kind, value = call.customer()
    found = call.reader.segments_past(kind, value)
    if found is None:
        raise not_found("customer", value)
    views = {view.segment_id: view for view in call.reader.segments()}
    return answer(
        {
            "segments": [
                {
                    **app_shape.segment_of_person(views[segment_id]),
                    "intervals": [{"from": seconds(begin), "to": _moment(end)} for begin, end in intervals],
                }
                for segment_id, intervals in found.items()
                if segment_id in views
            ]
        }
    )


def preview(call: Call) -> Response:
    """How many and whom a segment would hold; nothing is kept."""
    body = known_keys(call.document(), ours=_PREVIEW, server=frozenset(), path="$")
    value = body.get("conditions")
    if value is None:
        example = 'conditions are needed, like {"event": {"name": "purchased"}}'
        raise UnprocessableError(example, path="$.conditions")
    condition: Condition = judged(lambda given, place: parse(given, path=place), value, "$.conditions")
    check_segments(call.reader, value, "$.conditions")
    limit = body.get("limit", _SAMPLE)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 0 <= limit <= _SAMPLE_MAX:
        raise RequestError(f"limit must be a whole number from 0 to {_SAMPLE_MAX}, not {limit!r}", path="$.limit")
    as_of_us = _time(body.get("as_of"), "$.as_of")
    count, sample = call.reader.preview(
        condition, limit=limit, as_of_us=as_of_us, known_at_us=_time(body.get("known_at"), "$.known_at")
    )
    return answer({"count": count, "sample": page_of_people(sample, "")["identifiers"]})


def history(call: Call) -> Response:
    """How many a segment held, for a chart: a point at ``start`` and every ``step`` seconds up to ``end``."""
    segment_id = call.number("segment_id", "segment")
    end_us = call.moment_us("end")
    if end_us is None:
        end_us = call.reader.now_us()
    step_us = _step_us(call.text("step"))
    start_us = call.moment_us("start")
    if start_us is None:
        start_us = end_us - _DAYS * DAY_US
    if start_us > end_us:
        raise RequestError("start must not lie after end", path="start")
    number = (end_us - start_us) // step_us + 1
    try:
        HISTORY_POINTS.check(number, path="step")
    except LimitError as error:
        raise RequestError(f"{error.message}; take a longer step", path="step") from None
    points = [start_us + place * step_us for place in range(number)]
    counts = call.reader.segment_history(segment_id, points, known_at_us=call.moment_us("known_at"))
    rows = [{"at": seconds(at_us), "count": count} for at_us, count in zip(points, counts, strict=True)]
    return answer({"segment_id": segment_id, "points": rows})


def transitions(call: Call) -> Response:
    """Who entered and left a segment, newest first: since when that is true, when it was noticed, and by what."""
    segment_id = call.number("segment_id", "segment")
    found, following = call.reader.transitions(
        segment_id, start=call.query.get("start", ""), limit=call.limit(default=100, greatest=1000)
    )
    rows = [
        {
            "customer": app_shape.ident(one.identifiers),
            "transition": "entered" if one.entered else "left",
            "effective_at": _moment(one.effective_us),
            "processed_at": seconds(one.at_us),
            "by": "build" if one.by_build else "change" if one.import_id is None else "import",
            "import_id": one.import_id,
        }
        for one in found
    ]
    return answer({"segment_id": segment_id, "transitions": rows, "next": following})


def _step_us(text: str | None) -> int:
    if text is None:
        return DAY_US
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:12]) <= 10**10:
        raise RequestError(f"step must be a whole number of seconds from 1, not {text!r}", path="step")
    return int(text) * SECOND_US


def _time(value: Json, path: str) -> int | None:
    if value is None:
        return None
    try:
        return moment_us(value, path)
    except ConditionError as error:
        raise RequestError(error.message, path=path) from None


def seconds(us: int) -> int | float:
    """Unix seconds, whole where they are."""
    return us // SECOND_US if us % SECOND_US == 0 else us / SECOND_US


def _moment(us: int | None) -> int | float | None:
    return None if us is None else seconds(us)


def _node(node: Node) -> Shape:
    shape: Shape = {
        "condition": to_json(node.condition),
        "value": node.value,
        "because": [_reason(one) for one in node.because],
        "next_change_at": _moment(node.next_change_us),
        "children": [_node(child) for child in node.children],
    }
    return shape if node.count is None else {**shape, "count": node.count}


def _reason(reason: Reason) -> Shape:
    match reason:
        case ByEvent():
            origin = reason.import_id or None
            return {"event_id": reason.event_id, "event": reason.name, "at": seconds(reason.at_us), "import_id": origin}
        case ByAttribute():
            at, origin = _moment(reason.at_us), reason.import_id or None
            return {"attribute": reason.field, "values": reason.found, "at": at, "import_id": origin}
        case ByKnown():
            return {"known_since": seconds(reason.at_us), "long_enough": reason.long_enough}
        case ByHand():
            return {"by_hand": "added" if reason.entered else "removed", "at": seconds(reason.at_us)}
        case _:
            assert_never(reason)


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/customers/{customer_id}/segments/history", past),
    ("GET", "/v1/customers/{customer_id}/segments/{segment_id}/explain", explain),
    ("POST", "/v1/segments/preview", preview),
    ("GET", "/v1/segments/{segment_id}/history", history),
    ("GET", "/v1/segments/{segment_id}/transitions", transitions),
]
