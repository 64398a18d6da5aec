"""Calls of the Pipelines API (identify, track, page, screen, group, alias) turned into facts.

Mapped as the original's own workspace destination does: ``userId`` names the person by its shape, traits become
attributes, ``createdAt`` and ISO dates in traits become unix seconds, ``messageId`` is the event's id.
Times: ``timestamp`` counts as sent, else ``originalTimestamp``. The clock of the sender is not corrected by ``sentAt``:
a call that is sent again must mean the same moment, or it would be another event (decision record 0019).
Source: ``api-surface.md`` section 6.
"""

import re
from collections.abc import Callable

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.event import is_event_id
from backstory.core.fact import (
    EventKind,
    Fact,
    Identifier,
    IdentifyObject,
    MergePeople,
    ObjectKey,
    Relate,
    Track,
    TrackAnonymous,
)
from backstory.core.limit import EVENT_ID_BYTES, EVENT_NAME_BYTES
from backstory.core.time import SECOND_US, TimeUnreadable, from_text
from backstory.edge.track2 import identify_person
from backstory.edge.track_object import object_attributes, object_key
from backstory.edge.value import (
    Body,
    person_by_shape,
    read_anonymous_id,
    read_event_data,
    read_event_name,
    read_time,
    shown,
)

Call = Callable[[Body], list[Fact]]

# ISO 8601 without a zone is in UTC here: clients leave it out.
_ZONELESS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,9})?)?\Z")
_DATE = re.compile(r"\d{4}-\d\d-\d\d\Z")


def identify_facts(body: Body) -> list[Fact]:
    """``identify``: by ``userId``, else by ``traits.email``. Traits of somebody anonymous have nobody to go to."""
    traits = _object(body.get("traits"), "traits")
    person = _person(body)
    if person is None:
        email = traits.get("email")
        if not isinstance(email, str) or not email:
            raise RequestError("identify must name the person: userId, or traits.email", path="$.userId")
        person = person_by_shape(email)
    attributes = seconds_for_dates(traits)
    anonymous_id = read_anonymous_id(body.get("anonymousId"))
    if anonymous_id is not None:
        attributes["anonymous_id"] = anonymous_id
    time_us, rescaled = read_moment(body)
    # Here a phone is an attribute like any other: only Track v2 identifies by it.
    return [identify_person(person, attributes, time_us, rescaled=rescaled, by_phone=False)]


def track_facts(body: Body) -> list[Fact]:
    """``track``: an event with ``properties`` as its data."""
    return [
        event_fact(body, read_event_name(body.get("event")), "event", _object(body.get("properties"), "properties"))
    ]


def page_facts(body: Body) -> list[Fact]:
    """``page``: its name is the URL when there is one."""
    data = _with_category(body)
    url, name = data.get("url"), body.get("name")
    if isinstance(url, str) and url.strip():
        if name is not None:
            data.setdefault("name", name)
        name = _page_name(url)
    return [event_fact(body, read_event_name(name or data.get("path") or data.get("title")), "page", data)]


def _page_name(url: str) -> str:
    """The URL as the name of a page; the whole of a long one stays among the data, its name loses the query first."""
    for name in (url, url.partition("#")[0], url.partition("?")[0]):
        if len(name.encode()) <= EVENT_NAME_BYTES.value:
            return name
    return url.partition("?")[0].encode()[: EVENT_NAME_BYTES.value].decode("utf-8", "ignore")


def screen_facts(body: Body) -> list[Fact]:
    """``screen``."""
    return [event_fact(body, read_event_name(body.get("name")), "screen", _with_category(body))]


def group_facts(body: Body) -> list[Fact]:
    """``group``: an object and the person's relationship to it, or that of somebody anonymous."""
    traits = dict(_object(body.get("traits"), "traits"))
    given = traits.pop("object_type_id", None)
    type_id = given if given is not None else traits.pop("objectTypeId", body.get("objectTypeId"))
    related = traits.pop("relationshipAttributes", None)
    key = group_key(body.get("groupId"), type_id, "$.groupId")
    time_us, _ = read_moment(body)
    facts: list[Fact] = [
        IdentifyObject(object=key, attributes=object_attributes(seconds_for_dates(traits), "$.traits"), time_us=time_us)
    ]
    person, anonymous_id = _person(body), read_anonymous_id(body.get("anonymousId"))
    if person is not None or anonymous_id is not None:
        attributes = seconds_for_dates(_object(related, "traits.relationshipAttributes"))
        facts.append(
            Relate(
                object=key,
                person=person,
                anonymous_id=anonymous_id if person is None else None,
                attributes=object_attributes(attributes, "$.traits.relationshipAttributes"),
                time_us=time_us,
            )
        )
    return facts


def alias_facts(body: Body) -> list[Fact]:
    """``alias``: ``previousId`` becomes part of ``userId``."""
    person, previous = _person(body), _person(body, "previousId")
    if person is None or previous is None:
        missing = "userId" if person is None else "previousId"
        raise RequestError(f"alias must name userId and previousId; {missing} is missing", path=f"$.{missing}")
    return [MergePeople(primary=person, secondary=previous)]


# --- shared with the semantic events ---


def event_fact(body: Body, name: str, kind: EventKind, data: Body) -> Track | TrackAnonymous:
    """An event of whoever the call names."""
    time_us, rescaled = read_moment(body)
    event_id, text = message_id(body.get("messageId")), read_event_data(data, "$.properties")
    person = _person(body)
    if person is not None:
        return Track(
            person=person, name=name, kind=kind, data=text, time_us=time_us, event_id=event_id, rescaled=rescaled
        )
    anonymous_id = read_anonymous_id(body.get("anonymousId"))
    if anonymous_id is None:
        raise RequestError("the call must name somebody: userId or anonymousId", path="$.userId")
    return TrackAnonymous(
        anonymous_id=anonymous_id, name=name, kind=kind, data=text, time_us=time_us, event_id=event_id,
        rescaled=rescaled,
    )  # fmt: skip


def somebody(body: Body) -> tuple[Identifier | None, str | None]:
    """The person, else the anonymous id, that a call names; raises when it names nobody."""
    person, anonymous_id = _person(body), read_anonymous_id(body.get("anonymousId"))
    if person is None and anonymous_id is None:
        raise RequestError("the call must name somebody: userId or anonymousId", path="$.userId")
    return person, None if person is not None else anonymous_id


def known_person(body: Body) -> Identifier:
    """The person that a call must name by ``userId``."""
    person = _person(body)
    if person is None:
        raise RequestError("the call must name the person by userId", path="$.userId")
    return person


def group_key(object_id: Json, type_id: Json, path: str) -> ObjectKey:
    """An object of the type named, of type 1 when none is."""
    if object_id is None or object_id == "":
        raise RequestError(f"{path.rpartition('.')[2]} must be present", path=path)
    return object_key({"object_type_id": 1 if type_id is None else type_id, "object_id": object_id}, path)


def message_id(value: Json) -> str | None:
    """Any text of 1 to 150 bytes; ULIDs and UUIDs in one case, for they are the same in any."""
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise RequestError(f"messageId must be a string, not {shown(value)}", path="$.messageId")
    EVENT_ID_BYTES.check(len(value.encode()), path="$.messageId")
    return value.lower() if is_event_id(value) else value


def read_moment(body: Body) -> tuple[int | None, bool]:
    """When it happened, as the sender says."""
    name = "timestamp" if body.get("timestamp") is not None else "originalTimestamp"
    value = body.get(name)
    if isinstance(value, str):
        if _ZONELESS.match(value):
            value += "Z"
        elif _DATE.match(value):
            value += "T00:00:00Z"
    return read_time(value, name)


def seconds_for_dates(traits: Body) -> Body:
    """Traits as attributes: ``createdAt`` is ``created_at``, ISO dates with a time of day are unix seconds."""
    attributes = {name: _seconds(value) for name, value in traits.items()}
    if "createdAt" in attributes:
        created = attributes.pop("createdAt")
        attributes.setdefault("created_at", _created(created))
    return attributes


def _created(value: Json) -> Json:
    if isinstance(value, str) and _DATE.match(value):
        return _seconds(value + "T00:00:00Z")
    return value


def _seconds(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: _seconds(inner) for name, inner in value.items()}
    if isinstance(value, str) and 16 <= len(value) <= 40 and value[4:5] == "-" and value[10:11] == "T":
        try:
            return from_text(value + "Z" if _ZONELESS.match(value) else value)[0] // SECOND_US
        except TimeUnreadable:
            return value
    return value


def _person(body: Body, name: str = "userId") -> Identifier | None:
    value = body.get(name)
    if value is None or value == "":
        return None
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str):
        raise RequestError(f"{name} must be a string, not {shown(value)}", path=f"$.{name}")
    return person_by_shape(value)


def _object(value: Json, name: str) -> Body:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RequestError(f"{name} must be an object, not {shown(value)}", path=f"$.{name}")
    return value


def _with_category(body: Body) -> Body:
    data = dict(_object(body.get("properties"), "properties"))
    category = body.get("category")
    if isinstance(category, str) and category:
        data.setdefault("category", category)
    return data
