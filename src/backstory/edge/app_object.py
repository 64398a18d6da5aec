"""Objects over the App API: types, search, attributes, and relationships from both sides.

Source: ``api-surface.md`` section 7.1 and the published description of the App API.
"""

from typing import cast

from starlette.responses import Response

from backstory.core.condition import Json, Where, parse_where
from backstory.core.error import RequestError
from backstory.core.fact import ObjectKey
from backstory.edge.app_answer import answer
from backstory.edge.app_request import Call, Handler, not_found
from backstory.edge.app_shape import ident, object_, object_identifiers, object_type, relationship

_GREATEST = 1000


def types(call: Call) -> Response:
    """``GET /v1/object_types``: the types that have been used."""
    return answer({"types": [object_type(type_id) for type_id in call.reader.object_types()]})


def search(call: Call) -> Response:
    """``POST /v1/objects``: the objects of a type for which a filter of attributes holds now."""
    body = call.document()
    type_id = _type_id(body.get("object_type_id"), "$.object_type_id")
    if "filter" not in body:
        raise RequestError('the body must be like {"object_type_id": "1", "filter": {…}}', path="$.filter")
    where = _where(body["filter"], type_id, "$.filter")
    limit = call.limit(default=50, greatest=_GREATEST)
    views, following = call.reader.objects(type_id, where, start=call.query.get("start", ""), limit=limit)
    found: list[object] = [object_identifiers(view) for view in views]
    return answer({"identifiers": found, "ids": [view.object_id for view in views], "next": following})


def attributes(call: Call) -> Response:
    """``GET /v1/objects/{type}/{object}/attributes``."""
    return answer({"object": object_(call.reader.object(_key(call)))})


def people(call: Call) -> Response:
    """``GET /v1/objects/{type}/{object}/relationships``: the people related to an object."""
    key, limit = _key(call), call.limit(default=50, greatest=_GREATEST)
    found, following = call.reader.people_of_object(key, start=call.query.get("start", ""), limit=limit)
    related = [
        {"identifiers": ident(one), "object_type_id": str(key.type_id), "object_type_disabled": False} for one in found
    ]
    return answer({"cio_relationships": related, "next": following})


def of_person(call: Call) -> Response:
    """``GET /v1/customers/{id}/relationships``: the objects a person is related to."""
    kind, value = call.customer()
    limit = call.limit(default=50, greatest=_GREATEST)
    found = call.reader.relationships(kind, value, start=call.query.get("start", ""), limit=limit)
    if found is None:
        raise not_found("customer", value)
    views, following = found
    return answer({"cio_relationships": [relationship(view) for view in views], "next": following})


def _key(call: Call) -> ObjectKey:
    type_id, named = call.number("object_type_id", "object type"), call.path["object_id"]
    match call.text("id_type"):
        case None | "object_id":
            return ObjectKey(type_id, named)
        case "cio_object_id":
            return ObjectKey(type_id, None, named)
        case other:
            raise RequestError(f"id_type must be one of object_id, cio_object_id, not {other!r}")


def _type_id(value: Json, path: str) -> int:
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:20]) < 1 << 62:
        raise RequestError('the type of an object is a number as text, like "1"', path=path)
    return int(text)


def _where(value: Json, type_id: int, path: str) -> Where:
    """A filter of objects as a tree of tests: ``object_attribute`` is ``attribute`` with the type beside it."""
    return parse_where(_plain(value, type_id, path), path=path)


def _plain(value: Json, type_id: int, path: str) -> Json:
    if not isinstance(value, dict):
        return value
    out: dict[str, Json] = {}
    for key, body in value.items():
        here = f"{path}.{key}"
        if key == "object_attribute" and isinstance(body, dict):
            test = dict(body)
            asked = test.pop("type_id", str(type_id))
            if _type_id(asked, f"{here}.type_id") != type_id:
                raise RequestError("type_id must be the object_type_id of the search", path=f"{here}.type_id")
            out["attribute"] = test
        elif key in ("and", "or") and isinstance(body, list):
            out[key] = [_plain(one, type_id, f"{here}[{place}]") for place, one in enumerate(cast("list[Json]", body))]
        else:
            out[key] = _plain(body, type_id, here)
    return out


ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/v1/object_types", types),
    ("POST", "/v1/objects", search),
    ("GET", "/v1/objects/{object_type_id}/{object_id}/attributes", attributes),
    ("GET", "/v1/objects/{object_type_id}/{object_id}/relationships", people),
    ("GET", "/v1/customers/{customer_id}/relationships", of_person),
]
