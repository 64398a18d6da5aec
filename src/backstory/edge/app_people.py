"""People over the App API: find, search, attributes, segments.

Source: ``api-surface.md`` section 7.1.
"""

from starlette.responses import Response

from backstory.core.condition import Json, events_in, parse
from backstory.core.error import RequestError
from backstory.edge.app_answer import answer
from backstory.edge.app_definition import check_segments
from backstory.edge.app_request import Call, Handler, not_found, person_key
from backstory.edge.app_shape import customer, page_of_people, person_ident, segment_of_person

_IDS_MAX = 100


def find(call: Call) -> Response:
    """``GET /v1/customers?email=``: everybody with that email, compared without case."""
    email = call.text("email")
    if email is None:
        raise RequestError("email is needed: /v1/customers?email=ada@example.com")
    return answer({"results": [person_ident(view) for view in call.reader.people_by_email(email)]})


def search(call: Call) -> Response:
    """``POST /v1/customers``: the people for whom a filter of attributes and segments holds now."""
    body = call.document()
    if "filter" not in body:
        raise RequestError('the body must be a JSON object like {"filter": {…}}', path="$.filter")
    condition = parse(body["filter"], path="$.filter")
    if events_in(condition):
        raise RequestError(
            "a search takes attributes and segments only; make a segment of the events and search for it",
            path="$.filter",
        )
    check_segments(call.reader, body["filter"], "$.filter", error=RequestError)
    limit = call.limit(default=50, greatest=1000)
    people, next_start = call.reader.search(condition, start=call.query.get("start", ""), limit=limit)
    return answer(page_of_people(people, next_start))


def many_attributes(call: Call) -> Response:
    """``POST /v1/customers/attributes``: up to 100 people by ``id``; unknown ids are left out."""
    ids = _ids(call.document().get("ids"))
    views = (call.reader.person("id", value) for value in ids)
    return answer({"customers": [{"customer": customer(view)} for view in views if view is not None]})


def attributes(call: Call) -> Response:
    """``GET /v1/customers/{id}/attributes``."""
    kind, value = call.customer()
    view = call.reader.person(kind, value)
    if view is None:
        raise not_found("customer", value)
    return answer({"customer": customer(view)})


def segments(call: Call) -> Response:
    """``GET /v1/customers/{id}/segments``: the segments the person is in now."""
    kind, value = call.customer()
    views = call.reader.segments_of(kind, value)
    if views is None:
        raise not_found("customer", value)
    return answer({"segments": [segment_of_person(view) for view in views]})


def _ids(value: Json) -> list[str]:
    if not isinstance(value, list) or not 1 <= len(value) <= _IDS_MAX:
        raise RequestError(f"ids must be a list of 1 to {_IDS_MAX} ids", path="$.ids")
    # A number and its text are the same identifier (design section 6).
    return [person_key("id", str(_id(item, place)))[1] for place, item in enumerate(value)]


def _id(item: Json, place: int) -> str | int:
    if isinstance(item, bool) or not isinstance(item, (str, int)):
        raise RequestError("an id must be a text", path=f"$.ids[{place}]")
    return item


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/customers", find),
    ("POST", "/v1/customers", search),
    ("POST", "/v1/customers/attributes", many_attributes),
    ("GET", "/v1/customers/{customer_id}/attributes", attributes),
    ("GET", "/v1/customers/{customer_id}/segments", segments),
]
