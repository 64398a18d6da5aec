"""Bodies of the Track API turned into facts, with everything judged that the request alone can tell.

Knows limits, texts and identifiers by shape; nothing of HTTP beyond a content type, nothing of what is stored.
A body that cannot be taken raises ``RequestError`` with the text of ``api-surface.md`` section 2 where it has one.
"""

from typing import Literal

from backstory.core.error import RequestError
from backstory.core.fact import ChangeMembers, DeletePerson, Fact, Identifier, Identify, Track, TrackAnonymous
from backstory.core.limit import ATTRIBUTES_PER_CALL, MEMBERS_PER_CALL
from backstory.edge.track_object import v1_relation_facts
from backstory.edge.value import (
    CIO_PREFIX,
    Body,
    check_attributes,
    identifier,
    read_anonymous_id,
    read_cio_id,
    read_email,
    read_event_data,
    read_event_id,
    read_event_kind,
    read_event_name,
    read_flag,
    read_id,
    read_time,
    shown,
    stored,
)

MemberKind = Literal["id", "email", "cio_id"]

# Overrides of a campaign's addresses: an anonymous event may name them beside its data (api-surface section 4).
ADDRESSES = ("recipient", "from_address", "reply_to")


def identify_facts(person: Identifier, body: Body) -> list[Fact]:
    """``PUT /customers/{identifier}``: the person first, then the relationships the body names."""
    related = body.pop("cio_relationships", None)
    fact = identify_fact(person, body)
    return [fact, *v1_relation_facts(person, related, fact.time_us)]


def identify_fact(person: Identifier, body: Body) -> Identify:
    """An identify of v1: control keys are taken out, what remains are the attributes.

    Null and the empty string remain: they are removals. As body identifiers they name nobody and count as absent,
    but for an empty ``id``, which is refused as in the original.
    """
    person_id, email = read_id(body.pop("id", None)), read_email(body.pop("email", None))
    anonymous_id = read_anonymous_id(body.pop("anonymous_id", None))
    time_us, rescaled = read_time(body.pop("_timestamp", None), "_timestamp")
    update_only = read_flag(body.pop("_update", None), "_update")
    cio_id = read_cio_id(body.pop("cio_id", None))
    return Identify(
        person=person,
        attributes=attributes_of(body),
        body_id=person_id,
        body_email=email,
        body_cio_id=cio_id,
        anonymous_id=anonymous_id,
        time_us=time_us,
        update_only=update_only,
        rescaled=rescaled,
    )


def attributes_of(body: Body) -> bytes:
    """Attributes of a person as compact JSON, within the limits of one call."""
    ATTRIBUTES_PER_CALL.check(len(body))
    encoded = stored(body)
    check_attributes(body, encoded)
    if "" in body:
        raise RequestError("attribute name cannot be blank", path="$")
    return encoded


def event_fact(person: Identifier, body: Body) -> Track:
    """``POST /customers/{identifier}/events``."""
    time_us, rescaled = read_time(body.get("timestamp"), "timestamp")
    return Track(
        person=person,
        name=read_event_name(body.get("name")),
        kind=read_event_kind(body.get("type")),
        data=read_event_data(body.get("data")),
        time_us=time_us,
        event_id=read_event_id(body.get("id")),
        rescaled=rescaled,
    )


def anonymous_fact(body: Body) -> TrackAnonymous:
    """``POST /events``; without an ``anonymous_id`` nobody can ever claim it (the original's invite event)."""
    time_us, rescaled = read_time(body.get("timestamp"), "timestamp")
    data = body.get("data")
    addresses = {name: body[name] for name in ADDRESSES if body.get(name) is not None}
    if addresses and (data is None or isinstance(data, dict)):
        data = {**addresses, **(data or {})}
    return TrackAnonymous(
        anonymous_id=read_anonymous_id(body.get("anonymous_id")),
        name=read_event_name(body.get("name")),
        kind=read_event_kind(body.get("type")),
        data=read_event_data(data),
        time_us=time_us,
        event_id=read_event_id(body.get("id")),
        rescaled=rescaled,
    )


def delete_fact(person: Identifier) -> DeletePerson:
    """``DELETE /customers/{identifier}``; a body says nothing."""
    return DeletePerson(person=person)


def members_fact(segment_id: int, id_type: str, body: Body, *, add: bool) -> ChangeMembers:
    """``POST /segments/{id}/add_customers`` and ``remove_customers``; entries of another shape are ignored."""
    if id_type not in ("id", "email", "cio_id"):
        raise RequestError(f"id_type must be id, email or cio_id, not {shown(id_type)}")
    ids = body.get("ids")
    if not isinstance(ids, list) or not ids:
        raise RequestError("ids must be a list of identifiers, with at least one", path="$.ids")
    MEMBERS_PER_CALL.check(len(ids), path="$.ids")
    texts = [str(value) if type(value) is int else value for value in ids]
    people = [_member(id_type, text) for text in texts if isinstance(text, str) and text]
    return ChangeMembers(segment_id=segment_id, people=tuple(one for one in people if one is not None), add=add)


def _member(kind: MemberKind, text: str) -> Identifier | None:
    if kind == "email" and "@" not in text:
        return None
    if kind == "cio_id":
        text = text.removeprefix(CIO_PREFIX)
    return identifier(kind, text) if text else None
