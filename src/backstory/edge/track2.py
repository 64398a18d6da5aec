"""Operations of Track API v2 turned into facts: ``{"type", "action", "identifiers", …}``.

One operation becomes one fact, or several (an identify with relationships), which are accepted together or not at all.
Knows nothing of HTTP; what cannot be taken raises ``RequestError`` whose path leads to the field.
Source: ``api-surface.md`` section 5, semantics section 1.10.
"""

from collections.abc import Callable, Sequence

import msgspec

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.fact import (
    DeletePerson,
    EventKind,
    Fact,
    Identifier,
    Identify,
    MergePeople,
    SuppressPerson,
    Track,
    TrackAnonymous,
    UnsuppressPerson,
)
from backstory.edge.track_body import attributes_of
from backstory.edge.track_device import delete_device_fact, put_device_fact
from backstory.edge.track_metric import delivery_fact
from backstory.edge.track_object import (
    RelationAction,
    delete_object_fact,
    object_facts,
    object_key,
    people_facts,
    person_relation_facts,
)
from backstory.edge.value import (
    Body,
    is_phone,
    read_anonymous_id,
    read_cio_id,
    read_email,
    read_event_data,
    read_event_id,
    read_event_name,
    read_flag,
    read_id,
    read_person,
    read_time,
    shown,
)

# The only reason the original is known to give (api-surface section 2).
REASON = "invalid"

# What the operations of a type have in common: the body in, facts out.
Operation = Callable[[Body], Sequence[Fact]]


def operation_facts(body: Body) -> list[Fact]:
    """The facts of one operation, at least one."""
    kind = body.get("type")
    actions = ACTIONS.get(kind) if isinstance(kind, str) else None
    if actions is None:
        raise RequestError(f"type must be one of {', '.join(ACTIONS)}, not {shown(kind)}", path="$.type")
    action = body.get("action")
    operation = actions.get(action) if isinstance(action, str) else None
    if operation is None:
        raise RequestError(
            f"the action of a {kind} must be one of {', '.join(actions)}, not {shown(action)}", path="$.action"
        )
    return list(operation(body))


def identify_person(
    person: Identifier, given: Json, time_us: int | None, *, rescaled: bool = False, by_phone: bool = True
) -> Identify:
    """An identify whose attributes may hold identifiers too; ``by_phone``: a phone in E.164 form is one."""
    if given is not None and not isinstance(given, dict):
        raise RequestError("attributes must be an object", path="$.attributes")
    attributes = dict(given or {})
    body_id, body_email = read_id(attributes.pop("id", None)), read_email(attributes.pop("email", None))
    phone = attributes.get("phone")
    body_phone = phone if by_phone and isinstance(phone, str) and is_phone(phone) else None
    if body_phone is not None:
        del attributes["phone"]
    update_only = read_flag(attributes.pop("_update", None), "attributes._update")
    anonymous_id = read_anonymous_id(attributes.pop("anonymous_id", None))
    cio_id = read_cio_id(attributes.pop("cio_id", None))
    return Identify(
        person=person,
        attributes=attributes_of(attributes),
        body_id=body_id,
        body_email=body_email,
        body_phone=body_phone,
        body_cio_id=cio_id,
        anonymous_id=anonymous_id,
        time_us=time_us,
        update_only=update_only,
        rescaled=rescaled,
    )


def merge_fact(body: Body) -> MergePeople:
    """``merge`` of v2 and ``POST /merge_customers`` of v1."""
    return MergePeople(
        primary=read_person(body.get("primary"), "$.primary"),
        secondary=read_person(body.get("secondary"), "$.secondary"),
    )


# --- people ---


def _person(body: Body) -> Identifier:
    return read_person(body.get("identifiers"))


def _time_us(body: Body) -> int | None:
    return read_time(body.get("timestamp"), "timestamp")[0]


def _identify(body: Body) -> Sequence[Fact]:
    time_us, rescaled = read_time(body.get("timestamp"), "timestamp")
    fact = identify_person(_person(body), body.get("attributes"), time_us, rescaled=rescaled)
    related = person_relation_facts(
        fact.person, body.get("cio_relationships"), "add_relationships", time_us, needed=False
    )
    return [fact, *related]


def _event(kind: EventKind) -> Operation:
    def operation(body: Body) -> Sequence[Fact]:
        time_us, rescaled = read_time(body.get("timestamp"), "timestamp")
        name = read_event_name(body.get("name"))
        data = read_event_data(body.get("attributes"), "$.attributes")
        event_id = read_event_id(body.get("id"))
        who = body.get("identifiers")
        if isinstance(who, dict) and set(who) == {"anonymous_id"}:
            return [
                TrackAnonymous(
                    anonymous_id=_anonymous(who), name=name, kind=kind, data=data, time_us=time_us,
                    event_id=event_id, rescaled=rescaled,
                )
            ]  # fmt: skip
        return [
            Track(
                person=read_person(who), name=name, kind=kind, data=data, time_us=time_us, event_id=event_id,
                rescaled=rescaled,
            )
        ]  # fmt: skip

    return operation


def _anonymous(who: Body) -> str:
    found = read_anonymous_id(who["anonymous_id"])
    if found is None:
        raise RequestError("anonymous_id must not be empty", path="$.identifiers.anonymous_id")
    return found


def _content(action: str) -> Operation:
    """What Segment's destination sends of in-app content: kept as an event of that name."""
    track = _event("event")

    def operation(body: Body) -> Sequence[Fact]:
        return track({**body, "name": action})

    return operation


def _put_device(body: Body) -> Sequence[Fact]:
    return [put_device_fact(_person(body), body.get("device"), token_key="token", time_us=_time_us(body))]


def _person_relations(action: RelationAction) -> Operation:
    return lambda body: person_relation_facts(_person(body), body.get("cio_relationships"), action, _time_us(body))


def _object_relations(action: RelationAction) -> Operation:
    return lambda body: people_facts(object_key(body.get("identifiers")), body, action, _time_us(body))


_PERSON: dict[str, Operation] = {
    "identify": _identify,
    "delete": lambda body: [DeletePerson(person=_person(body))],
    "event": _event("event"),
    "page": _event("page"),
    "screen": _event("screen"),
    "suppress": lambda body: [SuppressPerson(person=_person(body))],
    "unsuppress": lambda body: [UnsuppressPerson(person=_person(body))],
    "merge": lambda body: [merge_fact(body)],
    "add_device": _put_device,
    "delete_device": lambda body: [delete_device_fact(_person(body), body.get("device"))],
    "add_relationships": _person_relations("add_relationships"),
    "delete_relationships": _person_relations("delete_relationships"),
    "viewed_content": _content("viewed_content"),
    "clicked_content": _content("clicked_content"),
}

_OBJECT: dict[str, Operation] = {
    "identify": lambda body: object_facts(body, _time_us(body)),
    "identify_anonymous": lambda body: object_facts(body, _time_us(body)),
    "delete": lambda body: [delete_object_fact(body)],
    "add_relationships": _object_relations("add_relationships"),
    "delete_relationships": _object_relations("delete_relationships"),
}

_DELIVERY: dict[str, Operation] = {"event": lambda body: [delivery_fact(body, _time_us(body))]}

ACTIONS: dict[str, dict[str, Operation]] = {"person": _PERSON, "object": _OBJECT, "delivery": _DELIVERY}


class ItemError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with an operation, in the published shape; ``batch_index`` counts from 0."""

    batch_index: int | None = None
    reason: str
    field: str
    message: str


def item_error(error: RequestError, index: int | None = None) -> ItemError:
    """The published shape of a refusal: the field is the path without its root."""
    field = error.path.removeprefix("$").removeprefix(".")
    return ItemError(batch_index=index, field=field, message=error.message, reason=REASON)
