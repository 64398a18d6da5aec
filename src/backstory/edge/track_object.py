"""Objects and relationships in requests turned into facts.

An object is named by ``object_type_id`` with ``object_id``, or by ``cio_object_id``. v1 writes relationships inside an
identify as ``{"action","relationships":[…]}``, v2 as a plain list; Pipelines in group calls.
Source: ``api-surface.md`` sections 4 to 6, semantics section 1.9.
"""

from typing import Literal

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.fact import DeleteObject, Identifier, IdentifyObject, ObjectKey, Relate, Unrelate
from backstory.core.limit import OBJECT_ATTRIBUTE_BYTES, OBJECT_ATTRIBUTES, OBJECT_ID_BYTES, OBJECT_TYPE_ID
from backstory.edge.value import (
    Body,
    check_attributes,
    read_anonymous_id,
    read_flag,
    read_person,
    shown,
    stored,
)

RelationAction = Literal["add_relationships", "delete_relationships"]
RELATION_ACTIONS: tuple[RelationAction, ...] = ("add_relationships", "delete_relationships")
DEFAULT_TYPE = "1"


def object_key(value: Json, path: str = "$.identifiers") -> ObjectKey:
    """The object that ``identifiers`` name; raises when they name none, or name it twice."""
    if not isinstance(value, dict):
        raise RequestError("identifiers must be an object", path=path)
    cio_object_id, object_id = value.get("cio_object_id"), value.get("object_id")
    if (cio_object_id is None) == (object_id is None):
        raise RequestError("an object is named by object_type_id and object_id, or by cio_object_id alone", path=path)
    if cio_object_id is not None:
        type_id = value.get("object_type_id")
        number = 0 if type_id is None else read_type(type_id, f"{path}.object_type_id")
        return ObjectKey(number, None, _object_id(cio_object_id, f"{path}.cio_object_id"))
    return ObjectKey(
        read_type(value.get("object_type_id"), f"{path}.object_type_id"), _object_id(object_id, f"{path}.object_id")
    )


def read_type(value: Json, path: str) -> int:
    """The number of an object type, from 1, as a number or its text."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 18:
        value = int(value)
    if type(value) is not int or value < 1:
        raise RequestError(f'object_type_id must be a number from 1, like "1", not {shown(value)}', path=path)
    OBJECT_TYPE_ID.check(value, path=path)
    return value


def _object_id(value: Json, path: str) -> str:
    name = path.rpartition(".")[2]
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value:
        raise RequestError(f"{name} must be a string that is not empty, not {shown(value)}", path=path)
    if "\0" in value:
        raise RequestError(f"{name} holds a NUL character: leave it out", path=path)
    OBJECT_ID_BYTES.check(len(value.encode()), path=path)
    return value


def object_attributes(value: Json, path: str = "$.attributes") -> bytes:
    """Attributes of an object or a relationship as compact JSON; null and "" inside them are removals."""
    if value is None:
        return b"{}"
    if not isinstance(value, dict):
        raise RequestError("attributes must be an object", path=path)
    OBJECT_ATTRIBUTES.check(len(value), path=path)
    if "" in value:
        raise RequestError("attribute name cannot be blank", path=path)
    text = stored(value)
    OBJECT_ATTRIBUTE_BYTES.check(len(text), path=path)
    check_attributes(value, text)
    return text


def object_facts(body: Body, time_us: int | None) -> list[IdentifyObject | Relate | Unrelate]:
    """``identify`` of an object, with the people it is related to."""
    key = object_key(body.get("identifiers"))
    attributes = body.get("attributes")
    update_only = False
    if isinstance(attributes, dict) and "_update" in attributes:
        attributes = dict(attributes)
        update_only = read_flag(attributes.pop("_update"), "attributes._update")
    made = IdentifyObject(
        object=key, attributes=object_attributes(attributes), time_us=time_us, update_only=update_only
    )
    return [made, *people_facts(key, body, "add_relationships", time_us, needed=False)]


def delete_object_fact(body: Body) -> DeleteObject:
    """``delete`` of an object."""
    return DeleteObject(object=object_key(body.get("identifiers")))


def people_facts(
    key: ObjectKey, body: Body, action: RelationAction, time_us: int | None, *, needed: bool = True
) -> list[Relate | Unrelate]:
    """``cio_relationships`` of an object: each names a person, or somebody anonymous."""
    facts: list[Relate | Unrelate] = []
    for path, one in _relationships(body.get("cio_relationships"), needed=needed):
        person, anonymous_id = _who(one.get("identifiers"), f"{path}.identifiers")
        facts.append(_relation(action, key, person, anonymous_id, one, path, time_us))
    return facts


def person_relation_facts(
    person: Identifier, value: Json, action: RelationAction, time_us: int | None, *, needed: bool = True
) -> list[Relate | Unrelate]:
    """``cio_relationships`` of a person: each names an object."""
    return [
        _relation(action, object_key(one.get("identifiers"), f"{path}.identifiers"), person, None, one, path, time_us)
        for path, one in _relationships(value, needed=needed)
    ]


def v1_relation_facts(person: Identifier, value: Json, time_us: int | None) -> list[Relate | Unrelate]:
    """``cio_relationships`` inside a v1 identify: ``{"action": …, "relationships": […]}``."""
    if value is None:
        return []
    if not isinstance(value, dict):
        raise RequestError(
            "cio_relationships must be an object with action and relationships", path="$.cio_relationships"
        )
    action = value.get("action")
    for known in RELATION_ACTIONS:
        if action == known:
            return person_relation_facts(person, value.get("relationships"), known, time_us, needed=False)
    raise RequestError(
        f"the action must be add_relationships or delete_relationships, not {shown(action)}",
        path="$.cio_relationships.action",
    )


def _relation(
    action: RelationAction,
    key: ObjectKey,
    person: Identifier | None,
    anonymous_id: str | None,
    one: Body,
    path: str,
    time_us: int | None,
) -> Relate | Unrelate:
    if action == "delete_relationships":
        return Unrelate(object=key, person=person, anonymous_id=anonymous_id, time_us=time_us)
    given = one.get("relationship_attributes")
    attributes = object_attributes(given, f"{path}.relationship_attributes")
    return Relate(object=key, person=person, anonymous_id=anonymous_id, attributes=attributes, time_us=time_us)


def _relationships(value: Json, *, needed: bool) -> list[tuple[str, Body]]:
    if value is None and not needed:
        return []
    if not isinstance(value, list):
        raise RequestError("cio_relationships must be a list of relationships", path="$.cio_relationships")
    found: list[tuple[str, Body]] = []
    for number, one in enumerate(value):
        path = f"$.cio_relationships[{number}]"
        if not isinstance(one, dict):
            raise RequestError(f"a relationship must be an object with identifiers, not {shown(one)}", path=path)
        found.append((path, one))
    return found


def _who(value: Json, path: str) -> tuple[Identifier | None, str | None]:
    if isinstance(value, dict) and set(value) == {"anonymous_id"}:
        anonymous_id = read_anonymous_id(value["anonymous_id"])
        if anonymous_id is None:
            raise RequestError("anonymous_id must not be empty", path=f"{path}.anonymous_id")
        return None, anonymous_id
    return read_person(value, path), None
